"""Give a node what all of ours have: parameters, a log of conditions and events, diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Generic

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from vos_ros.config import Tree, params
from vos_ros.ros.common.logging import ConditionLog, EventLog, Level, log_to
from vos_ros.ros.common.params import Parameters


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
        if fixed is None:
            fixed = frozenset(p.key for p in params(type(defaults)))
        self.parameters = Parameters(node, defaults, live=live, fixed=fixed)
        for text in self.parameters.unknown:
            emit(Level.WARN, text)
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def steady_timer(self, period_s: float, callback: Callable[[], None]) -> Any:
        """Make a timer that doesn't depend on a simulated clock, which may be paused."""
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        return self._node.create_timer(period_s, callback, clock=clock)

    def publish_diagnostics(self, statuses: Sequence[DiagnosticStatus]) -> None:
        """Publish statuses with the present time."""
        head = Header(stamp=self._node.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=head, status=list(statuses)))

    def unknown_parameters(self) -> dict[str, object]:
        """Return the values of a status that name the unknown parameters."""
        return {f"unknown_parameter.{i}": t for i, t in enumerate(self.parameters.unknown)}
