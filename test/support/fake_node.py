"""A node without a middleware: it keeps callbacks, and tests call them."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from vos_ros.messages.stamps import time_message
from vos_ros.ros.common.guard import Guard
from vos_ros.ros.common.logging import EventLog
from vos_ros.ros.common.message_factory import make


class FakeNode:
    """Stand in for rclpy's node where only topics matter."""

    def __init__(self, **parameters: Any) -> None:
        self.callbacks: dict[str, Any] = {}
        self.profiles: dict[str, Any] = {}
        self.publishers: dict[str, list[Any]] = {}
        self.destroyed: list[str] = []
        self.parameters = SimpleNamespace(live=lambda key: parameters[key])

    def get_clock(self) -> Any:
        return SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=time.time_ns()))

    def resolve_topic_name(self, name: str) -> str:
        return f"/{name}"

    def create_subscription(
        self, kind: Any, topic: str, callback: Any, profile: Any, **kwargs: Any
    ) -> Any:
        self.callbacks[topic], self.profiles[topic] = callback, profile
        return SimpleNamespace(topic_name=topic, qos_profile=profile)

    def destroy_subscription(self, handle: Any) -> None:
        self.destroyed.append(handle.topic_name)

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        return self.publishers.get(topic, [])

    def publish(self, topic: str, stamp_ns: int) -> None:
        """Give the subscription of a topic a message with a header."""
        head = SimpleNamespace(stamp=time_message(make, stamp_ns), frame_id="camera")
        self.callbacks[topic](SimpleNamespace(header=head, topic=topic))


def strict_guard() -> Guard:
    """Make a guard for tests in which nothing may raise: it raises what it is told of."""

    def fail(level: object, text: str) -> None:
        raise AssertionError(text)

    return Guard(EventLog(fail))
