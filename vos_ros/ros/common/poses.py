"""Find the camera pose at an image's stamp, from TF or from a topic.

Never the latest pose, never an extrapolated one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tf2_ros
from rclpy.time import Time

from vos_ros.geometry.pose_track import PoseTrack
from vos_ros.geometry.uncertainty import carry_covariance
from vos_ros.messages.geometry import Cov6, Pose4, matrix_from_pose
from vos_ros.messages.pose_messages import read_pose
from vos_ros.messages.pose_sources import BY_NAME, TF, PoseSource
from vos_ros.messages.stamps import NS_PER_S
from vos_ros.ros.common.pose_topics import message_class

POLL_S = 0.002
"""Time between two attempts to find a pose that has not arrived yet. TF's own waiting polls every
20 ms, which would be most of the node's latency."""
KEEP_NS = 10 * NS_PER_S
"""Poses of a topic are kept this long, as TF does."""
JUMP_NS = NS_PER_S // 2
"""A stamp that is older than the newest one by more than this is a jump back in time, not a late
message."""

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
        on_error: gets a text where a message holds no valid pose.
    """
    if source not in BY_NAME:
        return NoPose()
    if source == TF:
        return TfPose(node, map_frame)
    return TopicPose(node, BY_NAME[source], map_frame, subscribe, on_error)


class NoPose:
    """Leave every frame without a pose (``node.pose_source: none``)."""

    def at(
        self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Callable[[], bool]
    ) -> PoseAnswer:
        return PoseAnswer(None)

    def clear(self) -> None:
        return None

    def destroy(self) -> None:
        return None


class TfPose:
    """Take poses from /tf and /tf_static."""

    def __init__(self, node: Any, map_frame: str) -> None:
        self.buffer = tf2_ros.Buffer()
        self._map_frame = map_frame
        self._listener = tf2_ros.TransformListener(self.buffer, node, spin_thread=False)

    def lookup(
        self, target: str, source: str, stamp_ns: int, deadline: float, give_up: Callable[[], bool]
    ) -> tuple[Pose4 | None, str]:
        """Look up T_target_source, waiting for it where it has not arrived yet.

        Args:
            target: frame that the transform is given in.
            source: frame whose pose it is.
            stamp_ns: time at which it holds, ns.
            deadline: end of the wait (time.monotonic, s).
            give_up: asked while waiting; True ends the wait.

        Returns:
            The transform and an empty text, or None and the reason.
        """
        # To TF, stamp 0 means "the latest"; 1 ns later is the same pose without that meaning.
        when = Time(nanoseconds=max(stamp_ns, 1))
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
        self.tf = TfPose(node, map_frame)
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
        return PoseAnswer(T_map_camera, cov)

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
