"""The sections of the configuration that only nodes read: topics, bounds of messages, reports."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vos_ros.config.tree import option
from vos_ros.messages import pose_sources
from vos_ros.messages.checks import DEFAULT_LIMITS, Limits


@dataclass(frozen=True)
class BridgesConfig:
    """Outputs for mappers that have message types of their own (docs/bridges.md)."""

    label_image: str = option(
        "off",
        "publish ~/label_image: 32SC1, each pixel the persistent id of its object, 0 background"
        " (Khronos)",
        choices=("off", "on"),
    )
    landmarks: str = option(
        "off",
        "publish objects with a certain match as landmarks, measured in the camera's frame"
        " (rtabmap)",
        choices=("off", "on"),
    )
    landmark_score: float = option(
        0.9, "least score (probability) of a landmark's match ...", low=0.0, high=1.0
    )
    landmark_margin: float = option(
        0.5, "... by so much above that of the runner-up ...", low=0.0, high=1.0
    )
    landmark_observations: int = option(
        10,
        "... of a pair that was matched in so many frames ...",
        unit="frames",
        low=0,
        high=100000,
    )
    landmark_visible: float = option(
        0.6, "... with at least this share of the object in view", low=0.0, high=1.0
    )


@dataclass(frozen=True)
class MonitorConfig:
    """What each of our nodes reports about itself."""

    input_timeout_s: float = option(
        2.0, "an input silent for this long is reported missing", unit="s", low=0.1, high=600.0
    )
    diagnostics_period_s: float = option(
        1.0, "period of /diagnostics", unit="s", low=0.1, high=60.0
    )
    worker_timeout_s: float = option(
        5.0,
        "work on one message that takes longer is reported as an error on /diagnostics",
        unit="s",
        low=0.1,
        high=600.0,
    )


@dataclass(frozen=True)
class NodeConfig(MonitorConfig):
    """Topics, time and quality of service of the node."""

    pose_source: str = option(
        "tf",
        "where the camera pose comes from: tf, a topic by the kind of its messages (pose, odometry,"
        " ...), or none; `ros2 launch vos_ros vos_ros.launch.py --show-args` lists all",
        choices=(*pose_sources.NAMES, pose_sources.NONE),
        list_choices=False,
        basic=True,
    )
    map_frame: str = option(
        "map", "frame of the map; must equal header.frame_id of map_objects", basic=True
    )
    use_depth: bool = option(True, "subscribe to depth and wait for it", basic=True)
    image_transport: str = option(
        "raw", "how colour images arrive", choices=("raw", "compressed"), basic=True
    )
    depth_transport: str = option("raw", "how depth images arrive", choices=("raw", "compressed"))
    sync_slop_s: float = option(
        0.02,
        "images, depth and camera_info whose stamps differ by less belong together",
        unit="s",
        low=0.0,
        high=1.0,
    )
    sync_queue: int = option(
        10, "messages kept per input while waiting for their partners", low=1, high=1000
    )
    check_depth_frame: bool = option(
        True,
        "depth must be in the image's frame, by its header.frame_id; false = it is registered to"
        " colour whatever its frame is named",
    )
    tf_wait_s: float = option(
        0.2, "longest wait for the pose at the image's stamp", unit="s", low=0.0, high=10.0
    )
    input_reliability: str = option(
        "best_effort", "QoS of images, depth and camera_info", choices=("best_effort", "reliable")
    )
    output_reliability: str = option(
        "reliable", "QoS of the outputs", choices=("best_effort", "reliable")
    )
    input_depth: int = option(5, "QoS history depth of the inputs", low=1, high=1000)
    output_depth: int = option(10, "QoS history depth of the outputs", low=1, high=1000)
    autostart: bool = option(
        True, "configure and activate by itself; false = wait for a lifecycle manager"
    )
    weights_dir: str = option(
        "",
        "folder below which a running node may be told to read weights; empty = only those of the"
        " package. Files that are named when the node starts may lie anywhere",
    )
    publish_overlay: bool = option(True, "publish ~/overlay while it has a subscriber")
    publish_cloud: bool = option(True, "publish ~/cloud while it has a subscriber")
    publish_markers: bool = option(True, "publish ~/markers while it has a subscriber")


@dataclass(frozen=True)
class LimitsConfig:
    """Bounds of what messages may carry; what exceeds one is refused and reported."""

    pixels: int = option(
        DEFAULT_LIMITS.pixels,
        "pixels of an image, compressed or not",
        low=1,
        high=1_000_000_000,
    )
    points: int = option(
        DEFAULT_LIMITS.points, "points of all objects of a map message", low=1, high=500_000_000
    )
    objects: int = option(DEFAULT_LIMITS.objects, "objects of a map message", low=1, high=1_000_000)
    prompts: int = option(
        DEFAULT_LIMITS.prompts, "prompts of one call of ~/add_objects", low=1, high=10_000
    )
    text: int = option(
        DEFAULT_LIMITS.text, "characters of a frame's name or a session id", low=16, high=65_535
    )

    def of_messages(self) -> Limits:
        """Return them as the readers of messages take them."""
        return Limits(**{f.name: getattr(self, f.name) for f in fields(Limits)})
