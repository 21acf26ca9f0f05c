"""The node in a process of its own, over DDS: a tiny RGB-D scene with three map objects."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from std_srvs.srv import Trigger
from support import squares

from vos_ros.messages.images import image_message
from vos_ros.messages.pose_sources import BY_MESSAGE_TYPE, NAMES
from vos_ros.messages.stamps import header_message, time_message
from vos_ros.msg import Association, Instance, Prompt
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.pose_topics import message_class, pose_message
from vos_ros.srv import AddObjects, RemoveObjects
from vos_ros.types import MapUpdate


def pixels(msg):
    return np.frombuffer(msg.data, np.uint16).reshape(msg.height, msg.width)


def values_in(msg, box):
    x0, y0, x1, y1 = box
    return pixels(msg)[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4]


def test_labels_instances_and_associations_of_each_image(start):
    robot = start()
    robot.ready()
    robot.send_map()
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the map")
    for index in range(8):
        header = robot.send(squares.frame_at(squares.START + index * squares.STEP, index))
        labels, instances, associations = (
            robot.answered(header, k) for k in ("labels", "instances", "associations")
        )
        assert labels.header == header == instances.header == associations.header
    assert (labels.encoding, labels.width, labels.height, labels.step) == (
        "16UC1",
        squares.W,
        squares.H,
        2 * squares.W,
    )
    assert (instances.width, instances.height, instances.method, instances.map_revision) == (
        squares.W,
        squares.H,
        "null",
        1,
    )
    assert 0 < instances.latency_ms < 5000
    assert (
        associations.map_session_id == "mapper"
        and associations.map_frame == "map"
        and associations.map_revision == 1
    )
    assert associations.session_id == instances.session_id != ""
    assert associations.map_from_camera.pose.orientation.w == pytest.approx(1.0, abs=0.01)
    by_track = {i.track_id: i for i in instances.instances}
    matched = {
        a.map_object_id: by_track[a.track_id]
        for a in associations.associations
        if a.status == Association.MATCHED
    }
    assert set(matched) == {1, 2, 3}
    for object_id, box in squares.BOXES.items():
        instance = matched[object_id]
        assert (values_in(labels, box) == instance.label_value).mean() > 0.95
        assert (
            instance.class_id == 10 + object_id
            and instance.source == Instance.MAP
            and instance.state == Instance.CONFIRMED
        )
        assert instance.centroid.z == pytest.approx(1.0, abs=0.05)
    counts = robot.values("frames")
    robot.wait(lambda: robot.values("frames")["frames_processed"] == "8", "the counters", 5)
    counts = robot.values("frames")
    assert (counts["frames_received"], counts["frames_superseded"], counts["frames_failed"]) == (
        "8",
        "0",
        "0",
    )
    assert float(counts["overhead_ms_p50"]) > 0 and float(counts["learning_ms_p50"]) > 0


def test_overlay_markers_and_cloud_only_while_there_are_subscribers(start):
    robot = start()
    robot.ready()
    robot.send_map()
    robot.step(0)
    for name in ("overlay", "markers", "cloud"):
        robot.listen(name)
    robot.ready()
    for index in range(1, 4):
        robot.step(index)
    robot.wait(
        lambda: all(robot.got[n] for n in ("overlay", "markers", "cloud")), "what people look at"
    )
    header = robot.send(squares.frame_at(squares.START + 5 * squares.STEP, 5))
    overlay, cloud = robot.answered(header, "overlay"), robot.answered(header, "cloud")
    assert overlay.encoding == "bgr8" and len(overlay.data) == 3 * squares.W * squares.H
    assert [f.name for f in cloud.fields] == ["x", "y", "z", "rgb", "instance_id"]
    table = np.frombuffer(cloud.data, np.dtype([("xyz", "<f4", 3), ("rgb", "<u4"), ("id", "<u4")]))
    assert (
        len(table) > 1000
        and np.allclose(table["xyz"][:, 2], 1.0, atol=0.02)
        and len(set(table["id"])) == 3
    )
    texts = [m.text for m in robot.got["markers"][-1].markers if m.text]
    assert len(texts) == 3 and any("MATCHED" in t for t in texts)
    # The mapper deletes an object: its markers go.
    robot.send_map(MapUpdate(squares.START, "mapper", 2, False, (), deleted_ids=(2,)))
    robot.wait(lambda: robot.values("map").get("map_objects") == "2", "the deletion")
    robot.step(6)
    robot.wait(
        lambda: any(m.action == 2 and m.id == 2 for a in robot.got["markers"] for m in a.markers),
        "the markers to be deleted",
    )


def test_missing_depth_is_named_and_images_go_on_without_it(start):
    robot = start()
    robot.ready()
    robot.send_map()
    robot.step(0)
    begun = time.monotonic()
    index = 1
    # A slow start is reported too, of all inputs at once: not that report is waited for.
    while "nothing on /depth for" not in robot.diagnostics.get("inputs", (0, "", {}))[1]:
        assert time.monotonic() - begun < 15, robot.diagnostics
        robot.send(squares.frame_at(squares.START + index * squares.STEP, index), skip=("depth",))
        robot.spin(0.1)
        index += 1
    level, message, values = robot.diagnostics["inputs"]
    assert (
        level == 1
        and "nothing on /depth for" in message
        and "Images are used without depth meanwhile" in message
    )
    assert values["without_depth"] == "True" and float(values["depth.last_seen_s"]) > 1.0
    instances = robot.step(index, skip=("depth",))
    assert len(instances.instances) == 3
    assert robot.log.read_text().count("depth: nothing on /depth for") == 1, "reported once"
    for later in range(1, 4):
        robot.step(index + later)
        robot.spin(0.2)
    robot.wait(lambda: "problem.depth" not in robot.values("inputs"), "the end of the problem")
    assert robot.logged("depth is back")


def test_a_publisher_of_another_type_or_qos_is_named(start):
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CompressedImage, Image

    robot = start(**{"node.input_reliability": "reliable"})
    robot.ready()
    for name in ("image", "depth", "camera_info"):
        robot.node.destroy_publisher(robot.publishers.pop(name))
    robot.node.create_publisher(
        Image, "depth", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    robot.node.create_publisher(CompressedImage, "image/compressed", 1)
    robot.node.create_publisher(Image, "camera_info", 1)
    for key, text in {
        "image": "but /image/compressed is published: set node.image_transport to 'compressed'",
        "camera_info": "it is published as sensor_msgs/msg/Image, and this node wants"
        " sensor_msgs/msg/CameraInfo",
        "depth": "Best effort publisher and reliable subscription",
    }.items():
        robot.wait(
            lambda key=key, text=text: text in robot.values("inputs").get(f"problem.{key}", ""),
            text,
        )
    robot.wait(
        lambda: robot.logged("offers a QoS that can't serve this node (policy RELIABILITY)"),
        "the QoS event in the log",
    )
    assert robot.diagnostics["inputs"][0] == 2


@pytest.mark.parametrize("bad", ["encoding", "short", "camera_info"])
def test_an_unusable_image_is_named_and_the_next_one_is_used(start, bad):
    robot = start()
    robot.ready()
    robot.send_map()
    robot.step(0)

    def spoil(messages):
        if bad == "encoding":
            messages["image"].encoding = "yuv999"
        elif bad == "short":
            del messages["image"].data[1000:]
        else:
            messages["camera_info"].k = np.zeros(9)

    robot.send(squares.frame_at(squares.START + squares.STEP), change=spoil)
    text = {
        "encoding": "encoding 'yuv999'",
        "short": "has 1000 bytes",
        "camera_info": "holds no calibration",
    }[bad]
    robot.wait(lambda: text in robot.diagnostics["inputs"][1], text)
    assert robot.diagnostics["inputs"][0] == 2 and robot.values("frames")["frames_rejected"] == "1"
    assert len(robot.step(2).instances) == 3
    robot.wait(lambda: text not in robot.diagnostics["inputs"][1], "the end of the problem")


def test_depth_of_another_size_or_full_of_nan_and_a_change_of_the_image_size(start):
    robot = start()
    robot.ready()
    robot.send_map()
    robot.step(0)

    def small_depth(messages):
        messages["depth"] = image_message(
            make, messages["depth"].header, "16UC1", np.ones((48, 64), np.uint16)
        )

    assert len(robot.step(1, change=small_depth).instances) == 3
    robot.wait(
        lambda: (
            "depth is 64x48 px, the image 128x96 px: it is not registered"
            in robot.diagnostics["inputs"][1]
        ),
        "the message",
    )

    def nan_depth(messages):
        messages["depth"] = image_message(
            make,
            messages["depth"].header,
            "32FC1",
            np.full((squares.H, squares.W), np.nan, np.float32),
        )

    answer = robot.step(2, change=nan_depth)
    assert len(answer.instances) == 3 and all(np.isnan(i.centroid.z) for i in answer.instances)
    robot.wait(
        lambda: "not registered" not in robot.diagnostics["inputs"][1], "the end of the problem"
    )
    small = squares.frame_at(squares.START + 3 * squares.STEP)
    camera = replace(small.intrinsics, fx=50.0, fy=50.0, cx=31.5, cy=23.5, width=64, height=48)
    half = replace(small, rgb=small.rgb[::2, ::2], depth=small.depth[::2, ::2], intrinsics=camera)
    robot.send(half)
    robot.spin(0.5)  # the first image of a new size may meet the camera_info of the old one
    half = replace(half, stamp_ns=squares.START + 4 * squares.STEP)
    labels = robot.answered(robot.send(half), "labels")
    assert (labels.width, labels.height) == (64, 48)
    robot.wait(lambda: robot.logged("image size changed from 128x96 to 64x48"), "the message")
    assert len(robot.step(5).instances) == 3


def test_a_bag_that_loops(start):
    robot = start()
    robot.ready()
    robot.send_map()
    for index in range(0, 30, 3):
        first = robot.step(index)
    robot.send(squares.frame_at(squares.START))  # finds TF full of the future
    robot.spin(0.5)
    for index in range(1, 6):
        again = robot.step(index)
    assert len(again.instances) == 3 and again.session_id != first.session_id
    assert robot.logged("time went back from 1002.700 s to 1000.000 s (a bag that loops?)")
    robot.wait(lambda: robot.values("inputs")["time_jumps"] == "1", "the counter")
    assert robot.values("map")["map_objects"] == "3", "the map stays"
    assert robot.values("frames")["frames_failed"] == "0"


def test_a_missing_pose_is_reported_with_its_reason_and_frames_go_on(start):
    robot = start(**{"node.tf_wait_s": 0.05})
    robot.ready()
    robot.send_map()
    robot.step(0)
    robot.step(1, skip=("/tf",))
    robot.wait(
        lambda: "TF has no map <- camera_optical at 1000.100 s" in robot.diagnostics["inputs"][1],
        "the message",
    )
    robot.step(2)
    robot.wait(lambda: "TF has no" not in robot.diagnostics["inputs"][1], "the end of the problem")
    assert robot.values("inputs")["pose_failures"] == "1"
    assert robot.logged("camera pose is back")


def test_a_gap_in_the_map_and_a_wrong_frame_are_reported(start):
    robot = start()
    robot.ready()
    robot.send_map()
    robot.wait(lambda: robot.values("map").get("map_revision") == "1", "the snapshot")
    robot.send_map(MapUpdate(squares.START, "mapper", 5, False, ()))
    robot.wait(
        lambda: "revision 5 is not applied" in robot.diagnostics["map"][1], "the gap to be reported"
    )
    robot.send_map(
        MapUpdate(squares.START, "mapper", 6, True, squares.map_objects(), frame_id="odom")
    )
    robot.wait(
        lambda: (
            "header.frame_id is 'odom', and node.map_frame is 'map'" in robot.diagnostics["map"][1]
        ),
        "the frame to be reported",
    )
    robot.send_map(MapUpdate(squares.START, "mapper", 6, True, squares.map_objects()))
    robot.wait(
        lambda: robot.diagnostics["map"][0] == 0 and robot.values("map")["map_revision"] == "6",
        "the next snapshot",
    )
    assert robot.values("map")["updates_refused"] == "2"


def test_an_empty_map_is_no_error(start):
    robot = start()
    robot.ready()
    robot.send_map(MapUpdate(squares.START, "mapper", 1, True, ()))
    assert [robot.step(i).instances for i in range(3)] == [[], [], []]
    assert not pixels(robot.got["labels"][-1]).any()


def test_300_objects_one_of_a_pixel_some_behind_the_camera_and_a_pose_that_jumps(start):
    robot = start(**{"tracking.max_objects": 1000, "tracking.seed_min_px": 1})
    robot.ready()
    near = squares.map_objects()
    one_pixel = replace(
        near[0],
        id=4,
        points=near[1].points[:1] - np.array([0, 0, 0.3], np.float32),
        point_radius=0.001,
    )
    behind = [
        replace(near[0], id=10 + i, points=near[0].points * np.array([1, 1, -1], np.float32))
        for i in range(5)
    ]
    many = [
        replace(
            near[i % 3],
            id=100 + i,
            points=near[i % 3].points[i % 7 :: 7] + np.array([0, 0, 0.01 * i], np.float32),
        )
        for i in range(291)
    ]
    robot.send_map(MapUpdate(squares.START, "mapper", 1, True, (*near, one_pixel, *behind, *many)))
    robot.wait(lambda: robot.values("map").get("map_objects") == "300", "the map")
    for index in range(6):
        header = robot.send(squares.frame_at(squares.START + index * squares.STEP, index))
        answer = robot.answered(header, "associations", 60)
    status = {a.map_object_id: a.status for a in answer.associations}
    assert {status[10 + i] for i in range(5)} == {Association.OUT_OF_VIEW}
    assert status[1] == Association.MATCHED
    away = squares.frame_at(squares.START + 6 * squares.STEP)
    away.T_map_camera[:3, 3] = 50.0, 0.0, 0.0
    associations = robot.answered(robot.send(away), "associations", 60).associations
    assert not [a for a in associations if a.status == Association.MATCHED]
    robot.wait(lambda: robot.logged("the camera pose jumped by 50.00 m"), "the message")
    assert robot.values("frames")["frames_failed"] == "0"


def test_services(start):
    robot = start(**{"segmentation.method": "lwl"})
    robot.ready()
    robot.step(0)
    box = Prompt(kind=Prompt.BOX, class_id=5, box_xyxy=np.array(squares.BOXES[2], np.float32))
    answer = robot.call(AddObjects, "/vos_ros/add_objects", AddObjects.Request(prompts=[box]))
    assert answer.success, answer.message
    (track_id,) = answer.track_ids
    instances = robot.step(1).instances
    assert [(i.track_id, i.source, i.class_id) for i in instances] == [
        (track_id, Instance.PROMPT, 5)
    ]
    mask = np.zeros((squares.H, squares.W), np.uint8)
    mask[36:60, 12:36] = 255
    on_last = AddObjects.Request(
        stamp=time_message(make, squares.START + squares.STEP),
        prompts=[
            Prompt(
                kind=Prompt.MASK,
                mask=image_message(make, robot.got["labels"][-1].header, "mono8", mask),
            )
        ],
    )
    answer = robot.call(AddObjects, "/vos_ros/add_objects", on_last)
    assert answer.success and answer.message == "followed from that image on"
    assert len(robot.step(2).instances) == 2
    bad = AddObjects.Request(prompts=[Prompt(kind=9)])
    answer = robot.call(AddObjects, "/vos_ros/add_objects", bad)
    assert not answer.success and "kind 9" in answer.message
    answer = robot.call(
        RemoveObjects, "/vos_ros/remove_objects", RemoveObjects.Request(track_ids=[4242])
    )
    assert not answer.success and "4242" in answer.message
    assert robot.call(
        RemoveObjects, "/vos_ros/remove_objects", RemoveObjects.Request(track_ids=[track_id])
    ).success
    assert [i.track_id for i in robot.step(3).instances] == [track_id + 1]
    assert robot.call(RemoveObjects, "/vos_ros/remove_objects", RemoveObjects.Request()).success
    session = robot.step(4)
    assert session.instances == []
    robot.send_map()
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the map")
    assert robot.call(Trigger, "/vos_ros/reset", Trigger.Request()).success
    # The latched map is asked for again, so following starts over by itself.
    robot.wait(lambda: robot.values("map").get("updates_applied") == "2", "the map after the reset")
    after = robot.step(5)
    assert after.session_id != session.session_id and len(after.instances) == 3


def change(robot, transition):
    request = ChangeState.Request(transition=Transition(id=transition))
    return robot.call(ChangeState, "/vos_ros/change_state", request).success


def state(robot):
    return robot.call(GetState, "/vos_ros/get_state", GetState.Request()).current_state.id


def test_lifecycle_by_a_manager(start):
    robot = start(**{"node.autostart": False})
    robot.wait(lambda: robot.logged("waiting for a lifecycle manager"), "the node", 40)
    assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
    for _ in range(2):
        assert change(robot, Transition.TRANSITION_CONFIGURE)
        assert state(robot) == State.PRIMARY_STATE_INACTIVE
        robot.send_map()
        robot.wait(
            lambda: robot.values("map").get("map_objects") == "3",
            "the map, which is taken while inactive",
        )
        robot.send(squares.frame_at(squares.START))
        robot.spin(0.5)
        assert not robot.got["labels"], "an inactive node publishes nothing"
        assert change(robot, Transition.TRANSITION_ACTIVATE)
        robot.ready()
        for index in range(3):
            robot.step(index)
        assert change(robot, Transition.TRANSITION_DEACTIVATE)
        assert change(robot, Transition.TRANSITION_CLEANUP)
        assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
        robot.wait(
            lambda: not robot.publishers["image"].get_subscription_count(),
            "the subscriptions to be gone",
        )
        robot.got["labels"].clear()
        robot.diagnostics.clear()
    assert change(robot, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)


def set_parameter(robot, name, value):
    kinds = {
        bool: ("bool_value", ParameterType.PARAMETER_BOOL),
        int: ("integer_value", ParameterType.PARAMETER_INTEGER),
        float: ("double_value", ParameterType.PARAMETER_DOUBLE),
        str: ("string_value", ParameterType.PARAMETER_STRING),
    }
    field, kind = kinds[type(value)]
    request = SetParameters.Request(
        parameters=[ParameterMsg(name=name, value=ParameterValue(type=kind, **{field: value}))]
    )
    return robot.call(SetParameters, "/vos_ros/set_parameters", request).results[0]


def test_wrong_parameters_keep_the_node_up_and_can_be_set_right(start):
    robot = start(**{"node.sync_slop_s": 7.5, "tracking.max_objekts": 3, "node.tf_wait_s": 0})
    robot.wait(lambda: robot.diagnostics.get("node", (0,))[0] == 2, "the error", 40)
    message = robot.diagnostics["node"][1]
    assert "node.sync_slop_s: got 7.5 s, wanted 0..1" in message and "configure again" in message
    assert robot.logged(
        "unknown parameter 'tracking.max_objekts' is ignored: did you mean 'tracking.max_objects'?"
    )
    assert state(robot) == State.PRIMARY_STATE_UNCONFIGURED
    assert not set_parameter(robot, "node.sync_slop_s", 3.0).successful
    assert set_parameter(robot, "node.sync_slop_s", 0.05).successful
    assert change(robot, Transition.TRANSITION_CONFIGURE) and change(
        robot, Transition.TRANSITION_ACTIVATE
    )
    robot.ready()
    robot.step(0)
    refused = set_parameter(robot, "node.sync_slop_s", 0.01)
    assert not refused.successful and "acts when the node is configured" in refused.reason
    assert set_parameter(robot, "node.publish_overlay", False).successful
    described = robot.call(
        DescribeParameters,
        "/vos_ros/describe_parameters",
        DescribeParameters.Request(
            names=["node.sync_slop_s", "node.pose_source", "node.autostart"]
        ),
    ).descriptors
    assert (
        described[0].floating_point_range[0].to_value == 1.0 and "[s]" in described[0].description
    )
    assert f"one of: {', '.join(NAMES)}, none" in described[1].additional_constraints
    assert described[2].read_only


@pytest.mark.parametrize("source", BY_MESSAGE_TYPE.values(), ids=lambda s: s.name)
def test_poses_from_a_topic_are_interpolated_at_the_stamp(start, source):
    robot = start(**{"node.pose_source": source.name, "pose.correction": "off"})
    robot.ready()
    robot.send_map()
    publisher = robot.node.create_publisher(message_class(source.message_type), source.topic, 50)
    robot.wait(publisher.get_subscription_count, "the subscription")
    robot.spin(0.5)  # the node's side of the match, which can't be seen from here
    stamp = squares.START + squares.STEP
    for offset, x in ((-40_000_000, 0.0), (60_000_000, 0.1)):
        T = np.eye(4)
        T[0, 3] = x
        head = header_message(make, stamp + offset, "map")
        publisher.publish(pose_message(source, head, T, np.eye(6) * 1e-4, "camera_optical"))
    robot.spin(0.3)
    header = robot.send(squares.frame_at(stamp), skip=("/tf",))
    used = robot.answered(header, "associations").map_from_camera
    assert used.pose.position.x == pytest.approx(0.04, abs=1e-6)
    assert used.pose.position.y == pytest.approx(0.0, abs=1e-6)
    if source.covariance:
        assert used.covariance[0] == pytest.approx(1e-4)


def test_a_latched_camera_info_is_enough(start):
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from sensor_msgs.msg import CameraInfo

    from vos_ros.messages.camera import camera_info_message
    from vos_ros.messages.stamps import header_message
    from vos_ros.ros.common.message_factory import make

    robot = start()
    robot.node.destroy_publisher(robot.publishers.pop("camera_info"))
    latched = robot.node.create_publisher(
        CameraInfo, "camera_info", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    latched.publish(
        camera_info_message(make, header_message(make, 1, "camera_optical"), squares.CAMERA)
    )
    robot.ready()
    robot.send_map()
    robot.wait(lambda: latched.get_subscription_count() == 2, "the latched subscription")
    robot.spin(0.5)
    assert len([robot.step(i, skip=("camera_info",)) for i in range(3)][-1].instances) == 3


def test_the_first_camera_info_may_come_after_its_image(start):
    from vos_ros.messages.camera import camera_info_message
    from vos_ros.ros.common.message_factory import make

    robot = start(**{"node.tf_wait_s": 5.0})
    robot.ready()
    robot.send_map()
    header = robot.send(squares.frame_at(squares.START, 0), skip=("camera_info",))
    robot.spin(0.3)
    robot.publishers["camera_info"].publish(camera_info_message(make, header, squares.CAMERA))
    assert len(robot.answered(header, "instances").instances) == 3
    robot.wait(lambda: robot.values("frames").get("frames_processed") == "1", "the counters")
    assert robot.values("frames")["frames_rejected"] == "0"


def test_rectified_images_are_not_undistorted_again(start):
    """The camera_info of image_proc's topics keeps D; P is the camera of the rectified image."""
    from sensor_msgs.msg import Image

    topic = "/camera/image_rect"
    robot = start(f"image:={topic}")
    robot.node.destroy_publisher(robot.publishers.pop("image"))
    robot.publishers["image"] = robot.node.create_publisher(Image, topic, 10)
    robot.ready()
    robot.send_map()

    def bend(messages):
        messages["camera_info"].d = [-0.3, 0.1, 0.0, 0.0, 0.0]
        messages["camera_info"].k = messages["camera_info"].k * 1.1

    for index in range(4):
        header = robot.send(
            squares.frame_at(squares.START + index * squares.STEP, index), change=bend
        )
        labels, instances, associations = (
            robot.answered(header, k) for k in ("labels", "instances", "associations")
        )
    by_track = {i.track_id: i.label_value for i in instances.instances}
    matched = {
        a.map_object_id: by_track[a.track_id]
        for a in associations.associations
        if a.status == Association.MATCHED
    }
    assert set(matched) == set(squares.BOXES)
    for object_id, (x0, y0, x1, y1) in squares.BOXES.items():
        wanted = np.zeros((squares.H, squares.W), bool)
        wanted[y0:y1, x0:x1] = True
        got = pixels(labels) == matched[object_id]
        assert (got & wanted).sum() / (got | wanted).sum() > 0.9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_within_two_seconds(start, number):
    robot = start()
    robot.ready()
    robot.send_map()
    for index in range(3):
        robot.step(index)
    shared = set(
        re.findall(
            r"/dev/shm/fastrtps_[0-9a-f]+$",
            Path(f"/proc/{robot.process.pid}/maps").read_text(),
            re.MULTILINE,
        )
    )
    begun = time.monotonic()
    robot.process.send_signal(number)
    assert robot.process.wait(10) == 0, robot.log.read_text()
    assert time.monotonic() - begun < 2.0
    assert "Traceback" not in robot.log.read_text()
    robot.close()  # the test's own participant
    assert not [p for p in shared if Path(p).exists()], "shared memory, 35 MB a start, stays behind"


