"""MaskFusion: what the map predicts against what the segmenter follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from support.pipeline_values import (
    H,
    W,
    map_view,
    no_pose,
    projection,
    rect,
    segmentation,
    track_manager,
)

from vos_ros.pipeline.instance_masks import InstanceMasks
from vos_ros.pipeline.map_view import MapView
from vos_ros.pipeline.mask_fusion import MaskFusion
from vos_ros.segmentation.fusion import box_priors
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Segmentation

HERE, THERE = rect(6, 10, 26, 30), rect(36, 10, 56, 30)
ONE = track_manager({1: 1})


def fused(
    view: MapView, s: Segmentation, tracks: TrackManager = ONE, fusion: MaskFusion | None = None
) -> InstanceMasks:
    return (fusion or MaskFusion(uses_image=True)).fuse(view, s, tracks)


def test_a_certain_projection_wins() -> None:
    masks = fused(map_view(projection(1, HERE)), segmentation({1: THERE}))
    assert np.array_equal(masks.mask(1), HERE) and masks.boxes == {1: (6, 10, 26, 30)}


def test_a_projection_is_a_prior_for_the_track_of_its_object() -> None:
    view = map_view(projection(7, HERE), projection(8, THERE))
    tracks = track_manager({1: 8, 2: 7})
    masks = fused(view, segmentation({1: THERE, 2: HERE}), tracks)
    assert np.array_equal(masks.mask(1), THERE) and np.array_equal(masks.mask(2), HERE)


def test_an_object_that_is_a_box_is_what_the_image_finds_of_it_unless_it_is_lost() -> None:
    p = projection(1, HERE)
    view = map_view(p, priors=box_priors([p], {1: 0.0}, None, {1: 0.05}))
    view = replace(view, box_centers={1: np.array([16.0, 20.0])})
    most = HERE & rect(6, 10, 26, 25)
    assert np.array_equal(fused(view, segmentation({1: most})).mask(1), most)
    assert np.array_equal(fused(view, segmentation({1: THERE})).mask(1), HERE)
    sure = replace(view, priors={1: replace(view.priors[1], sigma_px=0.0)}, box_centers={})
    assert np.array_equal(fused(sure, segmentation({1: most})).mask(1), HERE)


def test_without_a_pose_the_image_decides() -> None:
    masks = fused(no_pose(), segmentation({1: THERE}))
    assert np.array_equal(masks.mask(1), THERE)


def test_masks_of_a_segmenter_that_does_not_use_the_image_are_taken_as_they_are() -> None:
    fusion = MaskFusion(uses_image=False)
    masks = fused(map_view(projection(1, HERE)), segmentation({1: THERE}), fusion=fusion)
    assert np.array_equal(masks.mask(1), THERE)


def test_an_absent_object_has_no_prior() -> None:
    """What is left of its projection belongs to whatever stands behind it."""
    view = map_view(projection(1, HERE), projection(2, HERE, z=3.0))
    s = segmentation({1: rect(0, 0, 0, 0), 2: rect(0, 0, 0, 0)})
    tracks = track_manager({1: 1, 2: 2})
    both = fused(view, s, tracks)
    assert both.areas_px[1] == 400, "the first of two that are alike"
    absent = fused(replace(view, absent=frozenset({1})), s, tracks)
    assert absent.areas_px[1] == 0 and absent.areas_px[2] == 400


def test_an_object_out_of_view_keeps_pixels_only_around_its_last_place() -> None:
    """Where the pose is as uncertain as 20 px, the image counts."""
    fusion = MaskFusion(uses_image=True)
    seen = map_view(projection(1, HERE), sigma_px=3.0)
    other = map_view(projection(2, rect(0, 0, 4, 4)), sigma_px=20.0)
    tracks = track_manager({1: 1})
    fused(seen, segmentation({1: HERE}), tracks, fusion)
    around = fused(other, segmentation({1: HERE}), tracks, fusion)
    assert around.prob[20, 16] < 0.8 and around.prob[20, 60] == 1.0
    alone = fused(other, segmentation({1: HERE}), tracks)
    assert alone.prob[20, 16] == 1.0, "without a last place there is nothing"
    certain = fused(map_view(), segmentation({1: HERE}), tracks, fusion)
    assert certain.prob[20, 16] == 1.0, "the uncertainty is that of the frame's projections"


def test_the_last_place_is_that_of_the_last_frame() -> None:
    fusion, tracks = MaskFusion(uses_image=True), track_manager({1: 1})
    for mask in (HERE, THERE):
        fused(map_view(projection(1, mask)), segmentation({1: mask}), tracks, fusion)
    other = map_view(projection(2, rect(0, 0, 4, 4)), sigma_px=20.0)
    masks = fused(other, segmentation({1: HERE | THERE}), tracks, fusion)
    assert masks.prob[20, 46] < 0.8 and masks.prob[20, 10] == 1.0


def test_a_track_without_pixels_has_no_last_place() -> None:
    fusion, tracks = MaskFusion(uses_image=True), track_manager({1: 1})
    fused(map_view(projection(1, HERE)), segmentation({1: HERE}), tracks, fusion)
    hidden = segmentation({1: rect(0, 0, 0, 0)})
    assert fused(map_view(), hidden, tracks, fusion).areas_px[1] == 0
    other = map_view(projection(2, rect(0, 0, 4, 4)), sigma_px=20.0)
    assert fused(other, segmentation({1: HERE}), tracks, fusion).prob[20, 16] == 1.0


def test_the_last_place_of_each_track_is_its_own() -> None:
    fusion, tracks = MaskFusion(uses_image=True), track_manager({1: 1, 2: 2})
    both = map_view(projection(1, HERE), projection(2, THERE))
    fused(both, segmentation({1: HERE, 2: THERE}), tracks, fusion)
    other = map_view(projection(3, rect(0, 0, 4, 4)), sigma_px=20.0)
    turned = fused(other, segmentation({2: HERE}), tracks, fusion)
    assert turned.prob[20, 10] == 1.0
    stays = fused(other, segmentation({2: THERE}), tracks, MaskFusion(uses_image=True))
    assert stays.prob[20, 46] == 1.0


def test_a_track_without_an_object_that_covers_the_image_at_once_keeps_its_place() -> None:
    fusion, everywhere = MaskFusion(uses_image=True), rect(0, 0, W, H)
    tracks = track_manager({1: 0})
    assert fused(map_view(), segmentation({1: HERE}), tracks, fusion).areas_px[1] == 400
    burst = fused(map_view(), segmentation({1: everywhere}), tracks, fusion)
    assert burst.boxes == {1: (0, 0, 36, 40)}
    first = fused(map_view(), segmentation({1: everywhere}), tracks)
    assert first.areas_px[1] == H * W, "nothing is known of its place"


def test_a_track_with_an_object_is_kept_by_the_map_alone() -> None:
    fusion, everywhere = MaskFusion(uses_image=True), rect(0, 0, W, H)
    tracks = track_manager({1: 1})
    fused(map_view(projection(1, HERE)), segmentation({1: HERE}), tracks, fusion)
    masks = fused(no_pose(), segmentation({1: everywhere}), tracks, fusion)
    assert masks.areas_px[1] == H * W


def test_the_place_of_a_track_that_has_ended_is_not_asked_for() -> None:
    fusion, tracks = MaskFusion(uses_image=True), track_manager({1: 0, 2: 0})
    fused(map_view(), segmentation({1: HERE, 2: THERE}), tracks, fusion)
    tracks.remove([1])
    masks = fused(map_view(), segmentation({2: THERE}), tracks, fusion)
    assert masks.track_ids == (2,) and np.array_equal(masks.mask(2), THERE)
