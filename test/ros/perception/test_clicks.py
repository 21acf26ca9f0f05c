"""Clicks by topic over real DDS: a click becomes a track, a wrong one is answered."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import Point, PointStamped
from support import squares

from vos_ros.geometry.camera import unproject
from vos_ros.messages.stamps import header_message
from vos_ros.msg import Instance
from vos_ros.ros.common.message_factory import make


def clicked(robot, frame_id, x, y, z, stamp_ns=0):
    """Publish the point that is seen at pixel (x, y), z m away; the camera is the map's origin."""
    point = unproject(np.array([[x, y]], float), np.array([z]), squares.CAMERA)[0]
    head = header_message(make, stamp_ns, frame_id)
    msg = PointStamped(header=head, point=Point(x=point[0], y=point[1], z=point[2]))
    robot.clicks.publish(msg)


@pytest.fixture
def robot(start):
    robot = start(**{"segmentation.method": "lwl", "segmentation.seed_with": "one_point"})
    robot.clicks = robot.node.create_publisher(PointStamped, "/clicked_point", 10)
    robot.ready()
    robot.wait(robot.clicks.get_subscription_count, "the subscription to clicks")
    return robot


def says(robot, text):
    """Wait until /diagnostics has a warning with this text."""
    robot.wait(lambda: text in robot.diagnostics.get("frames", (0, "", {}))[1], text)


def test_a_click_is_a_mask_within_two_frames_and_wrong_clicks_are_answered(robot):
    clicked(robot, "map", 64, 48, 1.0)
    says(robot, "no image has been processed yet")
    assert robot.step(0).instances == []
    clicked(robot, "map", 64, 48, 1.0)
    robot.wait(lambda: robot.values("frames")["clicks_followed"] == "1", "the track of the click")
    (instance,) = robot.step(1).instances
    assert instance.source == Instance.PROMPT
    labels = robot.answered(robot.got["instances"][-1].header)
    values = np.frombuffer(labels.data, np.uint16).reshape(squares.H, squares.W)
    assert values[48, 64] == instance.label_value != 0
    x0, y0, x1, y1 = squares.BOXES[2]
    truth = np.zeros(values.shape, bool)
    truth[y0:y1, x0:x1] = True
    mask = values == instance.label_value
    assert (mask & truth).sum() > 0.5 * (mask | truth).sum()
    assert f"is track {instance.track_id}: followed" in robot.values("frames")["last_click"]
    assert robot.logged(f"is track {instance.track_id}: followed")

    clicked(robot, "map", 100, 48, 1.8)
    says(robot, "hidden behind a wall or another object")
    clicked(robot, "map", 64, 48, 1.0)
    says(robot, f"already followed, as track {instance.track_id}")
    clicked(robot, "nowhere", 100, 48, 1.0)
    says(robot, "TF has no map <- nowhere")
    clicked(robot, "camera_optical", 100, 48, 1.0, squares.START - squares.SECOND)
    says(robot, "click on a newer one")
    assert robot.values("frames")["clicks_refused"] == "5"
    assert len(robot.step(2).instances) == 1
    # In the camera's frame, and two clicks on one image: the second waits until the first has a
    # mask, and is told so.
    clicked(robot, "camera_optical", 100, 48, 1.0)
    clicked(robot, "camera_optical", 101, 49, 1.0)
    robot.wait(lambda: robot.values("frames")["clicks_followed"] == "2", "the second track")
    assert len(robot.step(3).instances) == 2
    says(robot, f"already followed, as track {instance.track_id + 1}")
    assert robot.values("frames")["frames_failed"] == "0"
