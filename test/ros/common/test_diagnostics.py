"""Statuses of /diagnostics: levels, texts and values."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from sensor_msgs.msg import Image
from support.fake_node import FakeNode, strict_guard

from vos_ros.ros.common.diagnostics import input_values, status
from vos_ros.ros.common.logging import Condition, ConditionLog, Level
from vos_ros.ros.common.subscriptions import qos, subscribe


def values_of(one) -> dict[str, str]:
    return {v.key: v.value for v in one.values}


def test_a_status_without_problems_is_fine() -> None:
    one = status("node: map", {"objects": 3, "fps": 2.0, "p95": float("nan")}, {}, "all is well")
    assert (one.name, one.level[0], one.message) == ("node: map", 0, "all is well")
    assert values_of(one) == {"objects": "3", "fps": "2.000", "p95": ""}


def test_a_status_has_the_worst_level_and_all_texts_of_its_problems() -> None:
    since = time.monotonic() - 5.0
    problems = {
        "depth": Condition("silent", Level.WARN, "nothing", since),
        "image": Condition("type", Level.ERROR, "another type", since),
    }
    one = status("node: inputs", {"count": 1}, problems, "all is well")
    assert one.level[0] == 2 and one.message == "depth: nothing; image: another type"
    assert values_of(one)["problem.image"].startswith("another type (for 5.")
    assert values_of(one)["count"] == "1"


def test_inputs_have_topic_count_rate_and_age() -> None:
    node, log = FakeNode(), ConditionLog(lambda level, text: None)
    one = subscribe(
        node, log, strict_guard(), "image", Image, "/cam", lambda msg: None, qos("reliable", 1)
    )
    values = input_values({"image": one})
    assert values["image.topic"] == "/cam" and values["image.count"] == 0
    assert values["image.last_seen_s"] == "never" and values["image.rate_hz"] == 0.0
    node.publish("/cam", 1)
    values = input_values({"image": one})
    assert values["image.count"] == 1 and 0 <= values["image.last_seen_s"] < 5.0
