"""A rig for the node: the real node in a process of its own, a robot in this one, real Fast DDS between them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vos_ros.types import Frame, Intrinsics, MapObject, MapUpdate

W, H = 128, 96
CAMERA = Intrinsics(100.0, 100.0, 63.5, 47.5, W, H)
BOXES = {1: (12, 36, 36, 60), 2: (52, 36, 76, 60), 3: (92, 36, 116, 60)}
"""Where the three objects are in the image, x0 y0 x1 y1: coloured squares of 24 cm, 1 m in front of a wall at 2 m."""
COLORS = {1: (220, 40, 40), 2: (40, 200, 60), 3: (50, 70, 230)}
SECOND = 1_000_000_000
START = 1_000 * SECOND
STEP = SECOND // 10


def map_objects() -> tuple[MapObject, ...]:
    """The squares as a mapper would hold them; the camera stands at the map's origin."""
    out = []
    for i, (x0, y0, x1, y1) in BOXES.items():
        u, v = np.meshgrid(np.arange(x0, x1, 0.8), np.arange(y0, y1, 0.8))
        points = np.stack(
            [(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], -1
        ).reshape(-1, 3)
        T = np.eye(4)
        T[:3, 3] = points.mean(0)
        out.append(
            MapObject(i, 10 + i, T, np.array([0.24, 0.24, 0.02]), points.astype(np.float32), 0.006)
        )
    return tuple(out)


def frame_at(stamp_ns: int, index: int = 0) -> Frame:
    """What the camera sees."""
    rng = np.random.default_rng(index)
    rgb = rng.integers(110, 130, (H, W, 3), np.uint8)
    depth = np.full((H, W), 2.0, np.float32)
    for i, (x0, y0, x1, y1) in BOXES.items():
        rgb[y0:y1, x0:x1] = COLORS[i]
        depth[y0:y1, x0:x1] = 1.0
    return Frame(index, stamp_ns, rgb, depth, CAMERA, np.eye(4), frame_id="camera_optical")


class Robot:
    """Publishes what a robot would, and keeps what the node says."""

    def __init__(self, domain: int, process: subprocess.Popen[str], log: Path) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import CameraInfo, Image, PointCloud2
        from tf2_msgs.msg import TFMessage
        from visualization_msgs.msg import MarkerArray

        from vos_ros.msg import AssociationArray, InstanceArray, MapObjectArray

        self.domain, self.process, self.log = domain, process, log
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain, args=[])
        self.node = rclpy.create_node("robot", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.got: dict[str, list[Any]] = defaultdict(list)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.publishers = {
            name: self.node.create_publisher(kind, name, latched if name == "map_objects" else 10)
            for name, kind in {
                "image": Image,
                "camera_info": CameraInfo,
                "depth": Image,
                "map_objects": MapObjectArray,
                "/tf": TFMessage,
            }.items()
        }
        self.kinds = {
            "labels": Image,
            "instances": InstanceArray,
            "associations": AssociationArray,
            "overlay": Image,
            "markers": MarkerArray,
            "cloud": PointCloud2,
        }
        for name in ("labels", "instances", "associations"):
            self.listen(name)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.diagnostics: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.heard_diagnostics = 0

    def listen(self, name: str) -> None:
        """Keeps what comes on an output of the node."""
        self.node.create_subscription(
            self.kinds[name], f"/vos_ros/{name}", self.got[name].append, 10
        )

    def _on_diagnostics(self, msg: Any) -> None:
        self.heard_diagnostics += 1
        for s in msg.status:
            self.diagnostics[s.name.removeprefix("vos_ros: ")] = (
                s.level[0],
                s.message,
                {v.key: v.value for v in s.values},
            )

    def spin(self, seconds: float) -> None:
        """Listens for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.executor.spin_once(timeout_sec=left)

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
        """Listens until the condition holds; fails, with what the node said, where it doesn't in time."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, (
                f"the node has ended while waiting for {what}:\n{self.log.read_text()}"
            )
            assert time.monotonic() < end, (
                f"waited {seconds} s for {what}; got { {k: len(v) for k, v in self.got.items()} };"
                f" diagnostics {self.diagnostics}; the node said:\n{self.log.read_text()}"
            )
            self.executor.spin_once(timeout_sec=0.05)

    def ready(self) -> None:
        """Waits until everybody has found everybody."""
        self.wait(
            lambda: self.diagnostics.get("node", (0, "", {}))[1] == "active",
            "the node to be active",
            40.0,
        )
        self.wait(
            lambda: all(
                p.get_subscription_count() for n, p in self.publishers.items() if n != "/tf"
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
        """Publishes the map."""
        from vos_ros.messages.map_objects import map_objects_message
        from vos_ros.ros.common.message_factory import make

        self.publishers["map_objects"].publish(
            map_objects_message(make, update or MapUpdate(START, "mapper", 1, True, map_objects()))
        )

    def send(
        self,
        frame: Frame,
        *,
        skip: tuple[str, ...] = (),
        change: Callable[[dict[str, Any]], None] = lambda messages: None,
    ) -> Any:
        """Publishes a frame with its pose, without what is in ``skip``, after ``change`` has seen the messages; gives the header."""
        from tf2_msgs.msg import TFMessage

        from vos_ros.messages.geometry import transform_stamped_message
        from vos_ros.messages.images import frame_messages
        from vos_ros.messages.stamps import header_message
        from vos_ros.ros.common.message_factory import make

        image, info, depth = frame_messages(make, frame)
        messages = {
            "/tf": TFMessage(
                transforms=[
                    transform_stamped_message(
                        make,
                        header_message(make, frame.stamp_ns, "map"),
                        frame.frame_id,
                        frame.T_map_camera,
                    )
                ]
            ),
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
        """The message of that header."""
        self.wait(
            lambda: any(m.header == header for m in self.got[what]),
            f"{what} of {header.stamp}",
            seconds,
        )
        return next(m for m in self.got[what] if m.header == header)

    def step(self, index: int, **options: Any) -> Any:
        """One frame and its answer, the InstanceArray."""
        return self.answered(
            self.send(frame_at(START + index * STEP, index), **options), "instances"
        )

    def call(self, kind: Any, name: str, request: Any, seconds: float = 20.0) -> Any:
        """Calls a service."""
        client = self.node.create_client(kind, name)
        try:
            self.wait(client.service_is_ready, f"service {name}")
            future = client.call_async(request)
            self.wait(future.done, f"the answer of {name}", seconds)
            return future.result()
        finally:
            self.node.destroy_client(client)

    def said(self, text: str) -> bool:
        """Whether the node's log holds a text."""
        return text in self.log.read_text()

    def values(self, name: str) -> dict[str, str]:
        """Values of one diagnostic status."""
        return self.diagnostics.get(name, (0, "", {}))[2]

    def close(self) -> None:
        """Leaves no process and no participant behind. May be called again."""
        import rclpy

        if not self.context.ok():
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        self.executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def _start(folder: Path, parameters: dict[str, Any], arguments: tuple[str, ...]) -> Robot:
    domain = random.SystemRandom().randrange(100, 200)
    values = {
        "segmentation.method": "null",
        "node.diagnostics_period_s": 0.2,
        "node.input_timeout_s": 1.0,
        **parameters,
    }
    command = [
        sys.executable,
        "-m",
        "vos_ros.ros.perception.node",
        *(a for a in arguments if ":=" not in a),
        "--ros-args",
        *(part for a in arguments if ":=" in a for part in ("-r", a)),
        *(
            part
            for key, value in values.items()
            for part in ("-p", f"{key}:={str(value).lower() if isinstance(value, bool) else value}")
        ),
    ]
    log = folder / "node.log"
    environment = os.environ | {
        "ROS_DOMAIN_ID": str(domain),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment, text=True
        )
    return Robot(domain, process, log)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Robot]]:
    """Starts a node with parameters and remappings: ``start("image:=/cam", **{"node.use_depth": False})``."""
    made: list[Robot] = []

    def make(*arguments: str, **parameters: Any) -> Robot:
        made.append(_start(tmp_path, parameters, arguments))
        return made[-1]

    yield make
    for robot in made:
        robot.close()


@pytest.fixture
def scene() -> Any:
    """This module, for its scene."""
    return sys.modules[__name__]
