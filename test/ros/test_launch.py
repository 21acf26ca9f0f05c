"""The launch files, with the real launch and launch_ros, where there are any (CONTRIBUTING.md says how to have them)."""

from __future__ import annotations

import os
import random
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LAUNCH_FILE = ROOT / "launch/vos_ros.launch.py"
BOTH = ROOT / "launch/node_and_mapper.launch.py"
ALL = ROOT / "launch/slam_node_mapper.launch.py"
SERVE = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
service = LaunchService()
arguments = [tuple(a.split(":=")) for a in sys.argv[2:]]
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]),
                                                                              launch_arguments=arguments)]))
sys.exit(service.run())
"""


def test_every_topic_and_option_is_an_argument():
    pytest.importorskip("launch_ros", reason="no launch_ros on this machine")
    from launch.actions import DeclareLaunchArgument

    description = runpy.run_path(str(LAUNCH_FILE))["generate_launch_description"]()
    names = {e.name for e in description.entities if isinstance(e, DeclareLaunchArgument)}
    assert names >= {
        "config",
        "image",
        "camera_info",
        "depth",
        "map_objects",
        "pose",
        "method",
        "rviz",
        "use_sim_time",
        "namespace",
        "log_level",
        "autostart",
    }


def test_it_starts_the_node_and_ends_it(tmp_path):
    pytest.importorskip("launch_ros", reason="no launch_ros on this machine")
    pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")
    environment = os.environ | {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(100, 200)),
        "ROS_LOG_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    log = tmp_path / "out.txt"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                SERVE,
                str(LAUNCH_FILE),
                "method:=null",
                "image:=/cam/image",
                "namespace:=robot",
                f"config:={ROOT / 'config/vos_ros.yaml'}",
            ],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        end = time.monotonic() + 40
        while "active" not in log.read_text():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        assert (
            "method null, device auto, pose from tf, image on /cam/image" in log.read_text()
            and "[robot.vos_ros]" in log.read_text()
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert "process has finished cleanly" in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait(5)


def test_node_and_mapper_run_on_a_bag_and_end_with_it(tmp_path, scene):
    pytest.importorskip("launch_ros", reason="no launch_ros on this machine")
    pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")
    from vos_ros.reference_mapper.store import load
    from vos_ros.sinks.mcap import McapFile
    from vos_ros.sinks.recording import Recorder

    bag, map_file, log = tmp_path / "squares.mcap", tmp_path / "map.json", tmp_path / "out.txt"
    with McapFile(bag, {}) as out:
        recorder = Recorder(out, "camera_optical", "map")
        for index in range(10):
            recorder.frame(scene.frame_at(scene.START + index * scene.STEP, index))
    environment = os.environ | {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(100, 200)),
        "ROS_LOG_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    arguments = [
        "method:=null",
        "namespace:=robot",
        "name:=eyes",
        "image:=/cam/image",
        "depth:=/cam/depth",
        "camera_info:=/cam/info",
        f"config:={ROOT / 'config/vos_ros.yaml'}",
        f"mapper_config:={ROOT / 'config/object_mapper.yaml'}",
        f"bag:={bag}",
        f"map_file:={map_file}",
    ]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(BOTH), *arguments],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        assert process.wait(90) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(5)
    said = log.read_text()
    assert (
        f"0 objects saved to {map_file}" in said
        and "image on /cam/image" in said
        and said.count("finished cleanly") == 3
    ), said
    assert load(map_file).stamp_ns == scene.START + 9 * scene.STEP, (
        "the last frame of the bag came through node and mapper"
    )


def test_tracker_node_and_mapper_run_on_a_bag_of_colour_and_depth_alone(tmp_path, scene):
    pytest.importorskip("launch_ros", reason="no launch_ros on this machine")
    pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")
    pytest.importorskip("open3d", reason="tracking needs Open3D")
    from vos_ros.reference_mapper.store import load
    from vos_ros.sinks.mcap import McapFile
    from vos_ros.sinks.recording import Recorder

    bag, map_file, log = tmp_path / "squares.mcap", tmp_path / "map.json", tmp_path / "out.txt"
    with McapFile(bag, {}) as out:
        recorder = Recorder(out, "camera_optical", "map")
        for index in range(10):
            recorder.frame(
                replace(scene.frame_at(scene.START + index * scene.STEP, 0), T_map_camera=None)
            )
    environment = os.environ | {
        "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(100, 200)),
        "ROS_LOG_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    arguments = [
        "method:=null",
        "namespace:=robot",
        "slam_name:=where",
        "image:=/cam/image",
        "depth:=/cam/depth",
        "camera_info:=/cam/info",
        f"config:={ROOT / 'config/vos_ros.yaml'}",
        f"mapper_config:={ROOT / 'config/object_mapper.yaml'}",
        f"slam_config:={ROOT / 'config/rgbd_slam.yaml'}",
        f"bag:={bag}",
        "bag_rate:=4",
        f"map_file:={map_file}",
    ]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(ALL), *arguments],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    try:
        assert process.wait(100) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(5)
    said = log.read_text()
    assert (
        "pose from odometry" in said
        and said.count("finished cleanly") == 4
        and "camera pose:" not in said
    ), said
    assert load(map_file).stamp_ns == scene.START + 9 * scene.STEP, (
        "the last frame of the bag came through node and mapper"
    )


def test_the_rviz_config_shows_every_output():
    config = yaml.safe_load((ROOT / "config/vos_ros.rviz").read_text())
    shown = {
        d["Topic"]["Value"] for d in config["Visualization Manager"]["Displays"] if "Topic" in d
    }
    assert shown == {f"/vos_ros/{name}" for name in ("overlay", "labels", "markers", "cloud")}
