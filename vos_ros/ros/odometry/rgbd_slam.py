"""Run the RGB-D tracker as a node.

Colour and depth become the camera's pose, as odometry with its covariance and as TF.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from nav_msgs.msg import Odometry
from rclpy.node import Node
from tf2_msgs.msg import TFMessage

from vos_ros.config import ConfigError, NodeConfig
from vos_ros.geometry import se3
from vos_ros.geometry.uncertainty import carry_covariance
from vos_ros.messages.checks import DEFAULT_LIMITS
from vos_ros.messages.geometry import (
    Cov6,
    Pose4,
    odometry_message,
    transform_stamped_message,
)
from vos_ros.messages.pose_sources import NONE
from vos_ros.messages.stamps import NS_PER_S, header_message
from vos_ros.rgbd_odometry.config import SlamConfig, SlamNodeConfig
from vos_ros.rgbd_odometry.rgbd import RgbdSlam, Tracked, TrackingState
from vos_ros.ros.common.diagnostics import input_values, status
from vos_ros.ros.common.frames import FrameBuilder, Rejected
from vos_ros.ros.common.health import RateMonitor, RollingPercentiles
from vos_ros.ros.common.inputs import Bundle, CameraInputs, StampOrder, describe_time_jump
from vos_ros.ros.common.logging import Level, describe_error
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.node_support import NodeSupport
from vos_ros.ros.common.poses import PoseAnswer, TfPose
from vos_ros.ros.common.process import run
from vos_ros.ros.common.subscriptions import qos
from vos_ros.ros.common.worker import Worker

EXIT_S = 1.8
"""Longest time from SIGINT or SIGTERM to the end of the process, s."""
_STOP_S = 0.5
"""Longest wait at the end for the worker's present frame, s."""
_QUEUE = 50
"""Poses kept for slow readers."""
_BASE_WAIT_S = 0.2
"""Longest wait for the camera's place on its base, s."""


