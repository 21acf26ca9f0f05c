"""Candidates: which detections are of one place, and when a place is an object."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.candidates import Candidate, Candidates
from vos_ros.discovery.clusters import Cluster

CONFIG = ProposalsConfig(confirm_detections=3, confirm_s=0.4, forget_s=1.0)
SECOND = 10**9
HOME = np.eye(4)


def plate(x: float = 0.0, width: float = 0.2, part_of: int = 0) -> Cluster:
    """A plate, 1 m in front of the camera, from ``x`` to the right."""
    u, v = np.meshgrid(np.arange(x, x + width, 0.01), np.arange(0.0, 0.2, 0.01))
    points = np.stack([u.ravel(), v.ravel(), np.full(u.size, 1.0)], 1).astype(np.float32)
    return Cluster(np.ones((1, 1), bool), points, part_of)


def test_what_is_detected_at_one_place_is_one_candidate() -> None:
    candidates = Candidates(CONFIG)
    assert candidates.match([plate()], 0, HOME) == []
    ((cluster, first),) = candidates.match([plate(0.02)], SECOND // 5, HOME)
    assert first.detections == 2 and cluster.points[0, 0] == np.float32(0.02)
    assert candidates.match([plate(0.5)], 2 * SECOND // 5, HOME) == [], "elsewhere"
    ((_, again),) = candidates.match([plate()], 3 * SECOND // 5, HOME)
    assert again is first and (first.first_ns, first.last_ns) == (0, 3 * SECOND // 5)


def test_the_place_is_in_the_map_not_in_the_image() -> None:
    candidates = Candidates(CONFIG)
    candidates.match([plate()], 0, HOME)
    shifted = np.eye(4)
    shifted[0, 3] = -0.5  # the camera moved; the same object appears 0.5 m farther right
    assert candidates.match([plate(0.5)], SECOND // 5, shifted)[0][1].detections == 2
    assert candidates.match([plate()], 2 * SECOND // 5, shifted) == []


def test_half_of_each_of_two_views_must_be_of_the_other() -> None:
    for width, same in ((0.3, True), (0.7, False)):
        candidates = Candidates(CONFIG)
        candidates.match([plate(width=0.2)], 0, HOME)
        assert bool(candidates.match([plate(width=width)], SECOND // 5, HOME)) == same
        candidates = Candidates(CONFIG)
        candidates.match([plate(width=width)], 0, HOME)
        assert bool(candidates.match([plate(width=0.2)], SECOND // 5, HOME)) == same


def test_two_detections_of_one_frame_are_two_candidates() -> None:
    candidates = Candidates(CONFIG)
    candidates.match([plate(), plate(0.01)], 0, HOME)
    found = candidates.match([plate(), plate(0.01)], SECOND // 5, HOME)
    assert len({id(c) for _, c in found}) == 2


def test_a_candidate_that_was_not_detected_for_long_is_forgotten() -> None:
    for pause_s, known in ((1.0, True), (1.001, False)):
        candidates = Candidates(CONFIG)
        candidates.match([plate()], 0, HOME)
        assert bool(candidates.match([plate()], round(pause_s * SECOND), HOME)) == known


def test_a_candidate_that_was_removed_begins_anew() -> None:
    candidates = Candidates(CONFIG)
    candidates.match([plate()], 0, HOME)
    ((_, candidate),) = candidates.match([plate()], SECOND // 5, HOME)
    candidates.remove(candidate)
    assert candidates.match([plate()], 2 * SECOND // 5, HOME) == []


@pytest.mark.parametrize(
    ("detections", "last_s", "confirmed"),
    [(3, 0.4, True), (2, 0.4, False), (3, 0.39, False), (9, 0.0, False)],
)
def test_it_must_be_detected_often_and_for_long(
    detections: int, last_s: float, confirmed: bool
) -> None:
    none = np.zeros(0, np.int64)
    candidate = Candidate(none, none, 0, round(last_s * SECOND), detections)
    assert candidate.is_confirmed(CONFIG) == confirmed
    assert candidate.is_confirmed(replace(CONFIG, confirm_detections=1, confirm_s=0.0))


def test_a_part_belongs_to_the_object_of_most_detections_and_grows() -> None:
    candidates = Candidates(CONFIG)
    candidates.match([plate(width=0.2, part_of=7)], 0, HOME)
    ((_, c),) = candidates.match([plate(width=0.7, part_of=7)], SECOND // 5, HOME)
    assert c.part_of == 7 and len(c.voxels) > 3 * 8 * 8, "its voxels are those of the last view"
    candidates.match([plate(width=0.7)], 2 * SECOND // 5, HOME)
    assert c.part_of == 7, "two of three"
    candidates.match([plate(width=0.7)], 3 * SECOND // 5, HOME)
    assert c.part_of == 0, "two of four are not most"
