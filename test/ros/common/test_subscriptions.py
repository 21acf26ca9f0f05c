"""Why nothing arrives on a topic: each reason has its text, kind and way out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from sensor_msgs.msg import Image
from support.fake_node import FakeNode, strict_guard

from vos_ros.ros.common.logging import ConditionLog, Level
from vos_ros.ros.common.subscriptions import (
    Subscription,
    check_silence,
    qos,
    subscribe,
    subscribe_latched_info,
    why_silent,
)

HINT = ("/image/compressed", "node.image_transport to 'compressed'")
RELIABLE, BEST_EFFORT = qos("reliable", 5), qos("best_effort", 5)


class Rig:
    """A reliable subscription to /image, and the log of its conditions."""

    def __init__(self, hint: tuple[str, str] | None = HINT) -> None:
        self.node = FakeNode()
        self.reports: list[tuple[Level, str]] = []
        self.log = ConditionLog(lambda level, text: self.reports.append((level, text)))
        self.got: list[Any] = []
        self.one: Subscription = subscribe(
            self.node,
            self.log,
            strict_guard(),
            "image",
            Image,
            "/image",
            self.got.append,
            RELIABLE,
            hint=hint,
            reliability_parameter="node.input_reliability",
        )

    def publishers(self, topic: str, *kinds: tuple[str, Any]) -> None:
        self.node.publishers[topic] = [
            SimpleNamespace(topic_type=kind, qos_profile=profile) for kind, profile in kinds
        ]

    @property
    def why(self) -> tuple[str, str]:
        return why_silent(self.node, self.one)


def test_no_publisher() -> None:
    assert Rig().why == ("it has no publisher (remap it to the topic of your robot)", "unpublished")


def test_no_publisher_but_one_of_the_other_transport() -> None:
    rig = Rig()
    rig.publishers("/image/compressed", ("sensor_msgs/msg/CompressedImage", RELIABLE))
    reason, kind = rig.why
    assert kind == "transport" and reason.endswith("set node.image_transport to 'compressed'")


@pytest.mark.parametrize(
    ("published", "hinted"),
    [("sensor_msgs/msg/CompressedImage", True), ("std_msgs/msg/String", False)],
)
def test_another_type(published: str, hinted: bool) -> None:
    rig = Rig()
    rig.publishers("/image", (published, RELIABLE))
    reason, kind = rig.why
    assert kind == "type" and published in reason
    assert "this node wants sensor_msgs/msg/Image" in reason
    assert ("set node.image_transport" in reason) == hinted


def test_a_qos_that_cannot_serve() -> None:
    rig = Rig()
    rig.publishers("/image", ("sensor_msgs/msg/Image", BEST_EFFORT))
    reason, kind = rig.why
    assert kind == "qos" and "node.input_reliability" in reason
    assert "qos_overrides./image.subscription.<policy>" in reason
    rig.publishers(
        "/image", ("sensor_msgs/msg/Image", BEST_EFFORT), ("sensor_msgs/msg/Image", RELIABLE)
    )
    assert rig.why == ("its 2 publisher(s) send nothing", "silent"), "one of them could serve"


def test_the_override_of_another_policy_is_no_parameter_of_ours() -> None:
    one = Rig().one
    assert one.override("RELIABILITY").endswith("(or node.input_reliability)")
    assert one.override("DURABILITY") == (
        "set qos_overrides./image.subscription.durability of this node"
    )


def test_arrivals_are_counted_and_handed_on() -> None:
    rig = Rig()
    rig.node.publish("/image", 5)
    assert rig.one.arrivals.count == 1 and len(rig.got) == 1


def test_silence_begins_and_ends_a_condition() -> None:
    rig = Rig()

    def check(timeout_s: float) -> None:
        check_silence(
            rig.node, rig.log, rig.one, timeout_s, start="the start", effect="No image meanwhile."
        )

    check(60.0)
    assert rig.reports == []
    check(-1.0)
    ((level, text),) = rig.reports
    assert level == Level.WARN and text.startswith("image: nothing on /image yet, 0.0 s after the")
    assert text.endswith("(remap it to the topic of your robot). No image meanwhile.")
    check(60.0)
    assert len(rig.reports) == 1, "what never arrived is not back"
    rig.node.publish("/image", 5)
    check(60.0)
    assert rig.reports[1][0] == Level.OK
    rig.publishers("/image", ("std_msgs/msg/String", RELIABLE))
    check(-1.0)
    assert rig.reports[2][0] == Level.ERROR and "nothing on /image for 0.0 s" in rig.reports[2][1]


def test_a_latched_camera_info_is_subscribed_to_only_where_one_is_published() -> None:
    rig = Rig()
    kind = "sensor_msgs/msg/CameraInfo"
    rig.publishers("/info", (kind, RELIABLE))
    assert subscribe_latched_info(rig.node, "/info", rig.got.append) is None
    rig.publishers("/info", (kind, RELIABLE), (kind, qos("reliable", 1, latched=True)))
    assert subscribe_latched_info(rig.node, "/info", rig.got.append) is not None
    rig.node.publish("/info", 5)
    assert len(rig.got) == 1
