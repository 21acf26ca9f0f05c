"""Parameters of the RGB-D tracker.

``config/rgbd_slam.yaml`` and the node's ROS parameters are made from these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vos_ros.config import MonitorConfig, option


@dataclass(frozen=True)
class ImageConfig:
    """Which part of an image is used."""

    width_px: int = option(
        320,
        "images are shrunk by a whole number until they are no wider than this",
        unit="px",
        low=80,
        high=4096,
    )
    min_depth_m: float = option(
        0.3, "nearer measurements are left out", unit="m", low=0.0, high=10.0
    )
    max_depth_m: float = option(
        4.0, "farther measurements are left out", unit="m", low=0.5, high=60.0
    )
    min_depth_share: float = option(
        0.1,
        "an image with depth on a smaller share of its pixels can't be tracked",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class FollowConfig:
    """When a motion is accepted, and when a frame becomes a keyframe."""

    keyframe_m: float = option(
        0.15,
        "a frame becomes a keyframe when its distance from each other one is at least 1: metres"
        " over this, plus degrees over keyframe_deg",
        unit="m",
        low=0.01,
        high=10.0,
    )
    keyframe_deg: float = option(
        10.0,
        "rotation from the nearest keyframe at which a frame becomes one (see keyframe_m)",
        unit="deg",
        low=0.5,
        high=90.0,
    )
    max_keyframes: int = option(
        250,
        "largest number of keyframes (about 0.9 MB each); with more, one of the two that are"
        " nearest to each other is removed",
        low=4,
        high=10000,
    )
    min_inliers: float = option(
        0.4,
        "smallest share of the pixels with depth that must fit the keyframe's",
        low=0.05,
        high=1.0,
    )
    min_inliers_alone: float = option(
        0.6, "the same where no corners confirm the motion", low=0.05, high=1.0
    )
    min_features: int = option(
        10,
        "smallest number of followed corners that must agree on a motion",
        low=6,
        high=1000,
    )
    min_feature_share: float = option(
        0.4, "smallest share of the followed corners that must agree on a motion", low=0.0, high=1.0
    )
    agree_m: float = option(
        0.03,
        "largest distance between the motion by the images and that by the corners",
        unit="m",
        low=0.001,
        high=1.0,
    )
    agree_deg: float = option(
        2.0,
        "largest rotation between the motion by the images and that by the corners",
        unit="deg",
        low=0.05,
        high=45.0,
    )
    max_speed_m_s: float = option(
        2.0,
        "largest speed of a camera; faster motions are not accepted",
        unit="m/s",
        low=0.05,
        high=100.0,
    )
    max_turn_deg_s: float = option(
        180.0, "largest turning speed of a camera", unit="deg/s", low=1.0, high=3600.0
    )


@dataclass(frozen=True)
class LostConfig:
    """What is done when the camera is lost."""

    candidates: int = option(
        4,
        "number of keyframes that are compared with an image to find a lost camera",
        low=1,
        high=100,
    )
    min_matches: int = option(
        20, "smallest number of matched corners that must agree on a pose", low=6, high=1000
    )
    restart_s: float = option(
        3.0,
        "after being lost for this long it starts anew from the last pose; it comes back to the old"
        " keyframes where it recognizes them",
        unit="s",
        low=0.1,
        high=3600.0,
    )
    retry_s: float = option(
        1.0,
        "period at which the old keyframes are compared with the image after a new start",
        unit="s",
        low=0.1,
        high=600.0,
    )
    speed_m_s: float = option(
        0.3,
        "growth of the position's standard deviation while the camera is lost",
        unit="m/s",
        low=0.0,
        high=100.0,
    )
    turn_deg_s: float = option(
        30.0,
        "growth of the rotation's standard deviation while the camera is lost",
        unit="deg/s",
        low=0.0,
        high=3600.0,
    )


@dataclass(frozen=True)
class CovarianceConfig:
    """How certain a pose is."""

    start_m: float = option(
        0.001, "standard deviation per axis of the first position", unit="m", low=0.0, high=10.0
    )
    start_deg: float = option(
        0.05, "standard deviation per axis of the first rotation", unit="deg", low=0.0, high=90.0
    )
    relative: float = option(
        0.001,
        "error of aligning two images: distance of the surfaces per metre of their depth",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class ModelConfig:
    """The volumetric model (TSDF) that keyframes are integrated into and aligned with."""

    enabled: bool = option(
        False,
        "also align each new keyframe with the model of the older ones; it costs as much as all the"
        " rest, and did not lower the drift where it was measured",
    )
    voxel_m: float = option(0.015, "side of a voxel", unit="m", low=0.002, high=0.2)
    max_blocks: int = option(
        20000,
        "largest number of blocks of 16^3 voxels (about 80 kB each); with more it starts anew",
        low=100,
        high=10000000,
    )
    relative: float = option(
        0.002,
        "error of aligning an image with the model, per metre of the surface's depth",
        low=0.0001,
        high=1.0,
    )


@dataclass(frozen=True)
class SlamNodeConfig(MonitorConfig):
    """Topics, frames and time of the node."""

    map_frame: str = option("map", "frame of the poses")
    base_frame: str = option(
        "",
        "frame whose pose is published, above the camera in TF; empty = the camera's own frame",
    )
    publish_tf: bool = option(True, "publish the pose to TF, besides the odometry")
    publish_lost: bool = option(
        True, "publish the last pose with a growing covariance while lost; false = nothing"
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
        "first rotation of the camera's optical frame in the map, a quaternion x y z w; the default"
        " is that of a level camera that looks along the map's x, z up",
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


@dataclass(frozen=True)
class SlamConfig:
    """The parameters of the tracker."""

    image: ImageConfig = field(default_factory=ImageConfig)
    """Images."""
    follow: FollowConfig = field(default_factory=FollowConfig)
    """Tracking from frame to frame."""
    lost: LostConfig = field(default_factory=LostConfig)
    """Lost cameras."""
    covariance: CovarianceConfig = field(default_factory=CovarianceConfig)
    """Covariances of the poses."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Volumetric model."""
    node: SlamNodeConfig = field(default_factory=SlamNodeConfig)
    """The ROS node."""
