"""Parameter files, written from the config trees: ``python -m vos_ros.ros.tools.yaml_file > config/vos_ros.yaml``, with the word ``mapper``
config/object_mapper.yaml, with ``slam`` config/rgbd_slam.yaml."""

from __future__ import annotations

import sys

import yaml

from vos_ros.config import Config, Param, params
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.rgbd_odometry.config import SlamConfig


def remark(param: Param) -> str:
    """Help, unit, range and choices of a parameter in one line."""
    parts = [param.help]
    if param.unit:
        parts.append(f"[{param.unit}]")
    if param.choices:
        parts.append(f"(one of {', '.join(param.choices)})")
    elif param.low is not None or param.high is not None:
        low = "" if param.low is None else f"{param.low:g}"
        high = "" if param.high is None else f"{param.high:g}"
        parts.append(f"({low}..{high})")
    return " ".join(parts)


HEADS = {
    Config: [
        "# Every parameter of vos_ros with its default. Written by `python -m vos_ros.ros.tools.yaml_file` from vos_ros/config.py:",
        "# don't edit this file, copy it: `ros2 launch vos_ros vos_ros.launch.py config:=mine.yaml`.",
    ],
    MapperConfig: [
        "# Every parameter of object_mapper with its default. Written by `python -m vos_ros.ros.tools.yaml_file mapper` from",
        "# vos_ros/reference_mapper/config.py: don't edit this file, copy it:"
        " `ros2 launch vos_ros node_and_mapper.launch.py mapper_config:=mine.yaml`.",
    ],
    SlamConfig: [
        "# Every parameter of rgbd_slam with its default. Written by `python -m vos_ros.ros.tools.yaml_file slam` from",
        "# vos_ros/rgbd_odometry/config.py: don't edit this file, copy it:"
        " `ros2 launch vos_ros slam_node_mapper.launch.py slam_config:=mine.yaml`.",
    ],
}
"""What stands at the head of the file of each tree."""


def text(tree: type = Config) -> str:
    """A ROS 2 parameter file with every parameter of a tree at its default, each with its help above it."""
    lines = [
        *HEADS[tree],
        "# QoS of a single topic: `qos_overrides./topic/name.subscription.reliability: reliable` (ROS 2's own parameters).",
        "/**:",
        "  ros__parameters:",
    ]
    open_path: tuple[str, ...] = ()
    for param in params(tree):
        *path, name = param.key.split(".")
        common = next(
            (i for i, (a, b) in enumerate(zip(open_path, path, strict=False)) if a != b),
            min(len(open_path), len(path)),
        )
        for depth in range(common, len(path)):
            lines.append("  " * (depth + 2) + f"{path[depth]}:")
        open_path = tuple(path)
        pad = "  " * (len(path) + 2)
        value = yaml.safe_dump(param.default, default_flow_style=True).splitlines()[0]
        lines += [f"{pad}# {remark(param)}", f"{pad}{name}: {value}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(
        text({"mapper": MapperConfig, "slam": SlamConfig}.get("".join(sys.argv[1:]), Config))
    )
