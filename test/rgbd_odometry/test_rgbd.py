"""The tracker on a rendered world: its errors, what it reports of them, lost and found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vos_ros.config import changed
from vos_ros.geometry import se3
from vos_ros.rgbd_odometry.config import SlamConfig
from vos_ros.rgbd_odometry.rgbd import FOUND_AGAIN, RgbdSlam, Tracked, TrackingState

SECOND = 1_000_000_000


def feed(slam: RgbdSlam, capture, stamp_ns: int | None = None, **changes) -> Tracked:
    frame = replace(capture.frame, **changes)
    return slam.track(
        frame.stamp_ns if stamp_ns is None else stamp_ns, frame.rgb, frame.depth, frame.intrinsics
    )


def image_of(capture) -> tuple:
    return capture.frame.rgb, capture.frame.depth, capture.frame.intrinsics


def error(tracked: Tracked, capture) -> np.ndarray:
    return se3.difference(tracked.T_map_camera, capture.T_map_camera)


@pytest.mark.parametrize("model", [False, True])
def test_a_camera_is_followed_and_its_covariance_fits_its_error(captures, model):
    slam = RgbdSlam(changed(SlamConfig(), {"model.enabled": model}), captures[0].T_map_camera)
    way = 0.0
    for before, capture in zip([captures[0], *captures], captures, strict=False):
        way += float(np.linalg.norm(capture.T_map_camera[:3, 3] - before.T_map_camera[:3, 3]))
        tracked = feed(slam, capture)
        e = error(tracked, capture)
        assert tracked.state is TrackingState.TRACKED, tracked.why
        assert np.linalg.norm(e[:3]) < 0.02 and np.degrees(np.linalg.norm(e[3:])) < 0.8
        np.testing.assert_allclose(tracked.cov, tracked.cov.T)
        assert np.linalg.eigvalsh(tracked.cov).min() > 0
        assert e @ np.linalg.solve(tracked.cov, e) < 16.8, (
            "the 99 % limit of six degrees of freedom"
        )
    assert way > 0.5 and len(slam.keyframes) > 3
    assert (slam.model is not None and slam.model.blocks > 50) == model
    assert np.trace(tracked.cov) > np.trace(feed(RgbdSlam(SlamConfig()), captures[0]).cov), (
        "it grows with the way"
    )


def test_to_come_back_takes_the_old_keyframes_pose_and_certainty(captures):
    slam = RgbdSlam(T_map_camera=captures[0].T_map_camera)
    there = [feed(slam, c) for c in captures[:12]]
    back = [
        feed(slam, c, stamp_ns=captures[11].frame.stamp_ns + (i + 1) * SECOND // 10)
        for i, c in enumerate(captures[10::-1])
    ]
    assert np.linalg.norm(error(back[-1], captures[0])[:3]) < 0.003
    assert np.trace(back[-1].cov) < 0.5 * np.trace(there[-1].cov)


def test_who_is_lost_says_so_and_is_found_again(captures):
    slam = RgbdSlam(T_map_camera=captures[0].T_map_camera)
    for c in captures[:6]:
        good = feed(slam, c)
    stamp = captures[5].frame.stamp_ns
    dark = np.zeros_like(captures[5].frame.rgb)
    lost = [
        feed(slam, captures[5], stamp + (i + 1) * SECOND // 10, rgb=dark, depth=None)
        for i in range(5)
    ]
    assert all(t.state is TrackingState.LOST and "no depth" in t.why for t in lost)
    assert np.diff([np.trace(t.cov) for t in lost]).min() > 0, "less and less sure"
    np.testing.assert_array_equal(lost[-1].T_map_camera, good.T_map_camera)
    found = feed(slam, captures[2], stamp + SECOND)
    assert found.state is TrackingState.TRACKED and found.why == "found again"
    assert np.linalg.norm(error(found, captures[2])[:3]) < 0.01 and np.trace(found.cov) <= np.trace(
        good.cov
    )


def test_after_being_lost_for_long_it_starts_anew_and_comes_back_to_the_old_place(captures):
    config = changed(SlamConfig(), {"lost.restart_s": 1.0, "lost.retry_s": 0.1})
    slam = RgbdSlam(config, captures[0].T_map_camera)
    for c in captures[:4]:
        feed(slam, c)
    stamp = captures[3].frame.stamp_ns
    upside_down = replace(
        captures[3].frame,
        rgb=np.ascontiguousarray(captures[15].frame.rgb[::-1]),
        depth=np.ascontiguousarray(captures[15].frame.depth[::-1]),
    )
    states = [
        slam.track(
            stamp + i * SECOND // 2, upside_down.rgb, upside_down.depth, upside_down.intrinsics
        )
        for i in range(1, 5)
    ]
    assert states[0].state is TrackingState.LOST
    assert any("started anew" in t.why for t in states) and slam.run == 1
    anew = states[-1]
    assert anew.state is TrackingState.TRACKED and np.sqrt(np.trace(anew.cov[:3, :3])) > 0.3, (
        "where it is, it doesn't know"
    )
    back = feed(slam, captures[1], stamp + 3 * SECOND)
    for i in range(1, 4):
        if slam.run:
            back = feed(slam, captures[1], stamp + 3 * SECOND + i * SECOND // 5)
    assert slam.run == 0 and np.linalg.norm(error(back, captures[1])[:3]) < 0.01
    assert all(k.run == 0 for k in slam.keyframes)


def test_an_impossible_jump_is_not_believed(captures):
    slam = RgbdSlam(
        changed(
            SlamConfig(),
            {"follow.max_speed_m_s": 0.05, "follow.max_turn_deg_s": 1.0, "lost.min_matches": 1000},
        )
    )
    feed(slam, captures[0])
    assert feed(slam, captures[1]).state is TrackingState.LOST


def test_time_that_goes_back_must_be_said_and_the_place_is_looked_for(captures):
    slam = RgbdSlam(T_map_camera=captures[0].T_map_camera)
    for c in captures[:5]:
        feed(slam, c)
    with pytest.raises(ValueError, match="not later"):
        feed(slam, captures[0])
    known = slam.track(captures[5].frame.stamp_ns, *image_of(captures[5]))
    slam.interrupt()
    dark = feed(slam, captures[0], depth=None)
    assert dark.state is TrackingState.LOST, "nothing is known before the place is recognized"
    np.testing.assert_array_equal(dark.T_map_camera, known.T_map_camera)
    grown = np.sqrt(np.diag(dark.cov - known.cov))
    np.testing.assert_allclose(grown[:3], 0.3 * 3.0, rtol=1e-6, err_msg="m/s over restart_s")
    np.testing.assert_allclose(grown[3:], np.radians(30.0) * 3.0, rtol=1e-6)
    found = feed(slam, captures[0], stamp_ns=captures[0].frame.stamp_ns + SECOND // 10)
    assert found.why == FOUND_AGAIN
    assert np.linalg.norm(error(found, captures[0])[:3]) < 0.005


def test_an_interruption_while_lost_begins_a_new_time(captures):
    slam = RgbdSlam(T_map_camera=captures[0].T_map_camera)
    known, stamp = feed(slam, captures[0]), captures[0].frame.stamp_ns
    assert feed(slam, captures[1], stamp + SECOND, depth=None).state is TrackingState.LOST
    slam.interrupt()
    lost = feed(slam, captures[1], stamp + 2 * SECOND, depth=None)
    grown = np.sqrt(np.diag(lost.cov - known.cov))
    np.testing.assert_allclose(grown[:3], 0.3 * 3.0, rtol=1e-6, err_msg="restart_s, no more")
    later = feed(slam, captures[1], stamp + 3 * SECOND, depth=None)
    assert np.trace(later.cov) > np.trace(lost.cov)


def test_another_camera_starts_anew_from_the_last_pose(captures):
    slam = RgbdSlam(T_map_camera=captures[0].T_map_camera)
    pose = [feed(slam, c) for c in captures[:3]][-1].T_map_camera
    k = replace(captures[3].frame.intrinsics, fx=200.0)
    tracked = feed(slam, captures[3], intrinsics=k)
    np.testing.assert_array_equal(tracked.T_map_camera, pose)
    assert len(slam.keyframes) == 1


def test_images_that_do_not_fit_are_refused(captures):
    frame = captures[0].frame
    with pytest.raises(ValueError, match="registered to colour"):
        RgbdSlam().track(1, frame.rgb, frame.depth[:100], frame.intrinsics)
    slam = RgbdSlam(changed(SlamConfig(), {"image.width_px": 80}))
    with pytest.raises(ValueError, match="too small"):
        slam.track(1, frame.rgb[:90], frame.depth[:90], replace(frame.intrinsics, height=90))
