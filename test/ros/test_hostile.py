"""What other processes may send by mistake or on purpose: the node answers the next good frame, and
says on /diagnostics what was wrong. Each was seen to end, hang or starve the node.
"""

from __future__ import annotations

import array
import io
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger
from support import squares
from support.robot import end_process, start_process
from tf2_msgs.msg import TFMessage

from vos_ros.messages.geometry import transform_stamped_message
from vos_ros.messages.images import frame_messages, image_message
from vos_ros.messages.map_objects import map_objects_message
from vos_ros.messages.stamps import header_message
from vos_ros.msg import Association, AssociationArray, Prompt
from vos_ros.ros.common.message_factory import make
from vos_ros.srv import AddObjects
from vos_ros.types import MapUpdate


def a_map(revision: int = 2, **changes: Any) -> Any:
    """The three squares as a message, with some fields changed."""
    fields = {"full": True, "objects": squares.map_objects(), "session_id": "mapper"} | changes
    return map_objects_message(
        make, MapUpdate(stamp_ns=squares.START, revision=revision, frame_id="map", **fields)
    )


def texts(robot: Any) -> str:
    """All that the node says on /diagnostics."""
    return "\n".join(
        f"{name} {level} {text}" for name, (level, text, _) in robot.diagnostics.items()
    )


_stamps = itertools.count(squares.START + 100 * squares.STEP, squares.STEP)


def _next_ns() -> int:
    """Return a stamp later than all before."""
    return next(_stamps)


def good_frame(robot: Any) -> Any:
    """Send a good frame and return its instances."""
    return robot.answered(robot.send(squares.frame_at(_next_ns())), "instances").instances


def field_outside_the_buffer(robot: Any) -> None:
    message = a_map()
    message.points.fields[1].offset = 2**31 - 4
    robot.publishers["map_objects"].publish(message)


def endless_rows(robot: Any) -> None:
    message = a_map()
    message.points.width, message.points.height, message.points.row_step = 1, 2**32 - 1, 0
    robot.publishers["map_objects"].publish(message)


def a_long_session_id(robot: Any) -> None:
    robot.publishers["map_objects"].publish(a_map(session_id="s" * 1_000_000))


def a_chain_of_merges_that_is_a_circle(robot: Any) -> None:
    n = 2000
    merged = tuple((100 + i, 100 + (i + 1) % n) for i in range(n))
    robot.publishers["map_objects"].publish(a_map(full=False, objects=(), merged=merged))


def image_of_a_negative_time(robot: Any) -> None:
    image = image_message(make, header_message(make, 5, "cam"), "mono8", np.zeros((96, 128), "u1"))
    image.header.stamp.sec = -5
    robot.publishers["image"].publish(image)


def depth_of_a_negative_time(robot: Any) -> None:
    depth = image_message(make, header_message(make, 5, "cam"), "16UC1", np.ones((96, 128), "u2"))
    depth.header.stamp.sec = -5
    robot.publishers["depth"].publish(depth)


def an_image_with_a_forged_frame(robot: Any) -> None:
    image = image_message(make, header_message(make, 5, "x" * 999), "mono8", np.zeros((9, 9), "u1"))
    robot.publishers["image"].publish(image)


def a_camera_of_four_billion_pixels(robot: Any) -> None:
    frame = squares.frame_at(_next_ns())

    def change(messages: dict[str, Any]) -> None:
        messages["camera_info"].width = messages["camera_info"].height = 2**32 - 1

    robot.send(frame, change=change)


def a_focal_length_of_nothing(robot: Any) -> None:
    frame = squares.frame_at(_next_ns())

    def change(messages: dict[str, Any]) -> None:
        k = list(messages["camera_info"].k)
        k[0] = 1e-300
        messages["camera_info"].k = k

    robot.send(frame, change=change)


HOSTILE: dict[Callable[[Any], None], str] = {
    field_outside_the_buffer: "outside a point of 12 bytes",
    endless_rows: "limits.points",
    a_long_session_id: "limits.text",
    a_chain_of_merges_that_is_a_circle: "circle",
    image_of_a_negative_time: "image content: a message on /image is left out: its stamp is -5 s",
    depth_of_a_negative_time: "depth content: a message on /depth is left out: its stamp is -5 s",
    an_image_with_a_forged_frame: "header.frame_id: 999",
    a_camera_of_four_billion_pixels: "limits.pixels",
    a_focal_length_of_nothing: "which no camera has",
}


@pytest.mark.timeout(150)
def test_messages_whose_fields_contradict_them_are_refused_by_name(start: Any) -> None:
    robot = start()
    robot.ready()
    robot.send_map()
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the map")
    for send, reason in HOSTILE.items():
        send(robot)
        robot.wait(lambda reason=reason: reason in texts(robot), f"the reason of {send.__name__}")
        assert len(good_frame(robot)) == 3, send.__name__
    robot.wait(lambda: "content" not in texts(robot).split("map ")[0], "inputs to be right again")
    assert robot.values("node")["errors"] == "0", "each was refused, none raised"


