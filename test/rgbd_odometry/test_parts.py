"""Views, keyframes, covariances."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.config import changed, params
from vos_ros.geometry import se3
from vos_ros.rgbd_odometry.config import ImageConfig, SlamConfig
from vos_ros.rgbd_odometry.features import describe, follow_corners, match_landmarks
from vos_ros.rgbd_odometry.keyframes import Keyframe, Keyframes, make_keyframe
from vos_ros.rgbd_odometry.scaled_frames import scale_frame
from vos_ros.rgbd_odometry.uncertainty import (
    compose_covariance,
    plane_information,
    point_covariance,
)
from vos_ros.types import Intrinsics

CAMERA = Intrinsics(200.0, 200.0, 159.5, 119.5, 320, 240)


def wall(z: float = 2.0):
    rng = np.random.default_rng(0)
    return scale_frame(
        1,
        rng.integers(0, 255, (240, 320, 3), np.uint8),
        np.full((240, 320), z, np.float32),
        CAMERA,
        ImageConfig(),
    )


def test_a_view_is_smaller_by_whole_steps_and_whole_blocks():
    depth = np.full((246, 330), 1.0, np.float32)
    depth[:, 165:] = 2.0  # the edge lies within a pixel of the view
    depth[0, 0], depth[2, 2], depth[4, 4] = np.nan, 9.0, 0.1
    camera = Intrinsics(200.0, 200.0, 164.5, 122.5, 330, 246)
    view = scale_frame(
        5, np.full((246, 330, 3), 7, np.uint8), depth, camera, ImageConfig(width_px=170)
    )
    assert view.gray.shape == view.depth_mm.shape == (120, 160)
    assert (view.intrinsics.fx, view.intrinsics.cx, view.intrinsics.cy) == (100.0, 82.0, 61.0)
    assert view.depth_mm[0, 0] == view.depth_mm[1, 1] == view.depth_mm[2, 2] == 0, (
        "unknown, too far, too near"
    )
    assert (
        view.depth_mm[50, 81] == 1000
        and view.depth_mm[50, 82] == 0
        and view.depth_mm[50, 83] == 2000
    )
    np.testing.assert_allclose(view.points(np.array([[92.0, 61.0]], np.float32)), [[0.2, 0.0, 2.0]])


def test_corners_give_the_shift_of_a_wall():
    a = wall()
    shifted = np.ascontiguousarray(np.roll(a.rgb, -5, 1))
    b = scale_frame(2, shifted, np.full((240, 320), 2.0, np.float32), CAMERA, ImageConfig())
    for found in (follow_corners(a, b), match_landmarks(describe(a), describe(b), b)):
        assert found is not None and found.inliers >= 20
        np.testing.assert_allclose(found.T_a_b @ [0, 0, 2, 1], [0.05, 0, 2, 1], atol=0.01)
    blank = scale_frame(
        3, np.zeros_like(a.rgb), np.full((240, 320), 2.0, np.float32), CAMERA, ImageConfig()
    )
    assert (
        follow_corners(blank, a) is None
        and match_landmarks(describe(blank), describe(a), a) is None
    )


def test_the_covariance_of_an_alignment_depends_on_the_image():
    cov = point_covariance(wall(2.0), np.eye(3), 0.001)
    # The middle of the image stays: a rotation to the right (about y) goes with a step to the left.
    assert cov[0, 4] < 0 < cov[1, 3]
    seen = np.concatenate([np.eye(3), -se3.hat(np.array([0, 0, 2.0]))], 1)
    assert np.sqrt(np.trace(seen @ cov @ seen.T)) < 0.5 * np.sqrt(np.trace(cov[:3, :3]))
    np.testing.assert_allclose(point_covariance(wall(2.0), np.eye(3), 0.002), 4 * cov)
    information = plane_information(wall(2.0), np.eye(3), 0.001)
    values = np.linalg.eigvalsh(information)
    assert (values[:3] < 1e-6 * values[-1]).all() and values[3] > 1.0, (
        "along a wall, and about its normal, nothing is known"
    )


def test_the_covariance_is_carried_with_the_lever():
    rng = np.random.default_rng(1)
    ref, rel = (np.diag(rng.uniform(0.5, 1, 6) * 1e-4) for _ in range(2))
    T_ref, T_rel = (
        se3.perturb(np.eye(4), rng.normal(size=6)),
        se3.perturb(np.eye(4), rng.normal(size=6)),
    )
    a, b = (
        rng.multivariate_normal(np.zeros(6), ref, 40000),
        rng.multivariate_normal(np.zeros(6), rel, 40000),
    )
    poses = se3.perturb(T_ref, a) @ se3.perturb(T_rel, b)
    sampled = np.cov(se3.difference(poses, T_ref @ T_rel).T)
    np.testing.assert_allclose(
        compose_covariance(ref, rel, T_ref[:3, :3], T_rel[:3, 3]), sampled, atol=6e-6
    )


def test_keyframes_are_bounded_and_the_oldest_near_one_is_the_reference():
    frames = Keyframes(changed(SlamConfig(), {"follow.max_keyframes": 5}).follow)
    view = wall()

    def at(x: float, run: int = 0) -> Keyframe:
        T = np.eye(4)
        T[0, 3] = x
        return make_keyframe(view, None, T, np.eye(6), run)

    for x in (0.0, 1.0, 1.1, 2.0, 3.0):
        frames.add(at(x))
    assert frames.reference(at(1.09).T_map_camera, 0).T_map_camera[0, 3] == 1.0
    assert frames.reference(at(9.0).T_map_camera, 0).T_map_camera[0, 3] == 3.0
    frames.add(at(4.0))
    assert [k.T_map_camera[0, 3] for k in frames] == [0.0, 1.0, 2.0, 3.0, 4.0], (
        "the newer one of the nearest two has gone"
    )
    frames.add(at(0.0, run=1))
    assert frames.reference(at(0.0).T_map_camera, 1).run == 1
    assert (
        frames.has_near(at(2.1).T_map_camera, 0)
        and not frames.has_near(at(2.1).T_map_camera, 1)
        and not frames.has_near(at(2.5).T_map_camera, 0)
    )
    frames.remove_run(1)
    assert len(frames) == 4


def test_the_covariance_follows_the_axes_of_the_reference():
    """The same image, stated along other axes: both turn with the rotation of the reference."""
    depth = np.full((240, 320), 2.0, np.float32)
    depth[:, :160] = np.linspace(1.0, 2.0, 160, dtype=np.float32)  # a slanted wall, then a flat one
    rgb = np.zeros((240, 320, 3), np.uint8)
    frame = scale_frame(1, rgb, depth, CAMERA, ImageConfig())
    R = se3.so3_exp(np.array([0.3, -0.7, 1.1]))
    turn = np.kron(np.eye(2), R)
    for function in (point_covariance, plane_information):
        straight, turned = function(frame, np.eye(3), 0.002), function(frame, R, 0.002)
        assert not np.allclose(straight, turned, rtol=0.1)
        np.testing.assert_allclose(
            turned, turn @ straight @ turn.T, atol=1e-6 * np.abs(straight).max()
        )


def test_an_image_with_hardly_any_depth_constrains_nothing():
    depth = np.zeros((240, 320), np.float32)
    depth[100:130, 100:130] = 1.0
    frame = scale_frame(1, np.zeros((240, 320, 3), np.uint8), depth, CAMERA, ImageConfig())
    np.testing.assert_array_equal(point_covariance(frame, np.eye(3), 0.001), np.eye(6))
    np.testing.assert_array_equal(plane_information(frame, np.eye(3), 0.001), np.zeros((6, 6)))


def test_similar_keyframes_come_best_first_and_only_allowed_ones():
    frames, depth = Keyframes(SlamConfig().follow), np.full((240, 320), 2.0, np.float32)
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 255, (3, 24, 32), np.uint8).repeat(10, 1).repeat(10, 2)
    for run, gray in enumerate(pictures):
        rgb = np.ascontiguousarray(np.stack([gray] * 3, -1))
        frame = scale_frame(run, rgb, depth, CAMERA, ImageConfig())
        frames.add(make_keyframe(frame, None, np.eye(4), np.eye(6), run))
    blend = (0.7 * pictures[2] + 0.3 * pictures[1]).astype(np.uint8)
    rgb = np.ascontiguousarray(np.stack([blend] * 3, -1))
    thumbnail = scale_frame(9, rgb, depth, CAMERA, ImageConfig()).thumbnail()
    assert np.linalg.norm(thumbnail) == pytest.approx(1.0) and abs(thumbnail.mean()) < 1e-6
    assert [k.run for k in frames.most_similar(thumbnail, 2, lambda k: True)] == [2, 1]
    assert [k.run for k in frames.most_similar(thumbnail, 9, lambda k: k.run < 2)] == [1, 0]


def test_defaults_are_within_bounds():
    defaults = {p.key: p.default for p in params(SlamConfig)}
    assert len(defaults) > 30 and changed(SlamConfig(), defaults) == SlamConfig()
