"""The RGB-D tracker as a node: colour and depth become the camera's pose, as odometry with its covariance and as TF."""

from __future__ import annotations

import os
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vos_ros.config import ConfigError, NodeConfig, params
from vos_ros.geometry import se3
from vos_ros.geometry.uncertainty import carry_covariance
from vos_ros.messages.geometry import Pose4, pose_with_covariance_message, transform_stamped_message
from vos_ros.messages.stamps import NS_PER_S, header_message
from vos_ros.rgbd_odometry.config import SlamConfig, SlamNodeConfig
from vos_ros.rgbd_odometry.rgbd import RgbdSlam, Tracked, TrackingState
from vos_ros.ros.common.diagnostics import status
from vos_ros.ros.common.frames import FrameBuilder, Rejected
from vos_ros.ros.common.health import RateMonitor, RollingPercentiles
from vos_ros.ros.common.inputs import Bundle, Inputs
from vos_ros.ros.common.logging import ConditionLog, EventLog, Level, teller
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.params import Parameters
from vos_ros.ros.common.poses import PoseAnswer, TfPose
from vos_ros.ros.common.process import run
from vos_ros.ros.common.subscriptions import qos
from vos_ros.ros.common.worker import Worker

EXIT_S = 1.8
"""Longest time from SIGINT or SIGTERM to the end of the process."""
_QUEUE = 50
"""Poses kept for slow readers."""
_BASE_WAIT_S = 0.2


class _Images(Inputs):
    """Colour, depth and camera_info; no map."""

    def _subscribe_map(self) -> None:
        return None


