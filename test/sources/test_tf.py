"""The TF tree of a recording."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.geometry import se3
from vos_ros.sources.tf import Missing, TfTree

S = 1_000_000_000


def pose(x: float, degrees: float = 0.0) -> np.ndarray:
    rotation = se3.so3_exp(np.array([0.0, 0.0, np.deg2rad(degrees)]))
    return se3.from_rt(rotation, np.array([x, 0.0, 0.0]))


@pytest.fixture
def tf() -> TfTree:
    return TfTree()


def x_of(found: np.ndarray | Missing) -> float:
    assert isinstance(found, np.ndarray), found
    return float(found[0, 3])


def test_a_chain_of_static_and_moving_transforms(tf: TfTree) -> None:
    tf.add("map", "odom", 0, pose(10.0), static=True)
    tf.add("odom", "base", 0, pose(0.0), static=False)
    tf.add("odom", "base", S, pose(1.0, 90.0), static=False)
    tf.add("/base", "/camera", 0, pose(0.5), static=True)
    expected = pose(10.0) @ pose(0.5, 45.0) @ pose(0.5)
    for target, source in (("map", "camera"), ("/map", "/camera")):
        np.testing.assert_allclose(tf.lookup(target, source, S // 2), expected, atol=1e-12)
    np.testing.assert_allclose(
        tf.lookup("camera", "map", S // 2), se3.inverse(expected), atol=1e-12
    )
    np.testing.assert_allclose(tf.lookup("map", "map", 5), np.eye(4))
    assert tf.frames == ("base", "camera", "map", "odom")


def test_two_branches_meet_at_their_common_frame(tf: TfTree) -> None:
    tf.add("world", "map", 0, pose(100.0), static=True)
    tf.add("map", "left", 0, pose(1.0, 90.0), static=True)
    tf.add("map", "right", 0, pose(5.0), static=True)
    expected = se3.inverse(pose(1.0, 90.0)) @ pose(5.0)
    np.testing.assert_allclose(tf.lookup("left", "right", 7), expected, atol=1e-12)


def test_a_static_transform_holds_at_any_time_and_the_last_one_counts(tf: TfTree) -> None:
    tf.add("map", "camera", 5 * S, pose(1.0), static=True)
    tf.add("map", "camera", S, pose(2.0), static=True)
    for stamp in (0, 3 * S, 99 * S):
        assert x_of(tf.lookup("map", "camera", stamp)) == 2.0


def test_a_child_with_a_new_parent_loses_its_former_transforms(tf: TfTree) -> None:
    tf.add("odom", "base", 0, pose(1.0), static=False)
    tf.add("odom", "base", S, pose(1.0), static=False)
    tf.add("map", "base", S // 2, pose(7.0), static=False)
    assert x_of(tf.lookup("map", "base", S // 2)) == pytest.approx(7.0)
    for stamp in (0, S // 4, S):
        assert isinstance(tf.lookup("map", "base", stamp), Missing), "that was in odom"


def test_a_child_with_the_same_parent_keeps_them(tf: TfTree) -> None:
    for stamp in (0, S):
        tf.add("map", "base", stamp, pose(stamp / S), static=False)
    assert x_of(tf.lookup("map", "base", S // 2)) == pytest.approx(0.5)


def test_a_frame_that_begins_to_move_is_static_no_more(tf: TfTree) -> None:
    tf.add("map", "base", 0, pose(1.0), static=True)
    tf.add("map", "base", S, pose(2.0), static=False)
    assert x_of(tf.lookup("map", "base", S)) == 2.0
    assert isinstance(tf.lookup("map", "base", 0), Missing)
    tf.add("map", "base", 0, pose(3.0), static=True)
    assert x_of(tf.lookup("map", "base", 9 * S)) == 3.0


def test_it_tells_what_is_missing_and_whether_waiting_helps(tf: TfTree) -> None:
    tf.add("map", "camera", S, pose(0.0), static=False)
    tf.add("map", "camera", 2 * S, pose(0.0), static=False)
    for target, source in (("map", "camera"), ("camera", "map")):
        early, late = (tf.lookup(target, source, stamp) for stamp in (0, 3 * S))
        assert isinstance(early, Missing) and early.permanent
        assert isinstance(late, Missing) and not late.permanent
        assert "map -> camera has no value" in late.reason
    nowhere = tf.lookup("map", "lidar", S)
    assert isinstance(nowhere, Missing) and not nowhere.permanent
    assert "from 'lidar' to 'map'; its frames are camera, map" in nowhere.reason


def test_a_long_gap_is_not_interpolated_over(tf: TfTree) -> None:
    for stamp in (0, 2 * S):
        tf.add("map", "camera", stamp, pose(0.0), static=False)
    gap = tf.lookup("map", "camera", S)
    assert isinstance(gap, Missing) and gap.permanent
    assert x_of(tf.lookup("map", "camera", S, max_gap_ns=2 * S)) == 0.0


def test_old_transforms_are_forgotten() -> None:
    tf = TfTree(keep_ns=S)
    for i in range(5):
        tf.add("map", "camera", i * S, pose(0.0), static=False)
    assert isinstance(tf.lookup("map", "camera", S), Missing)
    assert isinstance(tf.lookup("map", "camera", 4 * S), np.ndarray)


def test_a_loop_is_an_error_not_a_hang(tf: TfTree) -> None:
    tf.add("a", "b", 0, pose(0.0), static=True)
    tf.add("b", "a", 0, pose(0.0), static=True)
    with pytest.raises(ValueError, match="loop: a -> b -> a"):
        tf.lookup("c", "a", 0)


def test_static_poses_go_up_and_down_the_tree_and_not_over_moving_edges() -> None:
    tree, rng = TfTree(), np.random.default_rng(0)
    T = {n: se3.perturb(np.eye(4), rng.normal(0, 0.5, 6)) for n in ("mount", "camera", "lidar")}
    tree.add("odom", "base", 5, np.eye(4), static=False)
    tree.add("base", "mount", 0, T["mount"], static=True)
    tree.add("/mount", "/camera", 0, T["camera"], static=True)
    assert set(tree.static_poses_of("camera")) == {"mount", "base"}
    tree.add("base", "lidar", 0, T["lidar"], static=True)
    found = tree.static_poses_of("/camera")
    assert set(found) == {"mount", "base", "lidar"}, "odom moves"
    np.testing.assert_allclose(found["base"], T["mount"] @ T["camera"])
    wanted = np.linalg.inv(T["lidar"]) @ T["mount"] @ T["camera"]
    np.testing.assert_allclose(found["lidar"], wanted, atol=1e-12)
    tree.add("mount", "camera", 9, np.eye(4), static=False)
    assert tree.static_poses_of("camera") == {}, "it moves from now on"
