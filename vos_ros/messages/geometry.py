"""Builds and reads vectors, poses, transforms and their covariances. Units are m and rad."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3
from vos_ros.messages.checks import MAX_COORDINATE_M, MessageError
from vos_ros.messages.factory import MakeMessage

Pose4 = Float64[np.ndarray, "4 4"]
Cov6 = Float64[np.ndarray, "6 6"]

_MAX_QUATERNION_LENGTH_ERROR = 0.1
"""Largest distance of a quaternion's length from 1: rounding gives 1e-6, an empty field 1."""


def matrix_from_pose(pose: Any) -> Pose4:
    """Read geometry_msgs/Pose (position, orientation) or Transform (translation, rotation) as 4x4.

    Raises MessageError: a number is not finite or no coordinate, or the quaternion is far from unit
    length (all zero: it was never filled in).
    """
    p = pose.position if hasattr(pose, "position") else pose.translation
    q = pose.orientation if hasattr(pose, "orientation") else pose.rotation
    quaternion, position = np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z])
    norm = float(np.linalg.norm(quaternion))
    unit = abs(norm - 1.0) < _MAX_QUATERNION_LENGTH_ERROR  # False for NaN
    if not (unit and (np.abs(position) <= MAX_COORDINATE_M).all()):
        raise MessageError(
            f"not a pose: position {position}, quaternion {quaternion} of length {norm:.3g};"
            f" wanted finite numbers of at most {MAX_COORDINATE_M:g} m and a unit quaternion"
        )
    return se3.from_quaternion(position, quaternion)


def covariance_from_message(values: Any) -> Cov6 | None:
    """Read a float64[36] covariance as 6x6.

    None where it is unknown: all zero, not finite or larger than any place, or marked by a negative
    first element.
    """
    cov = np.asarray(values, np.float64).reshape(6, 6)
    known = (np.abs(cov) <= MAX_COORDINATE_M**2).all() and cov.any() and cov[0, 0] >= 0
    return cov if known else None


def point_message(make: MakeMessage, xyz: Iterable[float]) -> Any:
    """Build geometry_msgs/Point from three numbers, m."""
    x, y, z = (float(v) for v in xyz)
    return make("geometry_msgs/msg/Point", x=x, y=y, z=z)


def vector_message(make: MakeMessage, xyz: Iterable[float]) -> Any:
    """Build geometry_msgs/Vector3 from three numbers."""
    x, y, z = (float(v) for v in xyz)
    return make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def quaternion_message(make: MakeMessage, R: Float64[np.ndarray, "3 3"]) -> Any:
    """Build geometry_msgs/Quaternion from a rotation matrix; w >= 0."""
    x, y, z, w = (float(v) for v in se3.quaternion_from_matrix(R))
    return make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def pose_message(make: MakeMessage, T: Pose4) -> Any:
    """Build geometry_msgs/Pose from a 4x4 matrix."""
    return make(
        "geometry_msgs/msg/Pose",
        position=point_message(make, T[:3, 3]),
        orientation=quaternion_message(make, T[:3, :3]),
    )


def transform_message(make: MakeMessage, T: Pose4) -> Any:
    """Build geometry_msgs/Transform from a 4x4 matrix."""
    return make(
        "geometry_msgs/msg/Transform",
        translation=vector_message(make, T[:3, 3]),
        rotation=quaternion_message(make, T[:3, :3]),
    )


def pose_with_covariance_message(
    make: MakeMessage,
    T: Pose4 | None,
    cov: Cov6 | None = None,
) -> Any:
    """Build geometry_msgs/PoseWithCovariance.

    A pose that is not known gets a NaN position. A covariance that is not known is all zero, as ROS
    has it.
    """
    pose = (
        make(
            "geometry_msgs/msg/Pose",
            position=point_message(make, (math.nan,) * 3),
            orientation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        )
        if T is None
        else pose_message(make, T)
    )
    values = np.zeros(36) if cov is None else np.ascontiguousarray(cov, np.float64).reshape(36)
    return make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=values)


def pose_stamped_message(make: MakeMessage, header: Any, T: Pose4) -> Any:
    """Build geometry_msgs/PoseStamped from a header and a 4x4 matrix."""
    return make("geometry_msgs/msg/PoseStamped", header=header, pose=pose_message(make, T))


def pose_with_covariance_stamped_message(
    make: MakeMessage,
    header: Any,
    T: Pose4,
    cov: Cov6 | None,
) -> Any:
    """Build geometry_msgs/PoseWithCovarianceStamped.

    Args:
        make: factory of the message classes.
        header: std_msgs/Header; its frame is the pose's parent.
        T: pose, 4x4.
        cov: covariance (m, rad; axes of the parent), None where it is not known.
    """
    return make(
        "geometry_msgs/msg/PoseWithCovarianceStamped",
        header=header,
        pose=pose_with_covariance_message(make, T, cov),
    )


def transform_stamped_message(
    make: MakeMessage, header: Any, child: str, T_parent_child: Pose4
) -> Any:
    """Build geometry_msgs/TransformStamped.

    Args:
        make: factory of the message classes.
        header: std_msgs/Header; its frame is the parent.
        child: name of the child frame.
        T_parent_child: pose of the child in the parent, 4x4.
    """
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=header,
        child_frame_id=child,
        transform=transform_message(make, T_parent_child),
    )


def tf_message(make: MakeMessage, transforms: Sequence[Any]) -> Any:
    """Build tf2_msgs/TFMessage, the message of /tf and /tf_static, from TransformStamped."""
    return make("tf2_msgs/msg/TFMessage", transforms=list(transforms))


def odometry_message(
    make: MakeMessage,
    header: Any,
    child: str,
    T_parent_child: Pose4,
    cov: Cov6 | None,
) -> Any:
    """Build nav_msgs/Odometry. Its twist is zero with a zero covariance: it is not measured.

    Args:
        make: factory of the message classes.
        header: std_msgs/Header; its frame is the parent.
        child: name of the child frame.
        T_parent_child: pose of the child in the parent, 4x4.
        cov: covariance of the pose (m, rad; axes of the parent), None where it is not known.
    """
    twist = make(
        "geometry_msgs/msg/Twist",
        linear=vector_message(make, (0.0, 0.0, 0.0)),
        angular=vector_message(make, (0.0, 0.0, 0.0)),
    )
    return make(
        "nav_msgs/msg/Odometry",
        header=header,
        child_frame_id=child,
        pose=pose_with_covariance_message(make, T_parent_child, cov),
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )
