"""The launch files, with the real launch and launch_ros where they are (see CONTRIBUTING.md)."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support import squares

from vos_ros.cli.processes import free_domain

ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
arguments = [tuple(a.split(":=")) for a in sys.argv[2:]]
source = PythonLaunchDescriptionSource(sys.argv[1])
include = IncludeLaunchDescription(source, launch_arguments=arguments)
service.include_launch_description(LaunchDescription([include]))
sys.exit(service.run())
"""
CONFIGS = {
    "config": ROOT / "config/vos_ros.yaml",
    "mapper_config": ROOT / "config/object_mapper.yaml",
    "slam_config": ROOT / "config/rgbd_slam.yaml",
}


@pytest.fixture
def real_launch() -> None:
    pytest.importorskip("launch_ros", reason="no launch_ros on this machine")
    pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")


@contextmanager
def launched(
    file: str, folder: Path, arguments: dict[str, object]
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Launch a file of launch/; gives its process and its output, and ends it."""
    environment = os.environ | {
        "ROS_DOMAIN_ID": str(free_domain()),
        "ROS_LOG_DIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    log = folder / "out.txt"
    words = [f"{name}:={value}" for name, value in arguments.items()]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(ROOT / "launch" / file), *words],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        yield process, log
    finally:
        process.kill()
        process.wait(5)


def record(bag: Path, *, with_poses: bool) -> None:
    """Write ten frames of the squares."""
    from vos_ros.sinks.mcap import McapFile
    from vos_ros.sinks.recording import Recorder

    with McapFile(bag, {}) as out:
        recorder = Recorder(out, "camera_optical", "map")
        for index in range(10):
            noise = index if with_poses else 0
            frame = squares.frame_at(squares.START + index * squares.STEP, noise)
            recorder.frame(frame if with_poses else replace(frame, T_map_camera=None))


def last_stamp_of(map_file: Path) -> int:
    from vos_ros.reference_mapper.store import load

    return load(map_file).stamp_ns


@pytest.mark.usefixtures("real_launch")
def test_every_topic_and_option_is_an_argument() -> None:
    from launch.actions import DeclareLaunchArgument

    from vos_ros.ros.tools.launch_arguments import PERCEPTION, TOPICS, names

    file = str(ROOT / "launch/vos_ros.launch.py")
    description = runpy.run_path(file)["generate_launch_description"]()
    declared = {e.name for e in description.entities if isinstance(e, DeclareLaunchArgument)}
    assert declared == {"config", *names(PERCEPTION)} and set(TOPICS) <= declared


@pytest.mark.usefixtures("real_launch")
def test_it_starts_the_node_and_ends_it(tmp_path: Path) -> None:
    arguments = {
        "method": "null",
        "image": "/cam/image",
        "namespace": "robot",
        "config": CONFIGS["config"],
    }
    with launched("vos_ros.launch.py", tmp_path, arguments) as (process, log):
        end = time.monotonic() + 40
        while "active" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        text = log.read_text()
        assert "method null, device auto, pose from tf, image on /cam/image" in text
        assert "[robot.vos_ros]" in text
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert "process has finished cleanly" in log.read_text(), log.read_text()


@pytest.mark.usefixtures("real_launch")
def test_node_and_mapper_run_on_a_bag_and_end_with_it(tmp_path: Path) -> None:
    bag, map_file = tmp_path / "squares.mcap", tmp_path / "map.json"
    record(bag, with_poses=True)
    arguments = {
        "method": "null",
        "namespace": "robot",
        "name": "eyes",
        "image": "/cam/image",
        "depth": "/cam/depth",
        "camera_info": "/cam/info",
        "config": CONFIGS["config"],
        "mapper_config": CONFIGS["mapper_config"],
        "bag": bag,
        "map_file": map_file,
    }
    with launched("node_and_mapper.launch.py", tmp_path, arguments) as (process, log):
        assert process.wait(90) == 0, log.read_text()
    text = log.read_text()
    assert f"0 objects saved to {map_file}" in text and "image on /cam/image" in text, text
    assert text.count("finished cleanly") == 3, text
    assert last_stamp_of(map_file) == squares.START + 9 * squares.STEP, (
        "the last frame of the bag came through node and mapper"
    )


@pytest.mark.usefixtures("real_launch")
def test_tracker_node_and_mapper_run_on_a_bag_of_colour_and_depth_alone(tmp_path: Path) -> None:
    pytest.importorskip("open3d", reason="tracking needs Open3D")
    bag, map_file = tmp_path / "squares.mcap", tmp_path / "map.json"
    record(bag, with_poses=False)
    arguments = {
        "method": "null",
        "namespace": "robot",
        "slam_name": "where",
        "image": "/cam/image",
        "depth": "/cam/depth",
        "camera_info": "/cam/info",
        **CONFIGS,
        "bag": bag,
        "bag_rate": 4,
        "map_file": map_file,
    }
    with launched("slam_node_mapper.launch.py", tmp_path, arguments) as (process, log):
        assert process.wait(100) == 0, log.read_text()
    text = log.read_text()
    assert "pose from odometry" in text and "camera pose:" not in text, text
    assert text.count("finished cleanly") == 4, text
    assert last_stamp_of(map_file) == squares.START + 9 * squares.STEP, (
        "the last frame of the bag came through node and mapper"
    )


def test_the_rviz_config_shows_every_output() -> None:
    config = yaml.safe_load((ROOT / "config/vos_ros.rviz").read_text())
    shown = {
        d["Topic"]["Value"] for d in config["Visualization Manager"]["Displays"] if "Topic" in d
    }
    assert shown == {f"/vos_ros/{name}" for name in ("overlay", "labels", "markers", "cloud")}