class RgbdSlamNode(Node):
    """Hold the topics and parameters (docs/rgbd_slam.md) of the tracker.

    Raises ConfigError, ImportError (no Open3D): it can't start, and why.
    """

    def __init__(self, name: str = "rgbd_slam", **kwargs: Any) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **kwargs)
        self._support = NodeSupport(self, SlamConfig())
        self._conditions, self._events = self._support.conditions, self._support.events
        self.parameters, self.guard = self._support.parameters, self._support.guard
        self.config = self.parameters.config()
        self._settings = self.config.node
        self._slam = RgbdSlam(self.config, initial_pose(self._settings))
        self._published, self._times = RateMonitor(), RollingPercentiles()
        self._states: Counter[TrackingState] = Counter()
        self._last: Tracked | None = None
        self._rejected = 0
        self._order = StampOrder()
        self._builder = FrameBuilder(self._conditions, self.resolve_topic_name("image"))
        reliable = qos("reliable", _QUEUE)
        self._odometry = self.create_publisher(Odometry, "~/odometry", reliable)
        self._tf = (
            self.create_publisher(TFMessage, "/tf", reliable) if self._settings.publish_tf else None
        )
        base_frame = self._settings.base_frame
        self._base = TfPose(self, base_frame, self._events.report) if base_frame else None
        self._worker: Worker[Bundle] = Worker(
            self._process,
            self._on_failure,
            on_job_error=self._support.guard.note,
            name_of=lambda b: f"the image with stamp {b.stamp_ns / NS_PER_S:.3f} s",
            name="rgbd_slam worker",
        )
        self.inputs = CameraInputs(
            self,
            input_settings(self._settings),
            self._conditions,
            self._support.guard,
            limits=DEFAULT_LIMITS,
            on_bundle=self._on_bundle,
            on_time_jump=self._on_time_jump,
            on_error=self._events.report,
        )
        self.inputs.activate()
        self._support.steady_timer(self._settings.diagnostics_period_s, self._on_diagnostics_timer)

    def end(self) -> None:
        """Release the inputs and the worker. Called when nothing spins the node any more."""
        self.inputs.destroy()
        self._worker.stop(_STOP_S)

    # --- on the executor's thread -----------------------------------------------------------------

    def _on_bundle(self, bundle: Bundle) -> None:
        self._worker.offer(bundle)

    def _on_time_jump(self, from_ns: int, to_ns: int) -> None:
        self._worker.discard()
        self._worker.post("a jump back in time", lambda: self._start_over(from_ns, to_ns))

    def _on_diagnostics_timer(self) -> None:
        self.inputs.check()
        self._support.watch(self._worker)
        self._support.publish_diagnostics(self._statuses())

    def _statuses(self) -> list[DiagnosticStatus]:
        """Build the node's statuses for /diagnostics."""
        problems = self._support.problems()
        own = {k: c for k, c in problems.items() if k == "tracking"}
        others = {k: c for k, c in problems.items() if k not in own}
        values = {
            **input_values(self.inputs.subscriptions),
            "unsynchronised_images": self.inputs.unsynchronised,
            **self._support.error_counts(),
            **self._support.unknown_parameters(),
        }
        counts, last = self._worker.counts, self._last
        sigma = np.sqrt(np.diag(last.cov)) if last is not None else np.full(6, np.nan)
        state: dict[str, object] = {
            "state": last.state.name if last is not None else "WAITING",
            "position_sigma_m": float(np.linalg.norm(sigma[:3])),
            "rotation_sigma_deg": float(np.degrees(np.linalg.norm(sigma[3:]))),
            "keyframes": len(self._slam.keyframes),
            "new_starts": self._slam.run,
            "map_frame": self._settings.map_frame,
            "frames_received": counts.offered,
            **{f"frames_{s.name.lower()}": self._states[s] for s in TrackingState},
            "frames_superseded": counts.superseded,
            "frames_failed": counts.failed,
            "frames_rejected": self._rejected,
            "frames_late": self._order.late,
            "fps": self._published.rate_hz,
            "track_ms_p50": self._times.percentile(50),
            "track_ms_p95": self._times.percentile(95),
        }
        name = self.get_name()
        fine = "the camera is tracked" if last is not None else "no image has arrived yet"
        return [
            status(f"{name}: inputs", values, others, "all inputs arrive"),
            status(f"{name}: tracking", state, own, fine),
        ]

    # --- on the worker's thread -------------------------------------------------------------------

    def _process(self, bundle: Bundle) -> None:
        """Take one frame through the node: convert, track, publish."""
        if reason := self._order.check(bundle.stamp_ns):
            self._events.report(reason)
            return
        try:
            frame, _ = self._builder.build(
                bundle, self.inputs.camera_info, lambda: PoseAnswer(None)
            )
            started_s = time.perf_counter()
            tracked = self._slam.track(frame.stamp_ns, frame.rgb, frame.depth, frame.intrinsics)
        except ValueError as e:
            self._rejected += 1
            # The inputs report a camera_info that is missing for longer.
            if not (isinstance(e, Rejected) and e.key == "camera_info"):
                text = f"{e}. Such images can't be used."
                self._conditions.begin("image content", str(e), text, Level.ERROR)
            return
        self._times.add((time.perf_counter() - started_s) * 1e3)
        self._conditions.end("image content", "is right again")
        self._order.used(frame.stamp_ns)
        self._last = tracked
        self._states[tracked.state] += 1
        self._note_tracking(tracked)
        self._publish(tracked, frame.frame_id.lstrip("/"))

    def _note_tracking(self, tracked: Tracked) -> None:
        if tracked.state is TrackingState.LOST:
            # One condition: the numbers in the text change with each frame.
            self._conditions.begin("tracking", "lost", f"lost: {tracked.why}", Level.ERROR)
            return
        self._conditions.end("tracking", "goes on")
        if tracked.why:
            self._events.report(f"tracking: {tracked.why}")

    def _publish(self, tracked: Tracked, camera_frame: str) -> None:
        """Publish the pose of the camera, or that of the base that carries it."""
        child, T, cov = camera_frame, tracked.T_map_camera, tracked.cov
        if self._base is not None:
            moved = self._pose_of_base(tracked, camera_frame, self._base)
            if moved is None:
                return
            child, (T, cov) = self._settings.base_frame, moved
        head = header_message(make, tracked.stamp_ns, self._settings.map_frame)
        lost = tracked.state is TrackingState.LOST
        if not lost or self._settings.publish_lost:
            self._odometry.publish(odometry_message(make, head, child, T, cov))
        if self._tf is not None and not lost:  # TF can't carry the uncertainty of a pose
            sent = transform_stamped_message(make, head, child, T)
            self._tf.publish(TFMessage(transforms=[sent]))
        self._published.arrived()

    def _pose_of_base(
        self, tracked: Tracked, camera_frame: str, poses: TfPose
    ) -> tuple[Pose4, Cov6] | None:
        """Return T_map_base and its covariance; None where TF has no place of the camera on it."""
        answer = poses.at(
            tracked.stamp_ns, camera_frame, _BASE_WAIT_S, lambda: self._worker.stopping
        )
        T_base_camera = answer.T_map_camera  # TfPose was made with the base as its map frame
        if T_base_camera is None:
            text = f"{answer.reason}: no pose is published meanwhile (node.base_frame)"
            self._conditions.begin("base frame", "none", text, Level.ERROR)
            return None
        self._conditions.end("base frame")
        T_map_base = se3.compose(tracked.T_map_camera, se3.inverse(T_base_camera))
        lever_m = T_map_base[:3, 3] - tracked.T_map_camera[:3, 3]
        return T_map_base, carry_covariance(tracked.cov, lever_m)

    def _start_over(self, from_ns: int, to_ns: int) -> None:
        self._order.reset()
        self._slam.interrupt()
        self._events.report(
            f"{describe_time_jump(from_ns, to_ns)}: the camera's pose is found again among the"
            " keyframes"
        )

    def _on_failure(self, bundle: Bundle, error: Exception) -> None:
        self._events.report(
            f"the frame with stamp {bundle.stamp_ns / NS_PER_S:.3f} s failed:"
            f" {describe_error(error)}; the next one is tried",
            Level.ERROR,
        )