@pytest.mark.slow
def test_memory_does_not_grow(start):
    import psutil

    robot = start(**{"node.tf_wait_s": 0.03})
    robot.ready()
    robot.send_map()
    rss = []
    for index in range(200):
        robot.step(
            index, skip=("/tf",) if index % 10 == 9 else ()
        )  # failures must not hold anything either
        if index in (99, 199):
            robot.spin(0.5)
            rss.append(psutil.Process(robot.process.pid).memory_info().rss)
    assert rss[1] < 1.05 * rss[0], [v >> 20 for v in rss]


def test_a_slow_node_supersedes_frames_and_never_queues(start):
    robot = start(**{"segmentation.method": "lwl", "segmentation.lwl.iterations_update": 20})
    robot.ready()
    robot.send_map()
    robot.step(0)
    headers = []
    for index in range(1, 61):
        headers.append(robot.send(squares.frame_at(squares.START + index * squares.STEP, index)))
        robot.spin(0.005)
    robot.answered(headers[-1], "instances")
    robot.wait(
        lambda: robot.values("frames")["frames_received"] == robot.values("inputs")["image.count"],
        "the counters",
    )
    robot.spin(0.5)
    counts = {
        k: int(robot.values("frames")[f"frames_{k}"])
        for k in ("received", "processed", "superseded", "failed", "late", "rejected")
    }
    assert counts["received"] == counts["processed"] + counts["superseded"]
    assert not (counts["failed"] or counts["late"] or counts["rejected"])
    assert counts["superseded"] > 0, "the test sends faster than the node can work"
    answered = [m.header for m in robot.got["labels"][1:]]
    assert all(h in headers for h in answered) and len(answered) == counts["processed"] - 1
    assert max(m.latency_ms for m in robot.got["instances"][1:]) < 5000
