"""Everything that exists while the node is configured: inputs, worker, pipeline, outputs. The frame's way through the node."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from vos_ros.config import Config
from vos_ros.messages.map_objects import map_update_from_message
from vos_ros.messages.prompts import prompt_from_message
from vos_ros.messages.stamps import NS_PER_S, ns_from_stamp
from vos_ros.pipeline import Pipeline
from vos_ros.ros.common.frames import FrameBuilder, Rejected
from vos_ros.ros.common.health import RateMonitor, RollingPercentiles
from vos_ros.ros.common.inputs import Bundle, Inputs
from vos_ros.ros.common.logging import ConditionLog, EventLog, Level
from vos_ros.ros.common.poses import POLL_S
from vos_ros.ros.common.worker import Worker
from vos_ros.ros.perception.outputs import Outputs
from vos_ros.types import Frame, FrameResult

RECENT_FRAMES = 10
"""Frames kept for prompts that were drawn on one of them."""
STOP_S = 1.0
"""Longest wait for the worker to end what it is doing."""
Outcome = tuple[bool, str, tuple[int, ...]]
"""Of a service: success, message, track ids."""


class Stream:
    """Messages in, messages out. Callbacks of the inputs run on the executor's thread and only hand over; the rest on the worker's."""

    def __init__(
        self,
        node: Any,
        config: Config,
        make_pipeline: Callable[[Config], Pipeline],
        log: ConditionLog,
        events: EventLog,
    ) -> None:
        self.config = config
        self._node, self._log, self._events = node, log, events
        self.pipeline = make_pipeline(config)
        self.published = RateMonitor()
        self.times = {
            n: RollingPercentiles()
            for n in (
                "latency_ms",
                "overhead_ms",
                "node_ms",
                "segmentation_ms",
                "pipeline_ms",
                "learning_ms",
            )
        }
        self.rejected = self.late = self.pose_failures = self.map_applied = self.map_refused = (
            self.time_jumps
        ) = 0
        self.warnings: deque[tuple[float, str]] = deque(maxlen=8)
        self._recent: deque[Frame] = deque(maxlen=RECENT_FRAMES)
        self._last_ns: int | None = None
        self._told_s = 0.0  # when the last frame's results had been published (perf_counter)
        self._track_ids: set[int] = set()
        self._active = False
        self._builder = FrameBuilder(log, node.resolve_topic_name("image"))
        self.outputs = Outputs(node, config)
        self.worker: Worker[Bundle] = Worker(self._process, self._failed, "vos_ros worker")
        try:
            self.inputs = Inputs(
                node,
                config.node,
                log,
                on_bundle=self._on_bundle,
                on_map=self._on_map,
                on_time_jump=self._on_time_jump,
                on_error=events.say,
            )
        except BaseException:
            self.worker.stop(STOP_S)
            self.outputs.destroy()
            raise

    def activate(self) -> None:
        """Frames are used from now on."""
        self._active = True
        self.inputs.activate()

    def deactivate(self) -> None:
        """Frames are ignored from now on; the map is still kept. Waits a moment for the frame that is at work."""
        self.inputs.deactivate()
        self._active = False
        self.worker.discard()
        if not self.worker.wait_idle(STOP_S):
            self._events.say(
                f"the frame at work takes longer than {STOP_S:g} s; its result is thrown away"
            )

    def destroy(self) -> bool:
        """Releases everything. False where the worker is still busy; it ends after its frame."""
        self._active = False
        self.inputs.destroy()
        ended = self.worker.stop(STOP_S)
        self.outputs.destroy()
        return ended

    # --- on the executor's thread ----------------------------------------------------------------------------------------------

    def _on_bundle(self, bundle: Bundle) -> None:
        self.worker.offer(bundle)

    def _on_map(self, msg: Any) -> None:
        self.worker.call(lambda: self._apply_map(msg))

    def _on_time_jump(self, from_ns: int, to_ns: int) -> None:
        self.worker.discard()
        self.worker.call(lambda: self._forget_time(from_ns, to_ns))

    # --- on the worker's thread ------------------------------------------------------------------------------------------------

    def _forget_time(self, from_ns: int, to_ns: int) -> None:
        self.time_jumps += 1
        self._last_ns = None
        self._recent.clear()
        self._events.say(
            f"time went back from {from_ns / NS_PER_S:.3f} s to {to_ns / NS_PER_S:.3f} s (a bag that loops?): poses and"
            " waiting messages are forgotten, tracks start over, the map stays"
        )
        self.outputs.clear()

    def _apply_map(self, msg: Any) -> None:
        try:
            update = map_update_from_message(msg)
            if update.frame_id != self.config.node.map_frame:
                raise ValueError(
                    f"header.frame_id is {update.frame_id!r}, and node.map_frame is {self.config.node.map_frame!r}: they must"
                    " be equal, so set the parameter or the mapper's frame"
                )
            first = not self.pipeline.object_map.session_id
            reason = self.pipeline.update_map(update)
        except ValueError as e:
            self.map_refused += 1
            self._log.begin(
                "map content", str(e), f"revision {msg.revision} is not applied: {e}", Level.ERROR
            )
            return
        if (
            reason and not self.pipeline.object_map.needs_snapshot
        ):  # it is older than what is held, or wrong in itself
            self.map_refused += 1
            self._events.say(f"a map update is left out: {reason}")
            return
        if reason:
            self.map_refused += 1
            # Who comes late is first sent what the mapper kept, which may be a change; its snapshot follows.
            self._log.begin(
                "map content",
                "snapshot",
                f"revision {msg.revision} is not applied: {reason}. A snapshot (full = true) is"
                " needed.",
                Level.WARN if first else Level.ERROR,
            )
            return
        self.map_applied += 1
        if not self.pipeline.object_map.needs_snapshot:
            self._log.end("map content", "is right again")

    def _pose(self, bundle: Bundle) -> Callable[[], Any]:
        return lambda: self.inputs.poses.at(
            bundle.stamp_ns,
            bundle.image.header.frame_id.lstrip("/"),
            float(self._node.parameters.live("node.tf_wait_s")),
            lambda: self.worker.stopping or not self._active,
        )

    def _camera_info(self) -> Any | None:
        """The last one that came. The first may come a moment after its image, as poses do: it is waited for as long as they are."""
        deadline = time.monotonic() + float(self._node.parameters.live("node.tf_wait_s"))
        while (
            self.inputs.camera_info is None
            and time.monotonic() < deadline
            and self._active
            and not self.worker.stopping
        ):
            time.sleep(POLL_S)
        return self.inputs.camera_info

    def _process(self, bundle: Bundle) -> None:
        """One frame: convert, call, publish."""
        if not self._active or self._is_late(bundle.stamp_ns):
            return
        try:
            frame, pose = self._builder.build(bundle, self._camera_info(), self._pose(bundle))
        except Rejected as e:
            self.rejected += 1
            if e.key != "camera_info":  # a missing one is said when it has been missing for a while
                self._log.begin(e.key, str(e), f"{e}. Images can't be used meanwhile.", Level.ERROR)
            return
        self._log.end("image content", "is right again")
        self._log.end("camera_info content", "is right again")
        self._note_pose(pose.reason)
        self.pipeline.step(frame, lambda result: self._tell(bundle, frame, result))
        self.times["learning_ms"].add((time.perf_counter() - self._told_s) * 1e3)

    def _tell(self, bundle: Bundle, frame: Frame, result: FrameResult) -> None:
        self._last_ns = frame.stamp_ns
        self._track_ids = {t.track_id for t in result.tracks}
        self._recent.append(frame)
        if self._active:
            self._publish(bundle, frame, result)
        for text in result.warnings:
            self.warnings.append((time.monotonic(), text))
            self._events.say(text)
        self._told_s = time.perf_counter()

    def _publish(self, bundle: Bundle, frame: Frame, result: FrameResult) -> None:
        head, labels = bundle.image.header, result.labels()
        latency_ms = self.outputs.publish(
            head, labels, result, self.pipeline.session_id, bundle.arrival_s
        )
        self.published.arrived()
        segmentation_ms, pipeline_ms = (
            result.timings_ms.get("segmentation", 0.0),
            result.timings_ms.get("total", 0.0),
        )
        for name, value in {
            "latency_ms": latency_ms,
            "overhead_ms": latency_ms - segmentation_ms,
            "node_ms": latency_ms - pipeline_ms,
            "segmentation_ms": segmentation_ms,
            "pipeline_ms": pipeline_ms,
        }.items():
            self.times[name].add(value)
        self.outputs.show(head, frame, labels, result, self.pipeline.object_map)

    def _is_late(self, stamp_ns: int) -> bool:
        if self._last_ns is None or stamp_ns > self._last_ns:
            return False
        self.late += 1
        what = (
            "has the stamp of the one before"
            if stamp_ns == self._last_ns
            else "came after a newer one"
        )
        self._events.say(
            f"an image with stamp {stamp_ns / NS_PER_S:.3f} s {what} and is left out: does the camera's clock run?"
        )
        return True

    def _note_pose(self, why: str) -> None:
        if why:
            self.pose_failures += 1
            self._log.begin(
                "camera pose",
                "none",
                f"{why}. Frames go without a pose meanwhile: followed, not associated anew.",
            )
        else:
            self._log.end("camera pose")

    def _failed(self, bundle: Bundle, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = (
            f"the frame with stamp {bundle.stamp_ns / NS_PER_S:.3f} s failed: {type(error).__name__}: {error}"
            f" ({where.filename.rsplit('/', 1)[-1]}:{where.lineno}, {where.name}); the next one is tried"
        )
        self.warnings.append((time.monotonic(), text))
        self._events.say(text, Level.ERROR)
        self._node.get_logger().debug("".join(traceback.format_exception(error)))

    # --- services, on the worker's thread --------------------------------------------------------------------------------------

    def add_objects(self, request: Any) -> Outcome:
        """Starts tracks from prompts."""
        if not request.prompts:
            return False, "no prompts: give one per object", ()
        stamp_ns = ns_from_stamp(request.stamp)
        frame = (
            next((f for f in self._recent if f.stamp_ns == stamp_ns), None) if stamp_ns else None
        )
        try:
            prompts = [(prompt_from_message(p), int(p.class_id)) for p in request.prompts]
            ids = self.pipeline.add_objects(prompts, frame)
        except ValueError as e:
            return False, str(e), ()
        self._track_ids.update(ids)
        if frame is None:
            gone = (
                f"the image with stamp {stamp_ns / NS_PER_S:.3f} s is no longer at hand: "
                if stamp_ns
                else ""
            )
            return True, f"{gone}followed from the next image on", ids
        return True, "followed from that image on", ids

    def remove_objects(self, request: Any) -> Outcome:
        """Ends tracks."""
        ids = {int(i) for i in request.track_ids} or set(self._track_ids)
        try:
            self.pipeline.remove(sorted(ids))
        except KeyError as e:
            return False, str(e.args[0]), ()
        self._track_ids -= ids
        return True, f"{len(ids)} no longer followed", ()

    def reset(self) -> Outcome:
        """Forgets tracks and map."""
        self.pipeline.reset()
        self._last_ns = None
        self._track_ids.clear()
        self._recent.clear()
        self.outputs.clear()
        return True, f"session {self.pipeline.session_id} begins", ()
