"""Write the parameter files in config/ from the config trees.

python -m vos_ros.ros.tools.yaml_file config
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

import yaml

from vos_ros.config import Config, Param, params
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.rgbd_odometry.config import SlamConfig


def remark(param: Param) -> str:
    """Return help, unit, range and choices of a parameter in one line."""
    parts = [param.help]
    if param.unit:
        parts.append(f"[{param.unit}]")
    if param.choices and param.list_choices:
        parts.append(f"(one of {', '.join(param.choices)})")
    elif param.low is not None or param.high is not None:
        low = "" if param.low is None else f"{param.low:g}"
        high = "" if param.high is None else f"{param.high:g}"
        parts.append(f"({low}..{high})")
    return " ".join(parts)


_COLUMNS = 100
_COPY = "# Don't edit this file, copy it:\n# `ros2 launch vos_ros {}:=mine.yaml`."
_MADE = "# Written by `python -m vos_ros.ros.tools.yaml_file config`."
_NODE, _MAPPER, _SLAM = (
    "vos_ros.launch.py config",
    "node_and_mapper.launch.py mapper_config",
    "slam_node_mapper.launch.py slam_config",
)


@dataclass(frozen=True)
class ParameterFile:
    """One YAML file in config/."""

    tree: type
    """Config class of its parameters."""
    head: tuple[str, ...]
    """Lines at its top."""
    only_basic: bool = False
    """Whether it holds the basic parameters alone."""


FILES = {
    "vos_ros.yaml": ParameterFile(
        Config,
        (
            "# The parameters of vos_ros that most users need, with their defaults. The others are",
            "# in vos_ros_advanced.yaml.",
            _MADE,
            _COPY.format(_NODE),
        ),
        only_basic=True,
    ),
    "vos_ros_advanced.yaml": ParameterFile(
        Config,
        (
            "# Every parameter of vos_ros with its default.",
            _MADE,
            _COPY.format(_NODE),
        ),
    ),
    "object_mapper.yaml": ParameterFile(
        MapperConfig,
        (
            "# Every parameter of object_mapper with its default.",
            _MADE,
            _COPY.format(_MAPPER),
        ),
    ),
    "rgbd_slam.yaml": ParameterFile(
        SlamConfig,
        (
            "# Every parameter of rgbd_slam with its default.",
            _MADE,
            _COPY.format(_SLAM),
        ),
    ),
}
"""The files by name."""


def text(file: ParameterFile) -> str:
    """Return a parameter file with each parameter at its default and its help above it."""
    lines = [
        *file.head,
        "# QoS of a single topic: `qos_overrides./topic/name.subscription.reliability: reliable`",
        "# (a parameter of ROS 2 itself).",
        "/**:",
        "  ros__parameters:",
    ]
    open_path: tuple[str, ...] = ()
    for param in params(file.tree):
        if file.only_basic and not param.basic:
            continue
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
        lines += wrap(
            remark(param), _COLUMNS, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# "
        )
        lines.append(f"{pad}{name}: {value}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, file in FILES.items():
        (Path(sys.argv[1]) / name).write_text(text(file), encoding="utf-8")
