"""The camera pose at an image's stamp: from TF, or from a pose or odometry topic. Never the latest one, never an extrapolated one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import tf2_ros
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from jaxtyping import Float64
from nav_msgs.msg import Odometry
from rclpy.time import Time

from vos_ros.geometry import se3
from vos_ros.ros.common.conversions import (
    Cov6,
    Pose4,
    covariance_from_message,
    matrix_from_pose,
    ns_from_stamp,
)
from vos_ros.sources.sync import NS_PER_S, PoseTrack

POLL_S = 0.002
"""How often a pose that has not come yet is looked for. TF's own waiting looks every 20 ms, which would be most of the latency."""
KEEP_NS = 10 * NS_PER_S
"""Poses of a topic are kept this long, as TF does."""
JUMP_NS = NS_PER_S // 2
"""A stamp that lies further back than this is a jump back in time, not a message that came late."""


@dataclass(frozen=True, slots=True)
class PoseAnswer:
    """``T_map_camera`` and its covariance; where there is no pose, ``why`` says what is missing."""

    T_map_camera: Pose4 | None
    cov: Cov6 | None = None
    why: str = ""


class PoseInput(Protocol):
    """Where poses come from. ``at`` blocks at most ``wait_s`` and may be called from any one thread."""

    def at(
        self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Callable[[], bool]
    ) -> PoseAnswer: ...

    def clear(self) -> None:
        """Forgets poses: time has jumped back."""
        ...

    def destroy(self) -> None: ...


def transport(
    cov: Cov6, R_map_parent: Float64[np.ndarray, "3 3"], lever_m: Float64[np.ndarray, " 3"]
) -> Cov6:
    """Covariance of a small motion of a body, in parent's axes, as that of a point fixed to it ``lever_m`` away (map axes, m), in the
    map's axes: the rotation moves the point by rotation x lever."""
    A = np.zeros((6, 6))
    A[:3, :3] = A[3:, 3:] = R_map_parent
    A[:3, 3:] = -se3.hat(lever_m) @ R_map_parent
    out: Cov6 = A @ cov @ A.T
    return out


class NoPose:
    """``node.pose_source: none``: every frame is without a pose."""

    def at(
        self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Callable[[], bool]
    ) -> PoseAnswer:
        return PoseAnswer(None)

    def clear(self) -> None:
        return None

    def destroy(self) -> None:
        return None


class TfPose:
    """Poses from /tf and /tf_static."""

    def __init__(self, node: Any, map_frame: str) -> None:
        self._map_frame = map_frame
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node, spin_thread=False)

    def lookup(
        self, target: str, source: str, stamp_ns: int, deadline: float, give_up: Callable[[], bool]
    ) -> tuple[Pose4 | None, str]:
        """T_target_source at the stamp, waited for until the deadline (monotonic, s); or None and why."""
        # To TF, stamp 0 means "the latest"; 1 ns later is the same pose and means what it says.
        when = Time(nanoseconds=max(stamp_ns, 1))
        while True:
            try:
                return matrix_from_pose(
                    self._buffer.lookup_transform(target, source, when).transform
                ), ""
            except ValueError as e:
                return None, str(e)
            except tf2_ros.TransformException as e:
                why = str(e) or "no such transform"
            if time.monotonic() >= deadline or give_up():
                return None, why
            time.sleep(POLL_S)

    def at(
        self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Callable[[], bool]
    ) -> PoseAnswer:
        if not camera_frame:
            return PoseAnswer(
                None,
                why="the image's header.frame_id is empty, so TF can't be asked where the camera is",
            )
        T, why = self.lookup(
            self._map_frame, camera_frame, stamp_ns, time.monotonic() + wait_s, give_up
        )
        return PoseAnswer(
            T,
            why=why
            and f"TF has no {self._map_frame} <- {camera_frame} at {stamp_ns / NS_PER_S:.3f} s"
            f" after {wait_s:g} s of waiting: {why}",
        )

    def clear(self) -> None:
        self._buffer.clear()

    def destroy(self) -> None:
        self._listener.unregister()


