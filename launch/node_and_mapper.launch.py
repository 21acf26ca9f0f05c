"""Start the node and the reference mapper, on live topics or on a bag or recorded folder.

    ros2 launch vos_ros node_and_mapper.launch.py image:=/camera/color/image_raw \
        camera_info:=/camera/color/camera_info depth:=/camera/aligned_depth_to_color/image_raw \
        map_file:=$HOME/kitchen.json
    ros2 launch vos_ros node_and_mapper.launch.py bag:=run.mcap map_file:=$HOME/kitchen.json \
        proposals:=depth

With a bag everything ends after its last image. ``proposals:=depth`` lets an empty map start by
itself. ``--show-args`` lists the arguments, those of vos_ros.launch.py included.
"""

from launch.actions import ExecuteProcess, OpaqueFunction, Shutdown
from launch_ros.actions import Node

from launch import LaunchContext, LaunchDescription
from vos_ros.ros.tools.launch_actions import (
    declare,
    declare_config,
    include,
    node_action,
    values_of,
)
from vos_ros.ros.tools.launch_arguments import (
    MAPPER,
    PERCEPTION,
    mapper_node,
    names,
    player_command,
)


def mapper_and_player(context: LaunchContext) -> list[Node | ExecuteProcess]:
    """Start the mapper, and the player where a bag is given."""
    given = values_of(context, ("mapper_config", *names(MAPPER), *names(PERCEPTION)))
    mapper, command = node_action(mapper_node(given)), player_command(given)
    if not command:
        return [mapper]
    over = [Shutdown(reason="the bag is over")]
    return [mapper, ExecuteProcess(cmd=command, output="screen", on_exit=over)]


def generate_launch_description() -> LaunchDescription:
    """Start the node by its own launch file, then mapper and player."""
    return LaunchDescription(
        [
            declare_config("mapper_config", "object_mapper.yaml", "the mapper"),
            *declare(MAPPER),
            include("vos_ros.launch.py"),
            OpaqueFunction(function=mapper_and_player),
        ]
    )
