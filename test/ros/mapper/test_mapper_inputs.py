"""Messages of one image are handed on together, in order; missing ones are waited for a while."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from support.fake_node import FakeNode, strict_guard

from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.ros.common.logging import ConditionLog
from vos_ros.ros.mapper.mapper_inputs import RESULTS, MapperInputs

MS = 1_000_000


class Node(FakeNode):
    def publish_results(self, stamp_ns: int, *names: str) -> None:
        for name in names or RESULTS:
            self.publish(f"vos_ros/{name}", stamp_ns)


@pytest.fixture
def rig():
    node, got, reports = Node(), [], []
    config = replace(MapperConfig().node, sync_wait_s=0.2, input_timeout_s=0.5, depth_queue=5)
    return (
        node,
        MapperInputs(
            node,
            config,
            ConditionLog(lambda level, text: reports.append(text)),
            strict_guard(),
            got.append,
            reports.append,
        ),
        got,
        reports,
    )


def test_the_results_of_a_stamp_and_the_nearest_depth(rig):
    node, inputs, got, _ = rig
    node.publish("camera_info", 0)
    for t in (0, 33, 66, 100):
        node.publish("depth", t * MS)
    node.publish_results(67 * MS)
    node.publish_results(100 * MS, "associations", "instances", "labels")
    assert [p.stamp_ns // MS for p in got] == [67, 100]
    assert [p.depth.header.stamp.nanosec // MS for p in got] == [66, 100]
    assert (
        got[0].labels.topic == "vos_ros/labels"
        and got[0].associations.topic == "vos_ros/associations"
        and got[0].camera_info
    )
    assert inputs.incomplete == inputs.without_depth == 0


def test_the_first_camera_info_is_waited_for(rig):
    node, _, got, _ = rig
    node.publish("depth", 0)
    node.publish_results(0)
    node.publish("depth", 33 * MS)
    assert not got
    node.publish("camera_info", 0)
    assert len(got) == 1 and got[0].camera_info is not None and got[0].depth is not None


def test_the_wait_for_late_depth_is_bounded(rig):
    node, inputs, got, _ = rig
    node.publish("camera_info", 0)
    node.publish_results(100 * MS)
    assert not got
    node.publish("depth", 100 * MS)
    assert [p.depth is not None for p in got] == [True]
    node.publish_results(200 * MS)
    node.publish_results(300 * MS)
    node.publish("depth", 300 * MS)  # newer than 200: nothing comes for that any more
    assert [(p.stamp_ns // MS, p.depth is not None) for p in got[1:]] == [(200, False), (300, True)]
    node.publish_results(400 * MS)
    time.sleep(0.25)
    inputs.flush()
    assert got[-1].stamp_ns == 400 * MS and inputs.without_depth == 2


def test_a_missing_result_is_counted(rig):
    node, inputs, got, _ = rig
    node.publish("camera_info", 0)
    node.publish("depth", 0)
    node.publish_results(0, "labels", "associations")
    node.publish("depth", 100 * MS)
    node.publish_results(100 * MS)
    assert [p.stamp_ns // MS for p in got] == [100]
    time.sleep(0.25)
    inputs.flush()
    assert inputs.incomplete == 1


def test_a_bag_that_loops(rig):
    node, inputs, got, _ = rig
    node.publish("camera_info", 0)
    for t in (5000, 5100):
        node.publish("depth", t * MS)
        node.publish_results(t * MS)
    node.publish_results(5200 * MS, "labels")
    node.publish("depth", 0)
    node.publish_results(0)
    assert [p.stamp_ns // MS for p in got] == [5000, 5100, 0] and all(
        p.depth is not None for p in got
    )
    assert inputs.incomplete == 1


def test_silence_is_reported_once_and_its_end(rig):
    node, inputs, _, reports = rig
    time.sleep(0.6)
    inputs.check()
    inputs.check()
    assert len(reports) == 5 and any(
        "labels: nothing on vos_ros/labels yet" in t and "it has no publisher" in t for t in reports
    )
    node.publish("depth", 0)
    node.publish("camera_info", 0)
    inputs.check()
    assert [t.split()[0] for t in reports[5:]] == ["depth", "camera_info"]
