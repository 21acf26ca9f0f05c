"""Play a recorded folder or bag to the node over DDS.

The player takes the place of the camera driver, the localisation and the mapper. It is a process of
its own.

    python -m vos_ros.ros.tools.player FOLDER --rate 5
    python -m vos_ros.ros.tools.player run.mcap --ros-args -r image:=/camera/color/image_raw

With --click it is also the person who clicks on points in RViz.

Colour, camera_info, depth, the camera's pose (TF or a topic) and the object map keep the stamps of
the recording; the wall clock alone decides when they are published. The player starts when every
topic has a subscriber, and never skips a frame.
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
from geometry_msgs.msg import Point, PointStamped
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
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
from vos_ros.ros.common import fastdds, process
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.pose_topics import message_class, pose_message
from vos_ros.ros.common.subscriptions import qos
from vos_ros.sources.bag import BagSource
from vos_ros.sources.interface import FrameSource
from vos_ros.types import Frame, MapUpdate

POSES = (*pose_sources.NAMES, pose_sources.NONE)
"""Ways in which poses are published."""
_CLICK_WAIT_S = 10.0
"""Longest wait for a reader of clicked points, s."""
_SETTLE_S = 0.3
"""Pause between the map and the first frame, and between the last frame and the end, s."""
_POSE_QUEUE = _MAP_QUEUE = 100
"""Poses and map messages that the middleware keeps for slow readers."""


@dataclass(slots=True)
class Played:
    """Count what was sent and answered."""

    frames_sent: int = 0
    """Frames that were published."""
    map_updates_sent: int = 0
    """Map updates that were published."""
    late_frames: int = 0
    """Frames published more than half a period late: the player itself was too slow."""
    duration_s: float = 0.0
    """Time from the first frame to the last, s."""
    rate_hz: float = 0.0
    """Frames per second of that time."""
    frames_answered: int = 0
    """Frames whose InstanceArray arrived here; 0 where no node was named."""
    round_trip_ms_p50: float = float("nan")
    """Median time from a frame's publication to the arrival of its InstanceArray, ms; NaN: none."""
    round_trip_ms_p95: float = float("nan")
    """95th percentile of it, ms."""


def open_source(path: Path) -> FrameSource:
    """Open a folder or a bag by its path. Raises ValueError, OSError: it can't be read."""
    return (
        open_recording(path)
        if path.is_dir() and not (path / "metadata.yaml").is_file()
        else BagSource(path)
    )


