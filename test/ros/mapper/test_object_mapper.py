"""The reference mapper in a process of its own, with the perception node and a robot over DDS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from support import squares
from support.robot import Robot, end_process, start_process
from support.saved_maps import saved_map
from tf2_msgs.msg import TFMessage

from vos_ros.cli.processes import free_domain
from vos_ros.config import ConfigError
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.messages.geometry import pose_with_covariance_message, transform_stamped_message
from vos_ros.messages.images import frame_messages, image_message
from vos_ros.messages.map_objects import map_update_from_message
from vos_ros.messages.stamps import header_message, time_message
from vos_ros.msg import (
    Association,
    AssociationArray,
    Instance,
    InstanceArray,
    MapObjectArray,
    Prompt,
)
from vos_ros.reference_mapper.object_mapper import SavedMap
from vos_ros.reference_mapper.store import MapFileError, load, save
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.mapper.object_mapper import ObjectMapperNode
from vos_ros.sinks.mcap import McapFile
from vos_ros.sinks.recording import Recorder
from vos_ros.srv import AddObjects
from vos_ros.types import MapUpdate


def launch(
    folder: Path, domain: int, parameters: dict[str, Any]
) -> tuple[subprocess.Popen[str], Path]:
    """Start an object_mapper and return its process and its log."""
    values = {
        "node.diagnostics_period_s": 0.2,
        "node.input_timeout_s": 1.0,
        "node.publish_period_s": 0.1,
        **parameters,
    }
    log = folder / f"mapper{len(list(folder.glob('mapper*.log')))}.log"
    return start_process("vos_ros.ros.mapper.object_mapper", log, domain, values), log


class Mapper:
    """An object_mapper process in a robot's domain, and the map as the robot receives it."""

    def __init__(self, robot: Any, process: subprocess.Popen[str], log: Path) -> None:
        self.robot, self.process, self.log = robot, process, log
        self.map, self.received = ObjectMap(), []
        self.subscription = robot.node.create_subscription(
            MapObjectArray,
            "map_objects",
            self._on_map,
            QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )

    def _on_map(self, msg: Any) -> None:
        self.received.append(msg)
        refused = self.map.apply(map_update_from_message(msg)).reason
        assert refused == "", refused

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
        def alive() -> object:
            assert self.process.poll() is None, (
                f"the mapper has ended while waiting for {what}:\n{self.log.read_text()}"
            )
            return condition()

        try:
            self.robot.wait(alive, what, seconds)
        except AssertionError as e:
            raise AssertionError(f"{e}\nthe log of the mapper:\n{self.log.read_text()}") from None

    def ready(self) -> None:
        """Waits until it gets what the node publishes."""
        self.wait(lambda: self.received, "the first map", 40)
        names = [f"/vos_ros/{n}" for n in ("labels", "instances", "associations")]
        self.wait(
            lambda: all(self.robot.node.count_subscribers(n) == 2 for n in names),
            "its subscriptions",
        )

    def value(self, key: str, status: str = "map") -> str:
        return str(self.robot.values(f"object_mapper: {status}").get(key, ""))

    def end(self) -> int:
        try:
            return end_process(self.process)
        finally:
            self.robot.node.destroy_subscription(self.subscription)


@pytest.fixture
def start_mapper(start: Any, tmp_path: Path) -> Iterator[Callable[..., Mapper]]:
    """``start_mapper(robot, **{"node.map_file": path})``."""
    made: list[Mapper] = []

    def make(robot: Any, **parameters: Any) -> Mapper:
        made.append(Mapper(robot, *launch(tmp_path, robot.domain, parameters)))
        return made[-1]

    yield make
    for mapper in made:
        mapper.end()


def prompts(header: Any, *ids: int) -> Any:
    out = []
    for i in ids:
        mask = np.zeros((squares.H, squares.W), np.uint8)
        x0, y0, x1, y1 = squares.BOXES[i]
        mask[y0:y1, x0:x1] = 255
        out.append(
            Prompt(
                kind=Prompt.MASK, class_id=10 + i, mask=image_message(make, header, "mono8", mask)
            )
        )
    return AddObjects.Request(stamp=time_message(make, squares.START), prompts=out)


