"""Starts tracker, node and reference mapper: colour and depth alone, live or of a bag, become poses, masks and an object map.

    ros2 launch vos_ros slam_node_mapper.launch.py bag:=run.mcap map_file:=$HOME/kitchen.json proposals:=depth
    ros2 launch vos_ros slam_node_mapper.launch.py image:=/camera/color/image_raw camera_info:=/camera/color/camera_info \
        depth:=/camera/aligned_depth_to_color/image_raw

Poses and object map of the bag are left out, so that nothing fights what is published here. ``--show-args`` lists the arguments, those of
node_and_mapper.launch.py and vos_ros.launch.py included. To use another SLAM, start that and node_and_mapper.launch.py.
"""

import os

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription


def tracker(context: LaunchContext) -> list[Node]:
    """The tracker. Parameters given on the command line are laid over the file's."""
    given = {
        name: context.perform_substitution(LaunchConfiguration(name))
        for name in (
            "namespace",
            "slam_name",
            "slam_config",
            "map_frame",
            "use_sim_time",
            "log_level",
            "image",
            "camera_info",
            "depth",
        )
    }
    if not os.path.isfile(given["slam_config"]):
        raise FileNotFoundError(
            f"slam_config:={given['slam_config']} is no file; a copy of share/vos_ros/config/rgbd_slam.yaml is a good"
            " start"
        )
    parameters = {"node.map_frame": given["map_frame"]} if given["map_frame"] else {}
    parameters["use_sim_time"] = given["use_sim_time"] == "true"
    logger = ".".join([*filter(None, given["namespace"].split("/")), given["slam_name"]])
    return [
        Node(
            package="vos_ros",
            executable="rgbd_slam",
            name=given["slam_name"],
            namespace=given["namespace"],
            output="screen",
            parameters=[given["slam_config"], parameters],
            remappings=[
                (topic, given[topic])
                for topic in ("image", "camera_info", "depth")
                if given[topic] != topic
            ],
            ros_arguments=["--log-level", f"{logger}:={given['log_level']}"],
            # It ends within 2 s of a signal.
            sigterm_timeout="5",
            sigkill_timeout="5",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Node, mapper and player by their own launch file, told to take the tracker's odometry; then the tracker."""
    share = FindPackageShare("vos_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "slam_config",
                default_value=PathJoinSubstitution([share, "config", "rgbd_slam.yaml"]),
                description="parameter file of the tracker",
            ),
            DeclareLaunchArgument(
                "slam_name", default_value="rgbd_slam", description="name of the tracker"
            ),
            DeclareLaunchArgument(
                "pose_source",
                default_value="odometry",
                description="how the node gets the tracker's poses; odometry"
                " says how sure they are, tf doesn't",
                choices=["odometry", "tf"],
            ),
            DeclareLaunchArgument(
                "pose",
                default_value=[LaunchConfiguration("slam_name"), "/odometry"],
                description="the tracker's odometry",
            ),
            DeclareLaunchArgument(
                "pose_wait_s",
                default_value="1.0",
                description="longest wait for the pose of an image, s",
            ),
            DeclareLaunchArgument(
                "bag_pose",
                default_value="none",
                description="how the bag's poses are played; none = left out",
                choices=["none"],
            ),
            DeclareLaunchArgument(
                "bag_listeners",
                default_value="2",
                description="the bag begins when so many nodes listen to its images",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(
                    PathJoinSubstitution([share, "launch", "node_and_mapper.launch.py"])
                )
            ),
            OpaqueFunction(function=tracker),
        ]
    )
