"""Start the node: ``ros2 launch vos_ros vos_ros.launch.py --show-args`` lists the arguments.

    ros2 launch vos_ros vos_ros.launch.py image:=/camera/color/image_raw \
        camera_info:=/camera/color/camera_info depth:=/camera/aligned_depth_to_color/image_raw \
        map_objects:=/mapper/objects rviz:=true
"""

from launch.actions import OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from vos_ros.ros.tools.launch_actions import (
    declare,
    declare_config,
    node_action,
    share,
    values_of,
)
from vos_ros.ros.tools.launch_arguments import PERCEPTION, names, perception_node


def node(context: LaunchContext) -> list[Node]:
    """Start the perception node."""
    given = values_of(context, ("config", *names(PERCEPTION)))
    return [node_action(perception_node(given))]


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments; start the node, and RViz where it is wanted."""
    return LaunchDescription(
        [
            declare_config("config", "vos_ros.yaml", "the node"),
            *declare(PERCEPTION),
            OpaqueFunction(function=node),
            Node(
                package="rviz2",
                executable="rviz2",
                name="vos_ros_rviz",
                output="log",
                condition=IfCondition(LaunchConfiguration("rviz")),
                arguments=["-d", share("config", "vos_ros.rviz")],
                ros_arguments=["--enclave", "/vos_ros/operator"],
                parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
            ),
        ]
    )
