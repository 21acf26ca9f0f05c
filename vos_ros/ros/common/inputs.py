"""What the node listens to: subscriptions, synchronisation, and what it says when something doesn't come."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import message_filters
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vos_ros.config import NodeConfig
from vos_ros.messages.stamps import NS_PER_S, ns_from_stamp
from vos_ros.msg import MapObjectArray
from vos_ros.ros.common.health import RateMonitor
from vos_ros.ros.common.logging import ConditionLog, Level
from vos_ros.ros.common.poses import JUMP_NS, PoseInput, make_pose_input
from vos_ros.ros.common.subscriptions import (
    Subscription,
    qos,
    subscribe,
    subscribe_latched_info,
    why_silent,
)

MAP_QUEUE = 100
"""Map updates kept by the middleware while the node is at work: one lost delta costs a snapshot."""


@dataclass(frozen=True, eq=False, slots=True)
class Bundle:
    """Messages that belong together. ``arrival_s``: when the image came (time.perf_counter, s)."""

    image: Any
    depth: Any | None
    arrival_s: float

    @property
    def stamp_ns(self) -> int:
        """Stamp of the image."""
        return ns_from_stamp(self.image.header.stamp)


class Inputs:
    """All subscriptions of a configured node. Callbacks come on the executor's thread and must not block:

    ``on_bundle`` for each image with its depth, ``on_map`` for each map message, ``on_time_jump(from_ns, to_ns)`` before the first
    image of an earlier time. ``camera_info`` is the last one that came.
    """

    def __init__(
        self,
        node: Any,
        config: NodeConfig,
        log: ConditionLog,
        *,
        on_bundle: Callable[[Bundle], None],
        on_map: Callable[[Any], None],
        on_time_jump: Callable[[int, int], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._node, self._config, self._log = node, config, log
        self._on_bundle, self._on_map, self._on_time_jump = on_bundle, on_map, on_time_jump
        self.camera_info: Any | None = None
        self.unsynchronised = 0
        self._latched_info: Any | None = None
        self._active = False
        self._newest_ns: int | None = None
        self._pairs = RateMonitor()
        self._pending: OrderedDict[int, float] = OrderedDict()
        self._depth_stamps: deque[int] = deque(maxlen=config.sync_queue)
        self._connect()
        self.inputs: dict[str, Subscription] = {}
        sensor = qos(config.input_reliability, config.input_depth)
        compressed, depth_compressed = (
            config.image_transport == "compressed",
            config.depth_transport == "compressed",
        )
        image = node.resolve_topic_name("image")
        self._subscribe(
            "image",
            CompressedImage if compressed else Image,
            f"{image}/compressed" if compressed else "image",
            self._on_image,
            sensor,
            (image, "raw") if compressed else (f"{image}/compressed", "compressed"),
            "node.image_transport",
        )
        self._subscribe("camera_info", CameraInfo, "camera_info", self._on_camera_info, sensor)
        if config.use_depth:
            depth = node.resolve_topic_name("depth")
            self._subscribe(
                "depth",
                CompressedImage if depth_compressed else Image,
                f"{depth}/compressedDepth" if depth_compressed else "depth",
                self._on_depth,
                sensor,
                (depth, "raw") if depth_compressed else (f"{depth}/compressedDepth", "compressed"),
                "node.depth_transport",
            )
        self._subscribe_map()
        self.poses = self._pose_input(on_error)

    def _subscribe(
        self,
        key: str,
        kind: Any,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        elsewhere: tuple[str, str] | None = None,
        parameter: str = "",
    ) -> Subscription:
        hint = (elsewhere[0], f"{parameter} to {elsewhere[1]!r}") if elsewhere else None
        self.inputs[key] = subscribe(
            self._node,
            self._log,
            key,
            kind,
            topic,
            callback,
            profile,
            hint=hint,
            reliability_parameter="node.input_reliability",
        )
        return self.inputs[key]

    def _subscribe_map(self) -> None:
        self._subscribe(
            "map_objects",
            MapObjectArray,
            "map_objects",
            self._on_map,
            qos("reliable", MAP_QUEUE, latched=True),
        )

    def ask_for_map(self) -> None:
        """Subscribes to the map anew: its publisher keeps the last message for those who come late, and sends it again."""
        self._node.destroy_subscription(self.inputs["map_objects"].handle)
        self._subscribe_map()

    def _pose_input(self, on_error: Callable[[str], None]) -> PoseInput:
        config = self._config

        def subscribe(kind: Any, topic: str, callback: Callable[[Any], None]) -> Callable[[], None]:
            made = self._subscribe(
                "pose",
                kind,
                topic,
                callback,
                qos(config.input_reliability, max(config.input_depth, 50)),
            )
            return lambda: self._node.destroy_subscription(made.handle)

        return make_pose_input(
            config.pose_source, self._node, config.map_frame, subscribe, on_error
        )

    def _connect(self) -> None:
        """A fresh synchroniser. The one before is left to the garbage collector: it has no way to forget messages of a later time, and
        would throw away every message that is older than those."""
        self._image_filter, self._depth_filter = (
            message_filters.SimpleFilter(),
            message_filters.SimpleFilter(),
        )
        # Upstream's slop is exclusive: 0 would match nothing.
        self._sync = message_filters.ApproximateTimeSynchronizer(
            [self._image_filter, self._depth_filter],
            self._config.sync_queue,
            max(self._config.sync_slop_s, 1e-9),
        )
        self._sync.registerCallback(self._on_pair)
        self._pending.clear()
        self._depth_stamps.clear()

    def activate(self) -> None:
        """From now on images are used and silence counts."""
        self._connect()
        self._newest_ns = None
        for one in self.inputs.values():
            one.traffic.expect()
        self._pairs.expect()
        self._active = True

    def deactivate(self) -> None:
        """From now on images are ignored; map, camera_info and poses are still taken."""
        self._active = False

    def destroy(self) -> None:
        """Removes every subscription."""
        self._active = False
        self.poses.destroy()
        for key, one in self.inputs.items():
            if key != "pose":
                self._node.destroy_subscription(one.handle)
        if self._latched_info is not None:
            self._node.destroy_subscription(self._latched_info)

    # --- callbacks, on the executor's thread -------------------------------------------------------------------------------

    def _on_camera_info(self, msg: Any) -> None:
        self.camera_info = msg

    def _on_depth(self, msg: Any) -> None:
        if self._active:
            self._depth_stamps.append(ns_from_stamp(msg.header.stamp))
            self._depth_filter.signalMessage(msg)

    def _on_image(self, msg: Any) -> None:
        if not self._active:
            return
        arrival_s, stamp_ns = time.perf_counter(), ns_from_stamp(msg.header.stamp)
        newest = self._newest_ns
        if newest is not None and stamp_ns < newest - JUMP_NS:
            self._connect()
            self.poses.clear()
            self._on_time_jump(newest, stamp_ns)
            newest = None
        self._newest_ns = stamp_ns if newest is None else max(newest, stamp_ns)
        if not self._config.use_depth or self.without_depth:
            self._on_bundle(Bundle(msg, None, arrival_s))
            # The synchroniser gets it as well, so that depth that comes again is noticed.
            if self._config.use_depth:
                self._image_filter.signalMessage(msg)
            return
        self._pending[stamp_ns] = arrival_s
        while len(self._pending) > self._config.sync_queue:
            self._pending.popitem(last=False)
            self.unsynchronised += 1
        self._image_filter.signalMessage(msg)

    def _on_pair(self, image: Any, depth: Any) -> None:
        self._pairs.arrived()
        arrival_s = self._pending.pop(ns_from_stamp(image.header.stamp), None)
        if arrival_s is not None:  # None: the image went ahead without depth
            self._on_bundle(Bundle(image, depth, arrival_s))

    # --- what is missing -----------------------------------------------------------------------------------------------------

    @property
    def without_depth(self) -> bool:
        """True while depth was asked for and has been missing for longer than ``node.input_timeout_s``: images go on alone."""
        return self._config.use_depth and self._pairs.silent_s > self.timeout_s

    @property
    def timeout_s(self) -> float:
        """node.input_timeout_s as it is now."""
        return float(self._node.parameters.live("node.input_timeout_s"))

    def check(self) -> None:
        """Begins and ends the conditions of missing inputs. Called now and then on the executor's thread."""
        self._look_for_latched_info()
        if not self._active:
            return
        for key, one in self.inputs.items():
            # These may come once and then hold for ever.
            once = key in ("camera_info", "map_objects") and (
                one.traffic.count or (key == "camera_info" and self.camera_info is not None)
            )
            if once or one.traffic.silent_s <= self.timeout_s:
                if one.traffic.count:
                    self._log.end(key)
                continue
            reason, kind = why_silent(self._node, one)
            effect = {
                "depth": " Images are used without depth meanwhile.",
                "map_objects": " Only prompts are followed meanwhile.",
                "image": "",
                "camera_info": " No image can be used meanwhile.",
                "pose": " Frames have no pose meanwhile.",
            }[key]
            since = (
                f"for {one.traffic.silent_s:.1f} s"
                if one.traffic.count
                else f"yet, {one.traffic.silent_s:.1f} s after activation"
            )
            level = Level.ERROR if kind in ("qos", "type", "transport") else Level.WARN
            self._log.begin(key, kind, f"nothing on {one.topic} {since}: {reason}.{effect}", level)
        self._check_pairs()

    def _look_for_latched_info(self) -> None:
        if self.camera_info is None and self._latched_info is None:
            self._latched_info = subscribe_latched_info(
                self._node, self.inputs["camera_info"].topic, self._on_camera_info
            )

    def _check_pairs(self) -> None:
        inputs = self.inputs
        both = all(
            k in inputs and inputs[k].traffic.count and inputs[k].traffic.silent_s <= self.timeout_s
            for k in ("image", "depth")
        )
        if not (both and self.without_depth):
            self._log.end("sync")
            return
        apart = (
            min((abs(d - self._newest_ns) for d in self._depth_stamps), default=0) / NS_PER_S
            if self._newest_ns is not None
            else 0.0
        )
        self._log.begin(
            "sync",
            "apart",
            f"{inputs['image'].topic} and {inputs['depth'].topic} both come, but no stamps lie within"
            f" {self._config.sync_slop_s:g} s of each other (nearest: {apart:.3f} s apart): check their clocks or raise"
            " node.sync_slop_s. Images are used without depth meanwhile.",
        )
