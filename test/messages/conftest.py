"""The two factories of messages: what is built and read here must hold for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vos_ros.messages import factory


@pytest.fixture(params=["rosbags", "rclpy"])
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "rosbags":
        return factory.make
    pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")
    from vos_ros.ros.common import message_factory

    return message_factory.make


@pytest.fixture
def transport() -> Callable[[Any], Any]:
    """``transport(msg)``: the message after it was sent: serialized to CDR and back."""

    def send(msg: Any) -> Any:
        if hasattr(msg, "__msgtype__"):
            from vos_ros.messages.definitions import typestore

            return typestore().deserialize_cdr(factory.serialize(msg), msg.__msgtype__)
        from rclpy.serialization import deserialize_message, serialize_message

        return deserialize_message(serialize_message(msg), type(msg))

    return send
