"""The map as it changes under the tracks, over DDS: gaps, late messages, a loop closure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from support import squares

from vos_ros.msg import Association
from vos_ros.types import MapUpdate


def matched(answer) -> dict[int, int]:
    """track -> object."""
    return {
        a.track_id: a.map_object_id for a in answer.associations if a.status == Association.MATCHED
    }


def test_a_lost_change_is_named_until_a_snapshot_comes_and_breaks_no_track(start):
    robot = start(**{"node.diagnostics_period_s": 0.1})
    robot.ready()
    objects, update = squares.map_objects(), MapUpdate
    robot.send_map(update(squares.START, "mapper", 1, True, objects[:2]))
    robot.wait(lambda: robot.values("map").get("map_revision") == "1", "the map")
    assert robot.values("map")["snapshot_needed"] == "False"
    for index in range(6):
        robot.step(index)
    before = matched(robot.got["associations"][-1])
    assert set(before.values()) == {1, 2}

    robot.send_map(update(squares.START, "mapper", 4, False, objects[2:]))
    robot.wait(
        lambda: robot.values("map").get("snapshot_needed") == "True", "the gap to be reported"
    )
    assert "revisions 2 to 3 are missing" in robot.values("map")["problem.map content"]
    robot.step(6)
    answer = robot.got["associations"][-1]
    assert answer.map_revision == 1 and matched(answer) == before, (
        "what is known of the map goes on"
    )
    robot.send_map(update(squares.START, "mapper", 2, False, ()))
    robot.wait(lambda: robot.values("map").get("map_revision") == "2", "the one that came late")
    assert robot.values("map")["snapshot_needed"] == "True", "one is still missing"

    robot.send_map(update(squares.START, "mapper", 5, True, objects))
    robot.wait(lambda: robot.values("map").get("map_revision") == "5", "the snapshot")
    assert robot.values("map")[
        "snapshot_needed"
    ] == "False" and "problem.map content" not in robot.values("map")
    robot.send_map(update(squares.START, "mapper", 4, False, ()))
    robot.wait(
        lambda: robot.logged("not newer than revision 5, which is in use: ignored"), "the old one"
    )
    robot.spin(0.3)
    assert robot.values("map")[
        "snapshot_needed"
    ] == "False" and "problem.map content" not in robot.values("map")
    for index in range(7, 12):
        robot.step(index)
    answer = robot.got["associations"][-1]
    assert (
        answer.map_revision == 5
        and {t: o for t, o in matched(answer).items() if t in before} == before
    )
    assert set(matched(answer).values()) == {1, 2, 3}


@pytest.mark.parametrize("map_comes", ["before the poses", "after the poses"])
def test_a_loop_closure_that_moves_everything_breaks_no_track(start, map_comes):
    """Map and camera move by 30 cm and 20 degrees at once; one of both arrives a frame earlier."""
    robot = start(**{"node.diagnostics_period_s": 0.1, "segmentation.method": "lwl"})
    robot.ready()
    objects = squares.map_objects()
    robot.send_map(MapUpdate(squares.START, "mapper", 1, True, objects))
    robot.wait(lambda: robot.values("map").get("map_revision") == "1", "the map")
    for index in range(8):
        robot.step(index)
    before = matched(robot.got["associations"][-1])
    assert set(before.values()) == {1, 2, 3}

    moved = np.eye(4)
    angle = np.radians(20)
    moved[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    moved[:3, 3] = 0.3, -0.1, 0.05

    def step(index: int, closed: bool) -> None:
        frame = squares.frame_at(squares.START + index * squares.STEP, index)
        frame = replace(
            frame, T_map_camera=moved @ frame.T_map_camera if closed else frame.T_map_camera
        )
        robot.answered(robot.send(frame), "instances")

    there = tuple(
        replace(
            o,
            T_map_object=moved @ o.T_map_object,
            points=(o.points @ moved[:3, :3].T + moved[:3, 3]).astype(np.float32),
        )
        for o in objects
    )
    closure = MapUpdate(squares.START + 8 * squares.STEP, "mapper", 2, False, there)
    index = 8
    if map_comes == "after the poses":
        step(index, True)
        index += 1
    robot.send_map(closure)
    robot.wait(lambda: robot.values("map").get("map_revision") == "2", "the closure")
    if map_comes == "before the poses":
        step(index, False)
        index += 1
    for later in range(index, index + 8):
        step(later, True)
    for answer in robot.got["associations"][8:]:
        assert {a.track_id: a.map_object_id for a in answer.associations if a.track_id} == before, (
            "every track stays with its object"
        )
        assert not [
            a
            for a in answer.associations
            if a.status in (Association.ABSENT, Association.LOST, Association.NEW)
        ]
    assert matched(robot.got["associations"][-1]) == before
    assert robot.got["associations"][-1].map_revision == 2