def test_from_an_empty_map_prompts_become_objects_that_are_matched_saved_and_continued(
    start, start_mapper, tmp_path
):
    file = tmp_path / "map.json"
    robot = start(**{"segmentation.method": "lwl"})
    mapper = start_mapper(robot, **{"node.map_file": file})
    robot.ready()
    mapper.ready()
    assert len(mapper.map) == 0 and mapper.received[0].full
    robot.wait(
        lambda: robot.values("map").get("map_session_id") == mapper.map.session_id, "the empty map"
    )
    header = robot.step(0).header
    answer = robot.call(AddObjects, "/vos_ros/add_objects", prompts(header, 1, 2, 3))
    assert answer.success, answer.message
    index = 1
    while len(mapper.map) < 3 and index < 40:
        robot.step(index)
        index += 1
    mapper.wait(lambda: len(mapper.map) == 3, "three objects")
    for o in mapper.map:
        box = squares.BOXES[o.class_id - 10]
        middle = (
            np.array(
                [
                    (box[0] + box[2]) / 2 - squares.CAMERA.cx,
                    (box[1] + box[3]) / 2 - squares.CAMERA.cy,
                ]
            )
            / 100
        )
        np.testing.assert_allclose(o.T_map_object[:3, 3], [*middle, 1.0], atol=0.02)
        assert (
            0.15 < o.size[0] < 0.3
            and 0.15 < o.size[1] < 0.3
            and o.size[2] < 0.05
            and len(o.points) > 100
        )
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the node to know them")
    for _ in range(12):
        answer_to_frame = robot.answered(
            robot.send(squares.frame_at(squares.START + index * squares.STEP, index)),
            "associations",
        )
        index += 1
    matched = {
        a.track_id: a.map_object_id
        for a in answer_to_frame.associations
        if a.status == Association.MATCHED
    }
    assert set(matched) == set(answer.track_ids) and set(matched.values()) == {
        o.id for o in mapper.map
    }
    # the node may have found the mapper a frame later than the robot has
    mapper.wait(
        lambda: int(mapper.value("frames_integrated") or 0) >= index - 2,
        "the frames to be integrated",
    )
    assert (
        mapper.value("objects") == "3"
        and mapper.value("failed") == "0"
        and mapper.value("frames_left_out") == "0"
    )
    message = next(m for m in reversed(mapper.received) if m.objects).objects[0]
    assert (
        message.observations >= 5
        and message.existence_probability > 0.8
        and message.class_score == 1.0
    )
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
    assert (
        again.map.session_id == saved.session_id
        and again.map.revision > saved.revision
        and len(again.map) == 3
    )
    end = index + 40  # the node may find its new listener a few frames later
    while int(again.value("frames_integrated") or 0) < 10 and index < end:
        robot.step(index)
        robot.spin(0.1)
        index += 1
    assert int(again.value("frames_integrated")) >= 10, again.log.read_text()
    assert (
        again.value("objects") == "3"
        and int(again.value("associations.integrated")) >= 20
        and again.value("failed") == "0"
    )
    assert robot.values("map")["updates_refused"] == "0"


def saved_squares() -> SavedMap:
    """Return the three squares as a saved map."""
    objects = squares.map_objects()
    return saved_map(
        {o.id: o.points for o in objects},
        stamp_ns=squares.START,
        class_ids={o.id: o.class_id for o in objects},
        session_id="kept",
        revision=7,
    )


@pytest.mark.slow
def test_a_bag_through_node_and_mapper_with_the_saved_map(start, start_mapper, tmp_path):
    file, bag = tmp_path / "map.json", tmp_path / "squares.mcap"
    save(saved_squares(), file)
    with McapFile(bag, {}) as out:
        recorder = Recorder(out, "camera_optical", "map")
        recorder.map_update(
            MapUpdate(squares.START, "of the bag", 1, True, squares.map_objects()[:1])
        )
        for index in range(15):
            recorder.frame(squares.frame_at(squares.START + index * squares.STEP, index))
    robot = start()
    mapper = start_mapper(robot, **{"node.map_file": file})
    robot.ready()
    mapper.ready()
    assert (mapper.map.session_id, mapper.map.revision) >= ("kept", 8) and len(mapper.map) == 3
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the map from the file")
    environment = os.environ | {"ROS_DOMAIN_ID": str(robot.domain), "OMP_NUM_THREADS": "1"}
    player = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vos_ros.ros.tools.player",
            str(bag),
            "--rate",
            "5",
            "--node",
            "/vos_ros",
            "--no-map",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
    )
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


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Callable[..., Mapper]]:
    """``alone(**parameters)``: a mapper without a perception node; the robot plays that part."""
    made: list[Mapper] = []

    def make(**parameters: Any) -> Mapper:
        domain = free_domain()
        process, log = launch(tmp_path, domain, {"node.pose_source": "used", **parameters})
        made.append(Mapper(Robot(domain, process, log), process, log))
        return made[-1]

    yield make
    for mapper in made:
        mapper.end()
        mapper.robot.close()