class TopicPose:
    """Poses from a topic, interpolated at the stamp.

    PoseStamped and PoseWithCovarianceStamped are poses of the camera's optical frame. Odometry is the pose of its
    ``child_frame_id``; TF then says where the camera sits on it. TF is also asked where ``header.frame_id`` is not the map frame.
    """

    TYPES: ClassVar = {
        "pose": PoseStamped,
        "pose_with_covariance": PoseWithCovarianceStamped,
        "odometry": Odometry,
    }

    def __init__(
        self,
        node: Any,
        kind: str,
        map_frame: str,
        subscribe: Callable[..., Any],
        on_error: Callable[[str], None],
    ) -> None:
        self._kind = kind
        self._map_frame = map_frame
        self._on_error = on_error
        self._arrived = threading.Condition()
        self._track = PoseTrack(KEEP_NS)
        self._frames = (map_frame, "")
        self._tf = TfPose(node, map_frame)
        self._destroy = subscribe(self.TYPES[kind], self._on_message)

    def _on_message(self, msg: Any) -> None:
        try:
            if self._kind == "pose":
                T, cov = matrix_from_pose(msg.pose), None
            else:
                T, cov = (
                    matrix_from_pose(msg.pose.pose),
                    covariance_from_message(msg.pose.covariance),
                )
        except ValueError as e:
            self._on_error(f"a pose is left out: {e}")
            return
        stamp_ns = ns_from_stamp(msg.header.stamp)
        with self._arrived:
            span = self._track.span_ns
            if span is not None and stamp_ns < span[1] - JUMP_NS:
                self._track = PoseTrack(KEEP_NS)
            self._frames = (
                msg.header.frame_id.lstrip("/"),
                msg.child_frame_id.lstrip("/") if self._kind == "odometry" else "",
            )
            self._track.add(stamp_ns, T, cov)
            self._arrived.notify_all()

    def at(
        self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Callable[[], bool]
    ) -> PoseAnswer:
        deadline = time.monotonic() + wait_s
        with self._arrived:
            while (found := self._track.at(stamp_ns)) is None:
                left = deadline - time.monotonic()
                if left <= 0 or give_up():
                    span = self._track.span_ns
                    have = (
                        f"the poses at hand are from {span[0] / NS_PER_S:.3f} to {span[1] / NS_PER_S:.3f} s"
                        if span
                        else "none has come"
                    )
                    return PoseAnswer(
                        None,
                        why=f"no pose around {stamp_ns / NS_PER_S:.3f} s after {wait_s:g} s of waiting: {have}",
                    )
                self._arrived.wait(min(left, 0.05))
            parent, child = self._frames
        T, cov = found
        T_map_parent, T_child_camera = np.eye(4), np.eye(4)
        for target, source, out in (
            (self._map_frame, parent, T_map_parent),
            (child, camera_frame, T_child_camera),
        ):
            if target and source and target != source:
                link, why = self._tf.lookup(target, source, stamp_ns, deadline, give_up)
                if link is None:
                    return PoseAnswer(
                        None,
                        why=f"the pose is of {child or camera_frame!r} in {parent!r}, and TF has no"
                        f" {target} <- {source}: {why}",
                    )
                out[:] = link
        T_map_camera = T_map_parent @ T @ T_child_camera
        if cov is not None:
            cov = transport(
                cov, T_map_parent[:3, :3], T_map_camera[:3, 3] - (T_map_parent @ T)[:3, 3]
            )
        return PoseAnswer(T_map_camera, cov)

    def clear(self) -> None:
        with self._arrived:
            self._track = PoseTrack(KEEP_NS)
        self._tf.clear()

    def destroy(self) -> None:
        self._destroy()
        self._tf.destroy()
