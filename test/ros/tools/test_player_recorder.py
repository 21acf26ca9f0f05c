"""Player and recorder over real DDS: what is published is the source, what arrives is recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from vos_ros.cli.processes import free_domain
from vos_ros.messages.geometry import matrix_from_pose
from vos_ros.messages.images import (
    depth_from_message,
    image_message,
    rgb_from_message,
)
from vos_ros.messages.map_objects import map_update_from_message
from vos_ros.messages.pose_messages import read_pose
from vos_ros.messages.pose_sources import BY_MESSAGE_TYPE, PoseSource
from vos_ros.messages.stamps import header_message, ns_from_stamp
from vos_ros.msg import Instance, InstanceArray, MapObjectArray
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.pose_topics import message_class
from vos_ros.ros.tools.player import (
    Answers,
    Played,
    Player,
    main,
    open_source,
    play,
    wait_until_active,
)
from vos_ros.types import Frame, Intrinsics, MapObject, MapUpdate

LATCHED = QoSProfile(
    depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


class Sequence:
    """Three frames and their map, from arrays."""

    map_frame = "map"

    def __init__(self, count: int = 3) -> None:
        rng = np.random.default_rng(0)
        k = Intrinsics(50.0, 51.0, 19.5, 14.5, 40, 30)
        points = rng.random((20, 3)).astype(np.float32)
        self.update = MapUpdate(
            10**9, "s", 1, True, (MapObject(7, 2, np.eye(4), np.ones(3), points, 0.01),)
        )
        self.frames = []
        for i in range(count):
            T = np.eye(4)
            T[:3, 3] = i, 2 * i, 0.5
            depth = np.rint(1000 * rng.uniform(0.5, 3, (30, 40))).astype(np.float32) / 1000
            self.frames.append(
                Frame(
                    i,
                    10**9 + i * 100_000_000,
                    rng.integers(0, 256, (30, 40, 3), np.uint8),
                    depth,
                    k,
                    T,
                )
            )

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        yield self.update
        yield from self.frames


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    yield
    rclpy.try_shutdown()


@pytest.fixture
def node(domain: None) -> Iterator[Any]:
    rclpy.init()
    node = rclpy.create_node("test_player_recorder")
    yield node
    node.destroy_node()


class Listener:
    def __init__(self, node: Any) -> None:
        self.got: dict[str, list[Any]] = {}
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(node)
        for topic, kind, profile in (
            ("image", Image, 10),
            ("depth", Image, 10),
            ("camera_info", CameraInfo, 10),
            ("/tf", TFMessage, 10),
            ("map_objects", MapObjectArray, LATCHED),
        ):
            self.got[topic] = []
            node.create_subscription(kind, topic, self.got[topic].append, profile)

    def until(self, count: int, timeout_s: float = 5.0) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and any(
            len(v) < count for k, v in self.got.items() if k != "map_objects"
        ):
            self.executor.spin_once(timeout_sec=0.05)


def test_plays_frames_poses_and_map_with_their_own_stamps(node: Any) -> None:
    listener, source = Listener(node), Sequence()
    done = play(Player(node), source, rate_hz=20.0, wait_s=10.0)
    listener.until(3)
    assert (done.frames_sent, done.map_updates_sent) == (3, 1) and done.duration_s >= 2 / 20
    for i, frame in enumerate(source.frames):
        image, depth = listener.got["image"][i], listener.got["depth"][i]
        np.testing.assert_array_equal(rgb_from_message(image), frame.rgb)
        np.testing.assert_allclose(depth_from_message(depth), frame.depth, atol=1e-6)
        transform = listener.got["/tf"][i].transforms[0]
        assert (transform.header.frame_id, transform.child_frame_id) == (
            "map",
            image.header.frame_id,
        )
        np.testing.assert_allclose(
            matrix_from_pose(transform.transform), frame.T_map_camera, atol=1e-12
        )
        stamps = [m.header.stamp for m in (image, depth, listener.got["camera_info"][i], transform)]
        assert {ns_from_stamp(s) for s in stamps} == {frame.stamp_ns}
    update = map_update_from_message(listener.got["map_objects"][0])
    np.testing.assert_array_equal(update.objects[0].points, source.update.objects[0].points)
    late: list[Any] = []
    node.create_subscription(MapObjectArray, "map_objects", late.append, LATCHED)
    end = time.monotonic() + 5
    while not late and time.monotonic() < end:
        listener.executor.spin_once(timeout_sec=0.05)
    assert late, "the map is kept for those who come late"


def test_plays_at_the_pace_of_the_stamps_and_counts_its_own_lateness(node: Any) -> None:
    listener = Listener(node)
    slow = Sequence()
    done = play(Player(node), slow, speed=2.0, wait_s=10.0)
    assert 0.1 <= done.duration_s < 1.0 and done.late_frames == 0
    listener.until(3)

    class Late(Sequence):
        def __iter__(self) -> Iterator[Frame | MapUpdate]:
            for item in super().__iter__():
                if isinstance(item, Frame) and item.index == 2:
                    time.sleep(0.3)
                yield item

    assert play(Player(node), Late(), rate_hz=50.0, wait_s=10.0).late_frames == 1


def test_waits_for_the_answer_to_the_last_frame(node: Any) -> None:
    source = Sequence()
    publisher = node.create_publisher(InstanceArray, "/vos_ros/instances", 10)

    def answer(image: Any) -> None:
        if (
            answering and image.header.stamp.nanosec != source.frames[1].stamp_ns % 10**9
        ):  # the second one is superseded
            publisher.publish(InstanceArray(header=image.header))

    Listener(node)
    node.create_subscription(Image, "image", answer, 10)
    answers, player, answering = Answers(node, "/vos_ros"), Player(node), True
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin)
    thread.start()
    try:
        done = play(player, source, rate_hz=20.0, wait_s=10.0, answers=answers)
        assert (
            done.frames_answered == 2
            and 0 < done.round_trip_ms_p50 <= done.round_trip_ms_p95 < 5000
        )
        answering = False
        with pytest.raises(TimeoutError, match="did not answer the last frame"):
            play(player, source, rate_hz=20.0, wait_s=0.5, answers=answers)
    finally:
        executor.shutdown()
        thread.join(5)


def test_the_wait_for_a_node_is_bounded(node: Any) -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"/absent was not active after 0.5 s"):
        wait_until_active(node, "/absent", 0.5)
    assert time.monotonic() - start < 3


def test_topics_without_a_subscriber_are_named(node: Any) -> None:
    played = Played()
    with pytest.raises(TimeoutError, match=r"/camera_info.*ROS_DOMAIN_ID"):
        play(Player(node), Sequence(), wait_s=0.2, played=played)
    assert played.frames_sent == 0


def test_depth_in_metres(node: Any) -> None:
    frame = Sequence().frames[1]
    messages = dict(Player(node, depth_encoding="32FC1").prepare(frame))
    assert messages["depth"].encoding == "32FC1"
    np.testing.assert_array_equal(depth_from_message(messages["depth"]), frame.depth)


@pytest.mark.parametrize("source", BY_MESSAGE_TYPE.values(), ids=lambda s: s.name)
def test_poses_are_published_as_every_source(node: Any, source: PoseSource) -> None:
    frame = replace(Sequence().frames[1], pose_cov=np.eye(6) * 1e-4, frame_id="camera")
    messages = dict(Player(node, map_frame="world", pose=source.name).prepare(frame))
    assert isinstance(messages["pose"], message_class(source.message_type))
    reading = read_pose(messages["pose"], source)
    assert (reading.stamp_ns, reading.frame_id) == (frame.stamp_ns, "world")
    assert reading.child_frame_id == ("camera" if source.child_frame else "")
    np.testing.assert_allclose(reading.T, frame.T_map_camera, atol=1e-12)
    if source.covariance:
        np.testing.assert_array_equal(reading.cov, frame.pose_cov)
    assert not [k for k, _ in Player(node, pose="none").prepare(frame) if k == "pose"]


@pytest.mark.parametrize("pose", ["tf", "odometry"])
def test_an_unknown_pose_is_left_out(node: Any, pose: str) -> None:
    frame = replace(Sequence().frames[1], T_map_camera=None)
    assert [k for k, _ in Player(node, pose=pose).prepare(frame)] == [
        "camera_info",
        "depth",
        "image",
    ]


def test_player_process_reports_an_unusable_source(
    domain: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        assert main([str(tmp_path)]) == 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert str(tmp_path) in capsys.readouterr().err
    with pytest.raises((ValueError, OSError)):
        open_source(tmp_path / "nothing.mcap")


def test_recorder_writes_what_arrived(node: Any, tmp_path: Path) -> None:
    bag, ready, report = tmp_path / "out.mcap", tmp_path / "ready", tmp_path / "counts.json"
    labels = node.create_publisher(Image, "/vos_ros/labels", 10)
    instances = node.create_publisher(InstanceArray, "/vos_ros/instances", 10)
    diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    command = [
        sys.executable,
        "-m",
        "vos_ros.ros.tools.recorder",
        str(bag),
        "--outputs",
        "labels",
        "instances",
        "diagnostics",
        "--ready-file",
        str(ready),
        "--json",
        str(report),
    ]
    process = subprocess.Popen(command, env=os.environ.copy(), stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end and not (
            ready.exists()
            and labels.get_subscription_count()
            and instances.get_subscription_count()
            and diagnostics.get_subscription_count()
        ):
            time.sleep(0.05)
        assert ready.exists(), "the recorder found no publisher"
        rng = np.random.default_rng(1)
        sent: dict[str, list[Any]] = {
            "/vos_ros/labels": [],
            "/vos_ros/instances": [],
            "/diagnostics": [],
        }
        for i in range(4):
            head = header_message(make, 10**9 + i, "camera")
            image = image_message(make, head, "16UC1", rng.integers(0, 99, (30, 40), np.uint16))
            array = InstanceArray(
                header=head,
                session_id="x",
                method="lwl",
                instances=[Instance(track_id=i + 1, label_value=3, score=0.5)],
            )
            status = DiagnosticArray(header=head, status=[DiagnosticStatus(name="n", message="m")])
            for publisher, message in ((labels, image), (instances, array), (diagnostics, status)):
                publisher.publish(message)
                sent[publisher.topic_name].append(message)
        time.sleep(0.5)
        assert not bag.exists(), "the file appears when it is whole"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=15)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert json.loads(report.read_text()) == dict.fromkeys(sent, 4)
    with AnyReader([bag]) as reader:
        got: dict[str, list[bytes]] = {topic: [] for topic in sent}
        for connection, log_ns, raw in reader.messages():
            assert abs(log_ns - time.time_ns()) < 60 * 10**9
            got[connection.topic].append(bytes(raw))
            if connection.topic == "/vos_ros/instances":
                assert reader.deserialize(raw, connection.msgtype).instances[0].score == 0.5
    for topic, messages in sent.items():
        for ours, theirs in zip(messages, got[topic], strict=True):
            assert deserialize_message(theirs, type(ours)) == ours
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["counts.json", "out.mcap", "ready"]