def input_settings(config: SlamNodeConfig) -> NodeConfig:
    """Return the settings with which CameraInputs subscribes to images alone."""
    return replace(
        NodeConfig(),
        pose_source=NONE,
        use_depth=True,
        map_frame=config.map_frame,
        image_transport=config.image_transport,
        depth_transport=config.depth_transport,
        input_reliability=config.input_reliability,
        input_depth=config.input_depth,
        sync_slop_s=config.sync_slop_s,
        sync_queue=config.sync_queue,
        input_timeout_s=config.input_timeout_s,
    )


def initial_pose(config: SlamNodeConfig) -> Pose4:
    """Return T_map_camera of the first frame. Raises ConfigError: its quaternion is none."""
    try:
        return se3.from_quaternion(
            np.array([config.initial_x, config.initial_y, config.initial_z]),
            np.array([config.initial_qx, config.initial_qy, config.initial_qz, config.initial_qw]),
        )
    except ValueError as e:
        raise ConfigError(f"node.initial_q*: {e}") from e


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the node until SIGINT or SIGTERM and end the process.

    The exit status is 0 after a signal, 1 where it could not start or its executor failed.
    """
    # Open3D reads these when it is loaded, later. Its threads wait busily, which for images this
    # small costs the other processes more than it gains.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    run(
        args,
        RgbdSlamNode,
        end=RgbdSlamNode.end,
        exit_s=EXIT_S,
        startup_errors=(ConfigError, ImportError),
    )


if __name__ == "__main__":
    main()
