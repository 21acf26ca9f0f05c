"""List the pose sources: where the camera pose of an image can come from.

Configuration choices, node, mapper, player, bag reader and launch files derive from this table. A
topic of another message type is one more entry (docs/extending.md).

Plain values alone: this module imports nothing, so that the configuration can.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseSource:
    """Describe one source by plain values: TF, or a topic and where its messages keep the pose."""

    name: str
    """Value of ``node.pose_source``, and of the player's ``--pose``."""
    help: str
    """What the source gives, in a few words for option lists."""
    message_type: str = ""
    """Type of the topic's messages, ``package/msg/Type``; empty for TF. They have a ``header``."""
    topic: str = "pose"
    """Default name of the topic (relative, remappable)."""
    pose: str = ""
    """Path of the geometry_msgs/Pose or Transform in the message, with dots."""
    covariance: str = ""
    """Path of its 36 covariances; empty where the message type has none."""
    child_frame: str = ""
    """Path of the name of the frame whose pose it is; empty: that of the camera's optical frame."""


TF = "tf"
"""Name of the source that is no topic: /tf and /tf_static."""
NONE = "none"
"""Choice of the node, the player and the bag reader: no poses."""

POSE_SOURCES = (
    PoseSource(name=TF, help="TF at the stamp of the image"),
    PoseSource(
        name="pose",
        help="camera poses without covariance",
        message_type="geometry_msgs/msg/PoseStamped",
        pose="pose",
    ),
    PoseSource(
        name="pose_with_covariance",
        help="camera poses with covariance",
        message_type="geometry_msgs/msg/PoseWithCovarianceStamped",
        pose="pose.pose",
        covariance="pose.covariance",
    ),
    PoseSource(
        name="odometry",
        help="poses of child_frame_id with covariance; TF knows where the camera is on it",
        message_type="nav_msgs/msg/Odometry",
        pose="pose.pose",
        covariance="pose.covariance",
        child_frame="child_frame_id",
    ),
)
"""All of them, in the order in which options list them."""

NAMES = tuple(s.name for s in POSE_SOURCES)
"""Names of all sources."""
BY_NAME = {s.name: s for s in POSE_SOURCES}
BY_MESSAGE_TYPE = {s.message_type: s for s in POSE_SOURCES if s.message_type}
"""The topic sources by their message type: a bag's topics tell their source by their type."""


def listing() -> str:
    """Return one sentence part that names every source and what it gives."""
    return "; ".join(
        f"{s.name}: {s.help}" + (f" ({s.message_type})" if s.message_type else "")
        for s in POSE_SOURCES
    )
