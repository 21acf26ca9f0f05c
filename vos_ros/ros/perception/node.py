"""Give a SLAM mapper its data association, as a managed (lifecycle) node.

The node converts, calls and publishes.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_srvs.srv import Trigger

from vos_ros.config import Config
from vos_ros.pipeline import Pipeline
from vos_ros.ros.common import memory
from vos_ros.ros.common.logging import Level
from vos_ros.ros.common.node_support import NodeSupport
from vos_ros.ros.common.params import FIXED, LIVE
from vos_ros.ros.common.process import run
from vos_ros.ros.common.services import as_rclpy_future
from vos_ros.ros.perception.diagnostics import report
from vos_ros.ros.perception.stream import Outcome, Stream
from vos_ros.ros.perception.twin_check import TwinCheck
from vos_ros.srv import AddObjects, RemoveObjects

EXIT_S = 1.8
"""Longest time from SIGINT or SIGTERM to the end of the process, s."""
TRIM_S = 5.0
"""Free memory of the process is returned to the system when nothing was published for this long, s;
while frames come, the next one needs it."""
_FIRST_PERIOD_S = 1.0
"""Period of /diagnostics before the node is configured, s."""


class VosNode(LifecycleNode):
    """Hold the topics, parameters and services (README.md) of the perception node.

    Args:
        name: name of the node.
        make_pipeline: makes the pipeline; tests replace it.
        **kwargs: of rclpy's node.
    """

    def __init__(
        self,
        name: str = "vos_ros",
        *,
        make_pipeline: Callable[[Config], Pipeline] = Pipeline,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, automatically_declare_parameters_from_overrides=True, **kwargs)
        self._make_pipeline = make_pipeline
        self.stream: Stream | None = None
        self._support = NodeSupport(self, Config(), live=LIVE, fixed=FIXED)
        self.parameters, self.guard = self._support.parameters, self._support.guard
        self._conditions = self._support.conditions
        self._timer: Any = None
        self._twins = TwinCheck(
            self, lambda: 0 if self.stream is None else self.stream.published.count, self.guard
        )
        self._trimmed = -1  # frames that had been published when memory was returned last
        self._start_timer(_FIRST_PERIOD_S)
        # Services wait for the worker. In a group of their own they don't hold up subscriptions.
        group = ReentrantCallbackGroup()
        for kind, service, callback in (
            (AddObjects, "~/add_objects", self._on_add_objects),
            (RemoveObjects, "~/remove_objects", self._on_remove_objects),
            (Trigger, "~/reset", self._on_reset),
        ):
            self._support.create_service(kind, service, callback, group)

    # --- lifecycle --------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Label of the lifecycle's state."""
        return str(self._state_machine.current_state[1])

    def autostart(self) -> None:
        """Configure and activate, where ``node.autostart`` is set."""
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
            stream = Stream(
                self,
                config,
                self._make_pipeline,
                self._conditions,
                self._support.events,
                self._support.guard,
            )
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
        self.stream = stream
        self.parameters.configured = True
        self._start_timer(config.node.diagnostics_period_s)
        memory.forget_start()
        self.get_logger().info(
            f"configured: method {config.segmentation.method},"
            f" device {config.segmentation.device}, pose from {config.node.pose_source}, image on"
            f" {stream.inputs.subscriptions['image'].topic}"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self.stream is not None
        result = super().on_activate(state)
        self.stream.activate()
        self.get_logger().info("active")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self.stream is not None
        self.stream.deactivate()
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

    def end(self) -> None:
        """Release everything at the end of the process."""
        if self.state in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()

    def _release(self) -> None:
        stream, self.stream = self.stream, None
        self._twins.destroy()
        if stream is not None and not stream.destroy():
            self.get_logger().warning("the worker is still busy with a frame; it ends after it")
        self.parameters.configured = False
        self._conditions.clear()
        del stream
        memory.release()  # otherwise the networks stay: they are part of what the start made

    # --- diagnostics ------------------------------------------------------------------------------

    def _start_timer(self, period_s: float) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
        self._timer = self._support.steady_timer(period_s, self._on_timer)

    def _on_timer(self) -> None:
        if self.stream is not None:
            self.stream.inputs.check()
            self._support.watch(self.stream.worker)
            self._check_name()
            published = self.stream.published
            if published.silent_s > TRIM_S and published.count != self._trimmed:
                memory.trim()
                self._trimmed = published.count
        statuses = report(
            self.get_name(),
            self.state,
            self.stream,
            self._support.problems(),
            {**self._support.error_counts(), **self._support.unknown_parameters()},
        )
        self._support.publish_diagnostics(statuses)

    def _check_name(self) -> None:
        """Begin or end the condition that another node has the same name."""
        if text := self._twins.check():
            self._conditions.begin("name", "taken", text, Level.ERROR)
        else:
            self._conditions.end("name", "is this node's alone")

    # --- services ---------------------------------------------------------------------------------

    def _in_worker(self, name: str, job: Callable[[Stream], Outcome]) -> Future:
        """Return a future of the job's outcome; the worker does the job between two frames."""
        stream = self.stream
        if stream is None:
            answer = Future()
            reason = f"the node is {self.state}: configure and activate it first"
            answer.set_result((False, reason, ()))
            return answer
        refused: Callable[[str], Outcome] = lambda reason: (False, reason, ())  # noqa: E731 (typed)
        return as_rclpy_future(self, stream.worker.call(name, lambda: job(stream)), refused)

    async def _on_add_objects(self, request: Any, response: Any) -> Any:
        response.success, response.message, track_ids = await self._in_worker(
            "a call of ~/add_objects", lambda stream: stream.add_objects(request)
        )
        response.track_ids = list(track_ids)
        return response

    async def _on_remove_objects(self, request: Any, response: Any) -> Any:
        response.success, response.message, _ = await self._in_worker(
            "a call of ~/remove_objects", lambda stream: stream.remove_objects(request)
        )
        return response

    async def _on_reset(self, request: Any, response: Any) -> Any:
        response.success, response.message, _ = await self._in_worker(
            "a call of ~/reset", lambda stream: stream.reset()
        )
        if response.success and self.stream is not None:
            self.stream.inputs.request_map()
        return response


def main(
    args: Sequence[str] | None = None, make_pipeline: Callable[[Config], Pipeline] = Pipeline
) -> NoReturn:
    """Run the node until SIGINT or SIGTERM and end the process.

    The exit status is 0 after a signal, 1 where the executor failed.
    """
    run(
        args,
        lambda: VosNode(make_pipeline=make_pipeline),
        begin=VosNode.autostart,
        end=VosNode.end,
        exit_s=EXIT_S,
    )


if __name__ == "__main__":
    main()
