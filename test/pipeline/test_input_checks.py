"""InputChecker: data that can't be used, and breaks of the stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.pipeline_values import CAMERA, H, W, frame, pose, track_manager

from vos_ros.pipeline.input_checks import InputChecker, pose_jump_warning, sanitize_frame
from vos_ros.pipeline.plan import Restart
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Frame, Intrinsics, TrackSource, TrackState

NO_TRACKS = track_manager()


def small(t: float) -> Frame:
    """A frame of half the size."""
    return frame(
        t,
        rgb=np.zeros((H // 2, W // 2, 3), np.uint8),
        depth=None,
        intrinsics=Intrinsics(50.0, 50.0, 15.5, 11.5, W // 2, H // 2),
    )


def started(*frames: Frame, give_up_s: float = 10.0) -> InputChecker:
    checker = InputChecker(give_up_s)
    for f in frames:
        checker.check(f, NO_TRACKS)
    return checker


# -- one frame


def test_a_good_frame_passes_as_it_is() -> None:
    f = frame(1.0, pose_cov=np.eye(6))
    checked, plan = InputChecker(10.0).check(f, NO_TRACKS)
    assert (checked.rgb is f.rgb) and (checked.depth is f.depth)
    assert checked.T_map_camera is f.T_map_camera and checked.pose_cov is f.pose_cov
    assert plan.restart == Restart.NOTHING and plan.warnings == () == plan.end


def test_depth_of_another_size_is_left_out() -> None:
    f, (warning,) = sanitize_frame(frame(depth=np.ones((H, W - 1), np.float32)))
    assert f.depth is None and "63x48" in warning and "64x48" in warning and "register" in warning
    assert f.T_map_camera is not None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_depth_that_is_not_finite_is_unknown(bad: float) -> None:
    depth = np.full((H, W), 1.5, np.float32)
    depth[3, 4] = bad
    f, warnings = sanitize_frame(frame(depth=depth))
    assert f.depth is not None and warnings == []
    assert f.depth[3, 4] == 0.0 and np.count_nonzero(f.depth == 1.5) == H * W - 1
    assert not np.isfinite(depth[3, 4]), "the given image is left as it was"


@pytest.mark.parametrize("size", [(W + 1, H), (W, H - 1)])
def test_a_camera_info_of_another_size_leaves_no_pose(size: tuple[int, int]) -> None:
    other = replace(CAMERA, width=size[0], height=size[1])
    f, (warning,) = sanitize_frame(frame(intrinsics=other))
    assert f.T_map_camera is None and f"{size[0]}x{size[1]}" in warning
    assert f.depth is not None


@pytest.mark.parametrize("scale", [np.nan, 2.0, 0.0, -1.0])
def test_a_pose_that_is_no_rigid_motion_is_left_out(scale: float) -> None:
    f, (warning,) = sanitize_frame(frame(T_map_camera=np.diag([1.0, 1.0, scale, 1.0])))
    assert f.T_map_camera is None and "pose" in warning


def test_a_rotation_that_is_rounded_is_one() -> None:
    T = pose(turned_deg=30.0)
    T[:3, :3] *= 1.0002
    f, warnings = sanitize_frame(frame(T_map_camera=T))
    assert f.T_map_camera is T and warnings == []


def indefinite() -> np.ndarray:
    cov = np.eye(6)
    cov[0, 5] = cov[5, 0] = 2.0
    return cov


@pytest.mark.parametrize(
    "cov", [np.full((6, 6), np.nan), np.diag([1.0, 1, 1, -1, 1, 1]), indefinite(), np.eye(3)]
)
def test_a_matrix_that_is_no_covariance_is_left_out(cov: np.ndarray) -> None:
    f, (warning,) = sanitize_frame(frame(pose_cov=cov))
    assert f.pose_cov is None and "covariance" in warning and f.T_map_camera is not None


@pytest.mark.parametrize("cov", [np.zeros((6, 6)), np.diag([1.0, 0, 0, 0, 0, 0]), np.eye(6)])
def test_a_covariance_may_be_exact_in_some_directions(cov: np.ndarray) -> None:
    f, warnings = sanitize_frame(frame(pose_cov=cov))
    assert f.pose_cov is cov and warnings == []


@pytest.mark.parametrize("large", [1e13, 1e150, 1e300])
def test_a_covariance_beyond_all_measure_is_a_very_large_one(large: float) -> None:
    """Squares and sums of it would be infinite, and their differences not a number."""
    f, warnings = sanitize_frame(frame(pose_cov=np.diag([large, 1, 1, 1e-4, 1e-4, 1e-4])))
    assert f.pose_cov is not None and np.array_equal(f.pose_cov, 1e12 * np.eye(6))
    assert warnings == []
    unknown = np.diag([1e6] * 6)
    assert sanitize_frame(frame(pose_cov=unknown))[0].pose_cov is unknown


# -- a jump of the pose


def test_a_camera_that_moves_fast_has_jumped() -> None:
    last = frame(1.0)
    assert pose_jump_warning(last, frame(1.1, T_map_camera=pose(0.49))) == ""
    warning = pose_jump_warning(last, frame(1.1, T_map_camera=pose(0.51)))
    assert "0.51 m" in warning and "0.10 s" in warning


def test_a_camera_that_only_turns_fast_has_jumped() -> None:
    last = frame(1.0, T_map_camera=pose(turned_deg=90.0))
    assert pose_jump_warning(last, frame(1.1, T_map_camera=pose(turned_deg=90 + 28.0))) == ""
    warning = pose_jump_warning(last, frame(1.1, T_map_camera=pose(turned_deg=90 - 29.0)))
    assert "29 deg" in warning and "0.00 m" in warning
    assert "180 deg" in pose_jump_warning(last, frame(1.1, T_map_camera=pose(turned_deg=270.0)))


def test_stamps_that_are_close_say_nothing_about_the_speed() -> None:
    last = frame(1.0)
    assert pose_jump_warning(last, frame(1.0, T_map_camera=pose(0.24))) == ""
    assert "0.05 s" in pose_jump_warning(last, frame(1.001, T_map_camera=pose(0.26)))


def test_a_long_pause_explains_a_long_way() -> None:
    assert pose_jump_warning(frame(1.0), frame(3.0, T_map_camera=pose(9.0))) == ""


def test_without_a_pose_nothing_jumps() -> None:
    blind = frame(1.0, T_map_camera=None)
    far = frame(1.1, T_map_camera=pose(9.0))
    assert pose_jump_warning(blind, far) == pose_jump_warning(far, blind) == ""


# -- breaks of the stream


def test_a_jump_forgets_places_only() -> None:
    checker = started(frame(1.0))
    _, plan = checker.check(frame(1.1, T_map_camera=pose(2.0)), NO_TRACKS)
    assert plan.restart == Restart.PLACES and "jumped by 2.00 m" in plan.warnings[0]
    _, plan = checker.check(frame(1.2, T_map_camera=pose(2.0)), NO_TRACKS)
    assert plan.restart == Restart.NOTHING, "compared with the last frame, not with the first"


def test_time_that_goes_backwards_begins_a_new_session() -> None:
    checker = started(frame(5.0))
    _, plan = checker.check(frame(1.5, T_map_camera=pose(9.0)), track_manager({1: 0}))
    assert plan.restart == Restart.SESSION and plan.end == ()
    (warning,) = plan.warnings  # no jump: the frame is the first of its session
    assert "backwards by 3.500 s" in warning
    _, plan = checker.check(frame(1.6, T_map_camera=pose(9.0)), NO_TRACKS)
    assert plan.restart == Restart.NOTHING and plan.warnings == ()


def test_the_same_stamp_again_is_no_step_backwards() -> None:
    _, plan = started(frame(5.0)).check(frame(5.0), NO_TRACKS)
    assert plan.restart == Restart.NOTHING and plan.warnings == ()


def test_another_image_size_needs_another_segmenter() -> None:
    checker = started(frame(1.0))
    _, plan = checker.check(small(1.1), track_manager({1: 5, 2: 0}))
    assert plan.restart == Restart.SEGMENTER and "64x48 to 32x24" in plan.warnings[0]
    assert plan.end == (2,), "the map says where the others are"
    assert checker.image_size == (H // 2, W // 2)
    _, plan = checker.check(small(1.2), NO_TRACKS)
    assert plan.restart == Restart.NOTHING


@pytest.mark.parametrize("axis", [0, 1])
def test_either_side_of_the_image_counts(axis: int) -> None:
    shape = [H, W, 3]
    shape[axis] -= 1
    f = frame(1.1, rgb=np.zeros(shape, np.uint8), depth=None)
    _, plan = started(frame(1.0)).check(f, NO_TRACKS)
    assert plan.restart == Restart.SEGMENTER


def test_a_new_size_is_more_than_a_jump() -> None:
    f = replace(small(1.1), T_map_camera=pose(9.0))
    _, plan = started(frame(1.0)).check(f, NO_TRACKS)
    assert plan.restart == Restart.SEGMENTER and len(plan.warnings) == 2


def test_a_size_that_is_told_counts() -> None:
    checker = InputChecker(10.0)
    assert checker.image_size is None
    checker.image_size = (H // 2, W // 2)
    assert checker.check(frame(1.0), NO_TRACKS)[1].restart == Restart.SEGMENTER


def test_a_backward_step_with_a_new_size_is_a_new_session() -> None:
    _, plan = started(frame(5.0)).check(small(1.0), NO_TRACKS)
    assert plan.restart == Restart.SESSION and len(plan.warnings) == 1


def test_a_forgotten_stream_has_no_last_frame() -> None:
    checker = started(frame(5.0))
    checker.forget_stream()
    _, plan = checker.check(replace(small(1.0), T_map_camera=pose(9.0)), NO_TRACKS)
    assert plan.restart == Restart.NOTHING and plan.warnings == ()


def test_the_jump_is_measured_between_poses_that_can_be_used() -> None:
    checker = started(frame(1.0), frame(1.1, T_map_camera=np.full((4, 4), np.nan)))
    _, plan = checker.check(frame(1.2, T_map_camera=pose(9.0)), NO_TRACKS)
    assert plan.restart == Restart.NOTHING


# -- tracks that are given up


def missing_since_1s(source: TrackSource = TrackSource.PROPOSAL) -> TrackManager:
    tracks = track_manager({1: 0}, source=source, state=TrackState.LOST)
    tracks[1].missing_since_ns = 10**9
    return tracks


def test_a_proposed_track_that_is_missing_for_long_ends() -> None:
    checker = InputChecker(give_up_s=10.0)
    assert checker.check(frame(11.0), missing_since_1s())[1].end == ()
    assert checker.check(frame(11.1), missing_since_1s())[1].end == (1,)
    assert checker.check(frame(11.2), missing_since_1s(TrackSource.PROMPT))[1].end == ()
    jumped = frame(11.3, T_map_camera=pose(5.0))
    assert checker.check(jumped, missing_since_1s())[1].end == (1,)
