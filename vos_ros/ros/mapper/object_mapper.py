"""Run the reference mapper as a node.

The associations of the perception node become an object map, which it publishes, saves and loads.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_srvs.srv import Trigger

from vos_ros.config import ConfigError
from vos_ros.messages.map_objects import ObjectRecord, map_objects_message
from vos_ros.msg import MapObjectArray
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.object_mapper import ObjectMapper
from vos_ros.reference_mapper.revision_tracker import RevisionTracker
from vos_ros.reference_mapper.store import MapFileError
from vos_ros.ros.common.diagnostics import input_values, status
from vos_ros.ros.common.health import RateMonitor, RollingPercentiles
from vos_ros.ros.common.logging import Level
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.node_support import NodeSupport
from vos_ros.ros.common.process import run
from vos_ros.ros.common.services import as_rclpy_future
from vos_ros.ros.common.subscriptions import OVERRIDABLE, qos
from vos_ros.ros.common.worker import Worker
from vos_ros.ros.mapper.associated_frames import AssociatedFrameBuilder
from vos_ros.ros.mapper.map_file import MapFile, SaveOutcome
from vos_ros.ros.mapper.mapper_inputs import MapperInputs, Results
from vos_ros.types import MapUpdate

EXIT_S = 4.5
"""Longest time from SIGINT or SIGTERM to the end of the process, s: the map is saved in it, and
``ros2 launch`` waits 5 s."""
_FINISH_S = 2.0
"""Longest wait at the end for the frames that still wait, s."""
_STOP_S = 0.5
"""Longest wait at the end for the worker's present frame, s."""
_FLUSH_S = 0.1
"""Period at which messages that have waited long enough are handed on, s."""
_MAP_QUEUE = 10
"""Map messages kept for slow readers; late ones get a snapshot of their own."""


