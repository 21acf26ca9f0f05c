"""Find the camera pose at an image's stamp, from TF or from a topic.

Never the latest pose, never an extrapolated one.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tf2_ros
from rclpy.time import Time

from vos_ros.geometry.pose_track import PoseTrack
from vos_ros.geometry.uncertainty import carry_covariance
from vos_ros.messages.checks import MessageError, check_header, check_stamp, check_text
from vos_ros.messages.geometry import Cov6, Pose4, matrix_from_pose
from vos_ros.messages.pose_messages import read_pose
from vos_ros.messages.pose_sources import BY_NAME, TF, PoseSource
from vos_ros.messages.stamps import NS_PER_S
from vos_ros.ros.common.pose_topics import message_class
from vos_ros.sources.tf import TfTree

POLL_S = 0.002
"""Time between two attempts to find a pose that has not arrived yet. TF's own waiting polls every
20 ms, which would be most of the node's latency."""
KEEP_NS = 10 * NS_PER_S
"""Poses of a topic are kept this long, as TF does."""
JUMP_NS = NS_PER_S // 2
"""A stamp that is older than the newest one by more than this is a jump back in time, not a late
message."""

MAX_AHEAD_NS = 10 * NS_PER_S
"""A transform further ahead of the present is of another time; TF keeps this much of the past."""
_WAIT_S = 0.05
"""Longest uninterrupted wait for a pose message, so that a node that stops is noticed."""

Subscribe = Callable[[Any, str, Callable[[Any], None]], Callable[[], None]]
"""Subscribes to a topic (message class, topic, callback) and returns what destroys it."""


@dataclass(frozen=True, slots=True)
class PoseAnswer:
    """Hold the pose at a stamp, or the reason why there is none."""

    T_map_camera: Pose4 | None
    """Pose of the camera's optical frame, m; None where it is not known."""
    cov: Cov6 | None = None
    """Its covariance in the map's axes (m, rad); None where the source states none."""
    reason: str = ""
    """What is missing; empty where there is a pose, or none was asked for."""
    T_bodies_camera: Mapping[str, Pose4] = field(default_factory=dict)
    """Static poses of the camera on frames of the robot; of a topic's poses only."""


class PoseInput(Protocol):
    """Give the camera pose at a stamp. ``at`` may be called from any one thread."""

    def at(
        self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Callable[[], bool]
    ) -> PoseAnswer:
        """Return the pose of ``camera_frame`` at the stamp.

        Args:
            stamp_ns: time of the image, ns.
            camera_frame: the camera's optical frame, without a leading slash.
            wait_s: longest wait for a pose that has not arrived yet, s.
            give_up: asked while waiting; True ends the wait.
        """
        ...

    def lookup(
        self, target: str, source: str, stamp_ns: int, deadline: float, give_up: Callable[[], bool]
    ) -> tuple[Pose4 | None, str]:
        """Look up T_target_source of two frames in TF, waiting for it where it has not arrived.

        Args:
            target: frame that the transform is given in.
            source: frame whose pose it is.
            stamp_ns: time at which it holds, ns.
            deadline: end of the wait (time.monotonic, s).
            give_up: asked while waiting; True ends the wait.

        Returns:
            The transform and an empty text, or None and the reason.
        """
        ...

    def clear(self) -> None:
        """Forget all poses: time has jumped back."""
        ...

    def destroy(self) -> None:
        """Remove the subscriptions."""
        ...


def make_pose_input(
    source: str,
    node: Any,
    map_frame: str,
    subscribe: Subscribe,
    on_error: Callable[[str], None],
) -> PoseInput:
    """Make the input of a pose source.

    Args:
        source: a name of the table of pose sources; any other name (``none``, the mapper's
            ``used``) means no poses.
        node: the node that subscribes.
        map_frame: frame that the poses are wanted in.
        subscribe: subscribes to the source's topic.
        on_error: gets a text where a message holds no valid pose, or a transform can't be right.
    """
    if source not in BY_NAME:
        return NoPose()
    if source == TF:
        return TfPose(node, map_frame, on_error)
    return TopicPose(node, BY_NAME[source], map_frame, subscribe, on_error)


class NoPose:
    """Leave every frame without a pose (``node.pose_source: none``)."""

    def at(
        self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Callable[[], bool]
    ) -> PoseAnswer:
        return PoseAnswer(None)

    def lookup(
        self, target: str, source: str, stamp_ns: int, deadline: float, give_up: Callable[[], bool]
    ) -> tuple[Pose4 | None, str]:
        return None, "the node takes no poses (node.pose_source: none)"

    def clear(self) -> None:
        return None

    def destroy(self) -> None:
        return None


