"""Give a node what all of ours have: parameters, a log of conditions and events, diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from vos_ros.config import Tree, params
from vos_ros.ros.common.guard import Guard
from vos_ros.ros.common.logging import Condition, ConditionLog, EventLog, Level, log_to
from vos_ros.ros.common.params import Parameters
from vos_ros.ros.common.subscriptions import qos
from vos_ros.ros.common.worker import Worker

_SERVICE_QOS = qos("reliable", 1000)
"""Requests that wait at a service: the usual ten are lost without a word when many call at once."""


class NodeSupport(Generic[Tree]):
    """Hold parameters, logs and the diagnostics publisher of one node.

    Args:
        node: made with ``automatically_declare_parameters_from_overrides=True``.
        defaults: config tree of its parameters.
        live: keys that act at once.
        fixed: keys that act only when the process starts; None: all of them.
    """

    def __init__(
        self,
        node: Any,
        defaults: Tree,
        *,
        live: Collection[str] = (),
        fixed: Collection[str] | None = None,
    ) -> None:
        self._node = node
        emit = log_to(node.get_logger())
        self.conditions, self.events = ConditionLog(emit), EventLog(emit)
        self.guard = Guard(self.events)
        self.guard.services(node.services)
        if fixed is None:
            fixed = frozenset(p.key for p in params(type(defaults)))
        self.parameters = Parameters(node, defaults, live=live, fixed=fixed)
        for text in self.parameters.unknown:
            emit(Level.WARN, text)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def steady_timer(self, period_s: float, callback: Callable[[], None]) -> Any:
        """Make a timer that doesn't depend on a simulated clock, which may be paused."""
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        guarded = self.guard.callback("timer", callback)
        return self._node.create_timer(period_s, guarded, clock=clock)

    def create_service(
        self, kind: Any, name: str, callback: Callable[..., Any], group: Any = None
    ) -> None:
        """Offer a service; an error of its callback becomes a refusal, its message is one line."""
        guarded = self.guard.service(f"service {name}", callback)
        self._node.create_service(
            kind, name, guarded, qos_profile=_SERVICE_QOS, callback_group=group
        )

    def watch(self, worker: Worker[Any]) -> None:
        """Begin or end the condition that the worker is busy with one message for too long."""
        busy, timeout_s = worker.busy, float(self.parameters.live("node.worker_timeout_s"))
        if busy is None or busy[1] <= timeout_s:
            self.conditions.end("worker", "goes on")
            return
        name, seconds = busy
        self.conditions.begin(
            "worker",
            name,
            f"it has been busy with {name} for {seconds:.1f} s (node.worker_timeout_s:"
            f" {timeout_s:g} s); nothing is published meanwhile",
            Level.ERROR,
        )

    def problems(self) -> dict[str, Condition]:
        """Return what is wrong at present, and the errors of late, by key."""
        return {**self.conditions.active(), **self.guard.recent()}

    def publish_diagnostics(self, statuses: Sequence[DiagnosticStatus]) -> None:
        """Publish statuses with the present time."""
        head = Header(stamp=self._node.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=head, status=list(statuses)))

    def error_counts(self) -> dict[str, object]:
        """Return the values of a status that count errors, by the callback or job that raised."""
        counts = dict(self.guard.counts)
        return {"errors": sum(counts.values()), **{f"errors.{n}": c for n, c in counts.items()}}

    def unknown_parameters(self) -> dict[str, object]:
        """Return the values of a status that name the unknown parameters."""
        return {f"unknown_parameter.{i}": t for i, t in enumerate(self.parameters.unknown)}
