"""Subscribe to the perception node's results and to the depth that they were made from."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vos_ros.messages.checks import check_header
from vos_ros.messages.stamps import NS_PER_S
from vos_ros.msg import AssociationArray, InstanceArray
from vos_ros.reference_mapper.config import MapperNodeConfig
from vos_ros.ros.common.guard import Guard
from vos_ros.ros.common.logging import ConditionLog
from vos_ros.ros.common.poses import JUMP_NS, PoseInput, make_pose_input
from vos_ros.ros.common.subscriptions import (
    Subscription,
    check_silence,
    qos,
    subscribe,
    subscribe_latched_info,
)

RESULTS = {"labels": Image, "instances": InstanceArray, "associations": AssociationArray}
"""What the perception node publishes of an image, all with the image's header."""
_RESULT_QUEUE = 30
"""Messages of the perception node that the middleware keeps while the executor is busy."""
_DEPTH_QUEUE = 5
"""Depth images that the middleware keeps while the executor is busy."""
_POSE_QUEUE = 50
"""Poses that the middleware keeps while the executor is busy."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Results:
    """Hold the messages of one image."""

    stamp_ns: int
    """Stamp of the image, ns."""
    labels: Any
    """sensor_msgs/Image, 16UC1."""
    instances: Any
    """vos_ros/InstanceArray."""
    associations: Any
    """vos_ros/AssociationArray."""
    arrived_s: float
    """When the first of them arrived (time.monotonic, s)."""
    depth: Any | None = None
    """sensor_msgs/Image or CompressedImage; None where none arrived in time."""
    camera_info: Any | None = None
    """sensor_msgs/CameraInfo; None where none has arrived."""


@dataclass(slots=True)
class _Partial:
    """Hold the results of an image that have arrived so far, by topic."""

    arrived_s: float = field(default_factory=time.monotonic)
    messages: dict[str, Any] = field(default_factory=dict)


class MapperInputs:
    """Subscribe to what the mapper needs, and hand on the messages that belong together, in order.

    ``poses`` gives the camera pose of the SLAM. ``incomplete`` counts the images of which not all
    results arrived, ``without_depth`` those that are used without depth.

    Args:
        node: the node that subscribes.
        config: topics' settings.
        log: conditions of silent inputs and refused messages.
        guard: notes what callbacks raise.
        on_results: gets the messages of an image, on the executor's thread; it must not block.
        on_error: gets a text where a pose message holds no pose.
    """

    def __init__(
        self,
        node: Any,
        config: MapperNodeConfig,
        log: ConditionLog,
        guard: Guard,
        on_results: Callable[[Results], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._node, self._config, self._log, self._on_results = node, config, log, on_results
        self._guard = guard
        self.camera_info: Any | None = None
        self._latched_info: Any | None = None
        self.incomplete = self.without_depth = 0
        self._waiting: OrderedDict[int, _Partial] = OrderedDict()
        self._complete: deque[Results] = deque()
        self._depths: OrderedDict[int, Any] = OrderedDict()
        self._newest_ns = 0
        self.subscriptions: dict[str, Subscription] = {}
        for name, kind in RESULTS.items():
            self.subscriptions[name] = subscribe(
                node,
                log,
                guard,
                name,
                kind,
                f"vos_ros/{name}",
                partial(self._on_result, name),
                qos(config.reliability, _RESULT_QUEUE),
                reliability_parameter="node.reliability",
            )
        self._subscribe_camera()
        self.poses = self._make_poses(on_error)

    def _subscribe_camera(self) -> None:
        depth = self._node.resolve_topic_name("depth")
        compressed = f"{depth}/compressedDepth"
        parameter = "node.depth_transport"
        if self._config.depth_transport == "compressed":
            kind, topic, hint = CompressedImage, compressed, (depth, f"{parameter} to 'raw'")
        else:
            kind, topic, hint = Image, "depth", (compressed, f"{parameter} to 'compressed'")
        self._subscribe("depth", kind, topic, self._on_depth, _DEPTH_QUEUE, hint)
        self._subscribe(
            "camera_info", CameraInfo, "camera_info", self._on_camera_info, _DEPTH_QUEUE
        )

    def _subscribe(
        self,
        key: str,
        kind: Any,
        topic: str,
        callback: Callable[[Any], None],
        queue: int,
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
            qos(self._config.depth_reliability, queue),
            hint=hint,
            reliability_parameter="node.depth_reliability",
        )
        return self.subscriptions[key]

    def _make_poses(self, on_error: Callable[[str], None]) -> PoseInput:
        def subscribe_pose(
            kind: Any, topic: str, callback: Callable[[Any], None]
        ) -> Callable[[], None]:
            made = self._subscribe("pose", kind, topic, callback, _POSE_QUEUE)
            return lambda: self._node.destroy_subscription(made.handle)

        return make_pose_input(
            self._config.pose_source, self._node, self._config.map_frame, subscribe_pose, on_error
        )

    # --- callbacks, on the executor's thread ------------------------------------------------------

    def _on_camera_info(self, msg: Any) -> None:
        self.camera_info = msg
        self.flush()

    def _on_depth(self, msg: Any) -> None:
        stamp_ns = check_header(msg.header)
        if self._depths and stamp_ns < next(reversed(self._depths)) - JUMP_NS:
            self._depths.clear()
        self._depths[stamp_ns] = msg
        while len(self._depths) > self._config.depth_queue:
            self._depths.popitem(last=False)
        self.flush()

    def _on_result(self, name: str, msg: Any) -> None:
        stamp_ns = check_header(msg.header)
        if stamp_ns < self._newest_ns - JUMP_NS:
            # A bag that loops: what still waits belongs to the time before.
            self.incomplete += len(self._waiting)
            self._waiting.clear()
            self.poses.clear()
            self._newest_ns = 0
        self._newest_ns = max(self._newest_ns, stamp_ns)
        partial_results = self._waiting.setdefault(stamp_ns, _Partial())
        partial_results.messages[name] = msg
        if len(partial_results.messages) == len(RESULTS):
            del self._waiting[stamp_ns]
            self._complete.append(
                Results(
                    stamp_ns=stamp_ns,
                    arrived_s=partial_results.arrived_s,
                    **partial_results.messages,
                )
            )
        self.flush()

    def flush(self) -> None:
        """Hand on what is complete or has waited long enough. Also called by a timer."""
        oldest_s = time.monotonic() - self._config.sync_wait_s
        while self._waiting and next(iter(self._waiting.values())).arrived_s < oldest_s:
            self._waiting.popitem(last=False)
            self.incomplete += 1
        while self._complete:
            first = self._complete[0]
            depth = self._depth_at(first.stamp_ns)
            incomplete = self.camera_info is None or (
                depth is None and not self._depth_is_past(first.stamp_ns)
            )
            if incomplete and first.arrived_s > oldest_s:
                return
            self._complete.popleft()
            self.without_depth += depth is None
            self._on_results(replace(first, depth=depth, camera_info=self.camera_info))

    def _depth_at(self, stamp_ns: int) -> Any | None:
        """Return the depth image whose stamp is nearest, within the slop."""
        nearest = min(self._depths, key=lambda s: abs(s - stamp_ns), default=None)
        if nearest is None or abs(nearest - stamp_ns) > self._config.sync_slop_s * NS_PER_S:
            return None
        return self._depths[nearest]

    def _depth_is_past(self, stamp_ns: int) -> bool:
        """Return whether depth newer than the slop is there, so that no match will arrive."""
        newest = next(reversed(self._depths), None)
        return newest is not None and newest > stamp_ns + self._config.sync_slop_s * NS_PER_S

    # --- what is missing --------------------------------------------------------------------------

    def check(self) -> None:
        """Begin and end the conditions of silent inputs. Called by a timer of the executor."""
        if self.camera_info is None and self._latched_info is None:
            self._latched_info = subscribe_latched_info(
                self._node,
                self.subscriptions["camera_info"].topic,
                self._guard.callback("latched camera_info", self._on_camera_info),
            )
        for key, one in self.subscriptions.items():
            if key == "camera_info" and self.camera_info is not None:
                self._log.end(key)
                continue
            effect = (
                "No surface can be measured meanwhile."
                if key in ("depth", "camera_info")
                else "The map stays as it is meanwhile."
            )
            check_silence(
                self._node,
                self._log,
                one,
                self._config.input_timeout_s,
                start="the start",
                effect=effect,
            )