class Perception:
    """The perception node's topics, from a robot: track 1 is the first square."""

    def __init__(self, mapper: Mapper) -> None:
        self.mapper, self.index = mapper, 0
        self.camera = np.eye(4)  # as TF has it
        robot = mapper.robot
        self.publishers = {
            k: robot.node.create_publisher(kind, f"/vos_ros/{k}", 50)
            for k, kind in (
                ("labels", Image),
                ("instances", InstanceArray),
                ("associations", AssociationArray),
            )
        }
        mapper.wait(
            lambda: all(p.get_subscription_count() for p in self.publishers.values()),
            "the subscriptions",
        )
        mapper.wait(
            lambda: all(
                robot.publishers[k].get_subscription_count() for k in ("depth", "camera_info")
            ),
            "those of depth",
        )
        robot.spin(0.5)  # the mapper's side of the match, which can't be seen from here

    def publish(
        self, map_object_id: int, status: int, skip: tuple[str, ...] = (), **changes: Any
    ) -> None:
        """One frame."""
        frame = squares.frame_at(squares.START + self.index * squares.STEP, self.index)
        self.index += 1
        _, info, depth = frame_messages(make, frame)
        head = info.header
        labels = np.zeros((squares.H, squares.W), np.uint16)
        x0, y0, x1, y1 = squares.BOXES[1]
        labels[y0:y1, x0:x1] = 9
        fields = {
            "session_id": "s",
            "map_session_id": self.mapper.map.session_id,
            "map_revision": self.mapper.map.revision,
            "map_frame": "map",
            "map_from_camera": pose_with_covariance_message(make, np.eye(4), None),
            "associations": [
                Association(track_id=1, map_object_id=map_object_id, status=status, score=0.9)
            ],
            **changes,
        }
        instance = Instance(
            track_id=1, label_value=9, class_id=11, state=Instance.CONFIRMED, area_px=576
        )
        messages = {
            "labels": image_message(make, head, "16UC1", labels),
            "instances": InstanceArray(header=head, session_id="s", instances=[instance]),
            "associations": AssociationArray(
                header=head, self_check=AssociationArray.PASSED, **fields
            ),
        }
        if "/tf" not in skip:
            self.mapper.robot.publishers["/tf"].publish(
                TFMessage(
                    transforms=[
                        transform_stamped_message(
                            make,
                            header_message(make, frame.stamp_ns, "map"),
                            head.frame_id,
                            self.camera,
                        )
                    ]
                )
            )
        for name, msg in (("camera_info", info), ("depth", depth)):
            if name not in skip:
                self.mapper.robot.publishers[name].publish(msg)
        for name, msg in messages.items():
            if name not in skip:
                self.publishers[name].publish(msg)
        self.mapper.robot.spin(0.02)


