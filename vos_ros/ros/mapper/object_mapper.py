"""The reference mapper as a node: what the perception node associates becomes an object map, which it publishes, saves and loads."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vos_ros.config import ConfigError, params
from vos_ros.geometry.uncertainty import position_sigma
from vos_ros.messages.associations import associations_from_message
from vos_ros.messages.camera import TopicRectifier
from vos_ros.messages.geometry import Cov6, Pose4, covariance_from_message, matrix_from_pose
from vos_ros.messages.images import depth_from_message, pixels_from_message
from vos_ros.messages.map_objects import ObjectRecord, map_objects_message
from vos_ros.msg import Instance, MapObjectArray
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.frames import (
    AssociatedFrame,
    LabelledDepth,
    SeenInstance,
    lift_tracks,
    wanted_tracks,
)
from vos_ros.reference_mapper.object_mapper import ObjectMapper
from vos_ros.reference_mapper.revision_tracker import RevisionTracker
from vos_ros.reference_mapper.store import MapFileError, load, save
from vos_ros.ros.common.answers import awaitable
from vos_ros.ros.common.diagnostics import status
from vos_ros.ros.common.health import RateMonitor, RollingPercentiles
from vos_ros.ros.common.logging import ConditionLog, EventLog, Level, teller
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.params import Parameters
from vos_ros.ros.common.process import run
from vos_ros.ros.common.subscriptions import OVERRIDABLE, qos
from vos_ros.ros.common.worker import Worker
from vos_ros.ros.mapper.mapper_inputs import MapperInputs, Parts
from vos_ros.types import MapUpdate

EXIT_S = 4.5
"""Longest time from SIGINT or SIGTERM to the end of the process: the map is saved in it. ``ros2 launch`` waits 5 s."""
_FINISH_S = 2.0
"""Longest wait, at the end, for the frames that are at hand."""
_MAP_QUEUE = 10
"""Map messages kept for slow readers; those who come late get a snapshot of their own."""
_NO_POINTS = np.zeros((0, 3), np.float32)


class ObjectMapperNode(Node):
    """Topics, parameters and services: see README.md. ConfigError, MapFileError, OSError: it can't start, and why."""

    def __init__(self, name: str = "object_mapper", **kwargs: Any) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **kwargs)
        say = teller(self.get_logger())
        self._conditions = ConditionLog(say)
        self._events = EventLog(say)
        every = frozenset(p.key for p in params(MapperConfig))
        self.parameters = Parameters(self, MapperConfig(), live=(), fixed=every)
        for text in self.parameters.unknown:
            say(Level.WARN, text)
        self.config = self.parameters.config()
        self._file = (
            Path(self.config.node.map_file).expanduser() if self.config.node.map_file else None
        )
        self.mapper = self._open()
        self._audience = RevisionTracker(self.config.node.behind_s)
        self.mapped, self.times = RateMonitor(), RollingPercentiles()
        self.counts: Counter[str] = Counter()
        self.failed = self.left_out = self.published = self.asked_for = 0
        self._saved_state = (self.mapper.session_id, self.mapper.revision, self.mapper.stamp_ns)
        self._saved_at = time.monotonic()
        # It hears no image: the name tells, where it is remapped as the node's, or that of the depth.
        self._rectifiers = TopicRectifier(*map(self.resolve_topic_name, ("image", "depth")))
        self._waiting: deque[Parts] = deque()
        self._lock = threading.Lock()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._worker: Worker[None] = Worker(
            lambda frame: None, lambda frame, error: None, "object_mapper worker"
        )
        self._publisher = self.create_publisher(
            MapObjectArray,
            "map_objects",
            qos("reliable", _MAP_QUEUE, latched=True),
            event_callbacks=PublisherEventCallbacks(matched=self._on_matched),
            qos_overriding_options=QoSOverridingOptions(OVERRIDABLE),
        )
        self._do(lambda: self._publish(full=True))
        self.inputs = MapperInputs(
            self, self.config.node, self._conditions, self._on_parts, self._events.say
        )
        self.create_service(Trigger, "~/save", self._on_save)
        self.create_service(Trigger, "~/reset", self._on_reset)
        clock = Clock(clock_type=ClockType.STEADY_TIME)  # a simulated clock may stand still
        self.create_timer(self.config.node.publish_period_s, self._on_publish_timer, clock=clock)
        self.create_timer(
            min(0.1, self.config.node.publish_period_s), lambda: self.inputs.flush(), clock=clock
        )
        self.create_timer(
            self.config.node.diagnostics_period_s, self._on_diagnostics_timer, clock=clock
        )

    def _open(self) -> ObjectMapper:
        """The map of the file, or an empty one."""
        path = self._file
        if path is None:
            return ObjectMapper(self.config)
        if not path.parent.is_dir():
            raise MapFileError(
                f"node.map_file is {path}, and there is no folder {path.parent}: make it first"
            )
        if not path.exists():
            self.get_logger().info(
                f"{path} does not exist yet: the map starts empty and is saved there"
            )
            return ObjectMapper(self.config)
        saved = load(path)
        if saved.frame_id != self.config.node.map_frame:
            raise MapFileError(
                f"the map {path} is in frame {saved.frame_id!r}, node.map_frame is {self.config.node.map_frame!r}: set it to"
                " that, or name another file"
            )
        self.get_logger().info(
            f"{path}: {len(saved.objects)} objects, session {saved.session_id}, revision {saved.revision}"
        )
        return ObjectMapper(self.config, saved)

    def end(self) -> None:
        """Finishes what is at hand and saves the map. Called when nothing spins the node any more."""
        finished = self._worker.wait_idle(_FINISH_S)
        if not self._worker.stop(0.5):
            self.get_logger().error(
                "the mapper is still busy with a frame: the map is not saved again"
            )
            return
        if not finished:
            self.get_logger().warning(f"{len(self._waiting)} frames are left out at the end")
        self._log_save(self._save())

    # --- on the executor's thread ----------------------------------------------------------------------------------------------

    def _do(self, job: Callable[[], None]) -> None:
        """Has the worker do something; what goes wrong is said."""

        def guarded() -> None:
            try:
                job()
            except Exception as e:
                self.failed += 1
                where = traceback.extract_tb(e.__traceback__)[-1]
                self._events.say(
                    f"{type(e).__name__}: {e} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno}, {where.name})",
                    Level.ERROR,
                )
                self.get_logger().debug(traceback.format_exc())

        self._worker.call(guarded)

    def _on_parts(self, parts: Parts) -> None:
        with self._lock:
            self._waiting.append(parts)
            full = len(self._waiting) > self.config.node.frame_queue
            if full:
                self._waiting.popleft()
                self.left_out += 1
        if full:  # the job of the one that was left out does this one
            self._events.say(
                "frames come faster than they are integrated: the oldest that waits is left out (node.frame_queue)"
            )
        else:
            self._do(self._integrate_next)

    def _on_matched(self, event: Any) -> None:
        # What is kept for latecomers may be a change only.
        if event.current_count_change > 0:
            self._do(lambda: self._publish(full=True))

    def _on_publish_timer(self) -> None:
        self._do(lambda: self._publish(full=False))
        period_s = self.config.node.autosave_s
        if self._file is not None and period_s and time.monotonic() - self._saved_at > period_s:
            self._saved_at = time.monotonic()
            self._do(lambda: self._log_save(self._save()))

    def _on_diagnostics_timer(self) -> None:
        self.inputs.check()
        self._diagnostics.publish(self.report(Header(stamp=self.get_clock().now().to_msg())))

    async def _on_save(self, request: Any, response: Any) -> Any:
        if self._file is None:
            response.message = "node.map_file is empty: start the node with a file to save to"
            return response
        response.success, response.message = await awaitable(
            self, self._worker.call(self._save), lambda why: (False, why)
        )
        return response

    async def _on_reset(self, request: Any, response: Any) -> Any:
        response.success, response.message = await awaitable(
            self, self._worker.call(self._reset), lambda why: (False, why)
        )
        return response

    def report(self, head: Header) -> DiagnosticArray:
        """What the node says of itself on /diagnostics."""
        problems = self._conditions.now()
        inputs = {k: c for k, c in problems.items() if k in self.inputs.inputs}
        values: dict[str, object] = {}
        for key, one in self.inputs.inputs.items():
            age = one.traffic.age_s
            values |= {
                f"{key}.topic": one.topic,
                f"{key}.count": one.traffic.count,
                f"{key}.rate_hz": one.traffic.rate_hz,
                f"{key}.last_seen_s": "never" if age is None else age,
            }
        values |= {
            "frames_incomplete": self.inputs.incomplete,
            "frames_without_depth": self.inputs.without_depth,
            **{f"unknown_parameter.{i}": r for i, r in enumerate(self.parameters.unknown)},
        }
        mapper = self.mapper
        state: dict[str, object] = {
            "session_id": mapper.session_id,
            "revision": mapper.revision,
            "objects": len(mapper.objects),
            "map_frame": mapper.frame_id,
            "map_file": self._file or "none",
            "updates_published": self.published,
            "snapshots_for_who_was_behind": self.asked_for,
            "frames_integrated": self.mapped.count,
            "frames_left_out": self.left_out,
            "failed": self.failed,
            "fps": self.mapped.rate_hz,
            "integrate_ms_p50": self.times.percentile(50),
            "integrate_ms_p95": self.times.percentile(95),
            **{f"statements.{k}": n for k, n in sorted(self.counts.items())},
        }
        name = self.get_name()
        return DiagnosticArray(
            header=head,
            status=[
                status(f"{name}: inputs", values, inputs, "all inputs come"),
                status(
                    f"{name}: map",
                    state,
                    {k: c for k, c in problems.items() if k not in inputs},
                    "the map is kept",
                ),
            ],
        )

    # --- on the worker's thread ------------------------------------------------------------------------------------------------

    def _integrate_next(self) -> None:
        with self._lock:
            parts = self._waiting.popleft()
        begun = time.perf_counter()
        try:
            frame = self._frame(parts)
        except ValueError as e:
            self._conditions.begin(
                "frame content", str(e), f"{e}; such frames are left out", Level.ERROR
            )
            self.left_out += 1
            return
        self._conditions.end("frame content", "is right again")
        known = frame.map_revision if frame.map_session_id == self.mapper.session_id else 0
        came_s = (
            parts.since - parts.instances.latency_ms / 1e3
        )  # the image: only what was published before it can be in its answer
        if self._audience.is_behind(known, came_s):
            self.asked_for += 1
            self._events.say(
                f"the perception node speaks of revision {known or 'none'} of this map, which is at {self.mapper.revision}: it"
                " has lost a change, so the whole map is sent again"
            )
            self._publish(full=True)
        done = self.mapper.integrate(frame)
        if done.refused:
            self.counts["refused frames"] += 1
            self._conditions.begin("map session", "refused", done.refused)
            return
        self._conditions.end("map session", "is this one again")
        self.mapped.arrived()
        self.counts.update(done.counts)
        for text in done.events:
            self.get_logger().info(text)
        self.times.add((time.perf_counter() - begun) * 1e3)

    def _frame(self, parts: Parts) -> AssociatedFrame:
        """Messages as values, the wanted instances lifted to 3-D. ValueError: what is wrong with them."""
        said = parts.associations
        associations = associations_from_message(said)
        T, cov = self._camera_pose(parts)
        sight = self._sight(parts)
        points = (
            lift_tracks(sight, wanted_tracks(associations), T, self.mapper.lifting)
            if T is not None and sight is not None
            else {}
        )
        instances = tuple(
            SeenInstance(
                i.track_id,
                i.class_id,
                i.state == Instance.CONFIRMED,
                points.get(i.track_id, _NO_POINTS),
            )
            for i in parts.instances.instances
        )
        return AssociatedFrame(
            parts.stamp_ns,
            said.session_id,
            said.map_session_id,
            said.map_revision,
            said.map_frame,
            T,
            cov,
            instances,
            associations,
            sight,
        )

    def _camera_pose(self, parts: Parts) -> tuple[Pose4 | None, Cov6 | None]:
        """Where the camera stood, and how surely: as the SLAM says, or (``node.pose_source``, ``node.given_sigma_m``) as the perception
        node has it."""
        pose = parts.associations.map_from_camera
        known = np.isfinite(
            [pose.pose.position.x, pose.pose.position.y, pose.pose.position.z]
        ).all()
        used = (
            (matrix_from_pose(pose.pose), covariance_from_message(pose.covariance))
            if known
            else (None, None)
        )
        given = self.inputs.poses.at(
            parts.stamp_ns,
            parts.labels.header.frame_id.lstrip("/"),
            self.config.node.pose_wait_s,
            lambda: False,
        )
        if given.reason:
            self._conditions.begin(
                "camera pose",
                "none",
                f"{given.reason}. The pose that the perception node has corrected against this map"
                " serves meanwhile (node.pose_source)",
            )
        else:
            self._conditions.end("camera pose")
        if given.T_map_camera is None:
            return used
        sigma_m = 0.0 if given.cov is None else position_sigma(given.cov)
        return (
            (given.T_map_camera, given.cov)
            if sigma_m <= self.config.node.given_sigma_m or used[0] is None
            else used
        )

    def _sight(self, parts: Parts) -> LabelledDepth | None:
        if parts.depth is None or parts.camera_info is None:
            return None
        labels = pixels_from_message(parts.labels)
        depth = depth_from_message(parts.depth)
        rectifier = self._rectifiers.of(parts.camera_info)
        if depth.shape != (rectifier.source.height, rectifier.source.width):
            raise ValueError(
                f"depth is {depth.shape[1]}x{depth.shape[0]} px, its camera_info is for {rectifier.source.width}x"
                f"{rectifier.source.height} px: wanted depth registered to the colour image, and the colour camera's"
                " camera_info"
            )
        return LabelledDepth(
            labels,
            {i.track_id: i.label_value for i in parts.instances.instances if i.area_px},
            rectifier.depth(depth),
            rectifier.intrinsics,
        )

    def _publish(self, *, full: bool) -> None:
        for text in self.mapper.tidy():
            self.get_logger().info(text)
        update = self.mapper.update(full=full)
        if update is not None:
            self._publisher.publish(map_message(update, self.mapper))
            self.published += 1
            self._audience.published(update.revision, update.full, time.monotonic())

    def _reset(self) -> tuple[bool, str]:
        """Starts an empty map, in a session of its own."""
        gone = len(self.mapper.objects)
        self.mapper = ObjectMapper(self.config)
        self._audience = RevisionTracker(self.config.node.behind_s)
        self._publish(full=True)
        kept = f"; {self._file} is overwritten when the map is saved next" if self._file else ""
        return True, f"{gone} objects are forgotten, session {self.mapper.session_id} begins{kept}"

    def _save(self) -> tuple[bool, str]:
        """Saves the map where something has changed; whether it is safe now, and what to say."""
        if self._file is None:
            return False, ""
        state = (self.mapper.session_id, self.mapper.revision, self.mapper.stamp_ns)
        if state == self._saved_state and self._file.exists():
            return True, f"{self._file} holds the map already (revision {state[1]})"
        try:
            save(self.mapper.saved(), self._file)
        except OSError as e:
            return False, f"the map could not be saved to {self._file}: {e}"
        self._saved_state = state
        return (
            True,
            f"{len(self.mapper.objects)} objects saved to {self._file} (revision {state[1]})",
        )

    def _log_save(self, outcome: tuple[bool, str]) -> None:
        done, text = outcome
        if done:
            self._conditions.end("map file", "is written again")
            self.get_logger().info(text)
        elif text:
            self._conditions.begin("map file", "unsaved", text, Level.ERROR)


def map_message(update: MapUpdate, mapper: ObjectMapper) -> MapObjectArray:
    """Build vos_ros/MapObjectArray of an update that the mapper has just made, with its records."""
    models = {o.id: mapper.objects[o.id] for o in update.objects}
    records = {
        i: ObjectRecord(
            class_score=m.class_score,
            existence_probability=m.existence,
            first_seen_ns=m.first_ns,
            last_seen_ns=m.last_ns,
            observations=m.observations,
            pose_cov=m.pose_cov,
        )
        for i, m in models.items()
    }
    return map_objects_message(make, update, records)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Runs the node until SIGINT or SIGTERM: ends with 0 then, with 1 where it could not start or its executor failed."""
    try:
        run(args, ObjectMapperNode, lambda node: None, ObjectMapperNode.end, exit_s=EXIT_S)
    except (ConfigError, MapFileError, OSError) as e:
        print(f"object_mapper: {e}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
