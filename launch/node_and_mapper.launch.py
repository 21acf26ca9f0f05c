"""Starts the node and the reference mapper beside a live camera and its localisation, or on a bag or recorded folder.

    ros2 launch vos_ros node_and_mapper.launch.py image:=/camera/color/image_raw camera_info:=/camera/color/camera_info \
        depth:=/camera/aligned_depth_to_color/image_raw map_file:=$HOME/kitchen.json
    ros2 launch vos_ros node_and_mapper.launch.py bag:=run.mcap map_file:=$HOME/kitchen.json proposals:=depth

With a bag everything ends after its last image. ``proposals:=depth`` lets an empty map start by itself. ``--show-args`` lists the
arguments, those of vos_ros.launch.py included.
"""

import os
import sys

from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription


def remapped(given: dict[str, str], *topics: str) -> list[tuple[str, str]]:
    """Those of the topics that have another name."""
    return [(topic, given[topic]) for topic in topics if given[topic] != topic]


def mapper_and_player(context: LaunchContext) -> list[Node | ExecuteProcess]:
    """The mapper, and where a bag is given what plays it. Parameters given on the command line are laid over the file's."""
    given = {
        name: context.perform_substitution(LaunchConfiguration(name))
        for name in (
            "namespace",
            "name",
            "mapper_name",
            "mapper_config",
            "map_file",
            "map_frame",
            "use_sim_time",
            "log_level",
            "bag",
            "bag_rate",
            "bag_pose",
            "bag_listeners",
            "image",
            "camera_info",
            "depth",
            "map_objects",
            "pose",
            "pose_source",
        )
    }
    if not os.path.isfile(given["mapper_config"]):
        raise FileNotFoundError(
            f"mapper_config:={given['mapper_config']} is no file; a copy of share/vos_ros/config/object_mapper.yaml is"
            " a good start"
        )
    chosen = {"node.map_file": given["map_file"], "node.map_frame": given["map_frame"]}
    if given["pose_source"]:  # without poses of the SLAM, those that the node used serve
        chosen["node.pose_source"] = (
            "used" if given["pose_source"] == "none" else given["pose_source"]
        )
    parameters = {key: value for key, value in chosen.items() if value}
    parameters["use_sim_time"] = given["use_sim_time"] == "true"
    outputs = [
        (f"vos_ros/{topic}", f"{given['name']}/{topic}")
        for topic in ("labels", "instances", "associations")
    ]
    logger = ".".join([*filter(None, given["namespace"].split("/")), given["mapper_name"]])
    mapper = Node(
        package="vos_ros",
        executable="object_mapper",
        name=given["mapper_name"],
        namespace=given["namespace"],
        output="screen",
        parameters=[given["mapper_config"], parameters],
        remappings=[
            *remapped(given, "image", "depth", "camera_info", "map_objects", "pose"),
            *(o for o in outputs if o[0] != o[1]),
        ],
        ros_arguments=["--log-level", f"{logger}:={given['log_level']}"],
        # It saves the map and ends within 5 s of a signal.
        sigterm_timeout="6",
        sigkill_timeout="5",
    )
    if not given["bag"]:
        return [mapper]
    if not os.path.exists(given["bag"]):
        raise FileNotFoundError(
            f"bag:={given['bag']} does not exist; wanted a bag (.mcap, .db3 or its folder) or a recorded folder"
        )
    node = "/" + "/".join([*filter(None, given["namespace"].split("/")), given["name"]])
    names = [
        part
        for topic, name in remapped(given, "depth", "camera_info", "image")
        for part in ("-r", f"{topic}:={name}")
    ]
    namespace = (
        ["-r", f"__ns:=/{given['namespace'].strip('/')}"] if given["namespace"].strip("/") else []
    )
    player = ExecuteProcess(
        cmd=[
            sys.executable,
            "-m",
            "vos_ros.ros.tools.player",
            given["bag"],
            "--rate",
            given["bag_rate"],
            "--pose",
            given["bag_pose"],
            "--listeners",
            given["bag_listeners"],
            "--no-map",
            "--node",
            node,
            "--wait",
            "60",
            "--quiet",
            "--ros-args",
            *namespace,
            *names,
        ],
        output="screen",
        on_exit=[Shutdown(reason="the bag is over")],
    )
    return [mapper, player]


def generate_launch_description() -> LaunchDescription:
    """The node by its own launch file, then mapper and player."""
    share = FindPackageShare("vos_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "mapper_config",
                default_value=PathJoinSubstitution([share, "config", "object_mapper.yaml"]),
                description="parameter file of the mapper",
            ),
            DeclareLaunchArgument(
                "mapper_name", default_value="object_mapper", description="name of the mapper"
            ),
            DeclareLaunchArgument(
                "map_file",
                default_value="",
                description="JSON file that the map is read from and saved to; empty = as the"
                " mapper's config says",
            ),
            DeclareLaunchArgument(
                "bag",
                default_value="",
                description="bag or recorded folder to play; empty = live topics",
            ),
            DeclareLaunchArgument(
                "bag_rate",
                default_value="0",
                description="images per second of wall clock; 0 = as they were recorded",
            ),
            DeclareLaunchArgument(
                "bag_pose",
                default_value="tf",
                description="how the bag's poses are played; none = left out",
                choices=["tf", "pose", "pose_with_covariance", "none"],
            ),
            DeclareLaunchArgument(
                "bag_listeners",
                default_value="1",
                description="the bag begins when so many nodes listen to its images",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([share, "launch", "vos_ros.launch.py"])
                )
            ),
            OpaqueFunction(function=mapper_and_player),
        ]
    )
