"""The node: a managed (lifecycle) node that gives a SLAM mapper its data association. It converts, calls, publishes."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from vos_ros.config import Config
from vos_ros.pipeline import Pipeline
from vos_ros.ros.common import memory
from vos_ros.ros.common.answers import awaitable
from vos_ros.ros.common.diagnostics import report
from vos_ros.ros.common.logging import ConditionLog, EventLog, Level, teller
from vos_ros.ros.common.params import Parameters
from vos_ros.ros.common.process import run
from vos_ros.ros.perception.stream import Outcome, Stream
from vos_ros.srv import AddObjects, RemoveObjects

EXIT_S = 1.8
"""Longest time from SIGINT or SIGTERM to the end of the process."""
TRIM_S = 5.0
"""Memory that is free inside the process is given back when nothing was published for so long; while frames come, the next one takes it."""


class VosNode(LifecycleNode):
    """Topics, parameters and services: see README.md. ``make_pipeline`` replaces the pipeline in tests."""

    def __init__(
        self,
        name: str = "vos_ros",
        *,
        make_pipeline: Callable[[Config], Pipeline] = Pipeline,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **kwargs)
        self._make_pipeline = make_pipeline
        self._stream: Stream | None = None
        say = teller(self.get_logger())
        self._conditions = ConditionLog(say)
        self._events = EventLog(say)
        self.parameters = Parameters(self, Config())
        for text in self.parameters.unknown:
            say(Level.WARN, text)
        # Diagnostics tell of silence, so they must not hang on a simulated clock that may stand still.
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer: Any = None
        self._trimmed = -1  # frames published before memory was given back
        self._start_timer(1.0)
        # Services wait for the worker; in a group of their own they don't hold up the subscriptions meanwhile.
        group = ReentrantCallbackGroup()
        self.create_service(AddObjects, "~/add_objects", self._on_add_objects, callback_group=group)
        self.create_service(
            RemoveObjects, "~/remove_objects", self._on_remove_objects, callback_group=group
        )
        self.create_service(Trigger, "~/reset", self._on_reset, callback_group=group)

    # --- lifecycle -------------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Label of the lifecycle's state."""
        return str(self._state_machine.current_state[1])

    def autostart(self) -> None:
        """Configures and activates, where ``node.autostart`` says so."""
        if not self.parameters.live("node.autostart"):
            self.get_logger().info(
                "waiting for a lifecycle manager (node.autostart is false): ros2 lifecycle set"
                f" {self.get_fully_qualified_name()} configure"
            )
        elif self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            config = self.parameters.config()
            stream = Stream(self, config, self._make_pipeline, self._conditions, self._events)
        except Exception as e:
            self.get_logger().debug(traceback.format_exc())
            self._conditions.begin(
                "parameters",
                str(e),
                f"the node can't be configured: {e}. Set the parameter and configure again"
                f" (ros2 lifecycle set {self.get_fully_qualified_name()} configure)",
                Level.ERROR,
            )
            return TransitionCallbackReturn.FAILURE
        self._conditions.end("parameters", "are right")
        self._stream = stream
        self.parameters.configured = True
        self._start_timer(config.node.diagnostics_period_s)
        memory.forget_start()
        self.get_logger().info(
            f"configured: method {config.segmentation.method}, device {config.segmentation.device}, pose from"
            f" {config.node.pose_source}, image on {stream.inputs.inputs['image'].topic}"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._stream is not None
        result = super().on_activate(state)
        self._stream.activate()
        self.get_logger().info("active")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._stream is not None
        self._stream.deactivate()
        self._conditions.clear()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        self.get_logger().error("a transition failed; the node is unconfigured again")
        return super().on_error(state)

    def _release(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None and not stream.destroy():
            self.get_logger().warning("the worker is still busy with a frame; it ends after it")
        self.parameters.configured = False
        self._conditions.clear()

    # --- what it says ----------------------------------------------------------------------------------------------------------

    def _start_timer(self, period_s: float) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
        self._timer = self.create_timer(
            period_s, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def _on_timer(self) -> None:
        if self._stream is not None:
            self._stream.inputs.check()
            published = self._stream.published
            if published.silent_s > TRIM_S and published.count != self._trimmed:
                memory.trim()
                self._trimmed = published.count
        head = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(
            report(
                self.get_name(),
                self.state,
                self._stream,
                self._conditions,
                self.parameters.unknown,
                head,
            )
        )

    # --- services --------------------------------------------------------------------------------------------------------------

    def _in_worker(self, job: Callable[[Stream], Outcome]) -> Future:
        """A future of what the job gives, done by the worker between two frames."""
        stream = self._stream
        if stream is None:
            answer = Future()
            answer.set_result(
                (False, f"the node is {self.state}: configure and activate it first", ())
            )
            return answer
        refused: Callable[[str], Outcome] = lambda why: (False, why, ())  # noqa: E731 (typed)
        return awaitable(self, stream.worker.call(lambda: job(stream)), refused)

    async def _on_add_objects(self, request: Any, response: Any) -> Any:
        response.success, response.message, track_ids = await self._in_worker(
            lambda stream: stream.add_objects(request)
        )
        response.track_ids = list(track_ids)
        return response

    async def _on_remove_objects(self, request: Any, response: Any) -> Any:
        response.success, response.message, _ = await self._in_worker(
            lambda stream: stream.remove_objects(request)
        )
        return response

    async def _on_reset(self, request: Any, response: Any) -> Any:
        response.success, response.message, _ = await self._in_worker(lambda stream: stream.reset())
        if response.success and self._stream is not None:
            self._stream.inputs.ask_for_map()
        return response


def main(
    args: Sequence[str] | None = None, make_pipeline: Callable[[Config], Pipeline] = Pipeline
) -> NoReturn:
    """Runs the node until SIGINT or SIGTERM and ends the process: with 0 then, with 1 where the executor failed."""
    run(args, lambda: VosNode(make_pipeline=make_pipeline), VosNode.autostart, _end, exit_s=EXIT_S)


def _end(node: VosNode) -> None:
    if node.state in ("unconfigured", "inactive", "active"):
        node.trigger_shutdown()


if __name__ == "__main__":
    main()
