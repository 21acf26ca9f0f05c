"""Real nodes in processes of their own, and a robot in this one; Fast DDS between them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from support import squares
from vos_ros.messages.geometry import transform_stamped_message
from vos_ros.messages.images import frame_messages
from vos_ros.messages.map_objects import map_objects_message
from vos_ros.messages.stamps import header_message
from vos_ros.msg import AssociationArray, InstanceArray, MapObjectArray
from vos_ros.ros.common import fastdds
from vos_ros.ros.common.message_factory import make
from vos_ros.types import Frame, MapUpdate

OUTPUTS: dict[str, Any] = {
    "labels": Image,
    "instances": InstanceArray,
    "associations": AssociationArray,
    "overlay": Image,
    "markers": MarkerArray,
    "cloud": PointCloud2,
}
"""Message class of each output of the perception node."""
INPUTS: dict[str, Any] = {
    "image": Image,
    "camera_info": CameraInfo,
    "depth": Image,
    "map_objects": MapObjectArray,
    "/tf": TFMessage,
}
"""Message class of each of its inputs."""
PERCEPTION = "vos_ros.ros.perception.node"
"""Module of the perception node."""


def start_process(
    module: str, log: Path, domain: int, parameters: dict[str, Any], *remappings: str
) -> subprocess.Popen[str]:
    """Start a node of ours.

    Args:
        module: runs as the main program.
        log: file for all that it prints.
        domain: its ROS_DOMAIN_ID.
        parameters: ROS parameters by name.
        *remappings: names of topics, ``image:=/camera/image``.
    """
    words = [word for remapping in remappings for word in ("-r", remapping)]
    words += [
        word
        for key, value in parameters.items()
        for word in ("-p", f"{key}:={str(value).lower() if isinstance(value, bool) else value}")
    ]
    environment = os.environ | {
        "ROS_DOMAIN_ID": str(domain),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("w") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", module, "--ros-args", *words],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
        )


def end_process(process: subprocess.Popen[str], seconds: float = 10.0) -> int:
    """End a node by SIGINT and return its exit status; kill it where it takes too long."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(seconds)
    finally:
        process.kill()
        process.wait(5)