class TransformBuffer(tf2_ros.Buffer):
    """Keep transforms, but those of another time, which would make it forget all of the present.

    TF keeps what is at most ten seconds older than the newest sample of a frame. One sample that is
    an hour ahead (a clock that was wrong at first, a latched message of another run) hides all
    later ones. So what is more than ``MAX_AHEAD_NS`` ahead of the node's clock and of every image
    is left out.

    Args:
        now_ns: the node's clock.
        on_error: gets a text for each transform that is left out.
    """

    def __init__(self, now_ns: Callable[[], int], on_error: Callable[[str], None]) -> None:
        super().__init__()
        self._now_ns, self._on_error = now_ns, on_error
        self.newest_asked_ns = 0
        self._static_tree, self._lock = TfTree(), threading.Lock()

    def set_transform(self, transform: Any, authority: str) -> None:
        """Add a transform that can be right."""
        if self._is_right(transform):
            super().set_transform(transform, authority)

    def set_transform_static(self, transform: Any, authority: str) -> None:
        """Add a static transform that can be right; its stamp says nothing."""
        if self._is_right(transform, static=True):
            super().set_transform_static(transform, authority)
            with contextlib.suppress(ValueError):  # the buffer itself leaves out what is no pose
                pose = matrix_from_pose(transform.transform)
                parent, child = transform.header.frame_id, transform.child_frame_id
                with self._lock:
                    self._static_tree.add(parent, child, 0, pose, static=True)

    def static_poses_of(self, frame: str) -> Mapping[str, Pose4]:
        """Return the pose of a frame on every frame that static transforms alone tie it to.

        It is called on another thread than the transforms come on.
        """
        with self._lock:
            return self._static_tree.static_poses_of(frame)

    def _is_right(self, transform: Any, static: bool = False) -> bool:
        """Report and refuse a transform that cannot be right."""
        try:
            check_text("header.frame_id", transform.header.frame_id)
            check_text("child_frame_id", transform.child_frame_id)
            stamp_ns = check_stamp(transform.header.stamp)
            present_ns = max(self._now_ns(), self.newest_asked_ns)
            if not static and stamp_ns > present_ns + MAX_AHEAD_NS:
                raise MessageError(
                    f"its stamp is {(stamp_ns - present_ns) / NS_PER_S:.1f} s ahead of the node's"
                    " clock and of the images: check the clock of its publisher, and use_sim_time"
                )
            t = transform.transform.translation
            if not all(map(math.isfinite, (t.x, t.y, t.z))):  # TF refuses NaN, but not infinity
                raise MessageError(f"its position ({t.x:g}, {t.y:g}, {t.z:g}) is not finite")
        except ValueError as e:
            frames = f"{transform.child_frame_id!r} in {transform.header.frame_id!r}"
            self._on_error(f"a transform of {frames} is left out: {e}")
            return False
        return True


class TfPose:
    """Take poses from /tf and /tf_static.

    Args:
        node: the node that subscribes.
        map_frame: frame that the poses are wanted in.
        on_error: gets a text for each transform that is left out.
    """

    def __init__(self, node: Any, map_frame: str, on_error: Callable[[str], None]) -> None:
        clock = node.get_clock()
        self.buffer = TransformBuffer(lambda: int(clock.now().nanoseconds), on_error)
        self._map_frame = map_frame
        self._listener = tf2_ros.TransformListener(self.buffer, node, spin_thread=False)

    def lookup(
        self, target: str, source: str, stamp_ns: int, deadline: float, give_up: Callable[[], bool]
    ) -> tuple[Pose4 | None, str]:
        # To TF, stamp 0 means "the latest"; 1 ns later is the same pose without that meaning.
        when = Time(nanoseconds=max(stamp_ns, 1))
        self.buffer.newest_asked_ns = max(self.buffer.newest_asked_ns, stamp_ns)
        while True:
            try:
                found = self.buffer.lookup_transform(target, source, when)
                return matrix_from_pose(found.transform), ""
            except ValueError as e:
                return None, str(e)
            except tf2_ros.TransformException as e:
                reason = str(e) or "no such transform"
            if time.monotonic() >= deadline or give_up():
                return None, reason
            time.sleep(POLL_S)

    def at(
        self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Callable[[], bool]
    ) -> PoseAnswer:
        if not camera_frame:
            return PoseAnswer(
                None,
                reason="the image's header.frame_id is empty, so TF has no camera to look up",
            )
        T, reason = self.lookup(
            self._map_frame, camera_frame, stamp_ns, time.monotonic() + wait_s, give_up
        )
        if reason:
            reason = (
                f"TF has no {self._map_frame} <- {camera_frame} at {stamp_ns / NS_PER_S:.3f} s"
                f" after {wait_s:g} s of waiting: {reason}"
            )
        return PoseAnswer(T, reason=reason)

    def clear(self) -> None:
        self.buffer.clear()
        self.buffer.newest_asked_ns = 0

    def destroy(self) -> None:
        self._listener.unregister()