def test_missing_and_refused_inputs_are_reported_and_late_readers_get_a_snapshot(alone, tmp_path):
    save(saved_squares(), tmp_path / "map.json")
    mapper = alone(**{"node.map_file": tmp_path / "map.json", "node.sync_wait_s": 0.3})
    mapper.wait(lambda: len(mapper.map) == 3, "the map", 40)
    mapper.wait(
        lambda: "it has no publisher" in mapper.value("problem.labels", "inputs"),
        "the missing labels to be reported",
    )
    assert "The map stays as it is meanwhile" in mapper.value("problem.associations", "inputs")
    mapper.wait(
        lambda: "No surface can be measured" in mapper.value("problem.depth", "inputs"),
        "the missing depth to be reported",
    )
    perception = Perception(mapper)
    perception.publish(1, Association.MATCHED)
    mapper.wait(lambda: mapper.value("associations.integrated") == "1", "the first frame")
    mapper.wait(lambda: not mapper.value("problem.labels", "inputs"), "the end of the problem")
    assert mapper.log.read_text().count("labels: nothing on /vos_ros/labels yet, ") <= 2, (
        "each reason is reported once"
    )

    perception.publish(1, Association.MATCHED, skip=("depth",))
    mapper.wait(
        lambda: mapper.value("associations.match without usable points") == "1",
        "the frame without depth",
    )
    perception.publish(1, Association.MATCHED, skip=("instances",))
    mapper.wait(
        lambda: mapper.value("frames_incomplete", "inputs") == "1", "the frame without instances"
    )
    perception.publish(1, Association.MATCHED, map_session_id="theirs")
    mapper.wait(
        lambda: "'theirs'" in mapper.value("problem.map session"), "the other map to be reported"
    )
    perception.publish(1, 77)
    mapper.wait(
        lambda: "status 77" in mapper.value("problem.frame content"),
        "the wrong status to be reported",
    )
    perception.publish(1, Association.MATCHED)
    mapper.wait(
        lambda: (
            mapper.value("associations.integrated") == "2"
            and not mapper.value("problem.frame content")
        ),
        "all to be well again",
    )
    assert mapper.value("frames_left_out") == "1" and mapper.value("failed") == "0"

    late: list[Any] = []
    before = mapper.map.revision
    mapper.robot.node.create_subscription(
        MapObjectArray,
        "map_objects",
        late.append,
        QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL),
    )
    mapper.wait(lambda: late and late[-1].revision > before, "a snapshot for the late reader")
    assert late[-1].full and len(late[-1].objects) == 3


def test_statuses_over_dds_change_the_map(alone, tmp_path):
    save(saved_squares(), tmp_path / "map.json")
    mapper = alone(
        **{"node.map_file": tmp_path / "map.json", "node.autosave_s": 0.5, "rules.absent_s": 0.5}
    )
    mapper.wait(lambda: len(mapper.map) == 3, "the map", 40)
    perception = Perception(mapper)
    merge = Association(
        track_id=1, map_object_id=2, status=Association.MERGE, score=0.9, related_ids=[3]
    )
    for _ in range(5):
        perception.publish(2, Association.MERGE, associations=[merge])
    mapper.wait(lambda: 3 not in mapper.map and mapper.map.resolve(3) == 2, "the merge")
    for _ in range(30):
        perception.publish(1, Association.ABSENT)
    mapper.wait(lambda: 1 not in mapper.map, "the deletion")
    assert [o.id for o in mapper.map] == [2]
    mapper.wait(
        lambda: "1 objects saved" in mapper.log.read_text(), "the map to be saved by itself"
    )
    assert [o.id for o in load(tmp_path / "map.json").objects] == [2]


def test_points_are_placed_by_the_poses_of_the_slam_not_by_corrected_ones(alone, tmp_path):
    save(saved_squares(), tmp_path / "map.json")
    mapper = alone(
        **{
            "node.map_file": tmp_path / "map.json",
            "node.pose_source": "tf",
            "model.independent_s": 0.0,
        }
    )
    mapper.wait(lambda: len(mapper.map) == 3, "the map", 40)
    perception = Perception(mapper)
    crept = np.eye(4)
    crept[2, 3] = -0.04  # what the perception node made of its pose: 4 cm nearer
    for _ in range(12):
        perception.publish(
            1,
            Association.MATCHED,
            map_from_camera=pose_with_covariance_message(make, crept, np.eye(6) * 1e-6),
        )
    mapper.wait(lambda: int(mapper.value("associations.integrated") or 0) >= 10, "the frames")
    mapper.wait(
        lambda: mapper.robot.call(Trigger, "/object_mapper/save", Trigger.Request()).success,
        "the file",
    )
    (one,) = [o for o in load(tmp_path / "map.json").objects if o.id == 1]
    assert (
        abs(float(np.median(one.grid.means()[:, 2])) - 1.0) < 0.005
        and one.grid.means()[:, 2].min() > 0.97
    )
    # Without TF the corrected pose is used, and that is reported.
    for _ in range(3):
        perception.publish(1, Association.MATCHED, skip=("/tf",))
    mapper.wait(
        lambda: "is used meanwhile" in mapper.value("problem.camera pose"),
        "the missing pose to be reported",
    )


