"""Builds and reads time stamps and headers."""

from __future__ import annotations

from typing import Any

from vos_ros.messages.factory import MakeMessage

NS_PER_S = 1_000_000_000


def ns_from_stamp(stamp: Any) -> int:
    """Read builtin_interfaces/Time as ns."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def time_message(make: MakeMessage, ns: int) -> Any:
    """Build builtin_interfaces/Time from ns."""
    sec, nanosec = divmod(int(ns), NS_PER_S)
    return make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)


def header_message(make: MakeMessage, ns: int, frame_id: str) -> Any:
    """Build std_msgs/Header from a stamp in ns and the name of a frame."""
    return make("std_msgs/msg/Header", stamp=time_message(make, ns), frame_id=frame_id)
