from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.association import H, W, candidate_pairs, frame_evidence, projection, rect

from vos_ros.association.candidates import find_candidates, share

TRACKS = {5: rect(10, 10, 30, 30), 9: rect(40, 10, 60, 30)}


def test_pairs_whose_masks_meet_are_found_with_their_counts() -> None:
    """Object 71 lies on track 5 and, 5 columns of it, on track 9; object 72 on none."""
    depth = np.full((H, W), 2.0, np.float32)
    depth[10:20] = 0.0  # the upper half of both tracks is not measured
    objects = [projection(71, rect(20, 10, 45, 20)), projection(72, rect(0, 40, 80, 50))]
    pairs = find_candidates(frame_evidence(TRACKS, objects, depth=depth))
    assert pairs.track_ids.tolist() == [5, 9] and pairs.object_ids.tolist() == [71, 71]
    assert len(pairs) == 2 and pairs.masks_meet.all()
    assert pairs.track_px.tolist() == [400, 400] and pairs.track_depth_px.tolist() == [200, 200]
    assert pairs.mask_px.tolist() == [250, 250] == pairs.core_px.tolist()
    assert pairs.shared_mask_px.tolist() == [100, 50] == pairs.shared_near_px.tolist()
    assert pairs.shared_core_px.tolist() == [100, 50]
    assert pairs.surface_px.tolist() == [0, 0] and pairs.shared_surface_px.tolist() == [0, 0]
    assert pairs.union_px.tolist() == [550, 600]


def test_surfaces_and_free_space_are_counted() -> None:
    """The left half of the object agrees with the depth, through the right one the wall is seen."""
    place, left = rect(10, 10, 40, 30), rect(10, 10, 25, 30)
    depth = np.where(left, np.float32(2.0), np.float32(4.0))
    p = replace(projection(71, place, 2.0), mask_roi=left[10:30, 10:40])
    (pairs) = find_candidates(frame_evidence(TRACKS, [p], depth=depth))
    assert pairs.track_ids.tolist() == [5]
    assert (pairs.surface_px[0], pairs.shared_surface_px[0]) == (300, 300)
    assert (pairs.free_px[0], pairs.shared_free_px[0], pairs.missing_px[0]) == (300, 100, 200)
    assert pairs.union_px[0] == 400 + 300 - 300 + 200


def test_an_uncertain_pose_makes_neighbours_candidates() -> None:
    neighbour = [projection(71, rect(32, 10, 36, 30))]
    assert len(find_candidates(frame_evidence(TRACKS, neighbour))) == 0
    pairs = find_candidates(frame_evidence(TRACKS, neighbour, sigma=3.0))
    assert pairs.track_ids.tolist() == [5] and pairs.shared_mask_px.tolist() == [0]
    assert pairs.shared_near_px[0] > 0 == pairs.shared_core_px[0] == pairs.core_px[0]


def test_pairs_that_meet_in_space_alone_come_last_and_once() -> None:
    depth = np.full((H, W), 2.0, np.float32)
    objects = [projection(71, rect(10, 10, 30, 30), 2.0), projection(72, rect(0, 40, 80, 50))]
    overlaps = {(9, 72): 0.3, (5, 71): 0.9, (9, 99): 0.5}
    pairs = find_candidates(frame_evidence(TRACKS, objects, depth=depth, overlaps_3d=overlaps))
    ids = list(zip(pairs.track_ids.tolist(), pairs.object_ids.tolist(), strict=True))
    assert ids == [(5, 71), (9, 72), (9, 99)]
    assert pairs.masks_meet.tolist() == [True, False, False]
    assert pairs.track_px.tolist() == [400, 400, 400] == pairs.track_depth_px.tolist()
    assert pairs.mask_px.tolist() == [400, 0, 0] == pairs.surface_px.tolist()


@pytest.mark.parametrize("projections", [[], [projection(71, rect(10, 10, 30, 30))]])
def test_without_tracks_or_objects_there_is_no_pair(projections: list) -> None:
    assert len(find_candidates(frame_evidence({}, projections))) == 0
    assert len(find_candidates(frame_evidence(TRACKS, []))) == 0


def test_a_track_without_pixels_is_no_candidate() -> None:
    tracks = {5: rect(0, 0, 0, 0), 9: TRACKS[5]}
    pairs = find_candidates(frame_evidence(tracks, [projection(71, rect(0, 0, 30, 30))]))
    assert pairs.track_ids.tolist() == [9]


def test_the_order_of_pairs_is_by_object_then_by_track() -> None:
    """As given: both orders decide which of two equal candidates is taken."""
    tracks = {9: rect(10, 10, 30, 30), 5: rect(30, 10, 50, 30)}
    objects = [projection(72, rect(20, 10, 40, 30)), projection(71, rect(10, 10, 50, 20))]
    pairs = find_candidates(frame_evidence(tracks, objects))
    ids = list(zip(pairs.track_ids.tolist(), pairs.object_ids.tolist(), strict=True))
    assert ids == [(9, 72), (5, 72), (9, 71), (5, 71)]


def test_values_by_pair_are_looked_up_with_a_default() -> None:
    pairs = candidate_pairs(3)  # (1, 11), (2, 12), (3, 13)
    assert pairs.lookup({(2, 12): 0.5, (12, 2): 9.0}, -1.0).tolist() == [-1.0, 0.5, -1.0]


def test_a_share_of_nothing_is_unknown() -> None:
    got = share(np.array([1.0, 0.0, 2.0]), np.array([4.0, 0.0, 1.0]))
    assert got == pytest.approx([0.25, math.nan, 2.0], nan_ok=True)
