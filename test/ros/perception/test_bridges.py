"""The bridges over DDS, and the content of their messages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from nav_msgs.msg import Odometry
from sensor_msgs.msg import Image
from support import squares

from vos_ros.messages.images import image_message
from vos_ros.messages.stamps import header_message, time_message
from vos_ros.msg import Association, Prompt
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.perception import bridges
from vos_ros.sinks.landmarks import UNKNOWN_ROTATION_VARIANCE, Landmark
from vos_ros.sinks.persistent_ids import FIRST_TRACK_BASED_ID
from vos_ros.srv import AddObjects
from vos_ros.types import MapUpdate


def test_a_label_image_of_persistent_ids_and_landmarks_of_static_objects(start):
    robot = start(
        **{
            "bridges.label_image": "on",
            "bridges.landmarks": "on",
            "bridges.landmark_observations": 3,
            "segmentation.method": "lwl",
        }
    )
    images: list[Image] = []
    places: list[Odometry] = []
    robot.node.create_subscription(Image, "/vos_ros/label_image", images.append, 20)
    robot.node.create_subscription(Odometry, "/vos_ros/landmarks", places.append, 100)
    robot.ready()
    first, second, third = squares.map_objects()
    moving = replace(second, is_static=False)
    robot.send_map(MapUpdate(squares.START, "mapper", 1, True, (first, moving)))
    robot.wait(lambda: robot.values("map").get("map_objects") == "2", "the map")
    head = robot.step(0).header
    mask = np.zeros((squares.H, squares.W), np.uint8)
    x0, y0, x1, y1 = squares.BOXES[3]
    mask[y0:y1, x0:x1] = 255
    prompt = Prompt(kind=Prompt.MASK, mask=image_message(make, head, "mono8", mask))
    (nameless,) = robot.call(
        AddObjects,
        "/vos_ros/add_objects",
        AddObjects.Request(stamp=time_message(make, squares.START), prompts=[prompt]),
    ).track_ids
    for index in range(1, 9):
        robot.step(index)
    robot.wait(
        lambda: images and images[-1].header.stamp == robot.got["instances"][-1].header.stamp,
        "the label image",
    )
    for image in images[1:]:
        assert (
            image.encoding == "32SC1"
            and image.step == 4 * squares.W
            and image.header.frame_id == "camera_optical"
        )
        ids = np.frombuffer(image.data, np.int32).reshape(squares.H, squares.W)
        for i, value in ((1, 1), (2, 2), (3, FIRST_TRACK_BASED_ID + nameless)):
            x0, y0, x1, y1 = squares.BOXES[i]
            box = ids[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
            assert np.mean(box == value) > 0.9, (i, np.unique(box, return_counts=True))
        assert ids[2, 2] == 0
    # Only the first is a landmark: the second may move, the third is not in the map.
    robot.wait(lambda: places, "a landmark")
    for place in places:
        assert place.child_frame_id == "object_1" and place.header.frame_id == "camera_optical"
        x, y = first.T_map_object[:2, 3]
        assert (
            abs(place.pose.pose.position.x - x) < 0.03
            and abs(place.pose.pose.position.y - y) < 0.03
        )
        assert abs(place.pose.pose.position.z - 1.0) < 0.03
        cov = np.diag(np.reshape(place.pose.covariance, (6, 6)))
        assert (
            (cov[:3] > 0).all()
            and (cov[:3] < 0.01).all()
            and (cov[3:] == UNKNOWN_ROTATION_VARIANCE).all()
        )
    assert robot.logged("rtabmap_msgs is not installed")

    # The object that the mapper makes of the third is the same thing in the image.
    robot.send_map(MapUpdate(squares.START, "mapper", 2, True, (first, moving, third)))
    robot.wait(lambda: robot.values("map").get("map_objects") == "3", "the third object")
    for index in range(9, 25):
        robot.step(index)
        answer = robot.got["associations"][-1].associations
        if any(a.track_id == nameless and a.status == Association.MATCHED for a in answer):
            break
    else:
        raise AssertionError(f"the track was never matched: {answer}")
    robot.wait(
        lambda: images[-1].header.stamp == robot.got["instances"][-1].header.stamp,
        "its label image",
    )
    ids = np.frombuffer(images[-1].data, np.int32).reshape(squares.H, squares.W)
    x0, y0, x1, y1 = squares.BOXES[3]
    assert np.mean(ids[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] == FIRST_TRACK_BASED_ID + nameless) > 0.9


def test_they_are_off_by_default(start):
    robot = start()
    robot.ready()
    topics = {name for name, _ in robot.node.get_topic_names_and_types()}
    assert "/vos_ros/labels" in topics and not topics & {
        "/vos_ros/label_image",
        "/vos_ros/landmarks",
        "/vos_ros/landmark_detections",
    }


@dataclass
class Detection:
    """The fields of rtabmap_msgs/LandmarkDetection."""

    header: Any = None
    landmark_frame_id: str = ""
    id: int = 0
    size: float = 0.0
    pose: Any = None


def test_the_message_for_rtabmap(monkeypatch):
    monkeypatch.setattr(bridges, "LandmarkDetection", Detection)
    T = np.eye(4)
    T[:3, 3] = 1, 2, 3
    cov = np.diag([0.01, 0.02, 0.03, *[UNKNOWN_ROTATION_VARIANCE] * 3])
    head = header_message(make, 5, "camera_optical")
    one = bridges.landmark_detection(Landmark(7, T, cov), head)
    assert (one.header, one.id, one.landmark_frame_id, one.size) == (head, 7, "object_7", 0.0)
    assert (one.pose.pose.position.x, one.pose.pose.position.z, one.pose.pose.orientation.w) == (
        1.0,
        3.0,
        1.0,
    )
    np.testing.assert_array_equal(np.reshape(one.pose.covariance, (6, 6)), cov)
