"""What the mapper listens to: the perception node's labels, instances and associations, and the depth they were made of."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vos_ros.messages.stamps import NS_PER_S, ns_from_stamp
from vos_ros.msg import AssociationArray, InstanceArray
from vos_ros.reference_mapper.config import MapperNodeConfig
from vos_ros.ros.common.logging import ConditionLog, Level
from vos_ros.ros.common.poses import JUMP_NS, PoseInput, make_pose_input
from vos_ros.ros.common.subscriptions import (
    Subscription,
    qos,
    subscribe,
    subscribe_latched_info,
    why_silent,
)

PARTS = ("labels", "instances", "associations")
"""What the perception node publishes of an image, all under the image's header."""
_DEPTH = 30
"""Messages of the perception node that the middleware keeps while the executor is busy."""


@dataclass(frozen=True, eq=False, slots=True)
class Parts:
    """The messages of one image. ``depth`` and ``camera_info`` are None where none came in time; ``since``: monotonic s."""

    stamp_ns: int
    labels: Any
    instances: Any
    associations: Any
    since: float
    depth: Any | None = None
    camera_info: Any | None = None


class MapperInputs:
    """Subscriptions of the mapper. ``on_parts`` gets what belongs together, in order, on the executor's thread, and must not block.

    ``poses`` says where the camera stood, as the SLAM has it. ``incomplete`` counts images of which the perception node's messages didn't
    all come, ``without_depth`` those used without depth.
    """

    def __init__(
        self,
        node: Any,
        config: MapperNodeConfig,
        log: ConditionLog,
        on_parts: Callable[[Parts], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._node, self._config, self._log, self._on_parts = node, config, log, on_parts
        self.camera_info: Any | None = None
        self._latched_info: Any | None = None
        self.incomplete = self.without_depth = 0
        self._waiting: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._whole: deque[Parts] = deque()
        self._depths: OrderedDict[int, Any] = OrderedDict()
        self._newest_ns = 0
        self.inputs: dict[str, Subscription] = {}
        for name, kind in zip(PARTS, (Image, InstanceArray, AssociationArray), strict=True):
            self.inputs[name] = subscribe(
                node,
                log,
                name,
                kind,
                f"vos_ros/{name}",
                partial(self._on_part, name),
                qos(config.reliability, _DEPTH),
                reliability_parameter="node.reliability",
            )
        compressed, depth = config.depth_transport == "compressed", node.resolve_topic_name("depth")
        sensor, parameter = qos(config.depth_reliability, 5), "node.depth_reliability"
        self.inputs["depth"] = subscribe(
            node,
            log,
            "depth",
            CompressedImage if compressed else Image,
            f"{depth}/compressedDepth" if compressed else "depth",
            self._on_depth,
            sensor,
            reliability_parameter=parameter,
            hint=(depth, "node.depth_transport to 'raw'")
            if compressed
            else (f"{depth}/compressedDepth", "node.depth_transport to 'compressed'"),
        )
        self.inputs["camera_info"] = subscribe(
            node,
            log,
            "camera_info",
            CameraInfo,
            "camera_info",
            self._on_camera_info,
            sensor,
            reliability_parameter=parameter,
        )
        self.poses = self._pose_input(on_error)

    def _pose_input(self, on_error: Callable[[str], None]) -> PoseInput:
        def listen(message: Any, topic: str, callback: Callable[[Any], None]) -> Callable[[], None]:
            made = subscribe(
                self._node,
                self._log,
                "pose",
                message,
                topic,
                callback,
                qos(self._config.depth_reliability, 50),
                reliability_parameter="node.depth_reliability",
            )
            self.inputs["pose"] = made
            return lambda: self._node.destroy_subscription(made.handle)

        return make_pose_input(
            self._config.pose_source, self._node, self._config.map_frame, listen, on_error
        )

    # --- callbacks, on the executor's thread -------------------------------------------------------------------------------

    def _on_camera_info(self, msg: Any) -> None:
        self.camera_info = msg
        self.flush()

    def _on_depth(self, msg: Any) -> None:
        stamp_ns = ns_from_stamp(msg.header.stamp)
        if self._depths and stamp_ns < next(reversed(self._depths)) - JUMP_NS:
            self._depths.clear()
        self._depths[stamp_ns] = msg
        while len(self._depths) > self._config.depth_queue:
            self._depths.popitem(last=False)
        self.flush()

    def _on_part(self, name: str, msg: Any) -> None:
        stamp_ns = ns_from_stamp(msg.header.stamp)
        if (
            stamp_ns < self._newest_ns - JUMP_NS
        ):  # a bag that loops: what still waits belongs to the time before
            self.incomplete += len(self._waiting)
            self._waiting.clear()
            self.poses.clear()
            self._newest_ns = 0
        self._newest_ns = max(self._newest_ns, stamp_ns)
        parts = self._waiting.setdefault(stamp_ns, {"since": time.monotonic()})
        parts[name] = msg
        if all(p in parts for p in PARTS):
            del self._waiting[stamp_ns]
            self._whole.append(
                Parts(
                    stamp_ns,
                    parts["labels"],
                    parts["instances"],
                    parts["associations"],
                    parts["since"],
                )
            )
        self.flush()

    def flush(self) -> None:
        """Hands on what is complete, or has waited long enough. Called now and then, too."""
        limit = time.monotonic() - self._config.sync_wait_s
        while self._waiting and next(iter(self._waiting.values()))["since"] < limit:
            self._waiting.popitem(last=False)
            self.incomplete += 1
        while self._whole:
            first = self._whole[0]
            depth = self._depth_at(first.stamp_ns)
            lacking = self.camera_info is None or (
                depth is None and not self._is_past(first.stamp_ns)
            )
            if lacking and first.since > limit:
                return
            self._whole.popleft()
            self.without_depth += depth is None
            self._on_parts(replace(first, depth=depth, camera_info=self.camera_info))

    def _depth_at(self, stamp_ns: int) -> Any | None:
        nearest = min(self._depths, key=lambda s: abs(s - stamp_ns), default=None)
        if nearest is None or abs(nearest - stamp_ns) > self._config.sync_slop_s * NS_PER_S:
            return None
        return self._depths[nearest]

    def _is_past(self, stamp_ns: int) -> bool:
        """Nothing fitting will come any more: newer depth is there."""
        newest = next(reversed(self._depths), None)
        return newest is not None and newest > stamp_ns + self._config.sync_slop_s * NS_PER_S

    # --- what is missing -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Begins and ends the conditions of missing inputs. Called now and then on the executor's thread."""
        if self.camera_info is None and self._latched_info is None:
            self._latched_info = subscribe_latched_info(
                self._node, self.inputs["camera_info"].topic, self._on_camera_info
            )
        for key, one in self.inputs.items():
            known = key == "camera_info" and self.camera_info is not None
            if known or one.traffic.silent_s <= self._config.input_timeout_s:
                if known or one.traffic.count:
                    self._log.end(key)
                continue
            reason, kind = why_silent(self._node, one)
            effect = (
                "no surface can be measured meanwhile"
                if key in ("depth", "camera_info")
                else "the map stays as it is meanwhile"
            )
            since = (
                f"for {one.traffic.silent_s:.1f} s"
                if one.traffic.count
                else f"yet, {one.traffic.silent_s:.1f} s after the start"
            )
            self._log.begin(
                key,
                kind,
                f"nothing on {one.topic} {since}: {reason}; {effect}",
                Level.ERROR if kind in ("qos", "type", "transport") else Level.WARN,
            )
