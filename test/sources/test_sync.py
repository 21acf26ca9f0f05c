"""Pose tracks, matching of streams, the TF tree."""

from __future__ import annotations

import numpy as np
import pytest
from support.frames import pose_at

from vos_ros.geometry import se3
from vos_ros.geometry.pose_track import PoseTrack
from vos_ros.sources.sync import MissingDataCounts, StampMatcher
from vos_ros.sources.tf import Missing, TfTree

S = 1_000_000_000


def pose(x: float, degrees: float = 0.0) -> np.ndarray:
    return pose_at(x, yaw_deg=degrees)


def test_track_interpolates_and_never_extrapolates() -> None:
    track = PoseTrack()
    track.add(2 * S, pose(3.0, 90.0), np.eye(6) * 2)
    track.add(1 * S, pose(1.0, 0.0), np.eye(6))
    found = track.at(int(1.25 * S))
    assert found is not None
    np.testing.assert_allclose(found[0], pose(1.5, 22.5), atol=1e-12)
    np.testing.assert_allclose(found[1], np.eye(6))  # of the nearer neighbour
    assert track.at(S - 1) is None and track.at(2 * S + 1) is None
    exact = track.at(2 * S)
    assert exact is not None and (exact[0] == pose(3.0, 90.0)).all()
    assert track.at(int(1.5 * S), max_gap_ns=S - 1) is None


def test_track_replaces_a_stamp_and_forgets_the_past() -> None:
    track = PoseTrack(keep_ns=10 * S)
    for i in range(100):
        track.add(i * S, pose(float(i)))
    track.add(99 * S, pose(-1.0))
    assert len(track) <= 21
    found = track.at(99 * S)
    assert found is not None and found[0][0, 3] == -1.0 and found[1] is None
    assert track.at(5 * S) is None


def test_matcher_prefers_the_twin_then_the_nearest() -> None:
    m: StampMatcher[str] = StampMatcher(20)
    for stamp in (100, 115, 140):
        m.add(stamp, f"d{stamp}")
    assert m.settled(100) and m.settled(110) and not m.settled(130)
    assert m.take(100) == "d100"
    assert m.take(108, reserved=(115,)) is None  # 115 has its own image coming
    assert m.take(115) == "d115"
    assert m.take(125) == "d140"
    assert m.take(200) is None and m.unmatched == 0


def test_matcher_gives_each_partner_once_and_counts_the_passed_over() -> None:
    m: StampMatcher[int] = StampMatcher(10)
    for stamp in (0, 5, 100):
        m.add(stamp, stamp)
    assert m.take(3) == 5
    assert m.take(6) == 0
    m.add(50, 50)
    assert m.take(100) == 100
    assert (m.unmatched, len(m)) == (1, 0)


def test_shortfalls_say_what_and_where() -> None:
    s = MissingDataCounts()
    s.add("no pose", "frame 3")
    s.add("no pose", "frame 4")
    s.add("no depth", count=0)
    assert s.lines() == ["2 x no pose (first: frame 3)"]


def test_tf_chain_static_and_moving() -> None:
    tf = TfTree()
    tf.add("map", "odom", 0, pose(10.0), static=True)
    tf.add("odom", "base", 0, pose(0.0), static=False)
    tf.add("odom", "base", S, pose(1.0, 90.0), static=False)
    tf.add("/base", "/camera", 0, pose(0.5), static=True)
    want = pose(10.0) @ pose(0.5, 45.0) @ pose(0.5)
    np.testing.assert_allclose(tf.lookup("map", "camera", S // 2), want, atol=1e-12)
    np.testing.assert_allclose(tf.lookup("camera", "map", S // 2), se3.inverse(want), atol=1e-12)
    np.testing.assert_allclose(tf.lookup("map", "map", 5), np.eye(4))


def test_tf_says_what_is_missing_and_whether_waiting_helps() -> None:
    tf = TfTree()
    tf.add("map", "camera", S, pose(0.0), static=False)
    tf.add("map", "camera", 2 * S, pose(0.0), static=False)
    early, late, nowhere = (
        tf.lookup("map", "camera", 0),
        tf.lookup("map", "camera", 3 * S),
        tf.lookup("map", "lidar", S),
    )
    assert isinstance(early, Missing) and early.permanent
    assert isinstance(late, Missing) and not late.permanent
    assert (
        isinstance(nowhere, Missing)
        and "'lidar'" in nowhere.reason
        and "camera, map" in nowhere.reason
        and not nowhere.permanent
    )


def test_tf_loop_is_an_error_not_a_hang() -> None:
    tf = TfTree()
    tf.add("a", "b", 0, pose(0.0), static=True)
    tf.add("b", "a", 0, pose(0.0), static=True)
    with pytest.raises(ValueError, match="loop: a -> b -> a"):
        tf.lookup("c", "a", 0)
