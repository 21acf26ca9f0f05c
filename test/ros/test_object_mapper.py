"""The reference mapper as people run it: a process beside the perception node's, real Fast DDS between them and a robot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from rclpy.qos import DurabilityPolicy, QoSProfile
from std_srvs.srv import Trigger

from vos_ros.mapper.store import load
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.msg import Association, MapObjectArray, Prompt
from vos_ros.ros.conversions import image_message, map_update_from_message, stamp_from_ns
from vos_ros.sinks.mcap import McapFile
from vos_ros.sinks.recording import Recorder
from vos_ros.srv import AddObjects


class Mapper:
    """An object_mapper process in a robot's domain, and the map as the robot hears it."""

    def __init__(self, robot: Any, folder: Path, parameters: dict[str, Any]) -> None:
        self.robot, self.log, self.map, self.heard = robot, folder / f"mapper{len(list(folder.glob('mapper*.log')))}.log", ObjectMap(), []
        values = {"node.diagnostics_period_s": 0.2, "node.input_timeout_s": 1.0, "node.publish_period_s": 0.1, **parameters}
        command = [sys.executable, "-m", "vos_ros.ros.object_mapper", "--ros-args",
                   *(part for key, value in values.items() for part in ("-p", f"{key}:={value}"))]
        environment = os.environ | {"ROS_DOMAIN_ID": str(robot.domain), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self._subscription = robot.node.create_subscription(
            MapObjectArray, "map_objects", self._on_map, QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL))
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment, text=True)

    def _on_map(self, msg: Any) -> None:
        self.heard.append(msg)
        assert self.map.apply(map_update_from_message(msg)) == ""

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
        def alive() -> object:
            assert self.process.poll() is None, f"the mapper has ended while waiting for {what}:\n{self.log.read_text()}"
            return condition()
        try:
            self.robot.wait(alive, what, seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}\nthe mapper said:\n{self.log.read_text()}") from None

    def ready(self) -> None:
        """Waits until it gets what the node publishes."""
        self.wait(lambda: self.heard, "the first map", 40)
        names = [f"/vos_ros/{n}" for n in ("labels", "instances", "associations")]
        self.wait(lambda: all(self.robot.node.count_subscribers(n) == 2 for n in names), "its subscriptions")

    def value(self, key: str, status: str = "map") -> str:
        return str(self.robot.values(f"object_mapper: {status}").get(key, ""))

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait(5)
            self.robot.node.destroy_subscription(self._subscription)


@pytest.fixture
def start_mapper(start: Any, tmp_path: Path) -> Iterator[Callable[..., Mapper]]:
    """``start_mapper(robot, **{"node.map_file": path})``."""
    made: list[Mapper] = []

    def make(robot: Any, **parameters: Any) -> Mapper:
        made.append(Mapper(robot, tmp_path, parameters))
        return made[-1]

    yield make
    for mapper in made:
        mapper.end()


def prompts(scene: Any, header: Any, *ids: int) -> Any:
    out = []
    for i in ids:
        mask = np.zeros((scene.H, scene.W), np.uint8)
        x0, y0, x1, y1 = scene.BOXES[i]
        mask[y0:y1, x0:x1] = 255
        out.append(Prompt(kind=Prompt.MASK, class_id=10 + i, mask=image_message(mask, "mono8", header)))
    return AddObjects.Request(stamp=stamp_from_ns(scene.START), prompts=out)


