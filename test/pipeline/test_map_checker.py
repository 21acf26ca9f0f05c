"""MapChecker: what depth and masks contradict in the map."""

from __future__ import annotations

import numpy as np
import pytest
from support.pipeline_values import (
    config,
    map_object,
    map_view,
    match,
    pose,
    projection,
    rect,
    track_manager,
)

from vos_ros.association.interface import Match, PairEvidence
from vos_ros.association.status import MapConflicts
from vos_ros.pipeline.map_checker import MapChecker
from vos_ros.pipeline.map_view import MapView
from vos_ros.types import MapChange, MapObject

MASK = rect(10, 10, 30, 30)
NO_PAIRS = PairEvidence.none()


def checker() -> MapChecker:
    c = config(
        association__absent_px=50,
        association__absent_s=0.2,
        association__absent_frames=3,
        association__identity_s=0.2,
        association__identity_frames=3,
    )
    return MapChecker(c.association, moved_m=0.05)


def empty(*ids: int, sigma_px: float = 0.5) -> MapView:
    """Objects behind whose whole surface depth is measured."""
    nothing = np.zeros((20, 20), bool)
    gone = [projection(i, MASK, mask_roi=nothing, visible=0.0, occluded=1.0, free=1.0) for i in ids]
    return map_view(*gone, sigma_px=sigma_px, depth=np.full(MASK.shape, 4.0, np.float32))


def check(
    c: MapChecker, t: float, view: MapView, matches: tuple[Match, ...] = (), **misses: int
) -> MapConflicts:
    tracks = track_manager({1: 1, 2: 0, 3: 2})
    for name, n in misses.items():
        tracks[int(name[1:])].misses = n
    return c.check(round(t * 1e9), view, matches, NO_PAIRS, tracks)


def watched(c: MapChecker, view: MapView, *matches: Match, frames: int = 3) -> frozenset[int]:
    """Objects that are absent after some frames at 10 Hz."""
    for k in range(frames):
        absent = check(c, 0.1 * k, view, matches).absent
    return frozenset(absent)


def test_a_place_that_is_seen_empty_for_long_enough_is_absent() -> None:
    c = checker()
    assert [set(check(c, 0.1 * k, empty(1)).absent) for k in range(4)] == [set(), set(), {1}, {1}]
    assert c.absent(round(0.4e9)) == {1} and c.absent(0) == frozenset()
    assert watched(checker(), empty(1, 2), frames=3) == {1, 2}


def test_a_place_that_is_out_of_view_is_not_known_to_be_empty() -> None:
    c = checker()
    assert watched(c, empty(1)) == {1}
    assert set(check(c, 0.4, map_view()).absent) == set()
    assert c.absent(round(0.5e9)) == frozenset()


def test_an_uncertain_pose_may_show_another_place() -> None:
    assert watched(checker(), empty(1, sigma_px=4.9)) == {1}
    assert watched(checker(), empty(1, sigma_px=5.1)) == frozenset()


def test_an_object_that_is_matched_is_not_absent() -> None:
    assert watched(checker(), empty(1, 2), match(1, 1)) == {2}
    assert watched(checker(), empty(1, 2), match(2), match(1, 1)) == {2}


def test_only_a_match_counts_that_is_probable_and_has_pixels() -> None:
    score = config().association.match_score
    assert watched(checker(), empty(1), match(1, 1, score)) == frozenset()
    assert watched(checker(), empty(1), match(1, 1, 0.99 * score)) == {1}
    c = checker()
    for k in range(3):
        absent = check(c, 0.1 * k, empty(1), (match(1, 1),), t1=1).absent
    assert set(absent) == {1}


# -- merges and splits


def pairs(*rows: tuple[int, int, float]) -> PairEvidence:
    """(track, object, share): of the object's surface, and of the track's pixels by depth."""
    tracks, objects, share = (np.array(column) for column in zip(*rows, strict=True))
    return PairEvidence(
        track_ids=tracks,
        object_ids=objects,
        terms={"depth_inliers": share.astype(float)},
        surface_px=np.full(len(rows), 500.0),
        surface_covered=share.astype(float),
    )


def test_a_track_that_covers_two_objects_is_a_merge_with_the_other_one() -> None:
    c, both = checker(), pairs((1, 1, 0.9), (1, 2, 0.9))
    tracks = track_manager({1: 1})
    merged = [c.check(round(0.1e9 * k), map_view(), (), both, tracks).merged for k in range(4)]
    assert merged == [{}, {}, {1: {2}}, {1: {2}}]
    tracks[1].map_object_id = 2
    assert c.check(round(0.4e9), map_view(), (), both, tracks).merged == {1: {1}}


def test_a_track_without_an_object_in_another_s_is_a_split() -> None:
    c, both = checker(), pairs((1, 1, 0.9), (2, 1, 0.9))
    tracks = track_manager({1: 1, 2: 0})
    split = [c.check(round(0.1e9 * k), map_view(), (), both, tracks).split for k in range(4)]
    assert split == [{}, {}, {1: {2}}, {1: {2}}]


# -- changes of the map


def moved(x: float) -> tuple[MapObject, MapObject]:
    before = map_object(1, MASK)
    return before, map_object(1, MASK, T_map_object=pose(x) @ before.T_map_object)


@pytest.mark.parametrize(
    ("change", "forgets"),
    [
        (MapChange(), False),
        (MapChange(deleted=(map_object(1, MASK),)), True),
        (MapChange(deleted=(map_object(2, MASK),)), False),
        (MapChange(changed=(moved(0.06),)), True),
        (MapChange(changed=(moved(-0.06),)), True),
        (MapChange(changed=(moved(0.04),)), False),
        (MapChange(added=(map_object(1, MASK),)), False),
        (MapChange(new_session=True, changed=(moved(0.0),)), True),
    ],
    ids=[
        "nothing",
        "deleted",
        "another one",
        "moved",
        "moved back",
        "moved little",
        "added",
        "another map",
    ],
)
def test_objects_that_left_or_moved_begin_anew(change: MapChange, forgets: bool) -> None:
    c = checker()
    assert watched(c, empty(1)) == {1}
    c.follow_map(change)
    assert c.absent(round(0.3e9)) == (frozenset() if forgets else {1})
    assert set(check(c, 0.3, empty(1)).absent) == (set() if forgets else {1})


def test_a_turned_object_is_where_it_was() -> None:
    c, before = checker(), map_object(1, MASK)
    assert watched(c, empty(1)) == {1}
    turned = map_object(1, MASK, T_map_object=before.T_map_object @ pose(turned_deg=90))
    c.follow_map(MapChange(changed=((before, turned),)))
    assert c.absent(round(0.3e9)) == {1}
