"""Processes that are killed or stopped, inputs that break off or change, disks and memory that are
full: the node goes on, and says on /diagnostics what is missing.

Real processes over DDS. Wrong encodings, sizes and QoS, missing depth, pose and camera_info, and a
bag that loops are in test_system.py.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger
from support import squares
from support.robot import end_process, start_process
from support.saved_maps import saved_map

from vos_ros.messages.stamps import time_message
from vos_ros.msg import Association
from vos_ros.reference_mapper.store import load, save
from vos_ros.ros.common.message_factory import make
from vos_ros.sinks.mcap import McapFile
from vos_ros.sinks.recording import Recorder
from vos_ros.types import MapObject, MapUpdate

RATE_HZ = 10.0
KEPT = "node.map_file"
"""The mapper's parameter that names the file of its map."""


def texts(robot: Any) -> str:
    """All that the nodes say on /diagnostics."""
    return "\n".join(f"{name}: {text}" for name, (_, text, _) in robot.diagnostics.items())


def names(robot: Any, index: int) -> dict[int, int]:
    """Send a frame; return the track of each map object that is followed in it."""
    header = robot.send(squares.frame_at(squares.START + index * squares.STEP, index))
    answer = robot.answered(header, "associations")
    return {a.map_object_id: a.track_id for a in answer.associations if a.track_id}


def counted(robot: Any, name: str) -> int:
    return int(robot.values("frames").get(f"frames_{name}", 0))