class Player:
    """Publish frames and map updates on a node.

    Args:
        node: the node that publishes.
        map_frame: frame of the poses.
        pose: one of ``POSES``.
        depth_encoding: 16UC1 (mm) or 32FC1 (m).
        reliable: publish images reliably; False: best effort, as drivers do.
    """

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
        sensor = qos("reliable" if reliable else "best_effort", 10)
        self._publishers: dict[str, Any] = {
            "map_objects": node.create_publisher(
                MapObjectArray, "map_objects", qos("reliable", _MAP_QUEUE, latched=True)
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
            self._publishers["pose"] = node.create_publisher(
                kind, topic, qos("reliable", _POSE_QUEUE)
            )

    def unmatched(self, wanted: Sequence[str], listeners: int = 1) -> list[str]:
        """Return the wanted topics that lack a subscriber; images need ``listeners`` of them."""
        return [
            str(self._publishers[k].topic_name)
            for k in wanted
            if self._publishers[k].get_subscription_count() < (listeners if k == "image" else 1)
        ]

    def wait_for_subscribers(
        self, wanted: Sequence[str], timeout_s: float, listeners: int = 1
    ) -> None:
        """Wait until each wanted topic has a subscriber, and colour images ``listeners``.

        Raises TimeoutError: some have none after ``timeout_s``.
        """
        deadline = time.monotonic() + timeout_s
        while missing := self.unmatched(wanted, listeners):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{', '.join(missing)} had no subscriber (images: fewer than {listeners})"
                    f" within {timeout_s:g} s: is the node running, in this ROS_DOMAIN_ID, with the"
                    " same topic names?"
                )
            time.sleep(0.05)

    def send_map(self, update: MapUpdate) -> None:
        """Publish a map update."""
        self._publishers["map_objects"].publish(map_objects_message(make, update))

    def click(self, points: Sequence[Sequence[float]], stamp_ns: int) -> None:
        """Publish (x, y, z) points, m in the map frame, as RViz's Publish Point does.

        Raises TimeoutError: nobody listens to them.
        """
        publisher = self._node.create_publisher(PointStamped, "clicked_point", qos("reliable", 10))
        deadline = time.monotonic() + _CLICK_WAIT_S
        while not publisher.get_subscription_count():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{publisher.topic_name} had no subscriber")
            time.sleep(0.05)
        for x, y, z in points:
            head = header_message(make, stamp_ns, self._map_frame)
            publisher.publish(PointStamped(header=head, point=Point(x=x, y=y, z=z)))

    def prepare(self, frame: Frame) -> list[tuple[str, Any]]:
        """Return a frame's messages in the order of publication; an unknown pose is left out."""
        out = [] if self._source is None else self._pose_messages(frame, self._source)
        image, info, depth = frame_messages(make, frame, depth_encoding=self._depth_encoding)
        out.append(("camera_info", info))
        if depth is not None:
            out.append(("depth", depth))
        return [*out, ("image", image)]

    def _pose_messages(self, frame: Frame, source: PoseSource) -> list[tuple[str, Any]]:
        T, child = frame.T_map_camera, frame.frame_id
        if T is None:
            return []
        head = header_message(make, frame.stamp_ns, self._map_frame)
        if not source.message_type:
            sent = transform_stamped_message(make, head, child, T)
            return [("pose", TFMessage(transforms=[sent]))]
        return [("pose", pose_message(source, head, T, frame.pose_cov, child))]

    def send(self, messages: Sequence[tuple[str, Any]]) -> None:
        """Publish the messages of ``prepare``."""
        for key, message in messages:
            self._publishers[key].publish(message)


class Answers:
    """Measure the time from the publication of each frame to its InstanceArray.

    Callbacks run on the executor's thread.

    Args:
        node: the node that subscribes.
        name: name of the node that answers.
    """

    def __init__(self, node: Node, name: str) -> None:
        self._lock = threading.Lock()
        self._sent: dict[int, float] = {}
        self._newest = 0
        self._last = threading.Event()
        self.round_trips_ms: list[float] = []
        node.create_subscription(
            InstanceArray, f"{name.rstrip('/')}/instances", self._on_instances, qos("reliable", 100)
        )

    def sending(self, stamp_ns: int) -> None:
        """Note that a frame is about to be published."""
        with self._lock:
            self._last.clear()
            self._newest = stamp_ns
            self._sent[stamp_ns] = time.perf_counter()

    def _on_instances(self, message: Any) -> None:
        now, stamp = time.perf_counter(), ns_from_stamp(message.header.stamp)
        with self._lock:
            if stamp in self._sent:
                self.round_trips_ms.append((now - self._sent[stamp]) * 1e3)
            # Older ones were superseded.
            self._sent = {s: t for s, t in self._sent.items() if s > stamp}
            if stamp == self._newest:
                self._last.set()

    def wait_for_last(self, timeout_s: float) -> bool:
        """Wait for the answer to the last frame, which is never superseded; False: none arrived."""
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
    clicks: Sequence[Sequence[float]] = (),
    answers: Answers | None = None,
    played: Played | None = None,
    progress: bool = False,
) -> Played:
    """Play a source to its end; with ``answers``, return when its last frame is answered.

    Args:
        player: publishes.
        source: frames and map updates.
        rate_hz: frames per second; 0: the pace of their stamps times ``speed``.
        speed: times the pace of the stamps.
        frames: play the first so many; 0: all.
        wait_s: longest wait for subscribers, and for the last answer, s.
        with_map: publish the source's map too.
        listeners: subscribers of the colour images that are waited for.
        clicks: (x, y, z), m in the map frame, clicked when the first frame is answered.
        answers: measures the answers.
        played: filled in as it goes, for callers that are interrupted.
        progress: show a progress bar.

    Raises TimeoutError: a topic of the first frame has no subscriber, or the last frame no answer,
    within ``wait_s``.
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
            if clicks and done.frames_sent == 1 and answers is not None:
                answers.wait_for_last(wait_s)
                player.click(clicks, item.stamp_ns)
                start = time.monotonic() - due
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
            f"the node did not answer the last frame within {wait_s:g} s; it answered"
            f" {done.frames_answered} before"
        )
    return done


def _head(items: Iterator[Frame | MapUpdate]) -> tuple[list[MapUpdate], Frame]:
    """Return the map updates before the first frame, and that frame."""
    updates: list[MapUpdate] = []
    for item in items:
        if isinstance(item, Frame):
            return updates, item
        updates.append(item)
    raise ValueError("the source holds no frame: nothing to play")


def wait_until_active(node: Node, name: str, timeout_s: float) -> None:
    """Wait until the lifecycle node ``name`` is active. Raises TimeoutError: it is not."""
    client = node.create_client(GetState, f"{name}/get_state")
    deadline, state = time.monotonic() + timeout_s, "unreachable"
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
    """Make the parser of the command line."""
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
        help="frames per second of wall clock, whatever their stamps",
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
    p.add_argument(
        "--pose",
        choices=POSES,
        default=pose_sources.TF,
        help=f"how poses are published (default: tf); {pose_sources.listing()}",
    )
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
        "--click",
        nargs=3,
        type=float,
        action="append",
        default=[],
        metavar=("X", "Y", "Z"),
        help="click on this point, m in the map frame, when the first frame is answered; needs"
        " --node; may be repeated",
    )
    p.add_argument(
        "--listeners",
        type=int,
        default=1,
        metavar="N",
        help="begin when the images have so many subscribers (default: 1)",
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
        help="the node that gets the images, e.g. /vos_ros: wait until it is active, and at the"
        " end for its answer to the last frame",
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
    """Run the player. Returns 0: all played, 1: failed (reason on stderr), 130: interrupted."""
    words = list(sys.argv[1:] if args is None else args)
    options = parser().parse_args(remove_ros_args(["player", *words])[1:])
    if options.rate < 0 or options.speed <= 0 or options.frames < 0:
        parser().error("--rate and --frames must not be negative, --speed must be more than 0")
    if options.click and not options.node:
        parser().error("--click needs --node: clicks wait for its answer to the first frame")
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
            clicks=options.click,
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
    process.leave(main())
