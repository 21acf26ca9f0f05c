"""What the stand-ins' tests share. They also run against the real packages, where a ROS
distribution supplies those.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS: run through tools/env")
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context)
    made = rclpy.create_node("underlay_test", context=context)
    yield made
    made.destroy_node()
    rclpy.shutdown(context=context)


@pytest.fixture
def spin_until(node: Node) -> Iterator[Callable[..., bool]]:
    """Spins the node until a condition holds, ten seconds at most; ``doing`` is called between."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)

    def spin(condition: Callable[[], bool], doing: Callable[[], None] = lambda: None) -> bool:
        deadline = time.monotonic() + 10.0
        while not condition() and time.monotonic() < deadline:
            doing()
            executor.spin_once(timeout_sec=0.02)
        return condition()

    yield spin
    executor.shutdown(timeout_sec=1.0)
