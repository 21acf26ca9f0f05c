"""Read and fill the messages of pose topics, as the table of pose sources describes them.

Attributes are read and set by name, so that the messages may be rclpy's or rosbags'.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3
from vos_ros.messages.geometry import covariance_from_message, matrix_from_pose
from vos_ros.messages.pose_sources import PoseSource
from vos_ros.messages.stamps import ns_from_stamp


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PoseReading:
    """Hold one message of a pose topic as values."""

    stamp_ns: int
    """Time at which the pose holds, ns."""
    frame_id: str
    """Frame that the pose is given in, without a leading slash."""
    child_frame_id: str
    """Frame whose pose it is, without a leading slash; empty: the camera's optical frame."""
    T: Float64[np.ndarray, "4 4"]
    """T_frame_child: position in m."""
    cov: Float64[np.ndarray, "6 6"] | None
    """Covariance in the axes of ``frame_id`` (m, rad); None where the message states none."""


def read_pose(msg: Any, source: PoseSource) -> PoseReading:
    """Read a message of a topic source. Raises ValueError: its pose is none (NaN, quaternion)."""
    return PoseReading(
        stamp_ns=ns_from_stamp(msg.header.stamp),
        frame_id=str(msg.header.frame_id).lstrip("/"),
        child_frame_id=str(attrgetter(source.child_frame)(msg)).lstrip("/")
        if source.child_frame
        else "",
        T=matrix_from_pose(attrgetter(source.pose)(msg)),
        cov=covariance_from_message(attrgetter(source.covariance)(msg))
        if source.covariance
        else None,
    )


def fill_pose(
    msg: Any,
    source: PoseSource,
    T: Float64[np.ndarray, "4 4"],
    cov: Float64[np.ndarray, "6 6"] | None = None,
    child_frame_id: str = "",
) -> None:
    """Write a pose into a message of a topic source; the header is the caller's.

    Args:
        msg: message whose attributes can be set, as rclpy's.
        source: entry of the table that describes the message.
        T: pose, T_frame_child.
        cov: covariance in the frame's axes (m, rad); left at zero, ROS's unknown, where None.
        child_frame_id: frame whose pose it is, where the message names one.
    """
    pose = attrgetter(source.pose)(msg)
    position = pose.position if hasattr(pose, "position") else pose.translation
    orientation = pose.orientation if hasattr(pose, "orientation") else pose.rotation
    for axis, value in zip("xyz", T[:3, 3], strict=True):
        setattr(position, axis, float(value))
    for axis, value in zip("xyzw", se3.quaternion_from_matrix(T[:3, :3]), strict=True):
        setattr(orientation, axis, float(value))
    if source.covariance and cov is not None:
        _set(msg, source.covariance, np.ascontiguousarray(cov, np.float64).reshape(36))
    if source.child_frame:
        _set(msg, source.child_frame, child_frame_id)


def _set(msg: Any, path: str, value: Any) -> None:
    parent, _, name = path.rpartition(".")
    setattr(attrgetter(parent)(msg) if parent else msg, name, value)
