"""Reads frames and map updates from a recorded bag (MCAP or SQLite3).

ROS is not needed, and the bag is not held in memory.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from rosbags.highlevel import AnyReader
from rosbags.highlevel.anyreader import AnyReaderError
from rosbags.rosbag2 import ReaderError

from vos_ros.geometry import se3
from vos_ros.geometry.camera import Rectifier
from vos_ros.geometry.pose_track import PoseTrack
from vos_ros.geometry.uncertainty import carry_covariance
from vos_ros.messages.camera import TopicRectifier
from vos_ros.messages.checks import DEFAULT_LIMITS, Limits, MessageError
from vos_ros.messages.definitions import typestore
from vos_ros.messages.geometry import matrix_from_pose
from vos_ros.messages.images import depth_from_message, rgb_from_message
from vos_ros.messages.map_objects import map_update_from_message
from vos_ros.messages.pose_messages import read_pose
from vos_ros.messages.pose_sources import BY_MESSAGE_TYPE, TF
from vos_ros.messages.stamps import NS_PER_S, ns_from_stamp
from vos_ros.sources.bag_topics import (
    NONE,
    TF_MESSAGE,
    BagError,
    BagTopics,
    find_topics,
)
from vos_ros.sources.sync import MissingDataCounts, StampMatcher
from vos_ros.sources.tf import Missing, TfTree
from vos_ros.types import Frame, MapUpdate

Pose = tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "6 6"] | None]


@dataclass(slots=True)
class _Pending:
    """Holds an image, or a map update that comes after images which still wait."""

    log_ns: int
    """When it was recorded, ns."""
    stamp_ns: int
    """Its own stamp, ns."""
    image: Any
    """The colour image's message, None for a map update."""
    update: MapUpdate | None = None
    """The map update, None for an image."""


