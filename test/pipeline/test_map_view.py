"""MapView: what the map predicts in a frame."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from support.pipeline_values import (
    CAMERA,
    H,
    W,
    config,
    covariance,
    frame,
    map_object,
    map_view,
    pose,
    projection,
    rect,
)

from vos_ros.config import MappingConfig, TrackingConfig
from vos_ros.pipeline.map_view import Lattice, predict_view, render_view
from vos_ros.types import Frame

PLATE = rect(20, 14, 44, 34)
TRACKING = TrackingConfig(seed_min_px=50, seed_min_visible=0.4)
OFF = config(pose__correction="off")


def scene(z: float = 1.0, behind: float = 2.0, **fields: object) -> Frame:
    """A plate at ``z`` m in front of a wall, as measured."""
    depth = np.where(PLATE, z, behind).astype(np.float32)
    return frame(**{"depth": depth, "pose_cov": covariance(0.001, 0.001), **fields})


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


# -- what is expected


def test_enough_visible_pixels_are_seeded() -> None:
    view = map_view()
    p = projection(1, rect(0, 0, 10, 5), visible=0.4, occluded=0.6)
    assert view.is_seedable(p, TRACKING)
    assert not view.is_seedable(p, replace(TRACKING, seed_min_px=51))
    assert not view.is_seedable(replace(p, visible=0.39), TRACKING)


def test_what_lies_outside_the_image_is_not_asked_for() -> None:
    p = projection(1, rect(0, 0, 10, 5), visible=0.2, occluded=0.3, truncated=0.5)
    assert map_view().is_seedable(p, TRACKING)
    assert not map_view().is_seedable(replace(p, visible=0.19), TRACKING)
    assert not map_view().is_seedable(replace(p, truncated=0.49), TRACKING)
    gone = replace(p, visible=0.0, truncated=1.0)
    assert not map_view().is_seedable(gone, TRACKING)


def test_an_absent_object_is_not_seeded() -> None:
    p, q = projection(1, PLATE), projection(2, PLATE)
    view = map_view(p, q, absent=frozenset({1}))
    assert not view.is_seedable(p, TRACKING) and view.is_seedable(q, TRACKING)
    assert not view.is_expected(p, TRACKING)


def test_a_visible_object_is_expected_and_a_hidden_one_is_not() -> None:
    view = map_view()
    assert view.is_expected(projection(1, PLATE), TRACKING)
    hidden = projection(1, PLATE, mask_roi=np.zeros((20, 24), bool), visible=0.0, occluded=1.0)
    assert not view.is_expected(hidden, TRACKING)


def test_an_object_is_expected_where_free_space_is_measured_in_its_place() -> None:
    nothing = np.zeros((10, 10), bool)
    p = projection(1, rect(0, 0, 10, 10), mask_roi=nothing, visible=0.0, occluded=1.0)
    view = map_view()
    assert view.is_expected(replace(p, free=0.5), TRACKING)
    assert not view.is_expected(replace(p, free=0.49), TRACKING)
    assert view.is_expected(replace(p, free=0.6), replace(TRACKING, seed_min_px=60))
    assert not view.is_expected(replace(p, free=0.6), replace(TRACKING, seed_min_px=61))


# -- predict_view


def test_a_map_object_is_predicted_where_it_is() -> None:
    view, times = predict_view(
        [map_object(1, PLATE)], [map_object(1, PLATE)], frozenset(), scene(), OFF
    )
    assert list(view.projections) == [1] == [e.object_id for e in view.predicted_pixels]
    assert iou(view.projections[1].mask, PLATE) > 0.85
    assert 0.0 < view.sigma_px[1] < 0.5 and view.priors[1].prob.max() == 1.0
    assert not view.aligned and view.T_map_camera is not None
    assert set(times) == {"render", "lift"}


def test_depth_is_prepared_for_all_that_lift() -> None:
    f = scene()
    f.depth[:6] = 0.0  # type: ignore[index]
    view, _ = predict_view([], [], frozenset({9}), f, OFF)
    assert view.absent == {9} and view.projections == {}
    assert view.measured is not None and np.array_equal(view.measured, f.depth > 0)
    assert view.liftable is not None and view.lattice is not None
    assert not view.liftable[14, 20], "next to a step"
    assert view.liftable[24, 32] and not view.liftable[3, 3]
    assert set(view.lattice.pixel.tolist()) == {
        y * W + x for y in range(0, H, 6) for x in range(0, W, 6) if view.liftable[y, x]
    }


def test_without_a_pose_nothing_is_predicted() -> None:
    f = scene(T_map_camera=None)
    o = [map_object(1, PLATE)]
    view, times = predict_view(o, o, frozenset({1}), f, OFF)
    assert view.T_map_camera is None and view.projections == {} == view.sigma_px == view.priors
    assert view.predicted_pixels == () and view.measured is None is view.lattice
    assert view.pose_cov is f.pose_cov and times == {} and view.absent == {1}


def test_without_depth_the_map_alone_is_predicted() -> None:
    o = [map_object(1, PLATE)]
    view, times = predict_view(o, o, frozenset(), scene(depth=None), config())
    assert list(view.projections) == [1] and view.measured is view.liftable is view.lattice is None
    assert not view.aligned and set(times) == {"render"}


def test_a_pose_without_covariance_has_the_configured_one() -> None:
    o = [map_object(1, PLATE)]
    settings = config(pose__correction="off", pose__sigma_m=0.02, pose__sigma_deg=3.0)
    view, _ = predict_view(o, o, frozenset(), scene(pose_cov=None), settings)
    assert view.pose_cov == pytest.approx(covariance(0.02, math.radians(3.0)))
    given = covariance(0.5, 0.1)
    assert predict_view(o, o, frozenset(), scene(pose_cov=given), settings)[0].pose_cov is given


def test_completed_objects_are_predicted_and_those_of_the_map_are_aligned() -> None:
    half = map_object(1, rect(20, 14, 32, 34))
    view, _ = predict_view([half], [map_object(1, PLATE)], frozenset(), scene(), OFF)
    assert iou(view.projections[1].mask, PLATE) > 0.85


@pytest.mark.parametrize("correction", ["auto", "depth", "image", "off"])
def test_depth_aligns_the_pose_where_it_may(correction: str) -> None:
    """The plate is measured 2 cm farther than the pose says."""
    o = [map_object(1, PLATE)]
    f = scene(z=1.02, pose_cov=covariance(0.03, 0.001))
    settings = config(pose__correction=correction)
    view, times = predict_view(o, o, frozenset(), f, settings)
    assert view.T_map_camera is not None
    if correction in ("auto", "depth"):
        assert view.aligned and "pose" in times
        assert view.T_map_camera[2, 3] == pytest.approx(-0.02, abs=0.005)
        assert view.pose_cov is not None and view.pose_cov[2, 2] < 0.03**2
    else:
        assert not view.aligned and "pose" not in times
        assert view.T_map_camera is f.T_map_camera


# -- render_view


def test_the_depth_test_allows_for_an_uncertain_pose() -> None:
    """The plate is measured 6 cm in front of where the map has it: more than the tolerance of 3 cm,
    and less where the position is uncertain by 3 cm."""
    f, mapping = scene(z=0.94), MappingConfig(depth_tolerance_m=0.03, depth_tolerance_per_m2=0.0)
    certain = render_view([map_object(1, PLATE)], f, pose(), covariance(0.001, 0.0), mapping)
    assert certain.projections[1].visible == 0.0
    unsure = render_view([map_object(1, PLATE)], f, pose(), covariance(0.03, 0.0), mapping)
    assert unsure.projections[1].visible > 0.8
    turning = render_view([map_object(1, PLATE)], f, pose(), covariance(0.001, 0.03), mapping)
    assert turning.projections[1].visible == 0.0, "the position counts alone"


def test_the_tolerance_grows_with_the_range() -> None:
    """The prior and the expected pixels are cut by the same tolerance as the projection."""
    mapping = MappingConfig(depth_tolerance_m=0.001, depth_tolerance_per_m2=0.03)
    f = scene(z=2.1, behind=4.0)  # 0.1 m off at 2 m, where 0.12 m are allowed
    far = map_object(1, PLATE, z=2.0)
    view = render_view([far], f, pose(), covariance(0.0, 0.0), mapping)
    assert view.projections[1].visible > 0.8
    assert view.priors[1].prob.max() == 1.0
    assert view.predicted_pixels[0].agrees_px > 0.8 * PLATE.sum()
    strict = replace(mapping, depth_tolerance_per_m2=0.02)
    view = render_view([far], f, pose(), covariance(0.0, 0.0), strict)
    assert view.predicted_pixels[0].agrees_px == 0


def test_the_uncertainty_of_each_object_is_its_own() -> None:
    near, far = map_object(1, rect(4, 4, 20, 20), z=0.5), map_object(2, rect(40, 20, 60, 40), z=2.0)
    f = frame(depth=None)
    view = render_view([near, far], f, pose(), covariance(0.01, 0.0), MappingConfig())
    assert view.sigma_px[1] == pytest.approx(2.0, rel=0.1)  # 1 cm at 0.5 m and f = 100 px
    assert view.sigma_px[2] == pytest.approx(0.5, rel=0.1)
    assert view.priors[1].sigma_px == view.sigma_px[1]
    assert view.predicted_pixels[0].core_px < view.predicted_pixels[0].mask_px


def test_objects_that_are_out_of_view_are_left_out() -> None:
    f = frame(depth=None)
    view = render_view([map_object(1, PLATE)], f, pose(5.0), covariance(0.0, 0.0), MappingConfig())
    assert view.projections == view.sigma_px == view.priors == {}
    assert view.predicted_pixels == ()


# -- the lattice


def test_the_lattice_lifts_every_sixth_pixel() -> None:
    f = scene()
    lattice = Lattice.of(f, None)
    assert len(lattice.pixel) == 8 * 11 and f.depth is not None
    y, x = np.divmod(lattice.pixel, W)
    assert set(y) == set(range(0, H, 6)) and set(x) == set(range(0, W, 6))
    z = f.depth[y, x]
    expected = np.stack([(x - CAMERA.cx) / 100.0 * z, (y - CAMERA.cy) / 100.0 * z, z], 1)
    assert lattice.camera == pytest.approx(expected, abs=1e-5)


def test_the_lattice_leaves_out_what_cannot_be_lifted() -> None:
    f, liftable = scene(), np.ones((H, W), bool)
    liftable[:, :30] = False
    f.depth[12] = 0.0  # type: ignore[index]
    y, x = np.divmod(Lattice.of(f, liftable).pixel, W)
    assert x.min() == 30 and 12 not in y and 6 in y
