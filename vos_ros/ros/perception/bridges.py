"""Publish results in the messages of other mappers (``bridges.*``, docs/bridges.md).

Off by default; messages are made while there is a subscriber.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt16
from nav_msgs.msg import Odometry
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vos_ros.config import BridgesConfig
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.messages.geometry import odometry_message, pose_with_covariance_message
from vos_ros.messages.images import image_message
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.subscriptions import OVERRIDABLE
from vos_ros.sinks.landmarks import Landmark, landmarks
from vos_ros.sinks.persistent_ids import PersistentIds, id_image
from vos_ros.types import Frame, FrameResult

try:  # part of rtabmap
    from rtabmap_msgs.msg import LandmarkDetection, LandmarkDetections
except ImportError:
    LandmarkDetection = LandmarkDetections = None


class Bridges:
    """Hold the publishers of the bridges that are on; silent while the node is not active."""

    def __init__(self, node: Any, config: BridgesConfig, profile: QoSProfile) -> None:
        self._node, self._config = node, config
        self._ids = PersistentIds()
        kinds: dict[str, Any] = {}
        if config.label_image == "on":
            kinds["label_image"] = Image
        if config.landmarks == "on" and LandmarkDetections is not None:
            kinds["landmark_detections"] = LandmarkDetections
        elif config.landmarks == "on":
            kinds["landmarks"] = Odometry
            node.get_logger().info(
                "bridges.landmarks: rtabmap_msgs is not installed, so landmarks are"
                " nav_msgs/Odometry on ~/landmarks, one message each; with it they are"
                " rtabmap_msgs/LandmarkDetections on ~/landmark_detections"
            )
        self._publishers = {
            name: node.create_lifecycle_publisher(
                kind, f"~/{name}", profile, qos_overriding_options=QoSOverridingOptions(OVERRIDABLE)
            )
            for name, kind in kinds.items()
        }

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)

    def _wanted(self, name: str) -> bool:
        return name in self._publishers and self._publishers[name].get_subscription_count() > 0

    def publish(
        self,
        head: Header,
        frame: Frame,
        labels: UInt16[np.ndarray, "H W"],
        result: FrameResult,
        objects: ObjectMap,
    ) -> None:
        """Publish what is on and has a subscriber.

        Args:
            head: header of the image.
            frame: the frame.
            labels: its label image.
            result: its result.
            objects: the map that was used.
        """
        if "label_image" in self._publishers:
            # With every frame, so that the ids don't depend on the subscribers.
            persistent = self._ids.update(result, objects.resolve)
            if self._wanted("label_image"):
                ids = id_image(labels, result.tracks, persistent)
                self._publishers["label_image"].publish(image_message(make, head, "32SC1", ids))
        for name in ("landmark_detections", "landmarks"):
            if not self._wanted(name):
                continue
            found = landmarks(frame, labels, result, objects.get, self._config)
            if name == "landmarks":
                for one in found:
                    self._publishers[name].publish(landmark_odometry(one, head))
            elif found:
                detections = [landmark_detection(one, head) for one in found]
                message = LandmarkDetections(header=head, landmarks=detections)
                self._publishers[name].publish(message)

    def clear(self) -> None:
        """Start the ids over."""
        self._ids.clear()


def landmark_odometry(one: Landmark, head: Header) -> Odometry:
    """Build nav_msgs/Odometry of a landmark; its twist is empty.

    The header is the image's (its frame is the camera's optical one), ``child_frame_id`` is the
    object, ``object_ID``.
    """
    child = f"object_{one.object_id}"
    return odometry_message(make, head, child, one.T_camera_object, one.cov)


def landmark_detection(one: Landmark, head: Header) -> Any:
    """Build rtabmap_msgs/LandmarkDetection of a landmark."""
    return LandmarkDetection(
        header=head,
        landmark_frame_id=f"object_{one.object_id}",
        id=one.object_id,
        pose=pose_with_covariance_message(make, one.T_camera_object, one.cov),
    )
