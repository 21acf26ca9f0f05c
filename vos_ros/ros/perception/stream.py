"""Hold what exists while the node is configured, and take each frame through it."""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from vos_ros.config import Config
from vos_ros.messages.checks import check_at_most, check_stamp
from vos_ros.messages.map_objects import map_update_from_message
from vos_ros.messages.prompts import prompt_from_message
from vos_ros.messages.stamps import NS_PER_S, ns_from_stamp
from vos_ros.pipeline import Pipeline
from vos_ros.pipeline.clicks import SeenFrame, check_clicks
from vos_ros.pipeline.result import OnResult
from vos_ros.pipeline.self_check import FINDINGS
from vos_ros.ros.common.frames import FrameBuilder, Rejected
from vos_ros.ros.common.guard import Guard
from vos_ros.ros.common.health import RateMonitor, RollingPercentiles
from vos_ros.ros.common.inputs import (
    MAP_QUEUE,
    Bundle,
    CameraInputs,
    StampOrder,
    describe_time_jump,
)
from vos_ros.ros.common.logging import ConditionLog, EventLog, Level, describe_error, log_to
from vos_ros.ros.common.poses import POLL_S, PoseAnswer
from vos_ros.ros.common.worker import Worker
from vos_ros.ros.perception.click_input import ClickInput
from vos_ros.ros.perception.map_queue import MapQueue
from vos_ros.ros.perception.outputs import Outputs
from vos_ros.ros.perception.recovery import Recovery
from vos_ros.segmentation.prompts import check_prompt
from vos_ros.types import Frame, FrameResult, Points, SelfCheckResult

RECENT_FRAMES = 10
"""Frames kept for prompts that were drawn on one of them."""
RECENT_WARNINGS = 8
"""Warnings kept for /diagnostics."""
STOP_S = 1.0
"""Longest wait for the worker's present frame, s."""
TIMES = (
    "latency_ms",
    "overhead_ms",
    "node_ms",
    "segmentation_ms",
    "pipeline_ms",
    "learning_ms",
)
"""Times of a frame on /diagnostics (perception/diagnostics.py explains them)."""
Outcome = tuple[bool, str, tuple[int, ...]]
"""Result of a service: success, message, track ids."""