@pytest.fixture
def mapper(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``mapper(robot, file)``: a mapper in the robot's domain that keeps its map in a file."""
    started: list[subprocess.Popen[str]] = []

    def start_mapper(robot: Any, file: Path, **parameters: Any) -> subprocess.Popen[str]:
        values = {
            KEPT: file,
            "node.diagnostics_period_s": 0.2,
            "node.publish_period_s": 0.1,
            "node.pose_source": "used",
            **parameters,
        }
        log = tmp_path / f"mapper{len(started)}.log"
        started.append(start_process("vos_ros.ros.mapper.object_mapper", log, robot.domain, values))
        return started[-1]

    yield start_mapper
    for process in started:
        process.send_signal(signal.SIGCONT)
        end_process(process)


def save_squares(file: Path) -> None:
    """Save the three squares as a mapper's map."""
    objects = squares.map_objects()
    points = {o.id: o.points for o in objects}
    kept = saved_map(points, stamp_ns=squares.START, session_id="kept", revision=7)
    save(kept, file)


# --- killed ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_node_that_was_killed_in_mid_frame_gets_the_latched_map_and_goes_on(start: Any) -> None:
    robot = start()
    robot.ready()
    robot.send_map()
    assert set(names(robot, 0)) == {1, 2, 3}
    for index in range(1, 6):
        robot.send(squares.frame_at(squares.START + index * squares.STEP, index))
    robot.process.kill()
    robot.process.wait(5)
    robot.restart()
    robot.ready()
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the latched map")
    assert set(names(robot, 10)) == {1, 2, 3}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_player_that_was_killed_is_missed_and_the_next_one_is_followed(
    start: Any, tmp_path: Path
) -> None:
    bag = tmp_path / "squares.mcap"
    with McapFile(bag, {}) as out:
        recorder = Recorder(out, "camera_optical", "map")
        recorder.map_update(MapUpdate(squares.START, "bag", 1, True, squares.map_objects()))
        for index in range(200):
            recorder.frame(squares.frame_at(squares.START + index * squares.STEP, index))

    def play() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "vos_ros.ros.tools.player", str(bag), "--rate", "20"],
            env=os.environ | {"ROS_DOMAIN_ID": str(robot.domain), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    robot = start()
    robot.wait(lambda: robot.diagnostics.get("node", (0, ""))[1] == "active", "the node", 40)
    player = play()
    try:
        robot.wait(lambda: len(robot.got["instances"]) > 10, "frames of the player", 40)
    finally:
        player.kill()
        player.wait(5)
    robot.wait(lambda: "nothing on /image for" in texts(robot), "the silence", 10)
    answered = len(robot.got["instances"])
    player = play()
    try:  # its stamps go back: a session of its own
        robot.wait(lambda: len(robot.got["instances"]) > answered + 10, "the next player", 40)
    finally:
        player.kill()
        player.wait(5)
    last = robot.got["associations"][-1].associations
    assert {a.map_object_id for a in last if a.status == Association.MATCHED} == {1, 2, 3}
    assert counted(robot, "failed") == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_mapper_that_was_killed_keeps_its_ids(start: Any, mapper: Any, tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    save_squares(file)
    robot = start(**{"segmentation.method": "lwl"})
    robot.ready()
    process = mapper(robot, file, **{"node.autosave_s": 0.5})
    known = lambda: (  # noqa: E731
        robot.values("map").get("map_objects") == "3"
        and robot.values("map").get("map_session_id")
        == robot.values("object_mapper: map").get("session_id")
    )
    robot.wait(known, "the map of the mapper", 40)
    before, index = names(robot, 0), 1
    assert set(before) == {1, 2, 3}
    while load(file).revision <= 7 and index < 100:
        names(robot, index)
        robot.spin(0.1)
        index += 1
    assert load(file).revision > 7, "saved by itself"
    for _ in range(5):  # the map changes after it was saved, too
        names(robot, index)
        index += 1
    process.kill()
    process.wait(5)
    del robot.diagnostics["object_mapper: map"]
    again = names(robot, index)
    assert again == before, "the node goes on with the map that it has"
    mapper(robot, file)
    robot.wait(lambda: "object_mapper: map" in robot.diagnostics and known(), "the saved map", 40)
    for _ in range(20):
        index += 1
        last = names(robot, index)
        robot.spin(0.1)
    assert set(last) == {1, 2, 3}
    robot.wait(known, "one session", 20)
    values = robot.values("object_mapper: map")
    assert values["objects"] == "3" and values["failed"] == "0"


# --- stopped --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("seconds", [5.0, 20.0])
def test_a_node_that_was_stopped_answers_the_newest_frame(start: Any, seconds: float) -> None:
    robot = start()
    robot.ready()
    robot.send_map()
    before = names(robot, 0)
    os.kill(robot.process.pid, signal.SIGSTOP)
    index, end = 1, time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            robot.send(squares.frame_at(squares.START + index * squares.STEP, index))
            robot.spin(1 / RATE_HZ)
            index += 1
    finally:
        os.kill(robot.process.pid, signal.SIGCONT)
    # After 20 s each side takes the other for dead (the middleware's lease), and finds it again.
    begun, header = time.monotonic(), None
    while header is None or all(m.header != header for m in robot.got["associations"]):
        assert time.monotonic() - begun < 10.0, (
            "what waited is worked off, or nothing comes any more"
        )
        index += 1
        header = robot.send(squares.frame_at(squares.START + index * squares.STEP, index))
        robot.spin(1 / RATE_HZ)
    print(f"answered {time.monotonic() - begun:.1f} s after it went on")
    assert names(robot, index + 1) == before
    assert robot.got["instances"][-1].latency_ms < 1000
    assert counted(robot, "failed") == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_mapper_that_was_stopped_goes_on(start: Any, mapper: Any, tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    save_squares(file)
    robot = start()
    robot.ready()
    process = mapper(robot, file)
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "its map", 40)
    before = names(robot, 0)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for index in range(1, 51):
            assert names(robot, index) == before, "the node does without it"
            robot.spin(1 / RATE_HZ)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    integrated = int(robot.values("object_mapper: map").get("frames_integrated", 0))
    for index in range(51, 81):
        names(robot, index)
        robot.spin(1 / RATE_HZ)
    values = robot.values("object_mapper: map")
    assert int(values["frames_integrated"]) > integrated + 10 and values["objects"] == "3"
    assert values["failed"] == "0"


# --- inputs that change ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_camera_info_of_zeros_is_refused_and_one_that_changes_is_used(start: Any) -> None:
    robot = start(**{"node.use_depth": False})
    robot.ready(unused=("depth",))
    robot.send_map()
    robot.step(0)

    def uncalibrated(messages: dict[str, Any]) -> None:
        messages["camera_info"].k = [0.0] * 9
        messages["camera_info"].p = [0.0] * 12

    # A camera_info may arrive after its image, which then has the calibration before it.
    for index in (1, 2):
        stamp = squares.START + index * squares.STEP
        robot.send(squares.frame_at(stamp, index), change=uncalibrated)
        robot.spin(0.5)
    robot.wait(lambda: "camera_info holds no calibration" in texts(robot), "the reason")

    def zoomed(messages: dict[str, Any]) -> None:
        k = list(messages["camera_info"].k)
        k[0] = k[4] = 2 * k[0]
        messages["camera_info"].k = k
        messages["camera_info"].p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]

    robot.step(3)
    near = robot.step(4)
    wide = {i.track_id: i.area_px for i in near.instances}
    robot.step(5, change=zoomed)
    far = robot.step(6, change=zoomed)
    by_track = {i.track_id: i.area_px for i in far.instances}
    middle = max(set(by_track) & set(wide), key=lambda t: by_track[t])
    assert by_track[middle] > 3 * wide[middle], "the projection follows the focal length"


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_map_that_is_cleared_and_comes_back(start: Any) -> None:
    robot = start(**{"segmentation.method": "lwl"})
    robot.ready()
    robot.send_map()
    assert set(names(robot, 0)) == {1, 2, 3}
    robot.send_map(MapUpdate(squares.START, "mapper", 2, True, ()))
    robot.wait(lambda: robot.values("map").get("map_objects") == "0", "an empty map")
    assert names(robot, 1) == {}
    robot.send_map(MapUpdate(squares.START, "mapper", 3, True, squares.map_objects()))
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the map again")
    for index in range(2, 8):
        last = names(robot, index)
    assert set(last) == {1, 2, 3}


def two_thousand_objects() -> tuple[MapObject, ...]:
    """The squares, and a wall of small things behind them in three rooms, one of them in view."""
    rng = np.random.default_rng(0)
    out = list(squares.map_objects())
    for i in range(4, 2001):
        T = np.eye(4)
        room = (i % 3) * 30.0
        T[:3, 3] = [room + rng.uniform(-1.2, 1.2), rng.uniform(-0.9, 0.9), 1.98]
        points = rng.uniform(-0.02, 0.02, (40, 3)) + T[:3, 3]
        size = np.full(3, 0.04)
        out.append(MapObject(i, 1, T, size, points.astype(np.float32), 0.01))
    return tuple(out)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_thousand_objects(start: Any) -> None:
    robot = start(**{"segmentation.method": "lwl", "node.worker_timeout_s": 5.0})
    robot.ready()
    robot.send_map(MapUpdate(squares.START, "mapper", 1, True, two_thousand_objects()))
    robot.wait(lambda: robot.values("map").get("map_objects") == "2000", "the map")
    for index in range(5):
        matched = names(robot, index)
    assert {1, 2, 3} <= set(matched)
    assert robot.got["instances"][-1].latency_ms < 10_000
    assert "busy" not in texts(robot)


# --- time -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_clock_that_is_set(start: Any, jump_s: float) -> None:
    robot = start()
    robot.ready()
    robot.send_map()
    first = squares.START + 7200 * squares.SECOND
    after = first + int(jump_s * 1e9)
    for base in (first, after):
        for index in range(10):
            frame = squares.frame_at(base + index * squares.STEP, index)
            answer = robot.answered(robot.send(frame), "associations")
        matched = {a.map_object_id for a in answer.associations if a.status == Association.MATCHED}
        assert matched == {1, 2, 3}, texts(robot)
    assert counted(robot, "failed") == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_clock_that_stops(start: Any) -> None:
    """With use_sim_time, the time of /clock stands still; frames and /diagnostics go on."""
    robot = start(use_sim_time=True)
    clock = robot.node.create_publisher(Clock, "/clock", 10)
    robot.ready()
    robot.send_map()
    for index in range(5):
        stamp = squares.START + index * squares.STEP
        clock.publish(Clock(clock=time_message(make, stamp)))
        robot.step(index)
    for index in range(5, 30):  # no /clock any more
        last = names(robot, index)
    assert set(last) == {1, 2, 3}
    robot.diagnostics.clear()
    robot.wait(lambda: "node" in robot.diagnostics, "diagnostics", 5)


# --- full -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_disk_that_is_full_under_a_save_costs_no_map(
    start: Any, mapper: Any, tmp_path: Path
) -> None:
    """The limit of a file's size stands in for the disk: writing fails in the middle, too."""
    file = tmp_path / "map.json"
    save_squares(file)
    before = {
        p.name: p.read_bytes() for p in file.parent.rglob("*") if "map" in p.name and p.is_file()
    }
    robot = start()
    robot.ready()
    process = mapper(robot, file)
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "its map", 40)

    def integrated() -> int:
        return int(robot.values("object_mapper: map").get("frames_integrated", 0))

    index = 0
    while integrated() < 5 and index < 100:
        names(robot, index)
        robot.spin(0.1)
        index += 1
    assert integrated() >= 5
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (600, limits[1]))
    answer = robot.call(Trigger, "/object_mapper/save", Trigger.Request())
    assert not answer.success and "could not be saved" in answer.message, answer.message
    assert load(file).revision == 7 and len(load(file).objects) == 3, "the map before is whole"
    kept = {n: (file.parent / n) for n in before if (file.parent / n).exists()}
    assert all(kept[n].read_bytes() == before[n] for n in kept)
    robot.wait(lambda: "could not be saved" in texts(robot), "the reason on /diagnostics")
    assert set(names(robot, index + 1)) == {1, 2, 3}
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    answer = robot.call(Trigger, "/object_mapper/save", Trigger.Request())
    assert answer.success, answer.message
    assert load(file).revision > 7


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_memory_that_is_full_costs_the_network_and_no_frame(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    monkeypatch.setenv("NO_MEMORY", str(full))
    paths = f"{Path(__file__).resolve().parents[1]}:{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.setenv("PYTHONPATH", paths)
    robot = start(module="support.node_without_memory", **{"segmentation.method": "lwl"})
    robot.ready()
    robot.send_map()
    before = names(robot, 0)
    assert set(before) == {1, 2, 3}
    full.touch()
    for index in range(1, 6):
        assert names(robot, index) == before
    robot.wait(lambda: "memory is full" in texts(robot), "the reason")
    assert robot.diagnostics["node"][0] == 2, "an error of the node itself"
    full.unlink()
    end = time.monotonic() + 20
    while "memory is full" in texts(robot) and time.monotonic() < end:
        index += 1
        assert names(robot, index) == before
        robot.spin(0.2)
    assert "memory is full" not in texts(robot)
    headers = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in robot.got["labels"]]
    assert len(headers) == len(set(headers)) == index + 1, "every frame once"
    assert counted(robot, "failed") == 0
