"""The tracker as people run it: a process of its own, real Fast DDS between it and a robot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")
pytest.importorskip("open3d", reason="tracking needs Open3D")

from geometry_msgs.msg import TransformStamped
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from support.robot import Robot, end_process, start_process
from tf2_msgs.msg import TFMessage

from vos_ros.cli.processes import free_domain
from vos_ros.geometry import se3
from vos_ros.messages.geometry import (
    covariance_from_message,
    matrix_from_pose,
    transform_stamped_message,
)
from vos_ros.messages.stamps import header_message, ns_from_stamp
from vos_ros.rgbd_odometry.config import CovarianceConfig
from vos_ros.ros.common.message_factory import make
from vos_ros.synthetic.source import Capture, SyntheticSource, SyntheticSpec

OPTICAL = "camera_color_optical_frame"


@pytest.fixture(scope="module")
def captures() -> list[Capture]:
    source = SyntheticSource(SyntheticSpec(seed=3, frames=7, width=192, height=144))
    return [
        replace(c, frame=replace(c.frame, frame_id=OPTICAL))
        for c in map(source.capture, range(len(source)))
    ]


class Tracker:
    """An rgbd_slam process, and what a robot receives from it."""

    def __init__(self, folder: Path, **parameters: Any) -> None:
        domain = free_domain()
        values = {"node.diagnostics_period_s": 0.2, "node.input_timeout_s": 1.0, **parameters}
        self.log = folder / "slam.log"
        self.process = start_process("vos_ros.ros.odometry.rgbd_slam", self.log, domain, values)
        self.robot = Robot(domain, self.process, self.log)
        self.odometry: dict[int, Any] = {}
        self.transforms: dict[int, Any] = {}
        self.robot.node.create_subscription(Odometry, "/rgbd_slam/odometry", self._on_odometry, 50)
        self.robot.node.create_subscription(TFMessage, "/tf", self._on_tf, 50)
        self.robot.wait(lambda: self.values(), "the tracker", 40)
        self.robot.wait(
            lambda: all(
                self.robot.publishers[k].get_subscription_count()
                for k in ("image", "depth", "camera_info")
            ),
            "inputs",
        )

    def _on_odometry(self, msg: Any) -> None:
        self.odometry[ns_from_stamp(msg.header.stamp)] = msg

    def _on_tf(self, msg: Any) -> None:
        self.transforms.update({ns_from_stamp(t.header.stamp): t for t in msg.transforms})

    def values(self, status: str = "tracking") -> dict[str, str]:
        return dict(self.robot.values(f"rgbd_slam: {status}"))

    def step(self, capture: Capture, stamp_ns: int | None = None, **options: Any) -> Any:
        """One frame, and its odometry."""
        frame = capture.frame if stamp_ns is None else replace(capture.frame, stamp_ns=stamp_ns)
        self.robot.send(frame, skip=("/tf", *options.pop("skip", ())), **options)
        self.robot.wait(
            lambda: frame.stamp_ns in self.odometry, f"the odometry of {frame.stamp_ns}"
        )
        return self.odometry[frame.stamp_ns]

    def end(self) -> int:
        try:
            return end_process(self.process)
        finally:
            self.robot.close()


@pytest.fixture
def start_tracker(tmp_path: Path) -> Iterator[Callable[..., Tracker]]:
    made: list[Tracker] = []

    def make(**parameters: Any) -> Tracker:
        made.append(Tracker(tmp_path, **parameters))
        return made[-1]

    yield make
    for tracker in made:
        if tracker.process.poll() is None:
            tracker.end()


def initial(T: np.ndarray) -> dict[str, float]:
    q = se3.quaternion_from_matrix(T[:3, :3])
    return {
        f"node.initial_{k}": float(v)
        for k, v in zip(("x", "y", "z", "qx", "qy", "qz", "qw"), [*T[:3, 3], *q], strict=True)
    }


def test_images_become_odometry_and_tf_and_bad_input_is_reported_and_survived(
    start_tracker, captures
):
    tracker = start_tracker(**initial(captures[0].T_map_camera))
    for capture in captures[:4]:
        odometry = tracker.step(capture)
        assert (odometry.header.frame_id, odometry.child_frame_id) == ("map", OPTICAL)
        T, cov = (
            matrix_from_pose(odometry.pose.pose),
            covariance_from_message(odometry.pose.covariance),
        )
        e = se3.difference(T, capture.T_map_camera)
        assert np.linalg.norm(e[:3]) < 0.02 and np.degrees(np.linalg.norm(e[3:])) < 1.0
        assert cov is not None and 0 < np.trace(cov[:3, :3]) < 0.05**2
        tracker.robot.wait(
            lambda stamp=capture.frame.stamp_ns: stamp in tracker.transforms, "its TF"
        )
        sent = tracker.transforms[capture.frame.stamp_ns]
        assert (sent.header.frame_id, sent.child_frame_id) == ("map", OPTICAL)
        np.testing.assert_allclose(matrix_from_pose(sent.transform), T, atol=1e-9)
    tracker.robot.wait(lambda: tracker.values().get("frames_tracked") == "4", "the count")
    assert (
        tracker.values()["state"] == "TRACKED"
        and float(tracker.values()["position_sigma_m"]) < 0.05
    )

    stamp = captures[3].frame.stamp_ns
    blind = replace(
        captures[3], frame=replace(captures[3].frame, depth=np.zeros_like(captures[3].frame.depth))
    )
    lost = tracker.step(blind, stamp + 10**8)
    assert covariance_from_message(lost.pose.covariance)[0, 0] > 50 * cov[0, 0]
    assert stamp + 10**8 not in tracker.transforms, "TF can't carry the uncertainty"
    tracker.robot.wait(
        lambda: tracker.robot.diagnostics["rgbd_slam: tracking"][0] == 2,
        "the error on /diagnostics",
    )
    assert (
        "lost: the image has depth on 0% of its pixels"
        in tracker.robot.diagnostics["rgbd_slam: tracking"][1]
    )

    def torn(messages: dict[str, Any]) -> None:
        messages["image"].data = messages["image"].data[:100]

    tracker.robot.send(
        replace(captures[4].frame, stamp_ns=stamp + 2 * 10**8), skip=("/tf",), change=torn
    )
    tracker.robot.wait(lambda: tracker.values().get("frames_rejected") == "1", "the torn image")
    assert "image content" in tracker.robot.diagnostics["rgbd_slam: inputs"][1]
    back = tracker.step(captures[3], stamp + 3 * 10**8)
    assert (
        np.linalg.norm(
            se3.difference(matrix_from_pose(back.pose.pose), captures[3].T_map_camera)[:3]
        )
        < 0.02
    )
    tracker.robot.wait(lambda: tracker.robot.diagnostics["rgbd_slam: tracking"][0] == 0, "all well")
    assert float(tracker.values()["track_ms_p50"]) > 0
    # A bag that loops. Depth that arrives before the first image of the new time still counts as
    # the old time's.
    tracker.robot.send(replace(captures[0].frame, stamp_ns=5 * 10**9), skip=("/tf",))
    tracker.robot.wait(lambda: tracker.robot.logged("time went back"), "the jump")
    again = tracker.step(captures[0], 51 * 10**8)
    assert (
        np.linalg.norm(
            se3.difference(matrix_from_pose(again.pose.pose), captures[0].T_map_camera)[:3]
        )
        < 0.01
    )
    assert tracker.values()["frames_failed"] == "0"
    assert tracker.end() == 0, tracker.log.read_text()


@pytest.mark.slow
def test_the_pose_of_the_base_that_carries_the_camera(start_tracker, captures):
    tracker = start_tracker(**{"node.base_frame": "base_link", "node.publish_tf": False})
    T_base_camera = se3.from_rt(se3.so3_exp(np.array([0.1, -1.2, 0.3])), np.array([0.2, 0.0, 0.5]))
    sent: TransformStamped = transform_stamped_message(
        make, header_message(make, 0, "base_link"), OPTICAL, T_base_camera
    )
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = tracker.robot.node.create_publisher(TFMessage, "/tf_static", latched)
    publisher.publish(TFMessage(transforms=[sent]))
    tracker.robot.wait(publisher.get_subscription_count, "the listener of /tf_static")
    tracker.robot.spin(0.5)
    odometry = tracker.step(captures[0])
    assert odometry.child_frame_id == "base_link"
    T_map_base = matrix_from_pose(odometry.pose.pose)
    T_map_camera = T_map_base @ T_base_camera
    np.testing.assert_allclose(T_map_camera[:3, 3], 0, atol=1e-6)
    right, down, ahead = T_map_camera[:3, :3].T
    np.testing.assert_allclose(
        [right, down, ahead],
        [[0, -1, 0], [0, 0, -1], [1, 0, 0]],
        atol=1e-6,
        err_msg="of a level camera",
    )
    cov, start = covariance_from_message(odometry.pose.covariance), CovarianceConfig()
    np.testing.assert_allclose(
        cov[3:, 3:], np.eye(3) * np.radians(start.start_deg) ** 2, atol=1e-12
    )
    lever = np.linalg.norm(T_map_base[:3, 3])
    assert np.trace(cov[:3, :3]) == pytest.approx(
        3 * start.start_m**2 + 2 * (lever * np.radians(start.start_deg)) ** 2
    )
    assert not tracker.transforms


@pytest.mark.slow
def test_missing_inputs_are_reported(start_tracker, captures):
    tracker = start_tracker()
    tracker.robot.wait(
        lambda: tracker.robot.diagnostics["rgbd_slam: inputs"][0] > 0, "that nothing comes"
    )
    text = tracker.robot.diagnostics["rgbd_slam: inputs"][1]
    assert "nothing on /image" in text and "map_objects" not in text
    assert tracker.values()["state"] == "WAITING"


def test_a_wrong_parameter_ends_it_with_one_line(tmp_path):
    zero = [word for k in "xyzw" for word in ("-p", f"node.initial_q{k}:=0.0")]
    done = subprocess.run(
        [sys.executable, "-m", "vos_ros.ros.odometry.rgbd_slam", "--ros-args", *zero],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"ROS_DOMAIN_ID": str(free_domain())},
    )
    assert (
        done.returncode == 1 and "node.initial_q" in done.stderr and "Traceback" not in done.stderr
    )
