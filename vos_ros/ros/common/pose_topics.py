"""Build the messages of pose topics as rclpy has them, from the table of pose sources."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from jaxtyping import Float64
from std_msgs.msg import Header

from vos_ros.messages.pose_messages import fill_pose
from vos_ros.messages.pose_sources import PoseSource


def message_class(message_type: str) -> Any:
    """Return rclpy's class of a message type, ``package/msg/Type``."""
    package, _, name = message_type.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def pose_message(
    source: PoseSource,
    head: Header,
    T: Float64[np.ndarray, "4 4"],
    cov: Float64[np.ndarray, "6 6"] | None,
    child_frame_id: str,
) -> Any:
    """Build a message of a topic source.

    Args:
        source: entry of the table that describes the message.
        head: its header: the stamp, and the frame that the pose is given in.
        T: pose, T_frame_child, m.
        cov: covariance in the frame's axes (m, rad), where the type has room for one.
        child_frame_id: frame whose pose it is, where the message names one.
    """
    msg = message_class(source.message_type)(header=head)
    fill_pose(msg, source, T, cov, child_frame_id)
    return msg
