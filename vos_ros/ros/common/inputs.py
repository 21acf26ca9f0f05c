"""Subscribe to the camera, the map and the poses, and hand on the messages that belong together."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import message_filters
from geometry_msgs.msg import PointStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vos_ros.config import NodeConfig
from vos_ros.messages.checks import Limits, check_header
from vos_ros.messages.stamps import NS_PER_S, ns_from_stamp
from vos_ros.msg import MapObjectArray
from vos_ros.ros.common.guard import Guard
from vos_ros.ros.common.health import RateMonitor
from vos_ros.ros.common.logging import ConditionLog
from vos_ros.ros.common.poses import JUMP_NS, PoseInput, make_pose_input
from vos_ros.ros.common.subscriptions import (
    Subscription,
    check_silence,
    qos,
    subscribe,
    subscribe_latched_info,
)

MAP_QUEUE = 100
"""Map updates that the middleware keeps while the node is busy: a lost change costs a snapshot."""
CLICK_QUEUE = 10
"""Clicked points that the middleware keeps."""
POSE_QUEUE = 50
"""Least number of poses that the middleware keeps: they are more frequent than images."""
_MIN_SLOP_S = 1e-9
"""Smallest slop: message_filters' own is exclusive, so 0 would match nothing."""
_EFFECTS = {
    "image": "",
    "camera_info": "No image can be used meanwhile.",
    "depth": "Images are used without depth meanwhile.",
    "map_objects": "Only prompts are followed meanwhile.",
    "pose": "Frames have no pose meanwhile.",
}
"""What the node does while an input is silent. Of other inputs silence is not reported."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Bundle:
    """Hold the messages of one image that belong together."""

    image: Any
    """sensor_msgs/Image or CompressedImage."""
    depth: Any | None
    """The depth image whose stamp lies within the slop; None where there is none."""
    arrival_s: float
    """Time at which the image arrived (time.perf_counter, s)."""

    @property
    def stamp_ns(self) -> int:
        """Stamp of the image, ns."""
        return ns_from_stamp(self.image.header.stamp)


class StampOrder:
    """Find images whose stamp is not newer than that of the last used one, and count them."""

    def __init__(self) -> None:
        self.late = 0
        self._last_ns: int | None = None

    def used(self, stamp_ns: int) -> None:
        """Note that the image of this stamp was used."""
        self._last_ns = stamp_ns

    def reset(self) -> None:
        """Accept any stamp next: time has jumped back, or a session begins."""
        self._last_ns = None

    def check(self, stamp_ns: int) -> str:
        """Return the reason why an image can't be used any more; empty where it can."""
        if self._last_ns is None or stamp_ns > self._last_ns:
            return ""
        self.late += 1
        what = (
            "has the same stamp as the one before"
            if stamp_ns == self._last_ns
            else "arrived after a newer one"
        )
        return (
            f"an image with stamp {stamp_ns / NS_PER_S:.3f} s {what} and is left out: does the"
            " camera's clock run?"
        )


def describe_time_jump(from_ns: int, to_ns: int) -> str:
    """Return the text of a jump back in time."""
    return (
        f"time went back from {from_ns / NS_PER_S:.3f} s to {to_ns / NS_PER_S:.3f} s (a bag that"
        " loops?)"
    )


class CameraInputs:
    """Subscribe to images, depth, camera_info and, where wanted, to map and poses.

    Callbacks run on the executor's thread and must not block. ``camera_info`` is the most recent
    one. ``unsynchronised`` counts the images that found no depth.

    Args:
        node: the node that subscribes; it has ``parameters`` with ``node.input_timeout_s``.
        config: topics' settings.
        log: conditions of silent inputs and refused messages.
        guard: notes what callbacks raise.
        limits: bounds of what messages may carry.
        on_bundle: gets each image with its depth.
        on_time_jump: gets the newest and the new stamp (ns), before the first image of an earlier
            time.
        on_error: gets a text where a pose message holds no pose.
        on_map: gets each map message; None: no subscription to a map.
        on_click: gets each clicked point; None: no subscription to them.
    """

    def __init__(
        self,
        node: Any,
        config: NodeConfig,
        log: ConditionLog,
        guard: Guard,
        *,
        limits: Limits,
        on_bundle: Callable[[Bundle], None],
        on_time_jump: Callable[[int, int], None],
        on_error: Callable[[str], None],
        on_map: Callable[[Any], None] | None = None,
        on_click: Callable[[Any], None] | None = None,
    ) -> None:
        self._node, self._config, self._log, self._guard = node, config, log, guard
        self._limits = limits
        self._on_bundle, self._on_map, self._on_time_jump = on_bundle, on_map, on_time_jump
        self.camera_info: Any | None = None
        self.unsynchronised = 0
        self._latched_info: Any | None = None
        self._active = False
        self._newest_ns: int | None = None
        self._pairs = RateMonitor()
        self._pending: OrderedDict[int, float] = OrderedDict()
        self._depth_stamps: deque[int] = deque(maxlen=config.sync_queue)
        self._make_synchronizer()
        self.subscriptions: dict[str, Subscription] = {}
        self._subscribe_images()
        if on_map is not None:
            self._subscribe_map(on_map)
        if on_click is not None:
            profile = qos("reliable", CLICK_QUEUE)
            self._subscribe("clicked_point", PointStamped, "clicked_point", on_click, profile)
        self.poses = self._make_poses(on_error)

    # --- subscriptions ----------------------------------------------------------------------------

    def _subscribe_images(self) -> None:
        config = self._config
        sensor = qos(config.input_reliability, config.input_depth)
        self._subscribe_image(
            "image", config.image_transport, "image/compressed", self._on_image, sensor
        )
        self._subscribe("camera_info", CameraInfo, "camera_info", self._on_camera_info, sensor)
        if config.use_depth:
            self._subscribe_image(
                "depth", config.depth_transport, "depth/compressedDepth", self._on_depth, sensor
            )

    def _subscribe_image(
        self,
        key: str,
        transport: str,
        compressed: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
    ) -> None:
        """Subscribe to an image, raw or ``compressed``; the other topic serves as a hint."""
        base = self._node.resolve_topic_name(key)
        below = base + compressed.removeprefix(key)
        parameter = f"node.{key}_transport"
        if transport == "compressed":
            kind, topic, hint = CompressedImage, below, (base, f"{parameter} to 'raw'")
        else:
            kind, topic, hint = Image, key, (below, f"{parameter} to 'compressed'")
        self._subscribe(key, kind, topic, callback, profile, hint)

    def _subscribe(
        self,
        key: str,
        kind: Any,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        hint: tuple[str, str] | None = None,
    ) -> Subscription:
        self.subscriptions[key] = subscribe(
            self._node,
            self._log,
            self._guard,
            key,
            kind,
            topic,
            callback,
            profile,
            hint=hint,
            reliability_parameter="node.input_reliability",
        )
        return self.subscriptions[key]

    def _subscribe_map(self, on_map: Callable[[Any], None]) -> None:
        latched = qos("reliable", MAP_QUEUE, latched=True)
        self._subscribe("map_objects", MapObjectArray, "map_objects", on_map, latched)

    def request_map(self) -> None:
        """Subscribe to the map anew, so that its publisher sends its last message again."""
        if self._on_map is not None:
            self._node.destroy_subscription(self.subscriptions["map_objects"].handle)
            self._subscribe_map(self._on_map)

    def _make_poses(self, on_error: Callable[[str], None]) -> PoseInput:
        config = self._config
        profile = qos(config.input_reliability, max(config.input_depth, POSE_QUEUE))

        def subscribe_pose(
            kind: Any, topic: str, callback: Callable[[Any], None]
        ) -> Callable[[], None]:
            made = self._subscribe("pose", kind, topic, callback, profile)
            return lambda: self._node.destroy_subscription(made.handle)

        return make_pose_input(
            config.pose_source, self._node, config.map_frame, subscribe_pose, on_error
        )

    def _make_synchronizer(self) -> None:
        """Make a new synchroniser and leave the one before to the garbage collector.

        It has no way to forget messages of a later time, and would drop every message that is older
        than those. Images that still wait for their depth are not used.
        """
        self.unsynchronised += len(self._pending)
        self._image_filter = message_filters.SimpleFilter()
        self._depth_filter = message_filters.SimpleFilter()
        self._sync = message_filters.ApproximateTimeSynchronizer(
            [self._image_filter, self._depth_filter],
            self._config.sync_queue,
            max(self._config.sync_slop_s, _MIN_SLOP_S),
        )
        # It calls back with its lock held, and keeps that lock for ever where a callback raises.
        self._sync.registerCallback(self._guard.callback("image with depth", self._on_pair))
        self._pending.clear()
        self._depth_stamps.clear()

    def activate(self) -> None:
        """Use images from now on; silence counts from now on."""
        self._make_synchronizer()
        self._newest_ns = None
        for one in self.subscriptions.values():
            one.arrivals.expect()
        self._pairs.expect()
        self._active = True

    def deactivate(self) -> None:
        """Ignore images from now on; map, camera_info and poses are still used."""
        self._active = False

    def destroy(self) -> None:
        """Remove every subscription."""
        self._active = False
        self.poses.destroy()
        for key, one in self.subscriptions.items():
            if key != "pose":
                self._node.destroy_subscription(one.handle)
        if self._latched_info is not None:
            self._node.destroy_subscription(self._latched_info)

    # --- callbacks, on the executor's thread ------------------------------------------------------

    def _on_camera_info(self, msg: Any) -> None:
        self.camera_info = msg

    def _on_depth(self, msg: Any) -> None:
        if not self._active:
            return
        stamp_ns = check_header(msg.header, self._limits)
        if self._depth_stamps and stamp_ns < self._depth_stamps[-1] - JUMP_NS:
            # The depth camera's clock was set back: its earlier messages would push out the new.
            self._make_synchronizer()
        self._depth_stamps.append(stamp_ns)
        self._depth_filter.signalMessage(msg)

    def _on_image(self, msg: Any) -> None:
        if not self._active:
            return
        arrival_s, stamp_ns = time.perf_counter(), check_header(msg.header, self._limits)
        newest = self._newest_ns
        if newest is not None and stamp_ns < newest - JUMP_NS:
            self._make_synchronizer()
            self.poses.clear()
            self._on_time_jump(newest, stamp_ns)
            newest = None
        self._newest_ns = stamp_ns if newest is None else max(newest, stamp_ns)
        if not self._config.use_depth or self.without_depth:
            self._on_bundle(Bundle(image=msg, depth=None, arrival_s=arrival_s))
            # The synchroniser gets it too, so that the return of depth is noticed.
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
        if arrival_s is not None:  # None: the image was handed on before, without depth
            self._on_bundle(Bundle(image=image, depth=depth, arrival_s=arrival_s))

    # --- what is missing --------------------------------------------------------------------------

    @property
    def without_depth(self) -> bool:
        """True while wanted depth has been missing for longer than ``node.input_timeout_s``.

        Images are then used alone.
        """
        return self._config.use_depth and self._pairs.silent_s > self.timeout_s

    @property
    def timeout_s(self) -> float:
        """Present value of ``node.input_timeout_s``, s."""
        return float(self._node.parameters.live("node.input_timeout_s"))

    def check(self) -> None:
        """Begin and end the conditions of silent inputs. Called by a timer of the executor."""
        if self.camera_info is None and self._latched_info is None:
            self._latched_info = subscribe_latched_info(
                self._node,
                self.subscriptions["camera_info"].topic,
                self._guard.callback("latched camera_info", self._on_camera_info),
            )
        if not self._active:
            return
        for key, one in self.subscriptions.items():
            if key not in _EFFECTS:
                continue
            # These may be published once and then hold for ever.
            known = (key == "camera_info" and self.camera_info is not None) or (
                key == "map_objects" and one.arrivals.count > 0
            )
            if known:
                self._log.end(key)
                continue
            check_silence(
                self._node,
                self._log,
                one,
                self.timeout_s,
                start="activation",
                effect=_EFFECTS[key],
            )
        self._check_pairs()

    def _check_pairs(self) -> None:
        """Begin or end the condition that images and depth arrive with stamps that don't match."""
        both = all(
            key in self.subscriptions
            and self.subscriptions[key].arrivals.count
            and self.subscriptions[key].arrivals.silent_s <= self.timeout_s
            for key in ("image", "depth")
        )
        if not (both and self.without_depth):
            self._log.end("sync")
            return
        apart_s = 0.0
        if self._newest_ns is not None and self._depth_stamps:
            apart_s = min(abs(d - self._newest_ns) for d in self._depth_stamps) / NS_PER_S
        image, depth = self.subscriptions["image"].topic, self.subscriptions["depth"].topic
        self._log.begin(
            "sync",
            "apart",
            f"{image} and {depth} both arrive, but no stamps lie within"
            f" {self._config.sync_slop_s:g} s of each other (nearest: {apart_s:.3f} s apart): check"
            f" their clocks or raise node.sync_slop_s. {_EFFECTS['depth']}",
        )
