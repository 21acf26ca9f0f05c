"""Diagnostics as messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vos_ros.messages.diagnostics import ERROR, diagnostics_message, status_message
from vos_ros.messages.stamps import header_message


def test_a_status_and_its_values(make: Callable[..., Any], transport: Callable[[Any], Any]) -> None:
    status = status_message(make, "node: map", ERROR, "broken", {"b": "2", "a": "1"})
    msg = transport(diagnostics_message(make, header_message(make, 5, ""), [status]))
    (got,) = msg.status
    level = got.level if isinstance(got.level, int) else got.level[0]  # rclpy has one byte
    assert (level, got.name, got.message, got.hardware_id) == (2, "node: map", "broken", "")
    assert [(v.key, v.value) for v in got.values] == [("b", "2"), ("a", "1")]
