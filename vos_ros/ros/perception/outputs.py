"""Publish the results of each frame.

What only people look at is made while there is a subscriber.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from jaxtyping import UInt16
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from vos_ros.config import Config
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.messages.associations import association_array_message
from vos_ros.messages.images import image_message
from vos_ros.messages.instances import instance_array_message
from vos_ros.msg import AssociationArray, InstanceArray
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.subscriptions import OVERRIDABLE, qos
from vos_ros.ros.perception.bridges import Bridges
from vos_ros.ros.perception.visuals import Markers, labelled_cloud, overlay_message
from vos_ros.types import Frame, FrameResult

_TYPES: dict[str, Any] = {
    "labels": Image,
    "instances": InstanceArray,
    "associations": AssociationArray,
    "overlay": Image,
    "markers": MarkerArray,
    "cloud": PointCloud2,
}
"""Message class of each topic below the node's name."""


class Outputs:
    """Hold the publishers of a configured node; they are silent while it is not active."""

    def __init__(self, node: Any, config: Config) -> None:
        self._node, self._method = node, config.segmentation.method
        profile = qos(config.node.output_reliability, config.node.output_depth)
        self._publishers = {
            name: node.create_lifecycle_publisher(
                kind, f"~/{name}", profile, qos_overriding_options=QoSOverridingOptions(OVERRIDABLE)
            )
            for name, kind in _TYPES.items()
        }
        self._markers = Markers()
        self._bridges = Bridges(node, config.bridges, profile)

    def destroy(self) -> None:
        """Remove the publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._bridges.destroy()

    def _wanted(self, name: str) -> bool:
        return (
            bool(self._node.parameters.live(f"node.publish_{name}"))
            and self._publishers[name].get_subscription_count() > 0
        )

    def publish(
        self,
        head: Header,
        labels: UInt16[np.ndarray, "H W"],
        result: FrameResult,
        session_id: str,
        arrival_s: float,
    ) -> float:
        """Publish labels, associations and instances.

        Args:
            head: header of the image.
            labels: label image.
            result: result of the frame.
            session_id: session of the tracks.
            arrival_s: when the image arrived (time.perf_counter, s).

        Returns:
            The latency from the image's arrival to the publication of the instances, ms.
        """
        image = image_message(make, head, "16UC1", labels)
        associations = association_array_message(make, head, result, session_id=session_id)
        instances = instance_array_message(
            make,
            head,
            result,
            session_id=session_id,
            method=self._method,
            shape=(labels.shape[0], labels.shape[1]),
        )
        # All are built before the first is published: from then on the subscribers need the
        # processor too.
        self._publishers["labels"].publish(image)
        self._publishers["associations"].publish(associations)
        # The instances are last, so that their latency counts everything, and a subscriber that has
        # them knows that the rest is on its way.
        latency_ms = (time.perf_counter() - arrival_s) * 1e3
        instances.latency_ms = latency_ms
        self._publishers["instances"].publish(instances)
        return latency_ms

    def publish_extras(
        self,
        head: Header,
        frame: Frame,
        labels: UInt16[np.ndarray, "H W"],
        result: FrameResult,
        objects: ObjectMap,
    ) -> None:
        """Publish the bridges' topics, then overlay, markers and cloud where they are wanted.

        Args:
            head: header of the image.
            frame: the frame.
            labels: its label image.
            result: its result.
            objects: the map that was used.
        """
        self._bridges.publish(head, frame, labels, result, objects)
        if self._wanted("overlay"):
            self._publishers["overlay"].publish(overlay_message(frame, labels, result, head))
        if self._wanted("markers"):
            markers = self._markers.message(result, objects.get, head.stamp)
            self._publishers["markers"].publish(markers)
        if self._wanted("cloud"):
            self._publishers["cloud"].publish(labelled_cloud(frame, labels, result, head))

    def clear(self) -> None:
        """Remove every marker from the viewers and start the bridges' ids over.

        They belong to tracks that no longer exist.
        """
        self._publishers["markers"].publish(self._markers.clear())
        self._bridges.clear()
