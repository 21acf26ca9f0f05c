"""The pose at a stamp: bounded waits, odometry through TF, the covariance at the camera."""

from __future__ import annotations

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

import rclpy
from nav_msgs.msg import Odometry

from vos_ros.cli.processes import free_domain
from vos_ros.geometry import se3
from vos_ros.messages.geometry import pose_with_covariance_message, transform_stamped_message
from vos_ros.messages.pose_sources import BY_NAME
from vos_ros.messages.stamps import header_message
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.poses import TfPose, TopicPose

SECOND = 10**9


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context, args=[], domain_id=free_domain())
    made = rclpy.create_node("poses", context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


def never():
    return False


def test_tf_waits_and_gives_up_in_time(node):
    tf = TfPose(node, "map", pytest.fail)
    begun = time.monotonic()
    answer = tf.at(5 * SECOND, "cam", 0.1, never)
    assert (
        answer.T_map_camera is None
        and "TF has no map <- cam at 5.000 s after 0.1 s of waiting" in answer.reason
    )
    assert 0.1 <= time.monotonic() - begun < 1.0
    begun = time.monotonic()
    assert tf.at(5 * SECOND, "cam", 10.0, lambda: True).T_map_camera is None, (
        "a node that stops doesn't wait"
    )
    assert time.monotonic() - begun < 1.0
    assert "frame_id is empty" in tf.at(5 * SECOND, "", 10.0, never).reason
    tf.destroy()


def test_tf_interpolates_and_never_gives_the_latest(node):
    tf = TfPose(node, "map", pytest.fail)
    for t, x in ((4, 0.0), (5, 1.0)):
        T = np.eye(4)
        T[0, 3] = x
        tf.buffer.set_transform(
            transform_stamped_message(make, header_message(make, t * SECOND, "map"), "cam", T),
            "test",
        )
    assert tf.at(4 * SECOND + SECOND // 4, "cam", 0.0, never).T_map_camera[0, 3] == pytest.approx(
        0.25
    )
    assert tf.at(6 * SECOND, "cam", 0.0, never).T_map_camera is None
    assert tf.at(0, "cam", 0.0, never).T_map_camera is None, "stamp 0 is not 'the latest'"
    tf.clear()
    assert tf.at(5 * SECOND, "cam", 0.0, never).T_map_camera is None
    tf.destroy()


def test_odometry_of_the_base_in_another_frame(node):
    callbacks = []
    poses = TopicPose(
        node,
        BY_NAME["odometry"],
        "map",
        lambda kind, topic, callback: callbacks.append(callback) or (lambda: None),
        pytest.fail,
    )
    T_map_odom, T_odom_base = (
        se3.perturb(np.eye(4), np.array([1.0, 2, 0, 0, 0, 0.5])),
        se3.perturb(np.eye(4), np.array([0.0, 0, 1, 0.2, 0, 0])),
    )
    T_base_camera = se3.perturb(np.eye(4), np.array([0.1, 0, 0.5, 0, 0.3, 0]))
    message = Odometry(
        header=header_message(make, 5 * SECOND, "odom"),
        child_frame_id="base",
        pose=pose_with_covariance_message(make, T_odom_base, np.eye(6) * 1e-4),
    )
    callbacks[0](message)
    assert "TF has no map <- odom" in poses.at(5 * SECOND, "cam", 0.0, never).reason
    poses.tf.buffer.set_transform_static(
        transform_stamped_message(make, header_message(make, 0, "map"), "odom", T_map_odom), "test"
    )
    poses.tf.buffer.set_transform_static(
        transform_stamped_message(make, header_message(make, 0, "base"), "cam", T_base_camera),
        "test",
    )
    answer = poses.at(5 * SECOND, "cam", 0.0, never)
    assert np.allclose(answer.T_map_camera, T_map_odom @ T_odom_base @ T_base_camera)
    assert set(answer.T_bodies_camera) == {"base"}, "for the self-check"
    assert np.allclose(answer.T_bodies_camera["base"], T_base_camera)
    assert answer.cov[3, 3] == pytest.approx(1e-4) and np.trace(answer.cov[:3, :3]) > 3e-4, (
        "turning the base moves the camera"
    )
    assert "none has arrived" not in poses.at(9 * SECOND, "cam", 0.0, never).reason
    poses.clear()
    assert "none has arrived" in poses.at(5 * SECOND, "cam", 0.0, never).reason
    poses.destroy()


def test_a_broken_pose_is_left_out_and_a_jump_back_starts_over(node):
    callbacks, errors = [], []
    poses = TopicPose(
        node,
        BY_NAME["odometry"],
        "map",
        lambda kind, topic, callback: callbacks.append(callback) or (lambda: None),
        errors.append,
    )
    broken = Odometry(header=header_message(make, 5 * SECOND, "map"), child_frame_id="cam")
    broken.pose.pose.orientation.w = 0.0
    callbacks[0](broken)
    assert "a pose is left out: not a pose" in errors[0]
    for t in (50, 51, 5):
        callbacks[0](Odometry(header=header_message(make, t * SECOND, "map"), child_frame_id="cam"))
    assert poses.at(5 * SECOND, "cam", 0.0, never).T_map_camera is not None
    assert poses.at(50 * SECOND, "cam", 0.0, never).T_map_camera is None
    poses.destroy()


def test_a_transform_of_another_time_does_not_hide_those_of_the_present(node) -> None:
    """One an hour ahead made TF forget all later ones, until the node was started again."""
    errors = []
    tf = TfPose(node, "map", errors.append)
    now = node.get_clock().now().nanoseconds

    def add(stamp_ns: int, **changes: str) -> None:
        message = transform_stamped_message(
            make, header_message(make, stamp_ns, "map"), "cam", np.eye(4)
        )
        for name, value in changes.items():
            setattr(message, name, value)
        tf.buffer.set_transform(message, "test")

    add(now + 3600 * SECOND)
    assert len(errors) == 1 and "3600.0 s ahead" in errors[0] and "use_sim_time" in errors[0]
    add(now)
    assert tf.at(now, "cam", 0.0, never).T_map_camera is not None
    # a camera and a SLAM whose clock is ahead of the node's: the images tell
    tf.at(now + 7200 * SECOND, "cam", 0.0, never)
    add(now + 7201 * SECOND)
    assert len(errors) == 1
    tf.clear()
    add(now + 7202 * SECOND)
    assert len(errors) == 2, "time has jumped back"
    add(now, child_frame_id="c" * 10_000)
    assert len(errors) == 3 and "child_frame_id" in errors[2]
    tf.destroy()


def test_a_transform_that_is_not_finite_does_not_spoil_its_neighbours(node) -> None:
    errors = []
    tf = TfPose(node, "map", errors.append)
    for t, x in ((4, 0.0), (5, np.inf), (6, 2.0)):
        T = np.eye(4)
        T[0, 3] = x
        message = transform_stamped_message(make, header_message(make, t * SECOND, "map"), "cam", T)
        tf.buffer.set_transform(message, "test")
    assert len(errors) == 1 and "'cam' in 'map'" in errors[0] and "inf" in errors[0]
    assert tf.at(5 * SECOND, "cam", 0.0, never).T_map_camera[0, 3] == pytest.approx(1.0)
    tf.destroy()