def _image_inputs(config: SlamNodeConfig) -> NodeConfig:
    """What the perception node would be told to listen to the same images."""
    return replace(
        NodeConfig(),
        pose_source="none",
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


class RgbdSlamNode(Node):
    """Topics and parameters: see docs/rgbd_slam.md. ConfigError, ImportError (no Open3D): it can't start, and why."""

    def __init__(self, name: str = "rgbd_slam", **kwargs: Any) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **kwargs)
        say = teller(self.get_logger())
        self._conditions, self._events = ConditionLog(say), EventLog(say)
        self.parameters = Parameters(
            self, SlamConfig(), live=(), fixed=frozenset(p.key for p in params(SlamConfig))
        )
        for text in self.parameters.unknown:
            say(Level.WARN, text)
        self.config = self.parameters.config()
        self.slam = RgbdSlam(self.config, initial_pose(self.config.node))
        self.published, self.times = RateMonitor(), RollingPercentiles()
        self.states: Counter[TrackingState] = Counter()
        self.last: Tracked | None = None
        self.rejected = self.late = 0
        self._last_ns: int | None = None
        self._builder = FrameBuilder(self._conditions, self.resolve_topic_name("image"))
        reliable = qos("reliable", _QUEUE)
        self._odometry = self.create_publisher(Odometry, "~/odometry", reliable)
        self._tf = (
            self.create_publisher(TFMessage, "/tf", reliable)
            if self.config.node.publish_tf
            else None
        )
        self._base = (
            TfPose(self, self.config.node.base_frame) if self.config.node.base_frame else None
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._worker: Worker[Bundle] = Worker(self._process, self._failed, "rgbd_slam worker")
        self.inputs = _Images(
            self,
            _image_inputs(self.config.node),
            self._conditions,
            on_bundle=self._on_bundle,
            on_map=lambda msg: None,
            on_time_jump=self._on_time_jump,
            on_error=self._events.say,
        )
        self.inputs.activate()
        clock = Clock(clock_type=ClockType.STEADY_TIME)  # a simulated clock may stand still
        self.create_timer(
            self.config.node.diagnostics_period_s, self._on_diagnostics_timer, clock=clock
        )

    def end(self) -> None:
        """Called when nothing spins the node any more."""
        self.inputs.destroy()
        self._worker.stop(0.5)

    # --- on the executor's thread --------------------------------------------------------------------------------------------------

    def _on_bundle(self, bundle: Bundle) -> None:
        self._worker.offer(bundle)

    def _on_time_jump(self, from_ns: int, to_ns: int) -> None:
        self._worker.discard()
        self._worker.call(lambda: self._forget_time(from_ns, to_ns))

    def _on_diagnostics_timer(self) -> None:
        self.inputs.check()
        self._diagnostics.publish(self.report(Header(stamp=self.get_clock().now().to_msg())))

    def report(self, head: Header) -> DiagnosticArray:
        """What the node says of itself on /diagnostics."""
        problems = self._conditions.now()
        own = {k: c for k, c in problems.items() if k == "tracking"}
        values: dict[str, object] = {}
        for key, one in self.inputs.inputs.items():
            age = one.traffic.age_s
            values |= {
                f"{key}.topic": one.topic,
                f"{key}.count": one.traffic.count,
                f"{key}.rate_hz": one.traffic.rate_hz,
                f"{key}.last_seen_s": "never" if age is None else age,
            }
        counts, last = self._worker.counts, self.last
        sigma = np.sqrt(np.diag(last.cov)) if last is not None else np.full(6, np.nan)
        state: dict[str, object] = {
            "state": last.state.name if last is not None else "WAITING",
            "position_sigma_m": float(np.linalg.norm(sigma[:3])),
            "rotation_sigma_deg": float(np.degrees(np.linalg.norm(sigma[3:]))),
            "keyframes": len(self.slam.keyframes),
            "new_starts": self.slam.run,
            "map_frame": self.config.node.map_frame,
            "frames_received": counts.offered,
            **{f"frames_{s.name.lower()}": self.states[s] for s in TrackingState},
            "frames_superseded": counts.superseded,
            "frames_failed": counts.failed,
            "frames_rejected": self.rejected,
            "frames_late": self.late,
            "fps": self.published.rate_hz,
            "track_ms_p50": self.times.percentile(50),
            "track_ms_p95": self.times.percentile(95),
        }
        values |= {
            "unsynchronised_images": self.inputs.unsynchronised,
            **{f"unknown_parameter.{i}": r for i, r in enumerate(self.parameters.unknown)},
        }
        name = self.get_name()
        return DiagnosticArray(
            header=head,
            status=[
                status(
                    f"{name}: inputs",
                    values,
                    {k: c for k, c in problems.items() if k not in own},
                    "all inputs come",
                ),
                status(
                    f"{name}: tracking",
                    state,
                    own,
                    "the camera is tracked" if last is not None else "no image has come yet",
                ),
            ],
        )

    # --- on the worker's thread ----------------------------------------------------------------------------------------------------

    def _forget_time(self, from_ns: int, to_ns: int) -> None:
        self._last_ns = None
        self.slam.interrupt()
        self._events.say(
            f"time went back from {from_ns / NS_PER_S:.3f} s to {to_ns / NS_PER_S:.3f} s (a bag that loops?): the camera is"
            " looked for among the keyframes"
        )

    def _process(self, bundle: Bundle) -> None:
        """One frame: convert, track, publish."""
        if self._last_ns is not None and bundle.stamp_ns <= self._last_ns:
            self.late += 1
            self._events.say(
                f"an image with stamp {bundle.stamp_ns / NS_PER_S:.3f} s is not newer than the one before and is left out"
            )
            return
        try:
            frame, _ = self._builder.build(
                bundle, self.inputs.camera_info, lambda: PoseAnswer(None)
            )
            tracked = self.slam.track(frame.stamp_ns, frame.rgb, frame.depth, frame.intrinsics)
        except ValueError as e:
            self.rejected += 1
            if not (
                isinstance(e, Rejected) and e.key == "camera_info"
            ):  # a missing one is said when it has been missing for a while
                self._conditions.begin(
                    "image content", str(e), f"{e}. Such images can't be used.", Level.ERROR
                )
            return
        self._conditions.end("image content", "is right again")
        self._last_ns, self.last = frame.stamp_ns, tracked
        self.states[tracked.state] += 1
        if tracked.state is TrackingState.LOST:
            # The numbers in the text change with each frame; what is said is that it is lost.
            self._conditions.begin("tracking", "lost", f"lost: {tracked.why}", Level.ERROR)
        else:
            self._conditions.end("tracking", "goes on")
            if tracked.why:
                self._events.say(f"tracking: {tracked.why}")
        self._publish(tracked, frame.frame_id.lstrip("/"))

    def _publish(self, tracked: Tracked, camera_frame: str) -> None:
        child, T, cov = camera_frame, tracked.T_map_camera, tracked.cov
        if self._base is not None:
            base = self._base.at(
                tracked.stamp_ns, camera_frame, _BASE_WAIT_S, lambda: self._worker.stopping
            )
            if base.T_map_camera is None:
                self._conditions.begin(
                    "base frame",
                    "none",
                    f"{base.reason}: no pose is published meanwhile (node.base_frame)",
                    Level.ERROR,
                )
                return
            self._conditions.end("base frame")
            child, T = self.config.node.base_frame, se3.compose(T, se3.inverse(base.T_map_camera))
            cov = carry_covariance(cov, T[:3, 3] - tracked.T_map_camera[:3, 3])
        lost = tracked.state is TrackingState.LOST
        if not lost or self.config.node.publish_lost:
            self._odometry.publish(
                Odometry(
                    header=header_message(make, tracked.stamp_ns, self.config.node.map_frame),
                    child_frame_id=child,
                    pose=pose_with_covariance_message(make, T, cov),
                )
            )
        if self._tf is not None and not lost:  # TF can't say how sure a pose is
            self._tf.publish(
                TFMessage(
                    transforms=[
                        transform_stamped_message(
                            make,
                            header_message(make, tracked.stamp_ns, self.config.node.map_frame),
                            child,
                            T,
                        )
                    ]
                )
            )
        self.published.arrived()

    def _failed(self, bundle: Bundle, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        self._events.say(
            f"the frame with stamp {bundle.stamp_ns / NS_PER_S:.3f} s failed: {type(error).__name__}: {error}"
            f" ({where.filename.rsplit('/', 1)[-1]}:{where.lineno}, {where.name}); the next one is tried",
            Level.ERROR,
        )


def initial_pose(config: SlamNodeConfig) -> Pose4:
    """T_map_camera of the first frame. ConfigError: a quaternion that is none."""
    try:
        return se3.from_quaternion(
            np.array([config.initial_x, config.initial_y, config.initial_z]),
            np.array([config.initial_qx, config.initial_qy, config.initial_qz, config.initial_qw]),
        )
    except ValueError as e:
        raise ConfigError(f"node.initial_q*: {e}") from e


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the node until SIGINT or SIGTERM: ends with 0 then, with 1 where it could not start or its executor failed."""
    # Read when Open3D is loaded, later. Its threads wait busily, at the cost of whatever shares the machine, for images this small.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        run(args, RgbdSlamNode, lambda node: None, RgbdSlamNode.end, exit_s=EXIT_S)
    except (ConfigError, ImportError) as e:
        print(f"rgbd_slam: {e}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
