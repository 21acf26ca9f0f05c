"""Start tracker, node and reference mapper: colour and depth become poses, masks and an object map.

    ros2 launch vos_ros slam_node_mapper.launch.py bag:=run.mcap map_file:=$HOME/kitchen.json \
        proposals:=depth
    ros2 launch vos_ros slam_node_mapper.launch.py image:=/camera/color/image_raw \
        camera_info:=/camera/color/camera_info depth:=/camera/aligned_depth_to_color/image_raw

Poses and object map of a bag are left out, so that they don't compete with what is published here.
``--show-args`` lists the arguments, those of node_and_mapper.launch.py and vos_ros.launch.py
included. To use another SLAM, start that and node_and_mapper.launch.py.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from vos_ros.ros.tools.launch_actions import (
    declare,
    declare_config,
    include,
    node_action,
    values_of,
)
from vos_ros.ros.tools.launch_arguments import PERCEPTION, TRACKER, names, tracker_node


def tracker(context: LaunchContext) -> list[Node]:
    """Start the tracker."""
    given = values_of(context, ("slam_config", "slam_name", *names(PERCEPTION)))
    return [node_action(tracker_node(given))]


def generate_launch_description() -> LaunchDescription:
    """Start node, mapper and player with the tracker's poses, then the tracker."""
    return LaunchDescription(
        [
            declare_config("slam_config", "rgbd_slam.yaml", "the tracker"),
            *declare(TRACKER),
            DeclareLaunchArgument(
                "pose",
                default_value=[LaunchConfiguration("slam_name"), "/odometry"],
                description="the tracker's odometry",
            ),
            include("node_and_mapper.launch.py"),
            OpaqueFunction(function=tracker),
        ]
    )
