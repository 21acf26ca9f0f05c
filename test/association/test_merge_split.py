from __future__ import annotations

import math

import pytest
from support.association import pair_evidence

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


def book() -> MergeSplitDetector:
    return MergeSplitDetector(
        AssociationConfig(identity_s=0.25, identity_frames=3, identity_share=0.7)
    )


def watch(
    b: MergeSplitDetector,
    stamps: list[float],
    *pairs: Pair,
    bound: dict[int, int] | None = None,
) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
    for t in stamps:
        said = b.observe(
            pair_evidence(*pairs), {1: 7, 2: 0} if bound is None else bound, int(t * SECOND)
        )
    return said


TIMES = [0.0, 0.1, 0.3]


@pytest.mark.parametrize(
    ("stamps", "known"), [([0.0, 0.1, 0.2], False), ([0.0, 0.3], False), (TIMES, True)]
)
def test_one_track_on_two_objects_is_a_merge_after_frames_and_time(
    stamps: list[float], known: bool
) -> None:
    merged, split = watch(book(), stamps, pair(1, 7, covered=0.9), pair(1, 8, covered=0.8))
    assert merged == ({1: {8}} if known else {}) and not split


@pytest.mark.parametrize(
    "pairs",
    [
        (
            pair(1, 7, covered=0.9),
            pair(1, 8, covered=0.3),
        ),  # the other one is covered by somebody else
        (
            pair(1, 7, covered=0.9),
            pair(1, 8, covered=0.9, surface_px=20),
        ),  # too little of it is measured
        (pair(1, 7, covered=0.9), pair(2, 8, covered=0.9)),  # each has its own
    ],
)
def test_what_is_no_merge(pairs: tuple[Pair, ...]) -> None:
    assert watch(book(), TIMES, *pairs) == ({}, {})


def test_a_frame_that_shows_otherwise_starts_the_count_again() -> None:
    b = book()
    one = (pair(1, 7, covered=0.9), pair(1, 8, covered=0.8))
    watch(b, TIMES, *one)
    watch(b, [0.4], one[0], pair(1, 8, covered=0.4))
    assert watch(b, [0.5, 0.6], *one)[0] == {} and watch(b, [0.8], *one)[0] == {1: {8}}
    watch(b, [0.9, 1.0])  # nothing of it is seen: no evidence either way
    assert watch(b, [1.1], *one)[0] == {1: {8}}
    assert watch(b, [9.0], *one)[0] == {}, "too long ago"


def test_a_nameless_track_inside_the_object_of_another_is_a_split() -> None:
    two = (pair(1, 7, inliers=0.9), pair(2, 7, inliers=0.85))
    assert watch(book(), TIMES, *two) == ({}, {1: {2}})
    assert watch(book(), TIMES, *two, bound={1: 7, 2: 8}) == ({}, {}), (
        "the other one is an object of its own"
    )
    assert watch(book(), TIMES, two[0], pair(2, 7, inliers=0.4)) == ({}, {}), (
        "it lies before or behind it"
    )
    assert watch(book(), TIMES, two[1]) == ({}, {}), "nobody is held to be the object"


def test_without_depth_nothing_is_said() -> None:
    unknown = [(t, o, {"mask_iou": 0.9, "tolerant_iou": 0.9}) for t in (1, 2) for o in (7, 8)]
    assert watch(book(), TIMES, *unknown) == ({}, {})