@pytest.mark.timeout(60)
def test_a_latched_map_that_is_hostile_does_not_end_the_node_at_its_start(start: Any) -> None:
    robot = start(**{"node.autostart": False})
    message = a_map()
    message.points.fields[0].offset = 2**31 - 1
    robot.publishers["map_objects"].publish(message)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert robot.call(ChangeState, "/vos_ros/change_state", request).success
    robot.wait(lambda: "outside a point" in texts(robot), "the reason")
    robot.publishers["map_objects"].publish(a_map())
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the map")
    robot.ready()
    assert len(robot.step(1).instances) == 3


@pytest.mark.timeout(60)
def test_a_depth_clock_that_ran_ahead_and_is_set_right(start: Any) -> None:
    robot = start()
    robot.ready()
    robot.send_map()
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the map")

    def ahead(messages: dict[str, Any]) -> None:
        stamp = messages["depth"].header.stamp
        messages["depth"].header = header_message(
            make, stamp.sec * 10**9 + stamp.nanosec + 1_500_000_000, "camera_optical"
        )

    for index in range(15):
        robot.send(squares.frame_at(squares.START + index * squares.STEP, index), change=ahead)
        robot.spin(0.02)
    for index in (20, 21):  # the first may still be taken without depth
        header = robot.send(squares.frame_at(squares.START + index * squares.STEP, index))
        associations = robot.answered(header, "associations")
    matched = [a for a in associations.associations if a.track_id]
    assert len(matched) == 3 and not math.isnan(matched[0].depth_inlier_ratio), "depth is used"
    assert robot.values("node")["errors"] == "0"


