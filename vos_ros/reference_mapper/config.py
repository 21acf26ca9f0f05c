"""Parameters of the reference mapper.

``config/object_mapper.yaml`` and the node's ROS parameters are made from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vos_ros.config import MonitorConfig, option
from vos_ros.messages import pose_sources


@dataclass(frozen=True)
class ModelConfig:
    """How surface, pose and existence of an object are estimated."""

    voxel_m: float = option(
        0.01,
        "side of the cubes in which an object's points are averaged; doubled for an object with"
        " more than max_points of them",
        unit="m",
        low=0.001,
        high=1.0,
    )
    max_points: int = option(4000, "largest number of points kept per object", low=50, high=1000000)
    min_hits: int = option(
        2,
        "a cube is published once it was measured in this many frames",
        unit="frames",
        low=1,
        high=100,
    )
    hit_share: float = option(
        0.05,
        "a cube must also be measured in this share of the frames that showed the object",
        low=0.0,
        high=1.0,
    )
    max_required_hits: int = option(
        4,
        "largest number of frames that min_hits and hit_share require",
        unit="frames",
        low=1,
        high=1000,
    )
    reach_m: float = option(
        0.05,
        "points are an object's own up to this distance outside its box, plus reach_share",
        unit="m",
        low=0.001,
        high=10.0,
    )
    reach_share: float = option(
        0.25,
        "share of the longest side of an object's box that is added to reach_m",
        low=0.0,
        high=2.0,
    )
    min_agreement: float = option(
        0.5,
        "a mask is not integrated where less than this share of its points is the object's own, and"
        " it shows less than this share of the object",
        low=0.0,
        high=1.0,
    )
    measured_sigma_m: float = option(
        0.01,
        "standard deviation per axis of where a frame shows an object, without that of the pose",
        unit="m",
        low=0.0001,
        high=1.0,
    )
    pose_sigma_m: float = option(
        0.01,
        "standard deviation of the camera's position where its source states no covariance",
        unit="m",
        low=0.0,
        high=5.0,
    )
    pose_sigma_deg: float = option(
        0.3,
        "standard deviation of the camera's rotation where its source states no covariance",
        unit="deg",
        low=0.0,
        high=90.0,
    )
    max_pose_sigma_m: float = option(
        0.1,
        "frames with a larger standard deviation of the camera's position add no points",
        unit="m",
        low=0.001,
        high=10.0,
    )
    independent_s: float = option(
        1.0,
        "poses closer in time than this share their errors: they count as one measurement of where"
        " an object is",
        unit="s",
        low=0.0,
        high=600.0,
    )
    match_log_odds: float = option(
        0.4, "a match raises the log-odds that an object exists by this", low=0.01, high=10.0
    )
    absent_log_odds: float = option(
        0.4, "an ABSENT lowers the log-odds that an object exists by this", low=0.01, high=10.0
    )


@dataclass(frozen=True)
class RulesConfig:
    """How much evidence changes the map."""

    min_score: float = option(
        0.4, "matches with a lower score are not integrated", low=0.0, high=1.0
    )
    new_frames: int = option(
        5,
        "number of frames in which a NEW track must be confirmed and measured to become an object",
        unit="frames",
        low=1,
        high=1000,
    )
    new_s: float = option(
        0.5, "shortest time between the first and the last of them", unit="s", low=0.0, high=60.0
    )
    new_points: int = option(30, "smallest number of points of a new object", low=1, high=100000)
    piece_gap_m: float = option(
        0.05,
        "only the largest piece of a NEW track's points is used; pieces are farther apart than this"
        " (a mask that covers two similar objects)",
        unit="m",
        low=0.001,
        high=10.0,
    )
    candidate_timeout_s: float = option(
        10.0,
        "a NEW track that was not measured for this long starts anew",
        unit="s",
        low=0.1,
        high=3600.0,
    )
    join_distance_m: float = option(
        0.015,
        "points of two objects that are closer than this are the same surface",
        unit="m",
        low=0.001,
        high=1.0,
    )
    join_overlap: float = option(
        0.4,
        "a new object is joined with a known one where this share of the smaller one's surface is"
        " the other's",
        low=0.01,
        high=1.0,
    )
    join_box_iou: float = option(
        0.5,
        "a new object is also joined where it shares some surface and the IoU of the boxes is this",
        low=0.01,
        high=1.0,
    )
    join_overlap_co_observed: float = option(
        0.8,
        "share of the surface that is required together with join_box_iou where most frames matched"
        " both objects in different places of the image",
        low=0.01,
        high=1.0,
    )
    merge_frames: int = option(
        5,
        "two objects are joined after this many frames with MERGE, none of which matched both",
        unit="frames",
        low=1,
        high=1000,
    )
    split_frames: int = option(
        10,
        "an object is divided after this many frames with SPLIT, none of which matched it",
        unit="frames",
        low=1,
        high=1000,
    )
    absent_s: float = option(
        1.0,
        "an object is deleted once it was ABSENT for this long without a match, if it is also"
        " unlikely to exist (delete_below)",
        unit="s",
        low=0.0,
        high=600.0,
    )
    delete_below: float = option(
        0.1,
        "probability that an object exists below which it may be deleted",
        low=0.0001,
        high=0.5,
    )
    max_absent_share: float = option(
        0.3,
        "at most this share of the objects in view (and at least one) may be on the way to deletion"
        " at once: where more seem absent, something else is likely wrong",
        low=0.0,
        high=1.0,
    )
    changed_share: float = option(
        0.05,
        "an object is published again when its number of points changed by this share, or its box"
        " by half a cube",
        low=0.0,
        high=10.0,
    )
    refresh_s: float = option(
        5.0,
        "an object is also published again when it was matched and its last publication is older"
        " than this",
        unit="s",
        low=0.1,
        high=3600.0,
    )


@dataclass(frozen=True)
class MapperNodeConfig(MonitorConfig):
    """Topics, files and time of the node."""

    map_frame: str = option("map", "frame of the map; associations in another one are refused")
    pose_source: str = option(
        "tf",
        "pose of the camera at which points are placed: the SLAM's (tf, or a topic, as"
        " node.pose_source of vos_ros), or the one that the perception node has corrected against"
        " the map (used). A map that is made from corrected poses drifts",
        choices=(*pose_sources.NAMES, "used"),
        list_choices=False,
    )
    given_sigma_m: float = option(
        0.03,
        "where the standard deviation of the SLAM's position is larger, the corrected pose is used",
        unit="m",
        low=0.0,
        high=10.0,
    )
    pose_wait_s: float = option(
        0.2, "longest wait for the SLAM's pose of an image", unit="s", low=0.0, high=10.0
    )
    map_file: str = option(
        "",
        "JSON file from which the map is read at the start (where it exists) and in which it is"
        " saved; its points lie in a folder next to it; empty = the map is not kept",
    )
    autosave_s: float = option(
        60.0,
        "period at which a changed map is saved, besides at the end; 0 = only at the end and by"
        " ~/save",
        unit="s",
        low=0.0,
        high=86400.0,
    )
    publish_period_s: float = option(
        0.5, "period at which changes of the map are published", unit="s", low=0.02, high=60.0
    )
    snapshot_every: int = option(
        50,
        "a snapshot follows this many deltas, for readers that have lost one",
        low=1,
        high=100000,
    )
    behind_s: float = option(
        2.0,
        "a snapshot is also published when the perception node uses an older revision for an image"
        " that came this long after a newer one",
        unit="s",
        low=0.1,
        high=600.0,
    )
    depth_transport: str = option("raw", "transport of depth images", choices=("raw", "compressed"))
    depth_reliability: str = option(
        "best_effort", "QoS of depth and camera_info", choices=("best_effort", "reliable")
    )
    reliability: str = option(
        "reliable", "QoS of labels, instances and associations", choices=("best_effort", "reliable")
    )
    sync_slop_s: float = option(
        0.02,
        "labels and depth whose stamps differ by less belong together",
        unit="s",
        low=0.0,
        high=1.0,
    )
    sync_wait_s: float = option(
        1.0,
        "longest wait for the missing messages of a stamp",
        unit="s",
        low=0.0,
        high=60.0,
    )
    depth_queue: int = option(
        60, "number of depth images kept until their labels come", low=1, high=10000
    )
    frame_queue: int = option(
        30,
        "number of frames kept while the mapper is busy; with more the oldest one is dropped",
        low=1,
        high=10000,
    )
    edge_px: int = option(
        2,
        "pixels within this distance of a mask's border are not lifted to 3-D",
        unit="px",
        low=0,
        high=16,
    )
    lift_max_points: int = option(
        4000, "largest number of points kept per lifted mask", low=10, high=100000
    )


@dataclass(frozen=True)
class MapperConfig:
    """The parameters of the mapper."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """Objects."""
    rules: RulesConfig = field(default_factory=RulesConfig)
    """Changes of the map."""
    node: MapperNodeConfig = field(default_factory=MapperNodeConfig)
    """The ROS node."""
