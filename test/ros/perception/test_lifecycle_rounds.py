"""Cleanup and configure leave nothing behind: threads, memory, descriptors, shared memory."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter

from vos_ros.cli.processes import free_domain
from vos_ros.ros.perception.node import VosNode


@pytest.fixture
def make_node() -> Iterator[Any]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=free_domain(), args=[])
    made = []

    def make(method: str) -> VosNode:
        values = {"segmentation.method": method, "node.autostart": False}
        overrides = [Parameter(k, value=v) for k, v in values.items()]
        made.append(VosNode(context=context, parameter_overrides=overrides))
        return made[-1]

    yield make
    for node in made:
        node.end()
        node.destroy_node()
    rclpy.shutdown(context=context)


def rounds(node: VosNode, count: int) -> None:
    for _ in range(count):
        assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
        assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS


def held() -> tuple[int, int, int]:
    """Threads of Python, descriptors and mapped files in shared memory of this process."""
    gc.collect()
    shared = Path("/proc/self/maps").read_text().count("/dev/shm/")
    return threading.active_count(), len(os.listdir("/proc/self/fd")), shared


def growth_mib(node: VosNode, count: int) -> float:
    rounds(node, 3)  # what is made once and kept
    before, memory = held(), psutil.Process().memory_info().rss
    rounds(node, count)
    after = held()
    assert after[0] <= before[0] and after[1] <= before[1] + 2 and after[2] <= before[2] + 2
    return (psutil.Process().memory_info().rss - memory) / 2**20


@pytest.mark.slow
def test_rounds_of_the_lifecycle_leave_nothing(make_node: Any) -> None:
    assert growth_mib(make_node("null"), 12) < 12


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rounds_with_networks_leave_nothing(make_node: Any) -> None:
    assert growth_mib(make_node("lwl"), 15) < 20  # it was 5 MiB a round