class Robot:
    """Publish what a robot does, and keep what the perception node publishes.

    Args:
        domain: ROS_DOMAIN_ID of the node.
        process: the node; waits fail where it has ended.
        log: its log.
        start: starts another process of the node.
    """

    def __init__(
        self,
        domain: int,
        process: subprocess.Popen[str],
        log: Path,
        start: Callable[[], subprocess.Popen[str]] | None = None,
    ) -> None:
        self.domain, self.process, self.log = domain, process, log
        self._start = start
        # With the middleware's own 512 kB of shared memory, one reader that is stopped keeps all of
        # it, and the node gets no more images.
        fastdds.prepare()
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain, args=[])
        self.node = rclpy.create_node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.got: dict[str, list[Any]] = defaultdict(list)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.publishers = {
            name: self.node.create_publisher(kind, name, latched if name == "map_objects" else 10)
            for name, kind in INPUTS.items()
        }
        for name in ("labels", "instances", "associations"):
            self.listen(name)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.diagnostics: dict[str, tuple[int, str, dict[str, str]]] = {}

    def listen(self, name: str) -> None:
        """Keep the messages of an output of the node."""
        self.node.create_subscription(OUTPUTS[name], f"/vos_ros/{name}", self.got[name].append, 10)

    def _on_diagnostics(self, msg: Any) -> None:
        for s in msg.status:
            self.diagnostics[s.name.removeprefix("vos_ros: ")] = (
                s.level[0],
                s.message,
                {v.key: v.value for v in s.values},
            )

    def spin(self, seconds: float) -> None:
        """Receive messages for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
        """Receive messages until the condition holds; fail after a time, with the node's log."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, (
                f"the node has ended while waiting for {what}:\n{self.log.read_text()}"
            )
            assert time.monotonic() < end, (
                f"waited {seconds} s for {what}; got { {k: len(v) for k, v in self.got.items()} };"
                f" diagnostics {self.diagnostics}; the log of the node:\n{self.log.read_text()}"
            )
            self.executor.spin_once(timeout_sec=0.05)

    def restart(self) -> None:
        """Start the node again, after its process has ended; what it said before is forgotten."""
        assert self.process.poll() is not None and self._start is not None
        self.diagnostics.clear()
        self.process = self._start()

    def ready(self, unused: tuple[str, ...] = ()) -> None:
        """Wait until the node is active and each side has discovered the other.

        ``unused``: inputs that the node does not subscribe to.
        """
        self.wait(
            lambda: self.diagnostics.get("node", (0, "", {}))[1] == "active",
            "the node to be active",
            40.0,
        )
        self.wait(
            lambda: all(
                p.get_subscription_count()
                for n, p in self.publishers.items()
                if n not in ("/tf", *unused)
            ),
            "subscriptions",
        )
        self.wait(
            lambda: all(
                s.get_publisher_count()
                for s in self.node.subscriptions
                if "/vos_ros/" in s.topic_name
            ),
            "publishers",
        )

    def send_map(self, update: MapUpdate | None = None) -> None:
        """Publish a map update; by default the three squares, which are waited for.

        Messages of different topics need not arrive in the order in which they were sent.
        """
        given = update or MapUpdate(squares.START, "mapper", 1, True, squares.map_objects())
        self.publishers["map_objects"].publish(map_objects_message(make, given))
        if update is None:
            self.wait(lambda: self.values("map").get("map_objects") == "3", "the map")

    def send(
        self,
        frame: Frame,
        *,
        skip: tuple[str, ...] = (),
        change: Callable[[dict[str, Any]], None] = lambda messages: None,
    ) -> Any:
        """Publish a frame with its pose and return the header of its image.

        Args:
            frame: the frame.
            skip: topics that are left out.
            change: edits the messages, by topic, before they are published.
        """
        image, info, depth = frame_messages(make, frame)
        head = header_message(make, frame.stamp_ns, "map")
        pose = transform_stamped_message(make, head, frame.frame_id, frame.T_map_camera)
        messages = {
            "/tf": TFMessage(transforms=[pose]),
            "camera_info": info,
            "depth": depth,
            "image": image,
        }
        change(messages)
        for name, msg in messages.items():
            if name not in skip:
                self.publishers[name].publish(msg)
        return image.header

    def answered(self, header: Any, what: str = "labels", seconds: float = 20.0) -> Any:
        """Wait for the message of an output that has this header."""
        self.wait(
            lambda: any(m.header == header for m in self.got[what]),
            f"{what} of {header.stamp}",
            seconds,
        )
        return next(m for m in self.got[what] if m.header == header)

    def step(self, index: int, **options: Any) -> Any:
        """Publish a frame and return its InstanceArray."""
        frame = squares.frame_at(squares.START + index * squares.STEP, index)
        return self.answered(self.send(frame, **options), "instances")

    def call(self, kind: Any, name: str, request: Any, seconds: float = 20.0) -> Any:
        """Call a service and return its response."""
        client = self.node.create_client(kind, name)
        try:
            # A node that has just been started takes this long on a busy machine.
            self.wait(client.service_is_ready, f"service {name}", 40.0)
            future = client.call_async(request)
            self.wait(future.done, f"the answer of {name}", seconds)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def logged(self, text: str) -> bool:
        """Return whether the node's log holds a text."""
        return text in self.log.read_text()

    def values(self, name: str) -> dict[str, str]:
        """Return the values of one diagnostic status."""
        return self.diagnostics.get(name, (0, "", {}))[2]

    def close(self) -> None:
        """End the node and the robot; may be called again."""
        if not self.context.ok():
            return
        end_process(self.process)
        self.executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def start_perception(
    log: Path, domain: int, *remappings: str, module: str = PERCEPTION, **parameters: Any
) -> Robot:
    """Start the perception node with the projection of the map as masks, and a robot for it."""
    values = {
        "segmentation.method": "null",
        "node.diagnostics_period_s": 0.2,
        "node.input_timeout_s": 1.0,
        **parameters,
    }

    def start() -> subprocess.Popen[str]:
        return start_process(module, log, domain, values, *remappings)

    return Robot(domain, start(), log, start)