@pytest.mark.timeout(60)
def test_transforms_of_another_time_are_left_out(start: Any) -> None:
    robot = start()
    robot.ready()
    robot.send_map()
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the map")
    now = time.time_ns()
    for stamp_ns in (now + 3600 * 10**9, -5 * 10**9):
        pose = transform_stamped_message(
            make, header_message(make, max(stamp_ns, 0), "map"), "camera_optical", np.eye(4)
        )
        pose.header.stamp.sec = min(stamp_ns // 10**9, 2**31 - 1)
        robot.publishers["/tf"].publish(TFMessage(transforms=[pose]))
    robot.wait(lambda: robot.logged("ahead of the node's clock"), "the warning")
    assert len(robot.step(3).instances) == 3
    assert not robot.logged("Traceback") and robot.values("node")["errors"] == "0"


@pytest.mark.timeout(60)
def test_services_of_rclpy_refuse_what_they_can_not_do(start: Any) -> None:
    robot = start()
    robot.ready()
    robot.send_map()
    request = ChangeState.Request(transition=Transition(id=77))
    assert not robot.call(ChangeState, "/vos_ros/change_state", request).success
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    assert not robot.call(ChangeState, "/vos_ros/change_state", request).success, "it is active"
    odd = Parameter(name="node.map_frame", value=ParameterValue(type=77))
    (result,) = robot.call(
        SetParameters, "/vos_ros/set_parameters", SetParameters.Request(parameters=[odd])
    ).results
    assert not result.successful and result.reason
    robot.wait(lambda: int(robot.values("node").get("errors", 0)) >= 2, "the counter")
    assert "service" in texts(robot) and "the node goes on" in texts(robot)
    assert len(robot.step(1).instances) == 3


@pytest.mark.timeout(60)
def test_prompts_without_end_are_refused_and_every_call_is_answered(start: Any) -> None:
    robot = start(**{"segmentation.method": "null", "tracking.max_objects": 3})
    robot.ready()
    robot.step(0)
    box = Prompt(kind=Prompt.BOX, box_xyxy=[5.0, 5.0, 40.0, 40.0])
    name = "/vos_ros/add_objects"
    answer = robot.call(AddObjects, name, AddObjects.Request(prompts=[box] * 500))
    assert not answer.success and "limits.prompts" in answer.message
    answer = robot.call(AddObjects, name, AddObjects.Request(prompts=[box] * 4))
    assert not answer.success and "tracking.max_objects" in answer.message
    request = AddObjects.Request(prompts=[box])
    request.stamp.sec = -4
    answer = robot.call(AddObjects, name, request)
    assert not answer.success and "stamp" in answer.message
    # many at once: the usual queue of ten loses the others without a word
    client = robot.node.create_client(Trigger, "/vos_ros/reset", qos_profile=QoSProfile(depth=500))
    robot.wait(client.service_is_ready, "the service")
    futures = [client.call_async(Trigger.Request()) for _ in range(200)]
    robot.wait(lambda: all(f.done() for f in futures), "all answers")
    assert all(f.result().success for f in futures)
    robot.step(5)


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_flood_of_snapshots_does_not_starve_frames(start: Any) -> None:
    robot = start()
    robot.ready()
    points = np.random.default_rng(0).normal(size=(300, 400, 3)).astype(np.float32)
    one = squares.map_objects()[0]
    things = tuple(
        type(one)(i + 1, 1, one.T_map_object, one.size, points[i], 0.01) for i in range(300)
    )
    answered = 0
    for index in range(60):
        robot.publishers["map_objects"].publish(a_map(index + 1, objects=things))
        robot.publishers["map_objects"].publish(a_map(index + 2, objects=things))
        robot.send(squares.frame_at(squares.START + index * squares.STEP, index))
        robot.spin(0.05)
        answered = len(robot.got["instances"])
    assert answered >= 10, "frames have their turn"
    robot.wait(lambda: robot.values("map").get("updates_waiting") == "0", "the queue to be empty")
    assert int(robot.values("map")["updates_replaced"]) > 10
    robot.wait(lambda: robot.values("map").get("map_revision") == "61", "the last map")


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_compressed_image_of_gigabytes_is_refused(start: Any) -> None:
    robot = start(**{"node.image_transport": "compressed", "node.use_depth": False})
    publisher = robot.node.create_publisher(CompressedImage, "/image/compressed", 10)
    robot.wait(publisher.get_subscription_count, "the subscription", 40)
    while robot.values("inputs").get("camera_info.count", "0") == "0":
        robot.publishers["camera_info"].publish(frame_messages(make, squares.frame_at(0))[1])
        robot.spin(0.2)
    out = io.BytesIO()
    PIL.Image.new("1", (16_000, 16_000)).save(out, "png")
    image = CompressedImage(format="png", data=array.array("B", out.getvalue()))
    image.header = header_message(make, squares.START, "camera_optical")
    began = time.monotonic()
    publisher.publish(image)
    robot.wait(lambda: "limits.pixels" in texts(robot), "the reason")
    assert time.monotonic() - began < 10
    out = io.BytesIO()
    PIL.Image.fromarray(squares.frame_at(0).rgb).save(out, "png")
    good = CompressedImage(format="png", data=array.array("B", out.getvalue()))
    good.header = header_message(make, squares.START + squares.STEP, "camera_optical")
    publisher.publish(good)
    robot.answered(good.header)


@pytest.mark.timeout(60)
def test_text_from_outside_forges_no_line_of_the_log(start: Any) -> None:
    robot = start()
    robot.ready()
    robot.send_map(
        MapUpdate(squares.START, "mapper", 1, True, (), frame_id="odd\n[FATAL] forged \x1b[31m")
    )
    robot.wait(lambda: "odd" in texts(robot), "the reason")
    log = robot.log.read_text()
    assert "forged" in log and "\n[FATAL]" not in log and "\x1b[31m" not in log
    assert "\n[FATAL]" not in robot.diagnostics["map"][1]


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_second_node_of_the_same_name_is_reported(start: Any, tmp_path: Path) -> None:
    robot = start()
    robot.ready()
    twin = start_process(
        "vos_ros.ros.perception.node",
        tmp_path / "twin.log",
        robot.domain,
        {"segmentation.method": "null", "node.use_depth": False},
    )
    try:
        robot.wait(lambda: robot.publishers["image"].get_subscription_count() == 2, "the twin", 40)
        for index in range(40):
            robot.step(index)
            robot.spin(0.2)
            if "nodes are named /vos_ros" in texts(robot):
                break
        assert "2 nodes are named /vos_ros" in texts(robot)
    finally:
        end_process(twin)
    robot.wait(lambda: "nodes are named" not in texts(robot), "its end", 30)


@pytest.mark.timeout(60)
def test_depth_in_another_unit_is_named_and_nothing_is_reported_absent(start: Any) -> None:
    robot = start()
    robot.ready()
    robot.send_map()

    def in_tenths(messages: dict[str, Any]) -> None:
        frame = squares.frame_at(_next_ns())
        depth = (frame.depth * 10_000).astype(np.uint16)
        messages["depth"] = image_message(make, messages["depth"].header, "16UC1", depth)

    for _ in range(40):
        header = robot.send(squares.frame_at(_next_ns()), change=in_tenths)
        last = robot.answered(header, "associations")
        assert all(a.status != Association.ABSENT for a in last.associations)
    assert last.self_check == AssociationArray.CONTRADICTED
    robot.wait(lambda: "looks like depth in 0.1 mm" in texts(robot), "the finding")
    assert robot.diagnostics["map"][0] == 2 and robot.values("map")["self_check"] == "CONTRADICTED"
    for _ in range(40):
        last = robot.answered(robot.send(squares.frame_at(_next_ns())), "associations")
    assert last.self_check == AssociationArray.PASSED
    robot.wait(lambda: "0.1 mm" not in texts(robot), "its end")