def test_the_whole_map_is_repeated_where_a_change_was_lost(alone, tmp_path):
    save(saved_squares(), tmp_path / "map.json")
    mapper = alone(
        **{"node.map_file": tmp_path / "map.json", "node.behind_s": 0.5, "rules.refresh_s": 0.1}
    )
    mapper.wait(lambda: len(mapper.map) == 3, "the map", 40)
    perception = Perception(mapper)
    held = mapper.map.revision
    for _ in range(5):
        perception.publish(1, Association.MATCHED)
    mapper.wait(lambda: mapper.map.revision > held, "a change")
    mapper.robot.spin(1.0)
    assert mapper.value("snapshots_repeated") == "0"
    whole = [m.full for m in mapper.received].count(True)
    perception.publish(1, Association.MATCHED, map_revision=held)  # it never got the change
    mapper.wait(lambda: [m.full for m in mapper.received].count(True) > whole, "the whole map")
    mapper.wait(lambda: mapper.value("snapshots_repeated") == "1", "it to be counted")
    assert f"uses revision {held} of this map" in mapper.log.read_text()


def test_reset_starts_an_empty_map(alone, tmp_path):
    save(saved_squares(), tmp_path / "map.json")
    mapper = alone(**{"node.map_file": tmp_path / "map.json"})
    mapper.wait(lambda: len(mapper.map) == 3, "the map", 40)
    in_the_way = tmp_path / "map.before_reset.objects"
    in_the_way.write_text("a file where a folder is wanted")
    answer = mapper.robot.call(Trigger, "/object_mapper/reset", Trigger.Request())
    assert not answer.success and "nothing is forgotten" in answer.message
    assert len(mapper.map) == 3
    in_the_way.unlink()
    answer = mapper.robot.call(Trigger, "/object_mapper/reset", Trigger.Request())
    assert (
        answer.success
        and "3 objects are forgotten" in answer.message
        and "map.json is overwritten" in answer.message
        and "map.before_reset.json" in answer.message
    )
    mapper.wait(lambda: len(mapper.map) == 0 and mapper.map.session_id != "kept", "the empty map")
    assert mapper.received[-1].full and mapper.received[-1].revision == 1
    assert len(load(tmp_path / "map.json").objects) == 3, "until it is saved"
    assert mapper.robot.call(Trigger, "/object_mapper/save", Trigger.Request()).success
    assert (
        load(tmp_path / "map.json").session_id == mapper.map.session_id
        and not load(tmp_path / "map.json").objects
    )
    kept = tmp_path / "map.before_reset.json"
    assert load(kept).session_id == "kept" and len(load(kept).objects) == 3
    assert mapper.robot.call(Trigger, "/object_mapper/reset", Trigger.Request()).success
    assert len(load(kept).objects) == 3, "an empty map does not replace it"


def test_it_refuses_to_start_on_a_damaged_map_and_leaves_it_alone(tmp_path):
    (tmp_path / "map.json").write_text("{")
    process, log = launch(
        tmp_path,
        free_domain(),
        {"node.map_file": tmp_path / "map.json"},
    )
    try:
        assert process.wait(60) == 1, log.read_text()
    finally:
        process.kill()
        process.wait(5)
    text = log.read_text()
    assert (
        "object_mapper: the map" in text
        and "cut short or damaged" in text
        and "Traceback" not in text
    )
    assert (tmp_path / "map.json").read_text() == "{"


@pytest.mark.parametrize(
    ("parameters", "error", "reason"),
    [
        ({"node.map_file": "{}/nowhere/map.json"}, MapFileError, "there is no folder"),
        (
            {"node.map_file": "{}/map.json", "node.map_frame": "world"},
            MapFileError,
            "in frame 'map', node.map_frame is 'world'",
        ),
        ({"model.voxel_m": 5.0}, ConfigError, "model.voxel_m: got 5.0 m, wanted 0.001..1"),
    ],
)
def test_what_it_refuses_to_start_with(tmp_path, parameters, error, reason):
    save(saved_squares(), tmp_path / "map.json")
    context = rclpy.Context()
    rclpy.init(context=context, args=[], domain_id=free_domain())
    given = [
        Parameter(k, value=v.format(tmp_path) if isinstance(v, str) else v)
        for k, v in parameters.items()
    ]
    try:
        with pytest.raises(error, match=reason):
            ObjectMapperNode(context=context, parameter_overrides=given)
    finally:
        rclpy.shutdown(context=context)
