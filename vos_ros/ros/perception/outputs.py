"""What the node publishes for each frame. What only people look at is made while somebody subscribes."""

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


class Outputs:
    """The publishers of a configured node; they are silent while the node is not active."""

    def __init__(self, node: Any, config: Config) -> None:
        self._node, self._method = node, config.segmentation.method
        profile = qos(config.node.output_reliability, config.node.output_depth)
        kinds = {
            "labels": Image,
            "instances": InstanceArray,
            "associations": AssociationArray,
            "overlay": Image,
            "markers": MarkerArray,
            "cloud": PointCloud2,
        }
        self._publishers = {
            name: node.create_lifecycle_publisher(
                kind, f"~/{name}", profile, qos_overriding_options=QoSOverridingOptions(OVERRIDABLE)
            )
            for name, kind in kinds.items()
        }
        self._markers = Markers()
        self._bridges = Bridges(node, config.bridges, profile)

    def destroy(self) -> None:
        """Removes the publishers."""
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
        """Labels, associations, instances. Returns the latency: from the image's arrival (perf_counter, s) to here, ms."""
        image, associations = (
            image_message(make, head, "16UC1", labels),
            association_array_message(make, head, result, session_id=session_id),
        )
        instances = instance_array_message(
            make,
            head,
            result,
            session_id=session_id,
            method=self._method,
            shape=(labels.shape[0], labels.shape[1]),
        )
        # From the first of them on, whoever listens wants the processor too.
        self._publishers["labels"].publish(image)
        self._publishers["associations"].publish(associations)
        # Last, so that whoever has the instances of a stamp knows that the rest is under way, and the latency counts everything.
        latency_ms = (time.perf_counter() - arrival_s) * 1e3
        instances.latency_ms = latency_ms
        self._publishers["instances"].publish(instances)
        return latency_ms

    def show(
        self,
        head: Header,
        frame: Frame,
        labels: UInt16[np.ndarray, "H W"],
        result: FrameResult,
        objects: ObjectMap,
    ) -> None:
        """What bridges read; then overlay, markers and cloud, as far as they are wanted."""
        self._bridges.publish(head, frame, labels, result, objects)
        if self._wanted("overlay"):
            self._publishers["overlay"].publish(overlay_message(frame, labels, result, head))
        if self._wanted("markers"):
            self._publishers["markers"].publish(
                self._markers.message(result, objects.get, head.stamp)
            )
        if self._wanted("cloud"):
            self._publishers["cloud"].publish(labelled_cloud(frame, labels, result, head))

    def clear(self) -> None:
        """Removes every marker from the viewers, and starts the ids of the bridges over: what they tell is of a state that is gone."""
        self._publishers["markers"].publish(self._markers.clear())
        self._bridges.clear()