class BagSource:
    """Gives a bag as frames: every colour image that can be decoded, in the order of the recording.

    Depth is matched by stamp: an equal one first, else the nearest within ``slop_s``. The pose is
    interpolated at the image's stamp. An image waits for both for at most ``wait_s`` of the
    recording's time; then what is missing is None in the frame. ``missing_data`` counts, during and
    after an iteration, what was missing or could not be read.

    Args:
        path: file or folder of the bag.
        topics: names of its topics; those that are empty are found by their type.
        map_frame: name of the map frame, empty: that of the map in the bag, or "map".
        slop_s: largest difference of the stamps of colour and depth, s.
        wait_s: how long an image waits for depth and pose, s.
        limits: bounds of what a message may declare.

    Raises BagError (a ValueError), here or in an iteration: the file is no whole bag, its topics
    can't be told apart, poses are in another frame than the map, or depth is not registered to the
    colour image. Raises FileNotFoundError: there is no such file.
    """

    def __init__(
        self,
        path: Path | str,
        topics: BagTopics | None = None,
        *,
        map_frame: str = "",
        slop_s: float = 0.02,
        wait_s: float = 1.0,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.path, self.limits = Path(path), limits
        self._slop_ns, self._wait_ns = round(slop_s * NS_PER_S), round(wait_s * NS_PER_S)
        self.missing_data = MissingDataCounts()
        with self._reading() as reader:
            types = {c.topic: c.msgtype for c in reader.connections if c.msgcount}

            def first(topic: str) -> Any:
                connections = [c for c in reader.connections if c.topic == topic]
                return reader.deserialize(
                    next(reader.messages(connections))[2], connections[0].msgtype
                )

            self.topics = find_topics(types, first, topics or BagTopics())
            self._types = types
            self._length = sum(
                c.msgcount for c in reader.connections if c.topic == self.topics.image
            )
            self._first_info = first(self.topics.camera_info)
            has_map = self.topics.map_objects != NONE
            own = str(first(self.topics.map_objects).header.frame_id) if has_map else ""
        if map_frame and own and map_frame != own:
            raise BagError(
                f"{self.path}: {self.topics.map_objects} is in the frame {own!r}, wanted was"
                f" map_frame {map_frame!r}"
            )
        self.map_frame = map_frame or own or "map"

    @contextmanager
    def _reading(self) -> Iterator[AnyReader]:
        """Open the bag; errors of its readers become BagError."""
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: no such bag")
        try:
            with AnyReader([self.path], default_typestore=typestore()) as reader:
                yield reader
        except (AnyReaderError, ReaderError, FileNotFoundError, EOFError, zlib.error) as e:
            raise BagError(
                f"{self.path}: cannot be read as a bag ({e}). It is cut short, damaged, or no bag:"
                " wanted a .mcap or .db3 file or the folder of one; `mcap recover` mends a"
                " recording that was cut off"
            ) from e

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        self.missing_data = MissingDataCounts()
        with self._reading() as reader:
            yield from _Reading(self, reader, self._slop_ns, self._wait_ns).items()


class _Reading:
    """Reads a bag once: what waits, what was found, and the next index."""

    def __init__(self, source: BagSource, reader: AnyReader, slop_ns: int, wait_ns: int) -> None:
        self._source, self._reader, self._wait_ns = source, reader, wait_ns
        self._topics, self._missing = source.topics, source.missing_data
        self._limits = source.limits
        self._no_depth = (
            f"image without depth whose stamp lies within {slop_ns / NS_PER_S:g} s of its own:"
            " check the clocks, or raise node.sync_slop_s"
        )
        self._pending: deque[_Pending] = deque()
        self._depths: StampMatcher[Any] | None = (
            StampMatcher(slop_ns) if self._topics.depth != NONE else None
        )
        self._tf, self._poses, self._pose_frame = TfTree(), PoseTrack(keep_ns=60 * NS_PER_S), ""
        self._rectifiers = TopicRectifier(source.topics.image, limits=source.limits)
        self._rectifier = self._camera(source._first_info)
        self._index, self._last_ns = 0, -(2**63)

    def items(self) -> Iterator[Frame | MapUpdate]:
        t = self._topics
        takers = {
            t.image: self._take_image,
            t.depth: self._take_depth,
            t.camera_info: self._take_info,
            t.map_objects: self._take_map,
            t.pose: self._take_pose,
        }
        connections = [
            c for c in self._reader.connections if c.topic in takers or c.msgtype == TF_MESSAGE
        ]
        for connection, log_ns, raw in self._reader.messages(connections):
            msg: Any = self._reader.deserialize(raw, connection.msgtype)
            if connection.msgtype == TF_MESSAGE:
                self._take_tf(msg, static=connection.topic.endswith("tf_static"))
            else:
                if connection.topic == t.image:
                    yield from self._start_over_where_time_went_back(
                        ns_from_stamp(msg.header.stamp)
                    )
                takers[connection.topic](msg, log_ns)
            yield from self._ready(log_ns)
        yield from self._ready(None)
        self._count_unmatched()

    def _start_over_where_time_went_back(self, stamp_ns: int) -> Iterator[Frame | MapUpdate]:
        """Start over where the bag is a recording of one that looped.

        The images that wait become frames. Depth of the former turn is dropped, so that it isn't
        matched with images still to come.
        """
        if stamp_ns < self._last_ns - self._wait_ns:
            self._missing.add(
                "jump back in time",
                f"from {self._last_ns / NS_PER_S:.6f} s to {stamp_ns / NS_PER_S:.6f} s",
            )
            yield from self._ready(None)
            self._count_unmatched()
            if self._depths is not None:
                self._depths = StampMatcher(self._depths.slop_ns)
        self._last_ns = stamp_ns

    def _count_unmatched(self) -> None:
        if self._depths is not None:
            self._missing.add(
                "depth image without a colour image",
                count=self._depths.unmatched + len(self._depths),
            )

    def _take_image(self, msg: Any, log_ns: int) -> None:
        self._pending.append(_Pending(log_ns, ns_from_stamp(msg.header.stamp), msg))

    def _take_depth(self, msg: Any, log_ns: int) -> None:
        assert self._depths is not None
        self._depths.add(ns_from_stamp(msg.header.stamp), msg)

    def _take_info(self, msg: Any, log_ns: int) -> None:
        self._rectifier = self._camera(msg)

    def _camera(self, msg: Any) -> Rectifier:
        try:
            return self._rectifiers.of(msg)
        except ValueError as e:
            raise BagError(f"{self._topics.camera_info}: {e}") from e

    def _take_map(self, msg: Any, log_ns: int) -> None:
        try:
            self._pending.append(
                _Pending(
                    log_ns,
                    ns_from_stamp(msg.header.stamp),
                    None,
                    map_update_from_message(msg, self._limits),
                )
            )
        except ValueError as e:
            self._missing.add("map update that cannot be used", str(e))

    def _take_tf(self, msg: Any, static: bool) -> None:
        for t in msg.transforms:
            try:
                pose = matrix_from_pose(t.transform)
            except ValueError as e:
                self._missing.add(
                    "TF transform that is no pose",
                    f"{t.header.frame_id} -> {t.child_frame_id}: {e}",
                )
                continue
            self._tf.add(
                t.header.frame_id, t.child_frame_id, ns_from_stamp(t.header.stamp), pose, static
            )

    def _take_pose(self, msg: Any, log_ns: int) -> None:
        """Read a pose topic, as the table of pose sources says for its message type."""
        source = BY_MESSAGE_TYPE[self._source._types[self._topics.pose]]
        try:
            reading = read_pose(msg, source)
        except ValueError as e:
            self._missing.add("pose message that is no pose", str(e))
            return
        if reading.frame_id and reading.frame_id != self._source.map_frame.lstrip("/"):
            raise BagError(
                f"{self._topics.pose}: its poses are in the frame {reading.frame_id!r}, the map in"
                f" {self._source.map_frame!r}; name another topic as pose (or tf), or give"
                " map_frame"
            )
        self._pose_frame = reading.child_frame_id
        self._poses.add(reading.stamp_ns, reading.T, reading.cov)

    def _ready(self, now_ns: int | None) -> Iterator[Frame | MapUpdate]:
        """Give what needs no more waiting at ``now_ns`` of the recording; all at its end (None)."""
        while self._pending:
            head = self._pending[0]
            if head.update is not None:
                self._pending.popleft()
                yield head.update
                continue
            pose = self._pose(head)
            complete = (self._depths is None or self._depths.settled(head.stamp_ns)) and not (
                isinstance(pose, Missing) and not pose.permanent
            )
            if not complete and now_ns is not None and now_ns - head.log_ns < self._wait_ns:
                return
            self._pending.popleft()
            frame = self._frame(head, pose)
            if frame is not None:
                yield frame

    def _pose(self, head: _Pending) -> Pose | Missing | None:
        """Give T_map_camera and its covariance at the image's stamp; None where none are wanted."""
        camera, map_frame = str(head.image.header.frame_id).lstrip("/"), self._source.map_frame
        if self._topics.pose == NONE:
            return None
        if self._topics.pose == TF:
            found = self._tf.lookup(map_frame, camera, head.stamp_ns)
            return found if isinstance(found, Missing) else (found, None)
        at = self._poses.at(head.stamp_ns)
        if at is None:
            span = self._poses.span_ns
            return Missing(
                f"no pose on {self._topics.pose} around the image's stamp",
                span is not None and head.stamp_ns < span[1],
            )
        if not self._pose_frame or self._pose_frame == camera:
            return at
        T_body_camera = self._tf.lookup(self._pose_frame, camera, head.stamp_ns)
        if isinstance(T_body_camera, Missing):
            return T_body_camera
        return camera_pose(at, T_body_camera)

    def _frame(self, head: _Pending, pose: Pose | Missing | None) -> Frame | None:
        """Make the frame of an image, None where the image can't be decoded."""
        where = f"image at {head.stamp_ns / NS_PER_S:.6f} s"
        partner = (
            self._depths.take(head.stamp_ns, {p.stamp_ns for p in self._pending})
            if self._depths is not None
            else None
        )
        if self._depths is not None and partner is None:
            self._missing.add(self._no_depth, where)
        if isinstance(pose, Missing):
            self._missing.add("image without a pose", f"{where}: {pose.reason}")
            pose = None
        try:
            rgb = _writable_rgb(head.image, self._limits)
        except MessageError as e:
            self._missing.add("image that cannot be decoded", f"{where}: {e}")
            return None
        depth = None
        try:
            depth = depth_from_message(partner, self._limits) if partner is not None else None
        except MessageError as e:
            self._missing.add("depth image that cannot be decoded", f"{where}: {e}")
        self._check_sizes(rgb, depth)
        rgb = self._rectifier.image(rgb)
        if depth is not None:
            depth = self._rectifier.depth(depth)
        T, cov = pose if pose is not None else (None, None)
        self._index += 1
        return Frame(
            index=self._index - 1,
            stamp_ns=head.stamp_ns,
            rgb=rgb,
            depth=depth,
            intrinsics=self._rectifier.intrinsics,
            T_map_camera=T,
            pose_cov=cov,
            frame_id=str(head.image.header.frame_id),
            depth_frame_id="" if partner is None else str(partner.header.frame_id),
            T_bodies_camera=self._tf.static_poses_of(str(head.image.header.frame_id)),
        )

    def _check_sizes(
        self, rgb: UInt8[np.ndarray, "H W 3"], depth: Float32[np.ndarray, "H W"] | None
    ) -> None:
        k, got = self._rectifier.source, f"{rgb.shape[1]}x{rgb.shape[0]} px"
        if rgb.shape[:2] != (k.height, k.width):
            raise BagError(
                f"{self._topics.image} is {got}, its {self._topics.camera_info} says"
                f" {k.width}x{k.height} px: they don't belong together; name the right camera_info"
            )
        if depth is not None and depth.shape != rgb.shape[:2]:
            raise BagError(
                f"{self._topics.depth} is {depth.shape[1]}x{depth.shape[0]} px,"
                f" {self._topics.image} {got}: depth must be registered to the"
                " colour image (depth_image_proc, or the driver's align_depth); name such a topic,"
                " or depth none"
            )


def camera_pose(pose: Pose, T_body_camera: Float64[np.ndarray, "4 4"]) -> Pose:
    """Give the pose of the camera from that of the body that carries it.

    The covariance is carried along the lever arm.
    """
    T_map_body, cov = pose
    if cov is not None:
        cov = carry_covariance(cov, T_map_body[:3, :3] @ T_body_camera[:3, 3])
    return se3.compose(T_map_body, T_body_camera), cov


def _writable_rgb(msg: Any, limits: Limits) -> UInt8[np.ndarray, "H W 3"]:
    """Read a colour image as an array that torch takes: writable and contiguous."""
    rgb = rgb_from_message(msg, limits)
    return rgb if rgb.flags.writeable and rgb.flags.c_contiguous else rgb.copy()
