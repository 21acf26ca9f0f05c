"""Starts the node: ``ros2 launch vos_ros vos_ros.launch.py --show-args`` lists the arguments.

    ros2 launch vos_ros vos_ros.launch.py image:=/camera/color/image_raw camera_info:=/camera/color/camera_info \
        depth:=/camera/aligned_depth_to_color/image_raw map_objects:=/mapper/objects rviz:=true
"""

import os

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

TOPICS = {
    "image": "colour image (with image_transport=compressed: its base name)",
    "camera_info": "calibration of the colour camera",
    "depth": "depth image, registered to the colour image",
    "map_objects": "the mapper's objects, vos_ros/msg/MapObjectArray",
    "pose": "camera pose or odometry, where node.pose_source is not tf",
}


def argument(
    name: str, default: object, text: str, choices: list[str] | None = None
) -> DeclareLaunchArgument:
    """A launch argument."""
    return DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)


def node(context: LaunchContext) -> list[Node]:
    """The node. Parameters given on the command line are laid over the file's."""
    given = {
        name: context.perform_substitution(LaunchConfiguration(name))
        for name in (
            "config",
            "namespace",
            "name",
            "method",
            "proposals",
            "pose_source",
            "map_frame",
            "use_sim_time",
            "autostart",
            "log_level",
            "pose_wait_s",
            *TOPICS,
        )
    }
    chosen = {
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
    logger = ".".join([*filter(None, given["namespace"].split("/")), given["name"]])
    if not os.path.isfile(given["config"]):
        raise FileNotFoundError(
            f"config:={given['config']} is no file; a copy of "
            "share/vos_ros/config/vos_ros.yaml is a good start"
        )
    return [
        Node(
            package="vos_ros",
            executable="vos_ros_node",
            name=given["name"],
            namespace=given["namespace"],
            output="screen",
            parameters=[given["config"], parameters],
            remappings=[(topic, given[topic]) for topic in TOPICS if given[topic] != topic],
            ros_arguments=["--log-level", f"{logger}:={given['log_level']}"],
            # It ends within 2 s of a signal; what doesn't is broken.
            sigterm_timeout="5",
            sigkill_timeout="5",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Arguments, the node, RViz where asked for."""
    share = FindPackageShare("vos_ros")
    true_or_false = ["true", "false"]
    return LaunchDescription(
        [
            argument(
                "config", PathJoinSubstitution([share, "config", "vos_ros.yaml"]), "parameter file"
            ),
            argument("namespace", "", "namespace of the node and its topics"),
            argument(
                "name", "vos_ros", "name of the node; its outputs are below it, as /vos_ros/labels"
            ),
            argument("method", "", "segmenter; empty = as the config says"),
            argument(
                "proposals",
                "",
                "depth: what nobody knows yet is followed too, so that an empty map can start; off; empty = as the config"
                " says",
                ["", "off", "depth"],
            ),
            argument(
                "pose_source",
                "",
                "tf, pose, pose_with_covariance, odometry or none; empty = as the config says",
            ),
            argument(
                "pose_wait_s",
                "",
                "longest wait for the pose of an image, s; empty = as the config says",
            ),
            argument("map_frame", "", "frame of the map; empty = as the config says"),
            argument(
                "use_sim_time",
                "false",
                "time comes from /clock (bags played with --clock)",
                true_or_false,
            ),
            argument(
                "autostart",
                "",
                "configure and activate by itself; false = a lifecycle manager does; empty = as the config says",
                ["", *true_or_false],
            ),
            argument(
                "log_level",
                "info",
                "how much the node says",
                ["debug", "info", "warn", "error", "fatal"],
            ),
            argument(
                "rviz", "false", "start RViz with overlay, labels, markers and cloud", true_or_false
            ),
            *(argument(topic, topic, text) for topic, text in TOPICS.items()),
            OpaqueFunction(function=node),
            Node(
                package="rviz2",
                executable="rviz2",
                name="vos_ros_rviz",
                output="log",
                condition=IfCondition(LaunchConfiguration("rviz")),
                arguments=["-d", PathJoinSubstitution([share, "config", "vos_ros.rviz"])],
                parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
            ),
        ]
    )
