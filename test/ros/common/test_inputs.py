"""Images, depth, map and poses as the perception node and the tracker subscribe to them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from support.fake_node import FakeNode, strict_guard

from vos_ros.config import NodeConfig
from vos_ros.messages.checks import DEFAULT_LIMITS
from vos_ros.ros.common.guard import Guard
from vos_ros.ros.common.inputs import Bundle, CameraInputs, StampOrder, describe_time_jump
from vos_ros.ros.common.logging import ConditionLog, EventLog

MS = 1_000_000
S = 1_000 * MS


class Rig:
    """CameraInputs on a node without a middleware, and what it hands on."""

    def __init__(
        self,
        *,
        with_map: bool = True,
        timeout_s: float = 0.2,
        guard: Guard | None = None,
        **settings: Any,
    ) -> None:
        self.node = FakeNode(**{"node.input_timeout_s": timeout_s})
        self.bundles: list[Bundle] = []
        self.maps: list[Any] = []
        self.jumps: list[tuple[int, int]] = []
        self.log: list[str] = []
        self.fail_at_ms: int | None = None
        self.inputs = CameraInputs(
            self.node,
            replace(NodeConfig(), **{"pose_source": "none", **settings}),
            ConditionLog(lambda level, text: self.log.append(text)),
            guard or strict_guard(),
            limits=DEFAULT_LIMITS,
            on_bundle=self._on_bundle,
            on_time_jump=lambda *stamps: self.jumps.append(stamps),
            on_error=self.log.append,
            on_map=self.maps.append if with_map else None,
        )
        self.inputs.activate()

    def _on_bundle(self, bundle: Bundle) -> None:
        if bundle.stamp_ns // MS == self.fail_at_ms:
            raise LookupError(f"image {self.fail_at_ms}")
        self.bundles.append(bundle)

    def publish(self, *messages: tuple[str, int]) -> None:
        for topic, ms in messages:
            self.node.publish(topic, ms * MS)

    @property
    def stamps(self) -> list[tuple[int, bool]]:
        """Stamp (ms) of each bundle, and whether it has depth."""
        return [(b.stamp_ns // MS, b.depth is not None) for b in self.bundles]


def test_an_image_gets_the_depth_within_the_slop() -> None:
    rig = Rig(sync_slop_s=0.02)
    rig.publish(("image", 1000), ("depth", 1015), ("depth", 1100), ("image", 1110))
    rig.publish(("image", 1200), ("depth", 1300))
    assert rig.stamps == [(1000, True), (1110, True)]
    assert rig.bundles[0].depth.header.stamp.nanosec == 15 * MS


def test_after_an_error_in_the_handling_of_an_image_the_next_one_is_handed_on() -> None:
    """message_filters calls back with its lock held, and an error there left it locked."""
    said: list[str] = []
    guard = Guard(EventLog(lambda level, text: said.append(text)))
    rig = Rig(guard=guard)
    rig.fail_at_ms = 1000
    rig.publish(("image", 1000), ("depth", 1000), ("image", 1100), ("depth", 1100))
    assert rig.stamps == [(1100, True)]
    assert dict(guard.counts) == {"image with depth": 1} and "image 1000" in said[0]


def test_images_that_find_no_depth_are_counted() -> None:
    rig = Rig(sync_queue=3)
    rig.publish(*(("image", 1000 + 100 * i) for i in range(5)))
    assert rig.stamps == [] and rig.inputs.unsynchronised == 2


def test_images_go_on_alone_after_the_timeout_and_with_depth_when_it_is_back() -> None:
    rig = Rig(timeout_s=0.1)
    rig.publish(("image", 1000))
    assert rig.stamps == [] and not rig.inputs.without_depth
    time.sleep(0.12)
    assert rig.inputs.without_depth
    rig.publish(("image", 1100))
    assert rig.stamps == [(1100, False)]
    rig.publish(("depth", 1100))
    assert not rig.inputs.without_depth
    assert rig.stamps == [(1100, False)], "the image is not handed on twice"
    rig.publish(("image", 1200), ("depth", 1200))
    assert rig.stamps == [(1100, False), (1200, True)]


def test_without_depth_wanted_every_image_is_handed_on() -> None:
    rig = Rig(use_depth=False)
    assert "depth" not in rig.node.callbacks
    rig.publish(("image", 1000))
    assert rig.stamps == [(1000, False)]


def test_a_jump_back_is_reported_before_the_first_image_of_the_new_time() -> None:
    rig = Rig()
    rig.publish(("depth", 5000), ("image", 5000), ("image", 5100))
    rig.publish(("image", 4600))
    assert rig.jumps == [], "half a second back is a late message"
    rig.publish(("image", 4599))
    assert rig.jumps == [(5100 * MS, 4599 * MS)]
    rig.publish(("depth", 4599), ("depth", 5100), ("image", 4700), ("depth", 4700))
    assert rig.stamps == [(5000, True), (4599, True), (4700, True)], "what waited is dropped"
    assert len(rig.jumps) == 1


def test_an_inactive_node_ignores_images_and_takes_maps() -> None:
    rig = Rig()
    rig.inputs.deactivate()
    rig.publish(("image", 1000), ("depth", 1000), ("camera_info", 1000), ("map_objects", 1000))
    assert rig.stamps == [] and len(rig.maps) == 1 and rig.inputs.camera_info is not None


def test_the_tracker_subscribes_to_no_map() -> None:
    rig = Rig(with_map=False)
    assert set(rig.inputs.subscriptions) == {"image", "camera_info", "depth"}
    rig.inputs.request_map()
    assert rig.node.destroyed == []


def test_the_map_is_requested_by_a_new_subscription() -> None:
    rig = Rig()
    profile = rig.node.profiles["map_objects"]
    assert profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
    assert profile.reliability == ReliabilityPolicy.RELIABLE
    rig.inputs.request_map()
    assert rig.node.destroyed == ["map_objects"]
    rig.publish(("map_objects", 1000))
    assert len(rig.maps) == 1


@pytest.mark.parametrize(
    ("setting", "topic", "hint"),
    [
        ("image_transport", "/image/compressed", "/image"),
        ("depth_transport", "/depth/compressedDepth", "/depth"),
    ],
)
def test_compressed_images_come_on_the_topic_of_their_transport(
    setting: str, topic: str, hint: str
) -> None:
    rig = Rig(**{setting: "compressed"})
    key = setting.removesuffix("_transport")
    assert rig.inputs.subscriptions[key].topic == topic
    assert rig.inputs.subscriptions[key].type_name == "sensor_msgs/msg/CompressedImage"
    assert rig.inputs.subscriptions[key].hint == (hint, f"node.{setting} to 'raw'")


def test_silent_inputs_are_reported_after_the_timeout() -> None:
    rig = Rig(timeout_s=0.1)
    rig.inputs.check()
    assert rig.log == []
    time.sleep(0.12)
    rig.publish(("camera_info", 1000), ("map_objects", 1000))
    time.sleep(0.12)
    rig.inputs.check()
    assert [text.split(":")[0] for text in rig.log] == ["image", "depth"], "these may come once"
    assert "Images are used without depth meanwhile." in rig.log[1]
    rig.publish(("image", 1000))
    rig.inputs.check()
    assert rig.log[2].startswith("image is back")
    rig.inputs.deactivate()
    time.sleep(0.12)
    rig.inputs.check()
    assert len(rig.log) == 3, "an inactive node expects no image"


def test_stamps_that_do_not_match_are_reported_with_their_distance() -> None:
    rig = Rig(timeout_s=0.1, sync_slop_s=0.01)
    time.sleep(0.12)
    rig.publish(("image", 1000), ("depth", 1250), ("depth", 1300))
    rig.inputs.check()
    (text,) = [t for t in rig.log if t.startswith("sync")]
    assert "within 0.01 s" in text and "nearest: 0.250 s apart" in text
    rig.publish(("image", 1300))
    rig.inputs.check()
    assert [t for t in rig.log if t.startswith("sync")][1].startswith("sync is back")


def test_destroy_removes_every_subscription() -> None:
    rig = Rig()
    rig.inputs.destroy()
    assert sorted(rig.node.destroyed) == ["camera_info", "depth", "image", "map_objects"]


def test_only_newer_stamps_are_in_order() -> None:
    order = StampOrder()
    assert order.check(10 * S) == ""
    assert order.check(10 * S) == "", "only a used image counts"
    order.used(10 * S)
    assert "has the same stamp as the one before" in order.check(10 * S)
    assert "10.000 s" in order.check(10 * S) and "clock" in order.check(10 * S)
    assert "arrived after a newer one" in order.check(10 * S - 1)
    assert order.check(10 * S + 1) == "" and order.late == 4
    order.reset()
    assert order.check(S) == "" and order.late == 4


def test_a_time_jump_names_both_times() -> None:
    assert describe_time_jump(5 * S, 2 * S).startswith("time went back from 5.000 s to 2.000 s")


def test_a_depth_clock_that_is_set_back_is_used_at_once_and_waiting_images_are_counted() -> None:
    rig = Rig(sync_slop_s=0.02, sync_queue=5)
    for ms in range(1000, 1500, 100):
        rig.publish(("depth", ms + 1500), ("image", ms))
    rig.publish(("depth", 1500), ("image", 1500))
    assert rig.stamps == [(1500, True)]
    assert rig.inputs.unsynchronised == 5, "none is lost without a count"
