"""Wrong messages of every kind, in this process: tools/fuzz.py sends many more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from support import fuzzing

from vos_ros.cli.processes import free_domain
from vos_ros.ros.perception.node import VosNode


@pytest.fixture(params=[("raw", "tf"), ("compressed", "odometry")], ids=["raw", "compressed"])
def node(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The node, configured and active in this process; nothing spins it."""
    transport, source = request.param
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=free_domain(), args=[])
    values = {
        "segmentation.method": "null",
        "node.autostart": False,
        "node.tf_wait_s": 0.0,
        "node.image_transport": transport,
        "node.depth_transport": transport,
        "node.pose_source": source,
    }
    made = VosNode(
        context=context, parameter_overrides=[Parameter(k, value=v) for k, v in values.items()]
    )
    assert made.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert made.trigger_activate() == TransitionCallbackReturn.SUCCESS
    yield made
    made.end()
    made.destroy_node()
    rclpy.shutdown(context=context)


def judge(report: fuzzing.Report) -> None:
    assert not report.errors, f"callbacks and jobs that raised: {report.errors}"
    assert report.failed_frames == 0 and report.answered == report.asked
    assert report.slowest_s < 1.0, f"{report.slowest} took {report.slowest_s:.2f} s"
    assert report.longest_wait_s < 10.0, "on a machine that does other work too"
    assert report.grown_mib < 100


def test_wrong_messages_are_refused_and_good_ones_answered(node: Any) -> None:
    judge(fuzzing.run(node, 600, seed=0))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_wrong_messages(node: Any) -> None:
    judge(fuzzing.run(node, 2500, seed=1))