class Stream:
    """Take messages in and publish results.

    Callbacks of the inputs run on the executor's thread and only hand over; all else runs on the
    worker's.

    Args:
        node: the lifecycle node.
        config: its configuration.
        make_pipeline: makes the pipeline.
        log: conditions of inputs, poses and map.
        events: events of frames and map updates.
        guard: notes what callbacks and jobs raise.
    """

    def __init__(
        self,
        node: Any,
        config: Config,
        make_pipeline: Callable[[Config], Pipeline],
        log: ConditionLog,
        events: EventLog,
        guard: Guard,
    ) -> None:
        self.config = config
        self._limits = config.limits.of_messages()
        self._node, self._log, self._events = node, log, events
        self.pipeline = make_pipeline(config)
        self.recovery = Recovery(self.pipeline, log)
        self.self_check = SelfCheckResult()
        self.published = RateMonitor()
        self.times = {name: RollingPercentiles() for name in TIMES}
        self.order = StampOrder()
        self.rejected = self.pose_failures = self.time_jumps = 0
        self.map_applied = self.map_refused = 0
        self.warnings: deque[tuple[float, str]] = deque(maxlen=RECENT_WARNINGS)
        self._recent: deque[SeenFrame] = deque(maxlen=RECENT_FRAMES)
        self._published_s = 0.0  # when the last results had been published (time.perf_counter)
        self._info_refused = False  # the last frame, because of its camera_info
        self._track_ids: set[int] = set()
        self._active = False
        self._builder = FrameBuilder(
            log,
            node.resolve_topic_name("image"),
            self._limits,
            check_depth_frame=config.node.check_depth_frame,
        )
        self.clicks = ClickInput(
            self.pipeline,
            config.mapping,
            config.node.map_frame,
            self._limits,
            log_to(node.get_logger()),
            lambda text: self.warnings.append((time.monotonic(), text)),
        )
        self.maps = MapQueue(MAP_QUEUE)
        self.outputs = Outputs(node, config)
        self.worker: Worker[Bundle] = Worker(
            self._process,
            self._on_failure,
            on_job_error=guard.note,
            name_of=lambda b: f"the image with stamp {b.stamp_ns / NS_PER_S:.3f} s",
            name="vos_ros worker",
        )
        try:
            self.inputs = CameraInputs(
                node,
                config.node,
                log,
                guard,
                limits=self._limits,
                on_bundle=self._on_bundle,
                on_map=self._on_map,
                on_click=self._on_click,
                on_time_jump=self._on_time_jump,
                on_error=events.report,
            )
        except BaseException:
            self.worker.stop(STOP_S)
            self.outputs.destroy()
            self.pipeline.close()
            raise

    def activate(self) -> None:
        """Use frames from now on."""
        self._active = True
        self.inputs.activate()

    def deactivate(self) -> None:
        """Ignore frames from now on and wait a moment for the present one; still apply maps."""
        self.inputs.deactivate()
        self._active = False
        self.worker.discard()
        if not self.worker.wait_idle(STOP_S):
            self._events.report(
                f"the present frame takes longer than {STOP_S:g} s; its result is dropped"
            )

    def destroy(self) -> bool:
        """Release everything; False where the worker is still busy. It ends after its frame."""
        self._active = False
        self.inputs.destroy()
        ended = self.worker.stop(STOP_S)
        self.outputs.destroy()
        self.pipeline.close()
        return ended

    # --- on the executor's thread -----------------------------------------------------------------

    def _on_bundle(self, bundle: Bundle) -> None:
        self.worker.offer(bundle)

    def _on_map(self, msg: Any) -> None:
        if self.maps.put(msg):
            self._post_map(msg)

    def _post_map(self, msg: Any) -> None:
        self.worker.post(f"the map message of revision {msg.revision}", self._apply_next_map)

    def _on_click(self, msg: Any) -> None:
        if not self._active:
            self.clicks.refuse("a click is dropped: the node is not active. Activate it first")
        elif self.clicks.put(msg):
            self.worker.post("a clicked point", self._take_click)

    def _on_time_jump(self, from_ns: int, to_ns: int) -> None:
        self.worker.discard()
        self.worker.post("a jump back in time", lambda: self._start_over(from_ns, to_ns))

    # --- the map, on the worker's thread ----------------------------------------------------------

    def _apply_next_map(self) -> None:
        """Apply the oldest map message that waits; the next one is a job of its own."""
        msg, following = self.maps.get()
        if following is not None:
            self._post_map(following)
        if msg is not None:
            self._apply_map(msg)

    def _apply_map(self, msg: Any) -> None:
        object_map = self.pipeline.map
        first = not object_map.session_id
        try:
            update = map_update_from_message(msg, self._limits)
            if update.frame_id != self.config.node.map_frame:
                raise ValueError(
                    f"header.frame_id is {update.frame_id!r}, and node.map_frame is"
                    f" {self.config.node.map_frame!r}: they must be equal, so set the parameter or"
                    " the mapper's frame"
                )
            reason = self.pipeline.update_map(update)
        except ValueError as e:
            text = f"revision {msg.revision} is not applied: {e}"
            self.map_refused += 1
            self._log.begin("map content", str(e), text, Level.ERROR)
            return
        needs_snapshot = self.pipeline.map.needs_snapshot
        if not reason:
            self.map_applied += 1
            if not needs_snapshot:
                self._log.end("map content", "is right again")
            return
        self.map_refused += 1
        if not needs_snapshot:  # it is older than the map, or contradicts itself
            self._events.report(f"a map update is left out: {reason}")
            return
        # A late subscriber is first sent the message that the middleware kept, which may be a
        # change; the mapper's snapshot for it follows.
        self._log.begin(
            "map content",
            "snapshot",
            f"revision {msg.revision} is not applied: {reason}. A snapshot (full = true) is"
            " needed.",
            Level.WARN if first else Level.ERROR,
        )

    # --- the frame, on the worker's thread --------------------------------------------------------

    def _process(self, bundle: Bundle) -> None:
        """Take one frame through the node: convert, call, publish."""
        if not self._active:
            return
        if reason := self.order.check(bundle.stamp_ns):
            self._events.report(reason)
            return
        info = self._camera_info(bundle.stamp_ns)
        try:
            frame, pose = self._builder.build(bundle, info, lambda: self._pose(bundle))
        except Rejected as e:
            self.rejected += 1
            self._info_refused = e.key == "camera_info content"
            if e.key != "camera_info":  # the inputs report one that is missing for longer
                text = f"{e}. Images can't be used meanwhile."
                self._log.begin(e.key, str(e), text, Level.ERROR)
            return
        self._log.end("image content", "is right again")
        self._log.end("camera_info content", "is right again")
        self._info_refused = False
        self._note_pose(pose.reason)
        self._step(bundle, frame)
        self._take_click()
        self.times["learning_ms"].add((time.perf_counter() - self._published_s) * 1e3)

    def _step(self, bundle: Bundle, frame: Frame) -> None:
        """Process a frame, where memory is full without the network; raise what else fails."""
        self.recovery.before_frame()
        published = self.published.count
        publish: OnResult = lambda result: self._publish_result(bundle, frame, result)  # noqa: E731
        try:
            self.pipeline.step(frame, publish)
        except Exception as error:
            if not self.recovery.after_failure(error):
                raise
            if self.published.count == published:  # else it failed while it was learned from
                self.pipeline.step(frame, publish)
        self.recovery.after_frame()

    def _publish_result(self, bundle: Bundle, frame: Frame, result: FrameResult) -> None:
        self.order.used(frame.stamp_ns)
        self._track_ids = {t.track_id for t in result.tracks}
        if self._active:
            self._publish(bundle, frame, result)
        self._recent.append(SeenFrame.of(frame, result))
        self._note_self_check(result.self_check)
        for text in set(result.warnings).difference(result.self_check.findings.values()):
            self.warnings.append((time.monotonic(), text))
            self._events.report(text)
        self._published_s = time.perf_counter()

    def _publish(self, bundle: Bundle, frame: Frame, result: FrameResult) -> None:
        head, labels = bundle.image.header, result.labels()
        session_id = self.pipeline.session_id
        latency_ms = self.outputs.publish(head, labels, result, session_id, bundle.arrival_s)
        self.published.arrived()
        segmentation_ms = result.timings_ms.get("segmentation", 0.0)
        pipeline_ms = result.timings_ms.get("total", 0.0)
        self.times["latency_ms"].add(latency_ms)
        self.times["overhead_ms"].add(latency_ms - segmentation_ms)
        self.times["node_ms"].add(latency_ms - pipeline_ms)
        self.times["segmentation_ms"].add(segmentation_ms)
        self.times["pipeline_ms"].add(pipeline_ms)
        self.outputs.publish_extras(head, frame, labels, result, self.pipeline.map)

    def _camera_info(self, stamp_ns: int) -> Any | None:
        """Return the most recent one.

        The first, and the first after one that was refused, may arrive a moment after its image, as
        poses do; the wait for it is as long.
        """

        def is_waited_for() -> bool:
            info = self.inputs.camera_info
            if info is None:
                return True
            return self._info_refused and ns_from_stamp(info.header.stamp) < stamp_ns

        deadline = time.monotonic() + self._wait_s
        while is_waited_for() and time.monotonic() < deadline and not self._give_up():
            time.sleep(POLL_S)
        return self.inputs.camera_info

    def _pose(self, bundle: Bundle) -> PoseAnswer:
        camera_frame = bundle.image.header.frame_id.lstrip("/")
        return self.inputs.poses.at(bundle.stamp_ns, camera_frame, self._wait_s, self._give_up)

    @property
    def _wait_s(self) -> float:
        return float(self._node.parameters.live("node.tf_wait_s"))

    def _give_up(self) -> bool:
        return self.worker.stopping or not self._active

    def _note_pose(self, reason: str) -> None:
        if not reason:
            self._log.end("camera pose")
            return
        self.pose_failures += 1
        self._log.begin(
            "camera pose",
            "none",
            f"{reason}. Frames have no pose meanwhile: tracks go on, new associations don't.",
        )

    def _note_self_check(self, result: SelfCheckResult) -> None:
        """Begin and end the conditions that map, poses and depth contradict each other."""
        self.self_check = result
        for kind in FINDINGS:
            if kind in result.findings:
                text = f"{result.findings[kind]} Meanwhile ABSENT and MERGE are not reported."
                self._log.begin(f"self-check {kind}", kind, text, Level.ERROR)
            else:
                self._log.end(f"self-check {kind}", "finds no contradiction any more")

    def _start_over(self, from_ns: int, to_ns: int) -> None:
        self.time_jumps += 1
        self.order.reset()
        self._recent.clear()
        self.clicks.forget()
        self._events.report(
            f"{describe_time_jump(from_ns, to_ns)}: poses and waiting messages are dropped, tracks"
            " start over, the map stays"
        )
        self.outputs.clear()

    def _on_failure(self, bundle: Bundle, error: Exception) -> None:
        text = (
            f"the frame with stamp {bundle.stamp_ns / NS_PER_S:.3f} s failed:"
            f" {describe_error(error)}; the next one is tried"
        )
        self.warnings.append((time.monotonic(), text))
        self._events.report(text, Level.ERROR)
        self._node.get_logger().debug("".join(traceback.format_exception(error)))

    # --- services, on the worker's thread ---------------------------------------------------------

    def add_objects(self, request: Any) -> Outcome:
        """Start tracks from prompts."""
        if not request.prompts:
            return False, "no prompts: give one per object", ()
        try:
            check_at_most(
                "prompts in one call", len(request.prompts), self._limits.prompts, "prompts"
            )
            stamp_ns = check_stamp(request.stamp)
        except ValueError as e:
            return False, str(e), ()
        seen = next((s for s in self._recent if s.frame.stamp_ns == stamp_ns), None)
        frame = seen.frame if stamp_ns and seen is not None else None
        try:
            prompts = [(prompt_from_message(p), int(p.class_id)) for p in request.prompts]
            if seen is not None and frame is not None:
                self._check_clicks([p for p, _ in prompts if isinstance(p, Points)], seen)
            ids = self.pipeline.add_objects(prompts, frame)
        except ValueError as e:
            return False, str(e), ()
        self._track_ids.update(ids)
        if frame is not None:
            return True, "followed from that image on", ids
        dropped = (
            f"the image with stamp {stamp_ns / NS_PER_S:.3f} s is no longer kept: "
            if stamp_ns
            else ""
        )
        return True, f"{dropped}followed from the next image on", ids

    def _check_clicks(self, prompts: Sequence[Points], seen: SeenFrame) -> None:
        """Raise ValueError where clicks mean no object of an image, or one that is followed."""
        followed = {t.track_id for t in self.pipeline.tracks}
        for points in prompts:
            check_prompt(points, seen.frame.shape)
            check_clicks(points, seen.owners(points, followed), seen.projections)

    def _take_click(self) -> None:
        """Start a track of the oldest click that waits, or say what is wrong with it."""
        if self._active:
            seen, poses = list(self._recent), self.inputs.poses
            self._track_ids.update(self.clicks.take(seen, poses, self._wait_s, self._give_up))

    def remove_objects(self, request: Any) -> Outcome:
        """End tracks: those of the request, all where it names none."""
        ids = {int(i) for i in request.track_ids} or set(self._track_ids)
        try:
            self.pipeline.remove(sorted(ids))
        except KeyError as e:
            return False, str(e.args[0]), ()
        self._track_ids -= ids
        return True, f"{len(ids)} no longer followed", ()

    def reset(self) -> Outcome:
        """Forget tracks and map."""
        self.pipeline.reset()
        self.order.reset()
        self._track_ids.clear()
        self._recent.clear()
        self.clicks.forget()
        self.outputs.clear()
        return True, f"session {self.pipeline.session_id} begins", ()