class TopicPose:
    """Take poses from a topic, interpolated at the stamp.

    A message that names a child frame (Odometry) is the pose of that frame; TF then gives the
    camera's place on it. The others are poses of the camera's optical frame. TF is also asked where
    ``header.frame_id`` is not the map frame.
    """

    def __init__(
        self,
        node: Any,
        source: PoseSource,
        map_frame: str,
        subscribe: Subscribe,
        on_error: Callable[[str], None],
    ) -> None:
        self.tf = TfPose(node, map_frame, on_error)
        self._source = source
        self._map_frame = map_frame
        self._on_error = on_error
        self._arrived = threading.Condition()
        self._track = PoseTrack(KEEP_NS)
        self._frames = (map_frame, "")
        self._unsubscribe = subscribe(
            message_class(source.message_type), source.topic, self._on_message
        )

    def _on_message(self, msg: Any) -> None:
        try:
            check_header(msg.header)
            reading = read_pose(msg, self._source)
        except ValueError as e:
            self._on_error(f"a pose is left out: {e}")
            return
        with self._arrived:
            span = self._track.span_ns
            if span is not None and reading.stamp_ns < span[1] - JUMP_NS:
                self._track = PoseTrack(KEEP_NS)
            self._frames = (reading.frame_id, reading.child_frame_id)
            self._track.add(reading.stamp_ns, reading.T, reading.cov)
            self._arrived.notify_all()

    def at(
        self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Callable[[], bool]
    ) -> PoseAnswer:
        deadline = time.monotonic() + wait_s
        with self._arrived:
            while (found := self._track.at(stamp_ns)) is None:
                left = deadline - time.monotonic()
                if left <= 0 or give_up():
                    return PoseAnswer(None, reason=self._missing(stamp_ns, wait_s))
                self._arrived.wait(min(left, _WAIT_S))
            parent, child = self._frames
        T, cov = found
        T_map_parent, T_child_camera = np.eye(4), np.eye(4)
        for target, source, out in (
            (self._map_frame, parent, T_map_parent),
            (child, camera_frame, T_child_camera),
        ):
            if target and source and target != source:
                link, reason = self.tf.lookup(target, source, stamp_ns, deadline, give_up)
                if link is None:
                    return PoseAnswer(
                        None,
                        reason=f"the pose is of {child or camera_frame!r} in {parent!r}, and TF has"
                        f" no {target} <- {source}: {reason}",
                    )
                out[:] = link
        T_map_child = T_map_parent @ T
        T_map_camera = T_map_child @ T_child_camera
        if cov is not None:
            lever_m = T_map_camera[:3, 3] - T_map_child[:3, 3]
            cov = carry_covariance(cov, lever_m, T_map_parent[:3, :3])
        bodies = self.tf.buffer.static_poses_of(camera_frame)
        return PoseAnswer(T_map_camera, cov, T_bodies_camera=bodies)

    def lookup(
        self, target: str, source: str, stamp_ns: int, deadline: float, give_up: Callable[[], bool]
    ) -> tuple[Pose4 | None, str]:
        return self.tf.lookup(target, source, stamp_ns, deadline, give_up)

    def _missing(self, stamp_ns: int, wait_s: float) -> str:
        span = self._track.span_ns
        known = (
            f"the known poses are from {span[0] / NS_PER_S:.3f} to {span[1] / NS_PER_S:.3f} s"
            if span
            else "none has arrived"
        )
        return f"no pose around {stamp_ns / NS_PER_S:.3f} s after {wait_s:g} s of waiting: {known}"

    def clear(self) -> None:
        with self._arrived:
            self._track = PoseTrack(KEEP_NS)
        self.tf.clear()

    def destroy(self) -> None:
        self._unsubscribe()
        self.tf.destroy()
