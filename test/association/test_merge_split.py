from __future__ import annotations

import math

import pytest
from support.association import pair_evidence

from vos_ros.association.interface import PairEvidence
from vos_ros.association.merge_split import MergeSplitDetector
from vos_ros.config import AssociationConfig

SECOND = 10**9
Pair = tuple[int, int, dict[str, float]]


def pair(
    track: int,
    object_id: int,
    *,
    covered: float = math.nan,
    inliers: float = math.nan,
    surface_px: int = 400,
) -> Pair:
    values = {"depth_inliers": inliers, "surface_px": surface_px, "surface_covered": covered}
    return track, object_id, values


def detector() -> MergeSplitDetector:
    return MergeSplitDetector(
        AssociationConfig(identity_s=0.25, identity_frames=3, identity_share=0.7, absent_px=50)
    )


def watch(
    d: MergeSplitDetector,
    stamps: list[float],
    *pairs: Pair,
    current_match: dict[int, int] | None = None,
) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    """Merges and splits after frames at the given times, s."""
    current = {1: 7, 2: 0} if current_match is None else current_match
    for t in stamps:
        got = d.observe(pair_evidence(*pairs), current, int(t * SECOND))
    return got


TIMES = [0.0, 0.1, 0.25]
ONE = (pair(1, 7, covered=0.9), pair(1, 8, covered=0.8))
TWO = (pair(1, 7, inliers=0.9), pair(2, 7, inliers=0.85))


@pytest.mark.parametrize(
    ("stamps", "known"),
    [([0.0, 0.1, 0.2], False), ([0.0, 0.1, 0.249], False), ([0.0, 0.3], False), (TIMES, True)],
)
def test_it_takes_frames_and_time(stamps: list[float], known: bool) -> None:
    assert watch(detector(), stamps, *ONE) == ({1: {8}} if known else {}, {})
    assert watch(detector(), stamps, *TWO) == ({}, {1: {2}} if known else {})


@pytest.mark.parametrize(
    ("pairs", "merged"),
    [
        ((pair(1, 7, covered=0.7), pair(1, 8, covered=0.7)), True),
        ((pair(1, 7, covered=0.9), pair(1, 8, covered=0.69)), False),
        ((pair(1, 7, covered=0.69), pair(1, 8, covered=0.9)), False),
        ((pair(1, 7, covered=0.9), pair(1, 8, covered=0.9, surface_px=50)), True),
        ((pair(1, 7, covered=0.9), pair(1, 8, covered=0.9, surface_px=49)), False),
        ((pair(1, 7, covered=0.9), pair(2, 8, covered=0.9)), False),  # each has its own
    ],
)
def test_a_merge_needs_enough_of_both_surfaces(pairs: tuple[Pair, ...], merged: bool) -> None:
    assert watch(detector(), TIMES, *pairs) == ({1: {8}} if merged else {}, {})


def test_the_merged_objects_are_the_others_whatever_the_track_is_matched_to() -> None:
    three = (pair(1, 9, covered=0.9), *ONE)
    assert watch(detector(), TIMES, *three)[0] == {1: {8, 9}}
    assert watch(detector(), TIMES, *ONE, current_match={1: 8})[0] == {1: {7}}
    assert watch(detector(), TIMES, *ONE, current_match={})[0] == {1: {7, 8}}


@pytest.mark.parametrize(
    ("kind", "supports", "refutes"),
    [
        (0, ONE, (ONE[0], pair(1, 8, covered=0.4))),
        (1, TWO, (TWO[0], pair(2, 7, inliers=0.4))),
    ],
    ids=["merge", "split"],
)
def test_a_frame_that_shows_otherwise_starts_the_count_again(
    kind: int, supports: tuple[Pair, ...], refutes: tuple[Pair, ...]
) -> None:
    d = detector()
    assert watch(d, TIMES, *supports)[kind]
    assert watch(d, [0.4], *refutes) == ({}, {})
    assert not watch(d, [0.5, 0.6], *supports)[kind] and watch(d, [0.8], *supports)[kind]


@pytest.mark.parametrize("supports", [ONE, TWO], ids=["merge", "split"])
def test_frames_without_evidence_are_bridged_for_a_second(supports: tuple[Pair, ...]) -> None:
    d = detector()
    known = watch(d, TIMES, *supports)
    assert known != ({}, {})
    assert watch(d, [0.9, 1.0]) == ({}, {}), "nothing is reported that the frame does not show"
    assert watch(d, [1.25], *supports) == known
    assert watch(d, [2.26], *supports) == ({}, {}), "too long ago"


def test_a_longer_time_to_confirm_is_bridged_as_long() -> None:
    d = MergeSplitDetector(AssociationConfig(identity_s=3.0, identity_frames=2))
    assert watch(d, [0.0], *ONE)[0] == {}
    assert watch(d, [3.0], *ONE)[0] == {1: {8}}


def test_a_merge_of_one_track_says_nothing_about_another() -> None:
    d = detector()
    watch(d, [0.0, 0.1], *ONE)
    other = (pair(2, 7, covered=0.9), pair(2, 8, covered=0.8))
    assert watch(d, [0.3], *other)[0] == {}


@pytest.mark.parametrize(
    ("pairs", "current_match", "split"),
    [
        (TWO, {1: 7, 2: 0}, True),
        (TWO, {1: 7}, True),
        (TWO, {1: 7, 2: 8}, False),  # the other track is an object of its own
        (TWO, {1: 8, 2: 0}, False),  # no track is matched to the object
        ((TWO[0], pair(2, 7, inliers=0.7)), {1: 7}, True),
        ((TWO[0], pair(2, 7, inliers=0.69)), {1: 7}, False),  # it lies in front or behind
        ((pair(1, 7, inliers=0.7), TWO[1]), {1: 7}, True),
        ((pair(1, 7, inliers=0.69), TWO[1]), {1: 7}, False),  # the object's own track left it
        ((TWO[1],), {1: 7}, False),
        ((TWO[0], pair(2, 8, inliers=0.9)), {1: 7}, False),  # on another object
    ],
)
def test_an_unmatched_track_on_the_object_of_another_is_a_split(
    pairs: tuple[Pair, ...], current_match: dict[int, int], split: bool
) -> None:
    got = watch(detector(), TIMES, *pairs, current_match=current_match)
    assert got == ({}, {1: {2}} if split else {})


def test_without_depth_nothing_is_reported() -> None:
    unknown = [(t, o, {"mask_iou": 0.9, "tolerant_iou": 0.9}) for t in (1, 2) for o in (7, 8)]
    assert watch(detector(), TIMES, *unknown) == ({}, {})
    assert detector().observe(PairEvidence.none(), {1: 7}, 0) == ({}, {})
