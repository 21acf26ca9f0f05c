"""Parameters of the reference mapper, from which ``config/object_mapper.yaml`` and the node's ROS parameters are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from vos_ros.config import option
from vos_ros.messages import pose_sources


@dataclass(frozen=True)
class ModelConfig:
    """How an object's surface, place and existence are kept."""

    voxel_m: float = option(
        0.01,
        "side of the cubes in which an object's points are averaged; doubled for an object that has more than"
        " max_points of them",
        unit="m",
        low=0.001,
        high=1.0,
    )
    max_points: int = option(4000, "most points kept per object", low=50, high=1000000)
    min_hits: int = option(
        2,
        "a cube is published once it was measured in so many frames ...",
        unit="frames",
        low=1,
        high=100,
    )
    hit_share: float = option(
        0.05, "... and in this share of the frames that measured the object ...", low=0.0, high=1.0
    )
    enough_hits: int = option(
        4, "... but never more than this is wanted", unit="frames", low=1, high=1000
    )
    reach_m: float = option(
        0.05, "points farther than this outside an object's box ...", unit="m", low=0.001, high=10.0
    )
    reach_share: float = option(
        0.25, "... and this share of its longest side are not its own", low=0.0, high=2.0
    )
    min_agreement: float = option(
        0.5,
        "where less than this share of a mask's points is an object's own, and the mask shows less than this"
        " share of the object, it is not integrated",
        low=0.0,
        high=1.0,
    )
    measured_sigma_m: float = option(
        0.01,
        "standard deviation per axis of where a frame shows an object, besides the pose's",
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
        "frames whose camera position is less certain than this add no points",
        unit="m",
        low=0.001,
        high=10.0,
    )
    independent_s: float = option(
        1.0,
        "errors of poses closer in time than this are the same error: they count as one measurement of"
        " where an object is",
        unit="s",
        low=0.0,
        high=600.0,
    )
    seen_gain: float = option(
        0.4, "a match raises the log-odds that an object exists by this", low=0.01, high=10.0
    )
    absent_loss: float = option(0.4, "an ABSENT lowers them by this", low=0.01, high=10.0)


@dataclass(frozen=True)
class RulesConfig:
    """What must be said how often before the map changes."""

    min_score: float = option(
        0.4, "matches with a lower score are not integrated", low=0.0, high=1.0
    )
    new_frames: int = option(
        5,
        "a NEW track becomes an object when it was confirmed and measured in so many frames ...",
        unit="frames",
        low=1,
        high=1000,
    )
    new_s: float = option(0.5, "... over at least this time ...", unit="s", low=0.0, high=60.0)
    new_points: int = option(30, "... with at least so many points", low=1, high=100000)
    piece_gap_m: float = option(
        0.05,
        "of what a NEW track shows, only the largest piece counts; what is farther apart than this is not one"
        " piece (a mask that covers two look-alikes)",
        unit="m",
        low=0.001,
        high=10.0,
    )
    forget_s: float = option(
        10.0,
        "a track that was to become an object and wasn't measured for this long starts over",
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
        "a new object of which this share of surface (of the smaller of both) is a known object's is joined"
        " to that",
        low=0.01,
        high=1.0,
    )
    join_box_iou: float = option(
        0.5,
        "... or some of its surface, and its box overlaps that object's by this IoU",
        low=0.01,
        high=1.0,
    )
    join_overlap_beside: float = option(
        0.8,
        "where most frames showed both beside one another, this share and that IoU are wanted",
        low=0.01,
        high=1.0,
    )
    merge_frames: int = option(
        5,
        "two objects are joined after so many frames said MERGE of them, with none that matched both between",
        unit="frames",
        low=1,
        high=1000,
    )
    split_frames: int = option(
        10,
        "an object is separated after so many frames said SPLIT of it, with none that matched it between",
        unit="frames",
        low=1,
        high=1000,
    )
    absent_s: float = option(
        1.0,
        "an object is deleted when it was ABSENT for this long without a match between ...",
        unit="s",
        low=0.0,
        high=600.0,
    )
    delete_below: float = option(
        0.1, "... and the probability that it exists fell below this", low=0.0001, high=0.5
    )
    changed_share: float = option(
        0.05,
        "an object is published again when its number of points changed by this share, or its box by half"
        " a cube",
        low=0.0,
        high=10.0,
    )
    refresh_s: float = option(
        5.0,
        "... or when it was seen again and its last publication is older than this",
        unit="s",
        low=0.1,
        high=3600.0,
    )


@dataclass(frozen=True)
class MapperNodeConfig:
    """Topics, files and time of the node."""

    map_frame: str = option("map", "frame of the map; associations in another one are refused")
    pose_source: str = option(
        "tf",
        "where the camera stood when it measured: as the SLAM says (from TF, or from a topic `pose` of that"
        " type), or as the perception node has corrected it against the map (used); a map made from poses that hang"
        " on it drifts",
        choices=(*pose_sources.NAMES, "used"),
    )
    given_sigma_m: float = option(
        0.03,
        "... where the SLAM's pose is less certain than this, the corrected one serves",
        unit="m",
        low=0.0,
        high=10.0,
    )
    pose_wait_s: float = option(
        0.2, "longest wait for the SLAM's pose of an image", unit="s", low=0.0, high=10.0
    )
    map_file: str = option(
        "",
        "the map is read from this JSON file at the start (where it exists) and saved there; its points lie in a"
        " folder beside it; empty = not kept",
    )
    autosave_s: float = option(
        60.0,
        "a changed map is saved this often, and at the end; 0 = only at the end and by ~/save",
        unit="s",
        low=0.0,
        high=86400.0,
    )
    publish_period_s: float = option(
        0.5, "changes of the map are published this often", unit="s", low=0.02, high=60.0
    )
    snapshot_every: int = option(
        50,
        "so many changes are followed by a whole map, for those who lost one ...",
        low=1,
        high=100000,
    )
    behind_s: float = option(
        2.0,
        "... as it is published when the perception node speaks of an older revision of an image that came so"
        " long after the change",
        unit="s",
        low=0.1,
        high=600.0,
    )
    depth_transport: str = option("raw", "how depth images arrive", choices=("raw", "compressed"))
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
        "longest wait for the messages of a stamp that are still missing",
        unit="s",
        low=0.0,
        high=60.0,
    )
    depth_queue: int = option(60, "depth images kept until their labels come", low=1, high=10000)
    frame_queue: int = option(
        30,
        "frames kept while the mapper is at work; the oldest is left out where more come",
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
    lift_max_points: int = option(4000, "points kept per lifted mask", low=10, high=100000)
    input_timeout_s: float = option(
        2.0, "an input silent for this long is reported missing", unit="s", low=0.1, high=600.0
    )
    diagnostics_period_s: float = option(
        1.0, "period of /diagnostics", unit="s", low=0.1, high=60.0
    )


@dataclass(frozen=True)
class MapperConfig:
    """The whole tree."""

    model: ModelConfig = field(default_factory=ModelConfig)
    rules: RulesConfig = field(default_factory=RulesConfig)
    node: MapperNodeConfig = field(default_factory=MapperNodeConfig)