def test_from_an_empty_map_prompts_become_objects_that_are_matched_saved_and_continued(start, start_mapper, scene, tmp_path):
    file = tmp_path / "map.json"
    robot = start(**{"segmentation.method": "lwl"})
    mapper = start_mapper(robot, **{"node.map_file": file})
    robot.ready()
    mapper.ready()
    assert len(mapper.map) == 0 and mapper.heard[0].full
    robot.wait(lambda: robot.values("map").get("map_session_id") == mapper.map.session_id, "the empty map")
    header = robot.step(0).header
    answer = robot.call(AddObjects, "/vos_ros/add_objects", prompts(scene, header, 1, 2, 3))
    assert answer.success, answer.message
    index = 1
    while len(mapper.map) < 3 and index < 40:
        robot.step(index)
        index += 1
    mapper.wait(lambda: len(mapper.map) == 3, "three objects")
    for o in mapper.map:
        box = scene.BOXES[o.class_id - 10]
        middle = np.array([(box[0] + box[2]) / 2 - scene.CAMERA.cx, (box[1] + box[3]) / 2 - scene.CAMERA.cy]) / 100
        np.testing.assert_allclose(o.T_map_object[:3, 3], [*middle, 1.0], atol=0.02)
        assert 0.15 < o.size[0] < 0.3 and 0.15 < o.size[1] < 0.3 and o.size[2] < 0.05 and len(o.points) > 100
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the node to know them")
    for _ in range(12):
        said = robot.answered(robot.send(scene.frame_at(scene.START + index * scene.STEP, index)), "associations")
        index += 1
    matched = {a.track_id: a.map_object_id for a in said.associations if a.status == Association.MATCHED}
    assert set(matched) == set(answer.track_ids) and set(matched.values()) == {o.id for o in mapper.map}
    mapper.wait(lambda: mapper.value("frames_integrated") == str(index), "all frames to be integrated")
    assert mapper.value("objects") == "3" and mapper.value("failed") == "0" and mapper.value("frames_left_out") == "0"
    message = next(m for m in reversed(mapper.heard) if m.objects).objects[0]
    assert message.observations >= 5 and message.existence_probability > 0.8 and message.class_score == 1.0
    assert message.pose.covariance[0] > 0 and message.first_seen.sec >= 1000

    assert robot.call(Trigger, "/object_mapper/save", Trigger.Request()).success
    assert len(load(file).objects) == 3
    assert mapper.end() == 0, mapper.log.read_text()
    saved = load(file)
    assert saved.session_id == mapper.map.session_id and saved.revision >= mapper.map.revision
    assert {o.id for o in saved.objects} == {o.id for o in mapper.map}

    # The node goes on; a mapper of the saved map takes over.
    again = start_mapper(robot, **{"node.map_file": file})
    again.ready()
    assert again.map.session_id == saved.session_id and again.map.revision > saved.revision and len(again.map) == 3
    for _ in range(10):
        robot.step(index)
        index += 1
    again.wait(lambda: again.value("frames_integrated") == "10", "the frames")
    assert again.value("objects") == "3" and int(again.value("statements.integrated")) >= 20
    assert robot.values("map")["updates_refused"] == "0"


def test_a_bag_through_node_and_mapper_with_the_saved_map(start, start_mapper, scene, tmp_path):
    from vos_ros.mapper.model import ObjectModel
    from vos_ros.mapper.object_mapper import SavedMap
    from vos_ros.mapper.store import save
    from vos_ros.mapper.voxels import grid_of
    objects = []
    for o in scene.map_objects():
        ones = np.ones(len(o.points))
        grid = grid_of(0.01, o.T_map_object[:3, 3], o.points, ones, 5 * ones.astype(np.int32))
        objects.append(ObjectModel(o.id, grid, scene.START, scene.START, 5, {o.class_id: 5}, 2.0))
    file, bag = tmp_path / "map.json", tmp_path / "squares.mcap"
    save(SavedMap("kept", 7, scene.START, "map", 4, {}, tuple(objects)), file)
    with McapFile(bag, {}) as out:
        recorder = Recorder(out, "camera_optical", "map")
        recorder.map_update(scene.MapUpdate(scene.START, "of the bag", 1, True, scene.map_objects()[:1]))
        for index in range(15):
            recorder.frame(scene.frame_at(scene.START + index * scene.STEP, index))
    robot = start()
    mapper = start_mapper(robot, **{"node.map_file": file})
    robot.ready()
    mapper.ready()
    assert (mapper.map.session_id, mapper.map.revision) >= ("kept", 8) and len(mapper.map) == 3
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the map from the file")
    environment = os.environ | {"ROS_DOMAIN_ID": str(robot.domain), "OMP_NUM_THREADS": "1"}
    player = subprocess.Popen([sys.executable, "-m", "vos_ros.ros.player", str(bag), "--rate", "5", "--node", "/vos_ros", "--no-map"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)
    try:
        robot.wait(lambda: player.poll() is not None, "the end of the bag", 60)
        assert player.returncode == 0, player.stdout.read()
    finally:
        player.kill()
        player.wait(5)
    mapper.wait(lambda: int(mapper.value("frames_integrated") or 0) >= 10, "the frames")
    assert mapper.value("session_id") == "kept" == robot.values("map")["map_session_id"]
    assert mapper.end() == 0
    saved = load(file)
    assert [o.id for o in saved.objects] == [1, 2, 3] and saved.next_id == 4
    assert all(o.observations > 10 for o in saved.objects), mapper.log.read_text()
