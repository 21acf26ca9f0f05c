"""For ``pip install .``: training, replay and evaluation without ROS. ROS builds use
CMakeLists.txt; what is not said here stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def files(folder: str, pattern: str) -> list[str]:
    """Files of a folder, relative to this one."""
    return sorted(str(path.relative_to(HERE)) for path in (HERE / folder).glob(pattern))


# Where a ROS build puts them too: bags are read and written by these definitions.
setup(
    data_files=[
        ("share/vos_ros/msg", files("msg", "*.msg")),
        ("share/vos_ros/config", files("config", "*.yaml")),
        ("share/vos_ros/config/train", files("config/train", "*.yaml")),
    ]
)
