"""Make launch's objects from the plain values of ``launch_arguments``, for the files in launch/."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from vos_ros.ros.tools.launch_arguments import Argument, NodeSpec, restore_environment

restore_environment()


def share(*parts: str) -> PathJoinSubstitution:
    """Return the path of an installed file of this package."""
    return PathJoinSubstitution([FindPackageShare("vos_ros"), *parts])


def declare(arguments: Sequence[Argument]) -> list[DeclareLaunchArgument]:
    """Declare arguments."""
    return [
        DeclareLaunchArgument(
            a.name,
            default_value=a.default,
            description=a.help,
            choices=list(a.choices) if a.choices else None,
        )
        for a in arguments
    ]


def declare_config(name: str, file: str, owner: str) -> DeclareLaunchArgument:
    """Declare the argument of a parameter file whose default is an installed one."""
    return DeclareLaunchArgument(
        name, default_value=share("config", file), description=f"parameter file of {owner}"
    )


def values_of(context: Any, names: Sequence[str]) -> dict[str, str]:
    """Return the values of launch arguments."""
    return {name: context.perform_substitution(LaunchConfiguration(name)) for name in names}


def node_action(spec: NodeSpec) -> Node:
    """Start a node. Parameters given on the command line replace those of the file."""
    return Node(
        package="vos_ros",
        executable=spec.executable,
        name=spec.name,
        namespace=spec.namespace,
        output="screen",
        parameters=[spec.config, spec.parameters],
        remappings=list(spec.remappings),
        ros_arguments=spec.ros_arguments,
        sigterm_timeout=str(spec.end_s),
        sigkill_timeout="5",
    )


def include(file: str) -> IncludeLaunchDescription:
    """Include another launch file of this package."""
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(share("launch", file)))
