from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.association import (
    H,
    W,
    association_config,
    frame_evidence,
    map_object,
    projection,
    rect,
)

from vos_ros.association.assignment import (
    HungarianAssociator,
    SeedAssociator,
    collect_evidence,
)
from vos_ros.association.interface import Evidence, FrameEvidence
from vos_ros.association.registry import registered
from vos_ros.config import AssociationConfig

CONFIG = AssociationConfig()


def evidence(frame: FrameEvidence) -> list[Evidence]:
    """All candidate pairs, gated or not."""
    pairs = collect_evidence(frame, [term() for term in registered()])
    return [pairs.pair(k, 0.0) for k in range(len(pairs))]


def found(v: FrameEvidence, config: AssociationConfig = CONFIG) -> dict[int, int]:
    """track -> object, 0 = none."""
    return {
        m.track_id: m.evidence.map_object_id if m.evidence else 0
        for m in HungarianAssociator(config)(v).matches
    }


def tolerant_iou(mask: np.ndarray, predicted: np.ndarray, reach: int) -> float:
    """The definition in the docstring, on whole images; outside the image the object may go on."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    p = predicted.astype(np.uint8)
    grown, shrunk = (
        (cv2.dilate(p, kernel) > 0, cv2.erode(p, kernel) > 0) if reach else (predicted, predicted)
    )
    wrong = (mask & ~grown).sum() + (shrunk & ~mask).sum()
    return max(0.0, 1.0 - wrong / (mask | predicted).sum())


boxes = st.tuples(
    st.integers(0, W - 12), st.integers(0, H - 12), st.integers(4, 40), st.integers(4, 40)
).map(lambda b: rect(b[0], b[1], min(b[0] + b[2], W), min(b[1] + b[3], H)))


@settings(max_examples=60, deadline=None)
@given(boxes, boxes, st.integers(0, 6))
def test_ious_against_the_definition_on_whole_images(
    mask: np.ndarray, predicted: np.ndarray, reach: int
) -> None:
    pairs = evidence(frame_evidence({5: mask}, [projection(9, predicted)], sigma=float(reach)))
    if pairs:
        assert pairs[0].value("tolerant_iou") == pytest.approx(tolerant_iou(mask, predicted, reach))
        assert pairs[0].value("mask_iou") == pytest.approx(
            (mask & predicted).sum() / (mask | predicted).sum()
        )
    else:
        assert not (mask & predicted).any()


def test_without_uncertainty_the_tolerant_iou_is_the_plain_one() -> None:
    (e,) = evidence(
        frame_evidence({5: rect(10, 10, 30, 30)}, [projection(9, rect(15, 10, 35, 30))])
    )
    assert e.value("tolerant_iou") == e.value("mask_iou") == pytest.approx(15 / 25)
    assert math.isnan(e.value("depth_inliers"))


def test_a_shift_within_the_pose_uncertainty_is_no_error() -> None:
    (e,) = evidence(
        frame_evidence({5: rect(13, 10, 33, 30)}, [projection(9, rect(10, 10, 30, 30))], sigma=4.0)
    )
    assert e.value("mask_iou") < 0.75
    assert e.value("tolerant_iou") == 1.0


def test_depth_inliers_are_the_share_of_known_pixels_that_agree() -> None:
    mask = rect(10, 10, 30, 30)
    depth = np.full((H, W), 2.0, np.float32)
    depth[10:15, 10:30] = 2.2  # a quarter disagrees
    depth[25:30, 10:30] = 0.0  # a quarter is unknown
    (e,) = evidence(frame_evidence({5: mask}, [projection(9, mask, 2.0)], depth=depth))
    assert e.value("depth_inliers") == pytest.approx(2 / 3)


def test_depth_unknown_everywhere_decides_nothing() -> None:
    mask = rect(10, 10, 30, 30)
    (e,) = evidence(
        frame_evidence({5: mask}, [projection(9, mask)], depth=np.zeros((H, W), np.float32))
    )
    assert math.isnan(e.value("depth_inliers"))


def test_depth_inliers_allow_for_the_pose_uncertainty_on_a_slanted_surface() -> None:
    mask = rect(10, 10, 40, 40)
    slanted = (1.0 + 0.02 * np.arange(W, dtype=np.float32))[None].repeat(H, 0)
    (e,) = evidence(
        frame_evidence(
            {5: mask}, [projection(9, mask, slanted)], depth=np.roll(slanted, 4, axis=1), sigma=4.0
        )
    )
    assert e.value("depth_inliers") > 0.8


@pytest.mark.parametrize(
    ("own", "other", "conflict"),
    [(1, 2, 1.0), (1, 1, 0.0), (0, 2, math.nan), (1, 0, math.nan)],
)
def test_classes_conflict_where_both_are_known_and_differ(
    own: int, other: int, conflict: float
) -> None:
    v = frame_evidence({5: rect(10, 10, 30, 30)}, [projection(9, rect(10, 10, 30, 30))])
    objects = {9: map_object(9, other)}
    (e,) = evidence(replace(v, track_classes={5: own}, objects=objects))
    assert e.value("class_conflict") == pytest.approx(conflict, nan_ok=True)
    (e,) = evidence(v)
    assert math.isnan(e.value("class_conflict"))


def test_surfaces_that_meet_where_masks_do_not_are_evidence_too() -> None:
    v = frame_evidence({5: rect(10, 10, 30, 30)}, [projection(9, rect(40, 10, 60, 30))])
    (e,) = evidence(replace(v, overlaps_3d={(5, 9): 0.5}))
    assert (e.track_id, e.map_object_id, e.value("overlap_3d"), e.value("mask_iou")) == (
        5,
        9,
        0.5,
        0.0,
    )
    (e,) = evidence(replace(v, predicted_pixels=[], overlaps_3d={(5, 9): 0.5}))
    assert e.value("overlap_3d") == 0.5


def test_look_alikes_next_to_each_other_are_assigned_one_to_one() -> None:
    left, right = rect(10, 10, 26, 30), rect(30, 10, 46, 30)
    # both tracks overlap the left projection most; only one can be it
    shift = [projection(7, rect(20, 10, 36, 30)), projection(8, rect(40, 10, 56, 30))]
    assert found(frame_evidence({1: left, 2: right}, shift, sigma=10.0)) == {1: 7, 2: 8}


def test_the_assignment_has_the_greatest_total() -> None:
    """Track 1 is 7 and overlaps 8 a little; track 2 overlaps 7 a little.

    As many pairs as possible would swap them.
    """
    tracks = {1: rect(10, 10, 30, 30), 2: rect(30, 10, 34, 30)}
    projections = [projection(7, rect(10, 10, 34, 30)), projection(8, rect(24, 26, 30, 34))]
    config = association_config(min_iou=0.01, match_score=0.1)
    assert found(frame_evidence(tracks, projections), config) == {1: 7, 2: 0}


SURE = {"terms__bias__weight": 0.0}  # whatever passes the gate is matched


@pytest.mark.parametrize(("min_iou", "passes"), [(0.6, True), (0.61, False)])
def test_the_gate_takes_a_smallest_iou(min_iou: float, passes: bool) -> None:
    """The IoU is 0.6. Depth is unknown, which does not matter."""
    frame = frame_evidence({1: rect(10, 10, 30, 30)}, [projection(7, rect(15, 10, 35, 30))])
    got = found(frame, association_config(min_iou=min_iou, **SURE))
    assert got == {1: 7 if passes else 0}


def test_the_gate_allows_for_the_pose() -> None:
    """The plain IoU is 0.43, the tolerant one 1."""
    frame = frame_evidence(
        {1: rect(10, 10, 20, 30)}, [projection(7, rect(14, 10, 24, 30))], sigma=4.0
    )
    assert found(frame, association_config(min_iou=0.9, **SURE)) == {1: 7}


@pytest.mark.parametrize(("min_depth_inliers", "passes"), [(0.75, True), (0.76, False)])
def test_the_gate_takes_a_smallest_share_of_depth_inliers(
    min_depth_inliers: float, passes: bool
) -> None:
    mask = rect(10, 10, 30, 30)
    depth = np.full((H, W), 2.0, np.float32)
    depth[10:15] = 2.2  # a quarter disagrees
    frame = frame_evidence({1: mask}, [projection(7, mask, 2.0)], depth=depth)
    got = found(frame, association_config(min_depth_inliers=min_depth_inliers, **SURE))
    assert got == {1: 7 if passes else 0}


@pytest.mark.parametrize(("min_overlap_3d", "passes"), [(0.4, True), (0.41, False)])
def test_the_gate_passes_what_overlaps_in_space_whatever_the_masks_are(
    min_overlap_3d: float, passes: bool
) -> None:
    mask = rect(10, 10, 30, 30)
    config = association_config(min_overlap_3d=min_overlap_3d, **SURE)
    away = frame_evidence({1: mask}, overlaps_3d={(1, 7): 0.4})
    assert found(away, config) == {1: 7 if passes else 0}
    wrong_depth = frame_evidence(
        {1: mask},
        [projection(7, mask, 2.0)],
        depth=np.full((H, W), 3.0, np.float32),
        overlaps_3d={(1, 7): 0.4},
    )
    assert found(wrong_depth, config) == {1: 7 if passes else 0}


def test_without_candidates_a_track_has_no_object() -> None:
    mask = rect(10, 10, 30, 30)
    assert found(frame_evidence({1: mask}, [])) == {1: 0}
    assert found(frame_evidence({}, [projection(7, mask)])) == {}
    assert found(frame_evidence({1: mask}, [projection(7, rect(40, 10, 60, 30))])) == {1: 0}


def test_an_improbable_pair_is_no_match_though_it_passes_the_gate() -> None:
    frame = frame_evidence({1: rect(10, 10, 30, 30)}, [projection(7, rect(10, 10, 30, 30))])
    assert found(frame, association_config(terms__bias__weight=-14.0)) == {1: 0}
    assert found(frame, association_config(terms__bias__weight=-13.0)) == {1: 7}


def test_refused_pairs_are_reported_as_evidence() -> None:
    """Merges and splits are found by pairs that cannot be matched."""
    frame = frame_evidence(
        {1: rect(10, 10, 30, 30)},
        [projection(7, rect(27, 10, 47, 30)), projection(8, rect(10, 10, 30, 30))],
    )
    (m,), pairs = HungarianAssociator(CONFIG)(frame)
    assert m.evidence is not None and m.evidence.map_object_id == 8 and m.runner_up is None
    assert pairs.object_ids.tolist() == [7, 8]


def test_the_runner_up_is_the_most_probable_other_object() -> None:
    tracks = {1: rect(10, 10, 30, 30)}
    projections = [
        projection(9, rect(10, 20, 30, 30)),
        projection(7, rect(10, 10, 30, 28)),
        projection(8, rect(10, 14, 30, 30)),
    ]
    (m,) = HungarianAssociator(CONFIG)(frame_evidence(tracks, projections)).matches
    assert m.evidence is not None and m.runner_up is not None
    assert (m.evidence.map_object_id, m.runner_up.map_object_id) == (7, 8)
    assert m.evidence.score > m.runner_up.score > 0
    assert m.evidence.value("mask_iou") == pytest.approx(0.9)
    assert m.runner_up.value("mask_iou") == pytest.approx(0.8)


def test_scores_are_the_probabilities_of_the_likelihood() -> None:
    """An object of even log-odds is matched with 1/2; of two such objects each with 1/3."""
    config = association_config(
        terms__bias__weight=-5.0,
        terms__mask_iou__weight=10.0,
        terms__tolerant_iou__weight=0.0,
        terms__depth_inliers__weight_unknown=0.0,
        terms__similarity__weight_unknown=0.0,
    )
    half = [projection(7, rect(10, 10, 30, 20)), projection(8, rect(10, 20, 30, 30))]
    associate, tracks = HungarianAssociator(config), {1: rect(10, 10, 30, 30)}
    for projections, score in ((half[:1], 1 / 2), (half, 1 / 3)):
        (m,) = associate(frame_evidence(tracks, projections, current_match={1: 7})).matches
        assert m.evidence is not None and m.evidence.map_object_id == 7
        assert m.evidence.score == pytest.approx(score), "the bonus is not in the score"


def test_a_track_that_lost_its_object_to_another_has_it_as_runner_up() -> None:
    """Track 2 lies inside the outline of 7, which is track 1."""
    tracks = {1: rect(10, 10, 30, 30), 2: rect(30, 10, 40, 30)}
    frame = frame_evidence(tracks, [projection(7, rect(10, 10, 40, 30))])
    matches = HungarianAssociator(CONFIG)(frame).matches
    assert [m.evidence.map_object_id if m.evidence else 0 for m in matches] == [7, 0]
    assert matches[1].runner_up is not None and matches[1].runner_up.map_object_id == 7


def test_a_track_keeps_its_object_where_another_is_hardly_better() -> None:
    tracks = {1: rect(10, 10, 30, 30)}
    projections = [projection(7, rect(10, 10, 30, 28)), projection(8, rect(10, 12, 30, 29))]
    assert found(frame_evidence(tracks, projections)) == {1: 7}
    assert found(frame_evidence(tracks, projections, current_match={1: 8})) == {1: 8}
    jumped = frame_evidence(tracks, projections, current_match={1: 8}, consistency={1: 0.0})
    assert found(jumped) == {1: 7}, "it is no longer where it was"


def test_matches_are_in_the_order_of_the_tracks() -> None:
    tracks = {9: rect(0, 0, 10, 10), 2: rect(20, 0, 30, 10), 5: rect(40, 0, 50, 10)}
    frame = frame_evidence(
        tracks, [projection(1, tracks[5]), projection(3, tracks[9])], current_match={9: 3, 2: 4}
    )
    for associate in (HungarianAssociator(CONFIG), SeedAssociator()):
        assert [m.track_id for m in associate(frame).matches] == [9, 2, 5]
    assert found(frame) == {9: 3, 2: 0, 5: 1}


def test_the_null_twin_matches_what_a_track_was_seeded_from() -> None:
    tracks = {9: rect(0, 0, 10, 10), 2: rect(20, 0, 30, 10), 5: rect(40, 0, 50, 10)}
    elsewhere = [projection(8, tracks[9])]
    matches, pairs = SeedAssociator()(frame_evidence(tracks, elsewhere, current_match={9: 3, 2: 0}))
    assert [m.evidence.map_object_id if m.evidence else 0 for m in matches] == [3, 0, 0]
    assert matches[0].evidence is not None and matches[0].evidence.score == 1.0
    assert all(m.runner_up is None for m in matches) and len(pairs) == 0


def test_the_foot_of_a_removed_object_is_no_match() -> None:
    """The lower fifth of a removed object's place is table at about its depth.

    Through the rest the wall is seen. Something that covers just that fifth is not the object.
    """
    place, foot = rect(20, 10, 40, 50), rect(20, 42, 40, 50)
    depth = np.full((H, W), 4.0, np.float32)
    depth[foot] = 2.0
    p = projection(9, place)
    seen = replace(p, mask_roi=foot[10:50, 20:40], visible=0.2, occluded=0.8, free=0.8)
    for mask in (foot, place):  # a mask over free space is as wrong
        (e,) = evidence(frame_evidence({5: mask}, [seen], depth=depth))
        assert e.value("mask_iou") == pytest.approx(0.2)
        assert e.value("tolerant_iou") == pytest.approx(0.2)
    (e,) = evidence(frame_evidence({5: foot}, [seen], depth=depth, sigma=3.0))
    assert e.value("tolerant_iou") < 0.35
    assert found(frame_evidence({5: foot}, [seen], depth=depth)) == {5: 0}
