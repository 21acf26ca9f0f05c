"""Map objects measured in the camera's frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vos_ros.config import BridgesConfig, MappingConfig
from vos_ros.geometry import se3
from vos_ros.mapping.render import render
from vos_ros.sinks.landmarks import UNKNOWN_ROTATION_VARIANCE, landmarks, measure_offset
from vos_ros.types import (
    Association,
    AssociationStatus,
    Frame,
    FrameResult,
    Intrinsics,
    MapObject,
    Projection,
    Segmentation,
    Track,
    TrackSource,
    TrackState,
)

S = AssociationStatus
H, W, F = 96, 128, 100.0
CAMERA = Intrinsics(F, F, (W - 1) / 2, (H - 1) / 2, W, H)
CONFIG = BridgesConfig()
TRACK = Track(
    track_id=1,
    label_value=101,
    class_id=0,
    state=TrackState.CONFIRMED,
    source=TrackSource.MAP,
    score=1.0,
    age_frames=9,
    misses=0,
    area_px=500,
    roi=(0, 0, 9, 9),
    visible=1.0,
    occluded=0.0,
    truncated=0.0,
)


def plate(x: float = 0.0, y: float = 0.0, z: float = 1.0, **changes: Any) -> MapObject:
    """A square of 30 cm that faces the camera."""
    ticks = np.arange(-0.15, 0.15, 0.004)
    u, v = np.meshgrid(ticks, ticks)
    points = np.stack([u + x, v + y, np.full_like(u, z)], -1).reshape(-1, 3).astype(np.float32)
    T = se3.from_rt(np.eye(3), np.array([x, y, z]))
    return replace(MapObject(7, 1, T, np.array([0.3, 0.3, 0.0]), points, 0.004), **changes)


def scene(
    there: MapObject, mapped: MapObject, T: np.ndarray | None = None, **association: Any
) -> tuple[Frame, np.ndarray, FrameResult]:
    """A frame of ``there`` with a perfect mask, where the map has ``mapped``.

    ``T`` is the camera pose that is used; the true one is the identity.
    """
    (shown,) = render([there], np.eye(4), CAMERA, config=MappingConfig())
    depth = np.where(shown.mask, shown.depth, np.float32(2.5)).astype(np.float32)
    depth[: H // 3] = 0.0  # a part without measurement
    labels = np.where(shown.mask, 101, 0).astype(np.uint16)
    pose = np.eye(4) if T is None else T
    values = {"score": 0.97, "n_observations": 30, **association}
    a = replace(Association(1, mapped.id, S.MATCHED, 0.97), **values)
    result = FrameResult(
        stamp_ns=0,
        segmentation=Segmentation((1,), torch.zeros(2, H, W)),
        tracks=(TRACK,),
        projections=tuple(render([mapped], pose, CAMERA, config=MappingConfig())),
        observations=(),
        associations=(a,),
        T_map_camera=pose,
    )
    return Frame(0, 1, np.zeros((H, W, 3), np.uint8), depth, CAMERA, pose), labels, result


def test_a_landmark_is_where_the_frame_measured_it_not_where_the_map_has_it() -> None:
    there, mapped = plate(0.03, -0.02, 1.04), plate()
    (one,) = landmarks(*scene(there, mapped), {7: mapped}.get, CONFIG)
    assert one.object_id == 7
    error = one.T_camera_object[:3, 3] - [0.03, -0.02, 1.04]
    np.testing.assert_allclose(error, 0.0, atol=0.012)
    sigma = np.sqrt(np.diag(one.cov)[:3])
    assert np.all(sigma > 0) and np.all(np.abs(error) < 3 * sigma)
    np.testing.assert_array_equal(np.diag(one.cov)[3:], UNKNOWN_ROTATION_VARIANCE)
    assert np.array_equal(one.cov, np.diag(np.diag(one.cov)))


@pytest.mark.parametrize("wrong", [[0.04, 0.0, -0.03], [0.0, -0.04, 0.03]])
def test_it_does_not_depend_on_the_pose_that_was_used(wrong: list[float]) -> None:
    mapped = plate()
    T = se3.from_rt(np.eye(3), np.array(wrong))
    (a,), (b,) = (
        landmarks(*scene(plate(), mapped, pose), {7: mapped}.get, CONFIG) for pose in (None, T)
    )
    np.testing.assert_allclose(b.T_camera_object[:3, 3], a.T_camera_object[:3, 3], atol=0.012)
    assert b.cov[0, 0] > a.cov[0, 0] and b.cov[1, 1] > a.cov[1, 1], "their overlap is smaller"


@pytest.mark.parametrize(
    "association",
    [
        {"score": CONFIG.landmark_score},
        {"runner_up_score": 0.97 - CONFIG.landmark_margin, "runner_up_id": 3},
        {"n_observations": CONFIG.landmark_observations},
    ],
)
def test_a_match_at_the_thresholds_is_a_landmark(association: dict[str, Any]) -> None:
    mapped = plate()
    assert len(landmarks(*scene(plate(), mapped, **association), {7: mapped}.get, CONFIG)) == 1


@pytest.mark.parametrize(
    "association",
    [
        {"score": CONFIG.landmark_score - 0.01},
        {"runner_up_score": 0.98 - CONFIG.landmark_margin, "runner_up_id": 3},
        {"n_observations": CONFIG.landmark_observations - 1},
        {"status": S.TENTATIVE},
        {"status": S.REIDENTIFIED},
        {"track_id": 2},
        {"map_object_id": 8},
    ],
)
def test_an_uncertain_match_is_no_landmark(association: dict[str, Any]) -> None:
    mapped = plate()
    assert not landmarks(*scene(plate(), mapped, **association), {7: mapped}.get, CONFIG)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"visible": CONFIG.landmark_visible}, 1),
        ({"visible": CONFIG.landmark_visible - 0.01}, 0),
        ({"state": TrackState.TENTATIVE}, 0),
        ({"state": TrackState.OCCLUDED}, 0),
    ],
)
def test_the_track_is_confirmed_and_mostly_visible(changes: dict[str, Any], count: int) -> None:
    mapped = plate()
    frame, labels, result = scene(plate(), mapped)
    result = replace(result, tracks=(replace(TRACK, **changes),))
    assert len(landmarks(frame, labels, result, {7: mapped}.get, CONFIG)) == count


def test_an_object_that_moves_or_has_no_projection_is_no_landmark() -> None:
    mapped = plate()
    frame, labels, result = scene(plate(), mapped)
    moving = replace(mapped, is_static=False)
    assert not landmarks(frame, labels, result, {7: moving}.get, CONFIG)
    assert not landmarks(frame, labels, result, {}.get, CONFIG)
    without = replace(result, projections=())
    assert not landmarks(frame, labels, without, {7: mapped}.get, CONFIG)


@pytest.mark.parametrize(("object_id", "count"), [(2**31 - 1, 1), (2**31, 0)])
def test_ids_are_int32(object_id: int, count: int) -> None:
    mapped = plate(id=object_id)
    got = landmarks(*scene(plate(), mapped), {object_id: mapped}.get, CONFIG)
    assert len(got) == count


def test_without_depth_or_pose_there_is_no_landmark() -> None:
    mapped = plate()
    frame, labels, result = scene(plate(), mapped)
    get = {7: mapped}.get
    assert frame.depth is not None
    assert not landmarks(replace(frame, depth=None), labels, result, get, CONFIG)
    unknown = replace(frame, depth=np.zeros_like(frame.depth))
    assert not landmarks(unknown, labels, result, get, CONFIG)
    assert not landmarks(frame, labels, replace(result, T_map_camera=None), get, CONFIG)


def block(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    image = np.zeros((H, W), bool)
    image[y0:y1, x0:x1] = True
    return image


def projection(mask: np.ndarray, z: float) -> Projection:
    """The projection of a surface at depth z, its crop larger than its mask."""
    rows, columns = np.nonzero(mask)
    x0, y0, x1, y1 = columns.min() - 2, rows.min() - 3, columns.max() + 6, rows.max() + 5
    own = mask[y0:y1, x0:x1]
    return Projection(
        object_id=7,
        shape=(H, W),
        roi=(int(x0), int(y0), int(x1), int(y1)),
        mask_roi=own,
        silhouette_roi=own,
        depth_roi=np.where(own, np.float32(z), 0),
        visible=1.0,
        occluded=0.0,
        truncated=0.0,
    )


def test_the_offset_and_its_sigma_in_closed_form() -> None:
    """20 x 10 px at 2 m, shown 4 px to the right, 2 px down and 0.1 m nearer."""
    mask = block(74, 52, 94, 62)
    camera = replace(CAMERA, fx=100.0, fy=50.0)
    depth = np.full((H, W), 2.0, np.float32)
    frame = Frame(0, 1, np.zeros((H, W, 3), np.uint8), depth, camera)
    measured = measure_offset(projection(block(70, 50, 90, 60), 2.1), mask, frame)
    assert measured is not None
    offset, sigma = measured
    u, v = (83.5 - camera.cx) / 100.0, (56.5 - camera.cy) / 50.0
    expected = [2.0 * 4 / 100 - 0.1 * u, 2.0 * 2 / 50 - 0.1 * v, -0.1]
    np.testing.assert_allclose(offset, expected, atol=1e-6)
    iou = (16 * 8) / (2 * 200 - 16 * 8)
    sigma_px = (1 - iou) * np.sqrt(200) / 2
    np.testing.assert_allclose(sigma, [sigma_px * 2 / 100, sigma_px * 2 / 50, 0.005], rtol=1e-6)


def test_no_sigma_is_below_half_a_pixel_and_half_a_centimetre() -> None:
    mask = block(70, 50, 90, 60)
    for z, expected in ((2.0, [0.01, 0.01, 0.005]), (0.5, [0.005, 0.005, 0.005])):
        depth = np.full((H, W), z, np.float32)
        frame = Frame(0, 1, np.zeros((H, W, 3), np.uint8), depth, CAMERA)
        measured = measure_offset(projection(mask, z), mask, frame)
        assert measured is not None
        np.testing.assert_allclose(measured[1], expected, rtol=1e-6)


def test_the_sigma_of_the_range_is_that_of_the_depth_difference() -> None:
    mask = block(40, 30, 90, 80)
    noise = np.random.default_rng(0).normal(0.0, 0.03, (H, W))
    depth = (2.0 + noise).astype(np.float32)
    frame = Frame(0, 1, np.zeros((H, W, 3), np.uint8), depth, CAMERA)
    measured = measure_offset(projection(mask, 2.0), mask, frame)
    assert measured is not None and measured[1][2] == pytest.approx(0.03, rel=0.05)


@pytest.mark.parametrize(("pixels", "known"), [(20, True), (19, False)])
def test_a_range_needs_twenty_pixels(pixels: int, known: bool) -> None:
    mask = block(70, 50, 90, 60)
    depth = np.zeros((H, W), np.float32)
    depth[55, 70 : 70 + pixels] = 2.0
    frame = Frame(0, 1, np.zeros((H, W, 3), np.uint8), depth, CAMERA)
    assert (measure_offset(projection(mask, 2.0), mask, frame) is not None) == known