class ObjectMapperNode(Node):
    """Hold the topics, parameters and services (README.md) of the mapper.

    Raises ConfigError, MapFileError, OSError: it can't start, and why.
    """

    def __init__(self, name: str = "object_mapper", **kwargs: Any) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **kwargs)
        self._support = NodeSupport(self, MapperConfig())
        self._conditions, self._events = self._support.conditions, self._support.events
        self.parameters, self.guard = self._support.parameters, self._support.guard
        self.config = self.parameters.config()
        self._file = MapFile(self.config)
        self.mapper, message = self._file.open()
        if message:
            self.get_logger().info(message)
        self._revisions = RevisionTracker(self.config.node.behind_s)
        self._integrated, self._times = RateMonitor(), RollingPercentiles()
        self._outcomes: Counter[str] = Counter()
        self._failed = self._left_out = self._published = self._snapshots_repeated = 0
        self._waiting: deque[Results] = deque()
        self._lock = threading.Lock()
        self.worker: Worker[None] = Worker(
            lambda frame: None,
            lambda frame, error: None,
            on_job_error=self._on_job_error,
            name="object_mapper worker",
        )
        self._publisher = self.create_publisher(
            MapObjectArray,
            "map_objects",
            qos("reliable", _MAP_QUEUE, latched=True),
            event_callbacks=PublisherEventCallbacks(
                matched=self._support.guard.callback("map_objects matched", self._on_matched)
            ),
            qos_overriding_options=QoSOverridingOptions(OVERRIDABLE),
        )
        self.worker.post("publication", lambda: self._publish(full=True))
        self.inputs = MapperInputs(
            self,
            self.config.node,
            self._conditions,
            self._support.guard,
            self._on_results,
            self._events.report,
        )
        self._builder = AssociatedFrameBuilder(
            self.config.node,
            self.mapper.lifting,
            self.inputs.poses,
            self._conditions,
            # The mapper subscribes to no image; its name is the node's where it is remapped alike.
            (self.resolve_topic_name("image"), self.resolve_topic_name("depth")),
        )
        self._support.create_service(Trigger, "~/save", self._on_save)
        self._support.create_service(Trigger, "~/reset", self._on_reset)
        period_s = self.config.node.publish_period_s
        self._support.steady_timer(period_s, self._on_publish_timer)
        self._support.steady_timer(min(_FLUSH_S, period_s), self.inputs.flush)
        self._support.steady_timer(
            self.config.node.diagnostics_period_s, self._on_diagnostics_timer
        )

    def end(self) -> None:
        """Integrate the frames that wait and save the map. Called when nothing spins the node."""
        finished = self.worker.wait_idle(_FINISH_S)
        if not self.worker.stop(_STOP_S):
            self.get_logger().error(
                "the mapper is still busy with a frame: the map is not saved again"
            )
            return
        if not finished:
            self.get_logger().warning(f"{len(self._waiting)} frames are left out at the end")
        self._save()

    # --- on the executor's thread -----------------------------------------------------------------

    def _on_job_error(self, name: str, error: Exception) -> None:
        self._failed += 1
        self._support.guard.note(name, error)
        self.get_logger().debug("".join(traceback.format_exception(error)))

    def _on_results(self, results: Results) -> None:
        with self._lock:
            self._waiting.append(results)
            full = len(self._waiting) > self.config.node.frame_queue
            if full:
                self._waiting.popleft()
                self._left_out += 1
        if full:  # the queued job of the one that was left out integrates this one
            self._events.report(
                "frames arrive faster than they are integrated: the oldest that waits is left out"
                " (node.frame_queue)"
            )
        else:
            self.worker.post("a frame", self._integrate_next)

    def _on_matched(self, event: Any) -> None:
        # What the middleware keeps for a new reader may be a change only.
        if event.current_count_change > 0:
            self.worker.post("publication", lambda: self._publish(full=True))

    def _on_publish_timer(self) -> None:
        self.worker.post("publication", lambda: self._publish(full=False))
        if self._file.is_due():
            self.worker.post("saving", self._save)

    def _on_diagnostics_timer(self) -> None:
        self.inputs.check()
        self._support.watch(self.worker)
        self._support.publish_diagnostics(self._statuses())

    async def _on_save(self, request: Any, response: Any) -> Any:
        if self._file.path is None:
            response.message = "node.map_file is empty: start the node with a file to save to"
            return response
        outcome = await as_rclpy_future(
            self,
            self.worker.call("a call of ~/save", self._save),
            lambda reason: SaveOutcome(False, reason),
        )
        response.success, response.message = outcome.saved, outcome.message
        return response

    async def _on_reset(self, request: Any, response: Any) -> Any:
        response.success, response.message = await as_rclpy_future(
            self,
            self.worker.call("a call of ~/reset", self._reset),
            lambda reason: (False, reason),
        )
        return response

    def _statuses(self) -> list[DiagnosticStatus]:
        """Build the node's statuses for /diagnostics."""
        problems = self._support.problems()
        inputs = {k: c for k, c in problems.items() if k in self.inputs.subscriptions}
        others = {k: c for k, c in problems.items() if k not in inputs}
        values = {
            **input_values(self.inputs.subscriptions),
            "frames_incomplete": self.inputs.incomplete,
            "frames_without_depth": self.inputs.without_depth,
            **self._support.error_counts(),
            **self._support.unknown_parameters(),
        }
        mapper = self.mapper
        state: dict[str, object] = {
            "session_id": mapper.session_id,
            "revision": mapper.revision,
            "objects": len(mapper.objects),
            "map_frame": mapper.frame_id,
            "map_file": self._file.path or "none",
            "updates_published": self._published,
            "snapshots_repeated": self._snapshots_repeated,
            "frames_integrated": self._integrated.count,
            "frames_left_out": self._left_out,
            "failed": self._failed,
            "fps": self._integrated.rate_hz,
            "integrate_ms_p50": self._times.percentile(50),
            "integrate_ms_p95": self._times.percentile(95),
            **{f"associations.{k}": n for k, n in sorted(self._outcomes.items())},
        }
        name = self.get_name()
        return [
            status(f"{name}: inputs", values, inputs, "all inputs arrive"),
            status(f"{name}: map", state, others, "the map is up to date"),
        ]

    # --- on the worker's thread -------------------------------------------------------------------

    def _integrate_next(self) -> None:
        """Integrate the oldest frame that waits: convert, call, report."""
        with self._lock:
            results = self._waiting.popleft()
        started_s = time.perf_counter()
        try:
            frame = self._builder.build(results)
        except ValueError as e:
            self._left_out += 1
            text = f"{e}; such frames are left out"
            self._conditions.begin("frame content", str(e), text, Level.ERROR)
            return
        self._conditions.end("frame content", "is right again")
        self._repeat_snapshot(results, frame.map_session_id, frame.map_revision)
        done = self.mapper.integrate(frame)
        if done.refused:
            self._outcomes["refused frames"] += 1
            self._conditions.begin("map session", "refused", done.refused)
            return
        self._conditions.end("map session", "is this one again")
        self._integrated.arrived()
        self._outcomes.update(done.counts)
        for text in done.events:
            self.get_logger().info(text)
        self._times.add((time.perf_counter() - started_s) * 1e3)

    def _repeat_snapshot(self, results: Results, session_id: str, revision: int) -> None:
        """Publish the whole map where the perception node has lost a change of it."""
        used = revision if session_id == self.mapper.session_id else 0
        # Only what was published before the image arrived there can be in its result.
        arrived_s = results.arrived_s - results.instances.latency_ms / 1e3
        if self._revisions.is_behind(used, arrived_s):
            self._snapshots_repeated += 1
            self._events.report(
                f"the perception node uses revision {used or 'none'} of this map, which is at"
                f" {self.mapper.revision}: it has lost a change, so the whole map is published"
                " again"
            )
            self._publish(full=True)

    def _publish(self, *, full: bool) -> None:
        """Publish the changes since the last update, or the whole map."""
        for text in self.mapper.tidy():
            self.get_logger().info(text)
        update = self.mapper.update(full=full)
        if update is not None:
            self._publisher.publish(map_message(update, self.mapper))
            self._published += 1
            self._revisions.published(update.revision, update.full, time.monotonic())

    def _reset(self) -> tuple[bool, str]:
        """Start an empty map in a new session; the map before is kept in a file of its own."""
        count, path = len(self.mapper.objects), self._file.path
        before = self._file.keep_before_reset(self.mapper)
        if before.message and not before.saved:
            return False, f"{before.message}: nothing is forgotten. Make room, or stop the mapper"
        self.mapper = ObjectMapper(self.config)
        self._revisions = RevisionTracker(self.config.node.behind_s)
        self._publish(full=True)
        message = f"{count} objects are forgotten, session {self.mapper.session_id} begins"
        if path:
            message += f"; {path} is overwritten when the map is saved next"
        return True, "; ".join(filter(None, (message, before.message)))

    def _save(self) -> SaveOutcome:
        """Save the map, and say on the log and on /diagnostics whether it is saved."""
        outcome = self._file.save(self.mapper)
        if outcome.saved:
            self._conditions.end("map file", "is written again")
            self.get_logger().info(outcome.message)
        elif outcome.message:
            self._conditions.begin("map file", "unsaved", outcome.message, Level.ERROR)
        return outcome


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
    """Run the node until SIGINT or SIGTERM and end the process.

    The exit status is 0 after a signal, 1 where it could not start or its executor failed.
    """
    run(
        args,
        ObjectMapperNode,
        end=ObjectMapperNode.end,
        exit_s=EXIT_S,
        startup_errors=(ConfigError, MapFileError, OSError),
    )


if __name__ == "__main__":
    main()
