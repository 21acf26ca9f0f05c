"""What the launch files declare and pass on, without launch: the nodes must accept it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vos_ros.config import Config, changed, from_flat
from vos_ros.messages.pose_sources import POSE_SOURCES
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.rgbd_odometry.config import SlamConfig
from vos_ros.ros.tools.launch_arguments import (
    MAPPER,
    PERCEPTION,
    TRACKER,
    Argument,
    mapper_node,
    perception_node,
    player_command,
    tracker_node,
)

CONFIG = Path(__file__).resolve().parents[3] / "config"


def given(*changes: tuple[Argument, ...], **values: str) -> dict[str, str]:
    """Return the defaults of all arguments with some values changed."""
    out = {a.name: a.default for group in (PERCEPTION, MAPPER, *changes) for a in group}
    out |= {
        "config": str(CONFIG / "vos_ros.yaml"),
        "mapper_config": str(CONFIG / "object_mapper.yaml"),
        "slam_config": str(CONFIG / "rgbd_slam.yaml"),
    }
    return out | values


def own(parameters: dict[str, object]) -> dict[str, object]:
    return {k: v for k, v in parameters.items() if k != "use_sim_time"}


def test_without_arguments_the_files_decide() -> None:
    for spec in (perception_node(given()), mapper_node(given())):
        assert spec.parameters == {"use_sim_time": False}
        assert Path(spec.config).is_file()
    assert perception_node(given()).remappings == (("clicked_point", "/clicked_point"),)
    assert mapper_node(given()).remappings == ()
    assert perception_node(given()).ros_arguments[-2:] == ["--log-level", "vos_ros:=info"]


def test_arguments_become_parameters_that_the_node_accepts() -> None:
    spec = perception_node(
        given(
            method="null",
            proposals="depth",
            pose_source="odometry",
            pose_wait_s="0.5",
            map_frame="world",
            autostart="false",
            use_sim_time="true",
            log_level="debug",
            namespace="/robot/",
        )
    )
    assert spec.parameters["use_sim_time"] is True
    node = from_flat(own(spec.parameters), Config()).node
    assert (node.pose_source, node.tf_wait_s, node.map_frame, node.autostart) == (
        "odometry",
        0.5,
        "world",
        False,
    )
    assert spec.ros_arguments[-2:] == ["--log-level", "robot.vos_ros:=debug"]
    assert perception_node(given(autostart="true")).parameters["node.autostart"] is True


def test_topics_are_remapped_where_they_have_another_name() -> None:
    values = given(image="/cam/image", map_objects="/slam/objects", name="eyes")
    assert perception_node(values).remappings == (
        ("image", "/cam/image"),
        ("map_objects", "/slam/objects"),
        ("clicked_point", "/clicked_point"),
    )
    assert mapper_node(values).remappings == (
        ("image", "/cam/image"),
        ("map_objects", "/slam/objects"),
        ("vos_ros/labels", "eyes/labels"),
        ("vos_ros/instances", "eyes/instances"),
        ("vos_ros/associations", "eyes/associations"),
    )
    assert tracker_node(values | {"slam_name": "slam"}).remappings == (("image", "/cam/image"),)


@pytest.mark.parametrize(
    ("chosen", "used"), [("none", "used"), ("odometry", "odometry"), ("tf", "tf")]
)
def test_the_mapper_takes_the_poses_of_the_node(chosen: str, used: str) -> None:
    spec = mapper_node(given(pose_source=chosen, map_file="/maps/kitchen.json", map_frame="world"))
    node = changed(MapperConfig(), own(spec.parameters)).node
    assert (node.pose_source, node.map_file, node.map_frame) == (
        used,
        "/maps/kitchen.json",
        "world",
    )


def test_the_tracker_gives_its_poses_to_the_node() -> None:
    values = given(TRACKER, map_frame="world")
    assert changed(SlamConfig(), own(tracker_node(values).parameters)).node.map_frame == "world"
    node = from_flat(own(perception_node(values).parameters), Config()).node
    assert (node.pose_source, node.tf_wait_s) == ("odometry", 1.0)
    assert values["bag_pose"] == "none", "the bag's poses would compete with the tracker's"
    assert values["bag_listeners"] == "2"


def test_the_player_waits_for_the_node_in_its_namespace(tmp_path: Path) -> None:
    from vos_ros.ros.tools import player

    assert player_command(given()) == []
    values = given(bag=str(tmp_path), namespace="robot", name="eyes", image="/cam/image")
    python, _, module, *words = player_command(values)
    assert (python, module) == (sys.executable, player.__name__)
    options = player.parser().parse_args(words[: words.index("--ros-args")])
    assert (options.source, options.node, options.pose) == (tmp_path, "/robot/eyes", "tf")
    assert (options.listeners, options.wait, options.no_map, options.quiet) == (1, 60.0, True, True)
    assert words[words.index("--ros-args") + 1 :] == [
        "--enclave",
        "/vos_ros/player",
        "-r",
        "__ns:=/robot",
        "-r",
        "image:=/cam/image",
    ]


@pytest.mark.parametrize("name", ["config", "mapper_config", "slam_config", "bag"])
def test_a_file_that_is_missing_is_named(name: str) -> None:
    values = given(TRACKER, **{name: "/nowhere/mine.yaml"})
    with pytest.raises(FileNotFoundError, match=f"{name}:=/nowhere/mine.yaml"):
        for describe in (perception_node, mapper_node, tracker_node, player_command):
            describe(values)


def test_every_pose_source_can_be_chosen_and_is_explained() -> None:
    arguments = {a.name: a for a in (*PERCEPTION, *MAPPER)}
    for source in POSE_SOURCES:
        assert source.name in arguments["pose_source"].choices
        assert source.name in arguments["bag_pose"].choices
        assert f"{source.name}: {source.help}" in arguments["pose_source"].help


def test_help_and_choices_are_those_of_the_configuration() -> None:
    arguments = {a.name: a for a in PERCEPTION}
    assert arguments["proposals"].choices == ("", "off", "depth")
    assert arguments["autostart"].choices == ("", "true", "false")
    assert arguments["pose_wait_s"].help == (
        "longest wait for the pose at the image's stamp, s; empty = as in the parameter file"
    )


def test_other_processes_of_a_launch_do_not_inherit_our_settings() -> None:
    """In a process of its own: settings are made when the package is first imported."""
    code = (
        "import os; os.environ.pop('OMP_WAIT_POLICY', None)\n"
        "os.environ['THP_MEM_ALLOC_ENABLE'] = '0'\n"
        "from vos_ros.ros.tools.launch_arguments import restore_environment\n"
        "print(os.environ['OMP_WAIT_POLICY']); restore_environment()\n"
        "print(os.environ.get('OMP_WAIT_POLICY'), os.environ['THP_MEM_ALLOC_ENABLE'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["PASSIVE", "None", "0"]
