"""Define what the launch files declare, and what they pass on to the nodes.

Plain values, without an import of ``launch``: ``launch_actions`` makes launch's objects of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

import vos_ros
from vos_ros.config import NodeConfig, ProposalsConfig, params
from vos_ros.messages import pose_sources
from vos_ros.reference_mapper.config import MapperNodeConfig

Given = Mapping[str, str]
"""Values of launch arguments by name."""

_AS_CONFIGURED = "empty = as in the parameter file"
_BOOLEANS = ("true", "false")
_PLAYER_WAIT_S = 60
"""Longest wait of the player for the node and its subscriptions, s."""


@dataclass(frozen=True, slots=True)
class Argument:
    """Describe a launch argument."""

    name: str
    """Name of the argument."""
    default: str
    """Default value."""
    help: str
    """Meaning, one line."""
    choices: tuple[str, ...] = ()
    """Allowed values; empty where any is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """Describe a node of this package that is started."""

    executable: str
    """Name of the executable."""
    name: str
    """Name of the node."""
    namespace: str
    """Namespace of the node and its topics."""
    enclave: str
    """Its keys and permissions in an SROS 2 keystore; no more than a name while security is off."""
    config: str
    """Parameter file."""
    parameters: dict[str, str | bool | float] = field(default_factory=dict)
    """Parameters that replace those of the file."""
    remappings: tuple[tuple[str, str], ...] = ()
    """Topics with another name: (name in the node, name outside)."""
    log_level: str = "info"
    """Severity from which the node logs."""
    end_s: int = 5
    """Time after which launch ends the node by SIGTERM, s; SIGKILL follows after as long."""

    @property
    def ros_arguments(self) -> list[str]:
        """Command line that sets the enclave, and the log level of this node alone."""
        logger = ".".join([*filter(None, self.namespace.split("/")), self.name])
        return ["--enclave", self.enclave, "--log-level", f"{logger}:={self.log_level}"]


def argument_of(name: str, section: type, key: str) -> Argument:
    """Make the argument that sets a parameter: its help and choices are those of the config tree.

    Args:
        name: name of the argument.
        section: config class.
        key: name of the parameter in it.
    """
    param = next(p for p in params(section) if p.key == key)
    unit = f", {param.unit}" if param.unit else ""
    choices = _BOOLEANS if param.type is bool else param.choices
    text = f"{param.help}{unit}; {_AS_CONFIGURED}"
    return Argument(name, "", text, ("", *choices) if choices else ())


TOPICS = {
    "image": "colour image (with image_transport=compressed: its base name)",
    "camera_info": "calibration of the colour camera",
    "depth": "depth image, registered to the colour image",
    "map_objects": "the mapper's objects, vos_ros/msg/MapObjectArray",
    "pose": "camera pose or odometry, where node.pose_source is a topic",
    "clicked_point": "points that a person clicks, geometry_msgs/msg/PointStamped; RViz's Publish"
    " Point publishes on /clicked_point",
}
"""Input topics of the perception node, by their names in it."""
_OUTSIDE = {"clicked_point": "/clicked_point"}
"""Topics that have another name outside by default: RViz is in no namespace."""

PERCEPTION = (
    Argument("namespace", "", "namespace of the node and its topics"),
    Argument(
        "name", "vos_ros", "name of the node; its outputs are below it, such as /vos_ros/labels"
    ),
    Argument("method", "", f"segmenter; {_AS_CONFIGURED}"),
    argument_of("proposals", ProposalsConfig, "mode"),
    Argument(
        "pose_source",
        "",
        f"where the camera pose comes from: {pose_sources.listing()}; none; {_AS_CONFIGURED}",
        ("", *pose_sources.NAMES, pose_sources.NONE),
    ),
    argument_of("pose_wait_s", NodeConfig, "tf_wait_s"),
    argument_of("map_frame", NodeConfig, "map_frame"),
    Argument(
        "use_sim_time", "false", "use the time of /clock (bags played with --clock)", _BOOLEANS
    ),
    argument_of("autostart", NodeConfig, "autostart"),
    Argument(
        "log_level",
        "info",
        "severity from which the node logs",
        ("debug", "info", "warn", "error", "fatal"),
    ),
    Argument("rviz", "false", "start RViz with overlay, labels, markers and cloud", _BOOLEANS),
    *(Argument(topic, _OUTSIDE.get(topic, topic), text) for topic, text in TOPICS.items()),
)
"""Arguments of vos_ros.launch.py, its parameter file aside."""

MAPPER = (
    Argument("mapper_name", "object_mapper", "name of the mapper"),
    argument_of("map_file", MapperNodeConfig, "map_file"),
    Argument("bag", "", "bag or recorded folder to play; empty = live topics"),
    Argument("bag_rate", "0", "images per second of wall clock; 0 = the pace of their stamps"),
    Argument(
        "bag_pose",
        pose_sources.TF,
        "how the bag's poses are played; none = left out",
        (*pose_sources.NAMES, pose_sources.NONE),
    ),
    Argument("bag_listeners", "1", "the bag begins when its images have so many subscribers"),
)
"""Arguments that node_and_mapper.launch.py adds, the mapper's parameter file aside."""

