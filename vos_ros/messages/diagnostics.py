"""Builds diagnostic_msgs/DiagnosticArray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vos_ros.messages.factory import MakeMessage

OK, WARN, ERROR = 0, 1, 2
"""Levels of a diagnostic status."""


def status_message(
    make: MakeMessage, name: str, level: int, message: str, values: Mapping[str, str]
) -> Any:
    """Build diagnostic_msgs/DiagnosticStatus.

    Args:
        make: factory of the message classes.
        name: name of the status, "node: part".
        level: OK, WARN or ERROR.
        message: one line for people.
        values: texts by key, in order.
    """
    return make(
        "diagnostic_msgs/msg/DiagnosticStatus",
        level=int(level),
        name=name,
        message=message,
        hardware_id="",
        values=[make("diagnostic_msgs/msg/KeyValue", key=k, value=v) for k, v in values.items()],
    )


def diagnostics_message(make: MakeMessage, header: Any, statuses: Sequence[Any]) -> Any:
    """Build diagnostic_msgs/DiagnosticArray from a header and DiagnosticStatus messages."""
    return make("diagnostic_msgs/msg/DiagnosticArray", header=header, status=list(statuses))
