"""Plays a recorded folder or bag to the node over DDS, as a camera driver, a localiser and a mapper would: a process of its own.

    python -m vos_ros.ros.tools.player FOLDER --rate 5
    python -m vos_ros.ros.tools.player run.mcap --ros-args -r image:=/camera/color/image_raw

Colour, camera_info, depth, the camera's pose (TF or a topic) and the object map keep the stamps of the recording; only the wall
clock says when they go out. It starts when every topic has a subscriber, and never skips a frame.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from tqdm import tqdm

from vos_ros.datasets.source import open_recording
from vos_ros.messages import pose_sources
from vos_ros.messages.geometry import transform_stamped_message
from vos_ros.messages.images import frame_messages
from vos_ros.messages.map_objects import map_objects_message
from vos_ros.messages.pose_sources import PoseSource
from vos_ros.messages.stamps import header_message, ns_from_stamp
from vos_ros.msg import InstanceArray, MapObjectArray
from vos_ros.ros.common import fastdds
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.pose_topics import message_class, pose_message
from vos_ros.sources.bag import BagSource
from vos_ros.sources.interface import FrameSource
from vos_ros.types import Frame, MapUpdate

POSES = (*pose_sources.NAMES, pose_sources.NONE)
"""Ways in which poses are published."""
_SETTLE_S = 0.3
"""Between the map and the first frame, and between the last frame and the end."""


@dataclass(slots=True)
class Played:
    """What was sent. ``late_frames`` went out more than half a period after their time: the player itself was too slow.

    The round trip is from the publication of a frame to the arrival of its InstanceArray here; NaN where no node was named.
    """

    frames_sent: int = 0
    map_updates_sent: int = 0
    late_frames: int = 0
    duration_s: float = 0.0
    rate_hz: float = 0.0
    frames_answered: int = 0
    round_trip_ms_p50: float = float("nan")
    round_trip_ms_p95: float = float("nan")


def open_source(path: Path) -> FrameSource:
    """A folder or a bag by its path. ValueError or OSError say what is wrong with it."""
    return (
        open_recording(path)
        if path.is_dir() and not (path / "metadata.yaml").is_file()
        else BagSource(path)
    )


def _profile(reliable: bool, depth: int, latched: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


class Player:
    """Publishers on a node, and the clock. ``pose``: one of ``POSES``; ``depth_encoding``: 16UC1 (mm) or 32FC1 (m)."""

    def __init__(
        self,
        node: Node,
        *,
        map_frame: str = "map",
        pose: str = "tf",
        depth_encoding: str = "16UC1",
        reliable: bool = True,
    ) -> None:
        self._node, self._map_frame, self._depth_encoding = node, map_frame, depth_encoding
        sensor = _profile(reliable, 10)
        self._publishers: dict[str, Any] = {
            "map_objects": node.create_publisher(
                MapObjectArray, "map_objects", _profile(True, 100, latched=True)
            ),
            "camera_info": node.create_publisher(CameraInfo, "camera_info", sensor),
            "depth": node.create_publisher(Image, "depth", sensor),
            "image": node.create_publisher(Image, "image", sensor),
        }
        self._source = pose_sources.BY_NAME.get(pose)
        if self._source is not None:
            kind, topic = (
                (message_class(self._source.message_type), self._source.topic)
                if self._source.message_type
                else (TFMessage, "/tf")
            )
            self._publishers["pose"] = node.create_publisher(kind, topic, _profile(True, 100))

    def unmatched(self, wanted: Sequence[str], listeners: int = 1) -> list[str]:
        """Those of the wanted topics with fewer subscribers than one, colour images with fewer than ``listeners``."""
        return [
            str(self._publishers[k].topic_name)
            for k in wanted
            if self._publishers[k].get_subscription_count() < (listeners if k == "image" else 1)
        ]

    def wait_for_subscribers(
        self, wanted: Sequence[str], timeout_s: float, listeners: int = 1
    ) -> None:
        """Returns when each topic has a subscriber, colour images ``listeners``. TimeoutError names those without."""
        deadline = time.monotonic() + timeout_s
        while missing := self.unmatched(wanted, listeners):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"nobody (of images: not {listeners}) subscribed to {', '.join(missing)} within {timeout_s:g} s: is the node running,"
                    " in this ROS_DOMAIN_ID, with the same topic names?"
                )
            time.sleep(0.05)

    def send_map(self, update: MapUpdate) -> None:
        """Publishes a map update."""
        self._publishers["map_objects"].publish(map_objects_message(make, update))

    def prepare(self, frame: Frame) -> list[tuple[str, Any]]:
        """The messages of a frame in the order in which they go out; a pose that is not known is left out."""
        out = [] if self._source is None else self._pose_messages(frame, self._source)
        image, info, depth = frame_messages(make, frame, depth_encoding=self._depth_encoding)
        out.append(("camera_info", info))
        if depth is not None:
            out.append(("depth", depth))
        return [*out, ("image", image)]

    def _pose_messages(self, frame: Frame, source: PoseSource) -> list[tuple[str, Any]]:
        T, stamp_ns = frame.T_map_camera, frame.stamp_ns
        if T is None:
            return []
        if not source.message_type:
            sent = transform_stamped_message(
                make, header_message(make, stamp_ns, self._map_frame), frame.frame_id, T
            )
            return [("pose", TFMessage(transforms=[sent]))]
        head = header_message(make, stamp_ns, self._map_frame)
        return [("pose", pose_message(source, head, T, frame.pose_cov, frame.frame_id))]

    def send(self, messages: Sequence[tuple[str, Any]]) -> None:
        """Publishes what ``prepare`` gave."""
        for key, message in messages:
            self._publishers[key].publish(message)


class Answers:
    """Listens to a node's InstanceArrays: when was each frame sent and answered. Callbacks come on the executor's thread."""

    def __init__(self, node: Node, name: str) -> None:
        self._lock = threading.Lock()
        self._sent: dict[int, float] = {}
        self._newest = 0
        self._last = threading.Event()
        self.round_trips_ms: list[float] = []
        node.create_subscription(
            InstanceArray, f"{name.rstrip('/')}/instances", self._arrived, _profile(True, 100)
        )

    def sending(self, stamp_ns: int) -> None:
        """Call right before the frame is published."""
        with self._lock:
            self._last.clear()
            self._newest = stamp_ns
            self._sent[stamp_ns] = time.perf_counter()

    def _arrived(self, message: Any) -> None:
        now, stamp = time.perf_counter(), ns_from_stamp(message.header.stamp)
        with self._lock:
            if stamp in self._sent:
                self.round_trips_ms.append((now - self._sent[stamp]) * 1e3)
            self._sent = {
                s: t for s, t in self._sent.items() if s > stamp
            }  # older ones were superseded
            if stamp == self._newest:
                self._last.set()

    def wait_for_last(self, timeout_s: float) -> bool:
        """Waits for the answer to the frame sent last: the newest frame is never superseded. False: it did not come."""
        return self._last.wait(timeout_s)


def play(
    player: Player,
    source: FrameSource,
    *,
    rate_hz: float = 0.0,
    speed: float = 1.0,
    frames: int = 0,
    wait_s: float = 20.0,
    with_map: bool = True,
    listeners: int = 1,
    answers: Answers | None = None,
    played: Played | None = None,
    progress: bool = False,
) -> Played:
    """Plays the source to its end, or its first ``frames`` > 0; with ``answers`` it returns when the last frame is answered.

    ``rate_hz`` > 0: frames at that rate; else at the pace of their stamps times ``speed``. ``with_map``: the source's map too.
    Colour images wait for ``listeners`` subscribers. TimeoutError where a topic of the first frame finds no subscriber, or the last frame
    no answer, within ``wait_s``. ``played`` is filled in as it goes, for whoever interrupts.
    """
    done = played if played is not None else Played()
    items = iter(source) if with_map else (item for item in source if isinstance(item, Frame))
    head, first = _head(items)
    wanted = [key for key, _ in player.prepare(first)] + (["map_objects"] if head else [])
    player.wait_for_subscribers(wanted, wait_s, listeners)
    for update in head:
        player.send_map(update)
        done.map_updates_sent += 1
    time.sleep(_SETTLE_S)
    start, previous = time.monotonic(), 0.0
    total = min(len(source), frames) if frames else len(source)
    with tqdm(total=total, desc="playing", unit="frame", disable=not progress) as bar:
        for item in chain([first], items):
            if isinstance(item, MapUpdate):
                player.send_map(item)
                done.map_updates_sent += 1
                continue
            messages = player.prepare(item)
            due = (
                done.frames_sent / rate_hz
                if rate_hz > 0
                else (item.stamp_ns - first.stamp_ns) / 1e9 / speed
            )
            ahead = start + due - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            elif done.frames_sent and -ahead > max(due - previous, 1e-3) / 2:
                done.late_frames += 1
            previous = due
            if answers is not None:
                answers.sending(item.stamp_ns)
            player.send(messages)
            done.frames_sent += 1
            done.duration_s = time.monotonic() - start
            done.rate_hz = (done.frames_sent - 1) / done.duration_s if done.frames_sent > 1 else 0.0
            bar.update()
            if done.frames_sent == total:
                break
    if answers is None:
        time.sleep(_SETTLE_S)
        return done
    answered = answers.wait_for_last(wait_s)
    if answers.round_trips_ms:
        done.frames_answered = len(answers.round_trips_ms)
        done.round_trip_ms_p50, done.round_trip_ms_p95 = (
            float(v) for v in np.percentile(answers.round_trips_ms, (50, 95))
        )
    if not answered:
        raise TimeoutError(
            f"the node did not answer the last frame within {wait_s:g} s; it answered {done.frames_answered} before"
        )
    return done


def _head(items: Iterator[Frame | MapUpdate]) -> tuple[list[MapUpdate], Frame]:
    """The map updates before the first frame, and that frame."""
    updates: list[MapUpdate] = []
    for item in items:
        if isinstance(item, Frame):
            return updates, item
        updates.append(item)
    raise ValueError("the source holds no frame: nothing to play")


def wait_until_active(node: Node, name: str, timeout_s: float) -> None:
    """Returns when the lifecycle node ``name`` is active. TimeoutError says what state it is in."""
    client = node.create_client(GetState, f"{name}/get_state")
    deadline, state = time.monotonic() + timeout_s, "not to be reached"
    try:
        while time.monotonic() < deadline:
            if client.wait_for_service(timeout_sec=0.2):
                future = client.call_async(GetState.Request())
                rclpy.spin_until_future_complete(node, future, timeout_sec=1.0)
                if future.done() and future.result() is not None:
                    state = future.result().current_state.label
                    if future.result().current_state.id == State.PRIMARY_STATE_ACTIVE:
                        return
            time.sleep(0.1)
        raise TimeoutError(f"{name} was not active after {timeout_s:g} s: it is {state}")
    finally:
        node.destroy_client(client)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m vos_ros.ros.tools.player",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "source", type=Path, help="a recorded folder (ours, TUM RGB-D, 7-Scenes) or a bag"
    )
    pace = p.add_mutually_exclusive_group()
    pace.add_argument(
        "--rate",
        type=float,
        default=0.0,
        metavar="HZ",
        help="frames per second of wall clock, whatever their stamps say",
    )
    pace.add_argument(
        "--speed",
        type=float,
        default=1.0,
        metavar="X",
        help="times the pace of the stamps (default: 1)",
    )
    p.add_argument(
        "--frames", type=int, default=0, metavar="N", help="play the first N frames only"
    )
    p.add_argument("--pose", choices=POSES, default="tf", help="how poses go out (default: tf)")
    p.add_argument(
        "--depth-encoding",
        choices=("16UC1", "32FC1"),
        default="16UC1",
        help="millimetres or metres (default: 16UC1)",
    )
    p.add_argument(
        "--no-map",
        action="store_true",
        help="leave out the object map of the source: a mapper makes its own",
    )
    p.add_argument(
        "--listeners",
        type=int,
        default=1,
        metavar="N",
        help="begin when so many nodes listen to the images (default: 1)",
    )
    p.add_argument(
        "--best-effort",
        action="store_true",
        help="publish images best effort, as drivers do (default: reliable)",
    )
    p.add_argument(
        "--node",
        default="",
        metavar="NAME",
        help="the node that listens, e.g. /vos_ros: wait until it is active, and in the end for its answer to the last frame",
    )
    p.add_argument(
        "--wait",
        type=float,
        default=20.0,
        metavar="S",
        help="longest wait for the node, for subscribers, for the last answer (default: 20 s)",
    )
    p.add_argument("--quiet", action="store_true", help="no progress bar and no summary")
    p.add_argument("--json", type=Path, metavar="FILE", help="write what was sent to this file")
    return p


def _spin(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main(args: Sequence[str] | None = None) -> int:
    """0 all played, 1 failed (the reason is on stderr), 130 interrupted."""
    words = list(sys.argv[1:] if args is None else args)
    options = parser().parse_args(remove_ros_args(["player", *words])[1:])
    if options.rate < 0 or options.speed <= 0 or options.frames < 0:
        parser().error("--rate and --frames must not be negative, --speed must be more than 0")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    fastdds.prepare()
    rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("vos_ros_player")
    executor = SingleThreadedExecutor()
    played, code = Played(), 0
    try:
        source = open_source(options.source)
        player = Player(
            node,
            map_frame=source.map_frame,
            pose=options.pose,
            depth_encoding=options.depth_encoding,
            reliable=not options.best_effort,
        )
        answers = None
        if options.node:
            wait_until_active(node, options.node, options.wait)
            answers = Answers(node, options.node)
            executor.add_node(node)
            threading.Thread(target=_spin, args=(executor,), daemon=True).start()
        play(
            player,
            source,
            rate_hz=options.rate,
            speed=options.speed,
            frames=options.frames,
            with_map=not options.no_map,
            listeners=options.listeners,
            wait_s=options.wait,
            answers=answers,
            played=played,
            progress=not options.quiet,
        )
    except (TimeoutError, ValueError, OSError) as e:
        print(f"player: {e}", file=sys.stderr)
        code = 1
    except (KeyboardInterrupt, ExternalShutdownException):
        code = 130
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        rclpy.try_shutdown()
    if options.json is not None:
        figures = {
            k: None if isinstance(v, float) and math.isnan(v) else v
            for k, v in asdict(played).items()
        }
        options.json.write_text(json.dumps(figures, indent=1))
    if not options.quiet:
        pace = f"{played.frames_sent} frames in {played.duration_s:.1f} s ({played.rate_hz:.2f} Hz)"
        print(f"player: {pace}, {played.late_frames} late, {played.frames_answered} answered")
    return code


if __name__ == "__main__":
    sys.exit(main())