TRACKER = (
    Argument("slam_name", "rgbd_slam", "name of the tracker"),
    Argument(
        "pose_source",
        "odometry",
        "how the node gets the tracker's poses; odometry carries their covariance, tf doesn't",
        ("odometry", pose_sources.TF),
    ),
    Argument("pose_wait_s", "1.0", "longest wait for the pose of an image, s"),
    Argument("bag_pose", "none", "how the bag's poses are played; none = left out", ("none",)),
    Argument("bag_listeners", "2", "the bag begins when its images have so many subscribers"),
)
"""Arguments that slam_node_mapper.launch.py adds or changes, files and ``pose`` aside."""


def names(arguments: Sequence[Argument]) -> tuple[str, ...]:
    """Return the names of arguments."""
    return tuple(a.name for a in arguments)


def remapped(given: Given, *topics: str) -> tuple[tuple[str, str], ...]:
    """Return the topics that have another name outside."""
    return tuple((topic, given[topic]) for topic in topics if given[topic] != topic)


def _require_file(given: Given, name: str, default: str) -> str:
    if not os.path.isfile(given[name]):
        raise FileNotFoundError(
            f"{name}:={given[name]} is no file; a copy of share/vos_ros/config/{default} is a good"
            " start"
        )
    return given[name]


def perception_node(given: Given) -> NodeSpec:
    """Describe the perception node. Raises FileNotFoundError: there is no parameter file."""
    chosen: dict[str, str | bool | float] = {
        "segmentation.method": given["method"],
        "proposals.mode": given["proposals"],
        "node.pose_source": given["pose_source"],
        "node.map_frame": given["map_frame"],
    }
    parameters = {key: value for key, value in chosen.items() if value}
    parameters["use_sim_time"] = given["use_sim_time"] == "true"
    if given["autostart"]:
        parameters["node.autostart"] = given["autostart"] == "true"
    if given["pose_wait_s"]:
        parameters["node.tf_wait_s"] = float(given["pose_wait_s"])
    return NodeSpec(
        executable="vos_ros_node",
        name=given["name"],
        namespace=given["namespace"],
        enclave="/vos_ros/node",
        config=_require_file(given, "config", "vos_ros.yaml"),
        parameters=parameters,
        remappings=remapped(given, *TOPICS),
        log_level=given["log_level"],
    )


def mapper_node(given: Given) -> NodeSpec:
    """Describe the mapper. Raises FileNotFoundError: there is no parameter file."""
    chosen: dict[str, str | bool | float] = {
        "node.map_file": given["map_file"],
        "node.map_frame": given["map_frame"],
        # Without poses of the SLAM, those that the perception node used serve.
        "node.pose_source": "used"
        if given["pose_source"] == pose_sources.NONE
        else given["pose_source"],
    }
    parameters = {key: value for key, value in chosen.items() if value}
    parameters["use_sim_time"] = given["use_sim_time"] == "true"
    results = tuple(
        (f"vos_ros/{topic}", f"{given['name']}/{topic}")
        for topic in ("labels", "instances", "associations")
        if given["name"] != "vos_ros"
    )
    return NodeSpec(
        executable="object_mapper",
        name=given["mapper_name"],
        namespace=given["namespace"],
        enclave="/vos_ros/mapper",
        config=_require_file(given, "mapper_config", "object_mapper.yaml"),
        parameters=parameters,
        remappings=(
            *remapped(given, "image", "depth", "camera_info", "map_objects", "pose"),
            *results,
        ),
        log_level=given["log_level"],
        end_s=6,  # it saves the map and ends within 5 s of a signal
    )


def tracker_node(given: Given) -> NodeSpec:
    """Describe the tracker. Raises FileNotFoundError: there is no parameter file."""
    parameters: dict[str, str | bool | float] = {}
    if given["map_frame"]:
        parameters["node.map_frame"] = given["map_frame"]
    parameters["use_sim_time"] = given["use_sim_time"] == "true"
    return NodeSpec(
        executable="rgbd_slam",
        name=given["slam_name"],
        namespace=given["namespace"],
        enclave="/vos_ros/odometry",
        config=_require_file(given, "slam_config", "rgbd_slam.yaml"),
        parameters=parameters,
        remappings=remapped(given, "image", "camera_info", "depth"),
        log_level=given["log_level"],
    )


def player_command(given: Given) -> list[str]:
    """Return the command that plays the bag; empty where there is none.

    Raises FileNotFoundError: the bag doesn't exist.
    """
    if not given["bag"]:
        return []
    if not os.path.exists(given["bag"]):
        raise FileNotFoundError(
            f"bag:={given['bag']} does not exist; wanted a bag (.mcap, .db3 or its folder) or a"
            " recorded folder"
        )
    namespace = given["namespace"].strip("/")
    options = {
        "--rate": given["bag_rate"],
        "--pose": given["bag_pose"],
        "--listeners": given["bag_listeners"],
        "--node": "/" + "/".join([*filter(None, namespace.split("/")), given["name"]]),
        "--wait": str(_PLAYER_WAIT_S),
    }
    remappings = [f"{a}:={b}" for a, b in remapped(given, "depth", "camera_info", "image")]
    if namespace:
        remappings.insert(0, f"__ns:=/{namespace}")
    return [
        *(sys.executable, "-m", "vos_ros.ros.tools.player", given["bag"]),
        *(word for option in options.items() for word in option),
        *("--no-map", "--quiet", "--ros-args", "--enclave", "/vos_ros/player"),
        *(word for remapping in remappings for word in ("-r", remapping)),
    ]


def restore_environment(environment: MutableMapping[str, str] = os.environ) -> None:
    """Remove what importing vos_ros has set, or every process of the launch would inherit it."""
    for name in vos_ros.SET_HERE:
        environment.pop(name, None)
