"""Parameters of the RGB-D tracker, from which ``config/rgbd_slam.yaml`` and the node's ROS parameters are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from vos_ros.config import option


@dataclass(frozen=True)
class ImageConfig:
    """What of an image is used."""

    width_px: int = option(
        320,
        "images are made smaller by whole steps until they are no wider than this",
        unit="px",
        low=80,
        high=4096,
    )
    min_depth_m: float = option(0.3, "nearer readings are left out", unit="m", low=0.0, high=10.0)
    max_depth_m: float = option(4.0, "farther readings are left out", unit="m", low=0.5, high=60.0)
    min_depth_share: float = option(
        0.1, "an image in which fewer of the pixels have depth can't be tracked", low=0.0, high=1.0
    )


@dataclass(frozen=True)
class FollowConfig:
    """When a motion is believed, and when a frame becomes a keyframe."""

    keyframe_m: float = option(
        0.15,
        "a frame becomes a keyframe when it is this far from each other one ...",
        unit="m",
        low=0.01,
        high=10.0,
    )
    keyframe_deg: float = option(
        10.0, "... or turned by this, or by a share of both", unit="deg", low=0.5, high=90.0
    )
    max_keyframes: int = option(
        250,
        "most keyframes kept (about 0.9 MB each); then the one with the nearest neighbour goes",
        low=4,
        high=10000,
    )
    min_inliers: float = option(
        0.4,
        "least share of the pixels with depth that must fit the keyframe's ...",
        low=0.05,
        high=1.0,
    )
    min_inliers_alone: float = option(
        0.6, "... and where there are no corners to bear witness", low=0.05, high=1.0
    )
    min_features: int = option(
        10,
        "least number of followed corners that agree on a motion, for it to count, ...",
        low=6,
        high=1000,
    )
    min_feature_share: float = option(
        0.4, "... and least share of all that could be followed", low=0.0, high=1.0
    )
    agree_m: float = option(
        0.03,
        "the images' motion and that of the corners may differ by this, ...",
        unit="m",
        low=0.001,
        high=1.0,
    )
    agree_deg: float = option(2.0, "... and by this", unit="deg", low=0.05, high=45.0)
    max_speed_m_s: float = option(
        2.0, "no camera moves faster ...", unit="m/s", low=0.05, high=100.0
    )
    max_turn_deg_s: float = option(180.0, "... or turns faster", unit="deg/s", low=1.0, high=3600.0)


@dataclass(frozen=True)
class LostConfig:
    """What is done when the camera's motion can't be told."""

    candidates: int = option(
        4, "keyframes that are compared with an image to find the place again", low=1, high=100
    )
    min_matches: int = option(
        20, "least number of matched corners that agree on a place", low=6, high=1000
    )
    restart_s: float = option(
        3.0,
        "after being lost for this long it starts anew, from the last pose; it comes back to the old keyframes"
        " where it sees them again",
        unit="s",
        low=0.1,
        high=3600.0,
    )
    retry_s: float = option(
        1.0,
        "after a new start the old keyframes are looked for this often",
        unit="s",
        low=0.1,
        high=600.0,
    )
    speed_m_s: float = option(
        0.3,
        "while lost, the standard deviation of the position grows by this ...",
        unit="m/s",
        low=0.0,
        high=100.0,
    )
    turn_deg_s: float = option(
        30.0, "... and that of the rotation by this", unit="deg/s", low=0.0, high=3600.0
    )


@dataclass(frozen=True)
class CovarianceConfig:
    """How sure a pose is."""

    start_m: float = option(
        0.001, "standard deviation per axis of the first position", unit="m", low=0.0, high=10.0
    )
    start_deg: float = option(
        0.05, "standard deviation per axis of the first rotation", unit="deg", low=0.0, high=90.0
    )
    relative: float = option(
        0.001,
        "error of aligning two images: that of the seen surface, per metre of its distance",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class ModelConfig:
    """The volumetric model (TSDF) that keyframes are integrated into and aligned with."""

    enabled: bool = option(
        False,
        "align each new keyframe with the model of those before, too: costs as much as all the rest, and did not"
        " lower the drift where it was measured",
    )
    voxel_m: float = option(0.015, "side of a voxel", unit="m", low=0.002, high=0.2)
    max_blocks: int = option(
        20000,
        "most blocks of 16^3 voxels (about 80 kB each); the model starts anew where more are wanted",
        low=100,
        high=10000000,
    )
    relative: float = option(
        0.002,
        "error of aligning an image with the model, per metre of the surface's distance",
        low=0.0001,
        high=1.0,
    )


@dataclass(frozen=True)
class SlamNodeConfig:
    """Topics, frames and time of the node."""

    map_frame: str = option("map", "frame of the poses")
    base_frame: str = option(
        "",
        "frame whose pose is published; it must carry the camera in TF; empty = the camera's own frame",
    )
    publish_tf: bool = option(True, "publish the pose to TF, besides the odometry")
    publish_lost: bool = option(
        True, "publish the last pose, with its growing covariance, while lost; false = nothing"
    )
    initial_x: float = option(
        0.0, "first position of the camera in the map", unit="m", low=-1e6, high=1e6
    )
    initial_y: float = option(
        0.0, "first position of the camera in the map", unit="m", low=-1e6, high=1e6
    )
    initial_z: float = option(
        0.0, "first position of the camera in the map", unit="m", low=-1e6, high=1e6
    )
    initial_qx: float = option(
        -0.5,
        "first rotation of the camera's optical frame in the map, a quaternion x y z w; the default is that"
        " of a level camera that looks along the map's x, z up",
        low=-1.0,
        high=1.0,
    )
    initial_qy: float = option(0.5, "y of it", low=-1.0, high=1.0)
    initial_qz: float = option(-0.5, "z of it", low=-1.0, high=1.0)
    initial_qw: float = option(0.5, "w of it", low=-1.0, high=1.0)
    image_transport: str = option("raw", "how colour images arrive", choices=("raw", "compressed"))
    depth_transport: str = option("raw", "how depth images arrive", choices=("raw", "compressed"))
    input_reliability: str = option(
        "best_effort", "QoS of images, depth and camera_info", choices=("best_effort", "reliable")
    )
    input_depth: int = option(5, "QoS history depth of the inputs", low=1, high=1000)
    sync_slop_s: float = option(
        0.02,
        "colour and depth whose stamps differ by less belong together",
        unit="s",
        low=0.0,
        high=1.0,
    )
    sync_queue: int = option(10, "images kept while waiting for their depth", low=1, high=1000)
    input_timeout_s: float = option(
        2.0, "an input silent for this long is reported missing", unit="s", low=0.1, high=600.0
    )
    diagnostics_period_s: float = option(
        1.0, "period of /diagnostics", unit="s", low=0.1, high=60.0
    )


@dataclass(frozen=True)
class SlamConfig:
    """The whole tree."""

    image: ImageConfig = field(default_factory=ImageConfig)
    follow: FollowConfig = field(default_factory=FollowConfig)
    lost: LostConfig = field(default_factory=LostConfig)
    covariance: CovarianceConfig = field(default_factory=CovarianceConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    node: SlamNodeConfig = field(default_factory=SlamNodeConfig)
