"""Markers that appear, keep their colour and vanish; the labelled cloud."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from visualization_msgs.msg import Marker

from vos_ros.messages.stamps import header_message, time_message
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.perception.visuals import Markers, labelled_cloud, overlay_message
from vos_ros.types import (
    Association,
    AssociationStatus,
    Frame,
    FrameResult,
    Intrinsics,
    MapObject,
    Observation,
    Segmentation,
    Track,
    TrackSource,
    TrackState,
)

STAMP = time_message(make, 5)
OBJECT = MapObject(3, 1, np.eye(4), np.array([0.1, 0.2, 0.3]), np.zeros((1, 3), np.float32), 0.01)
TRACK = Track(
    7, 7, 1, TrackState.CONFIRMED, TrackSource.MAP, 0.9, 5, 0, 100, (2, 2, 6, 6), 1.0, 0.0, 0.0
)


def a_result(*links, seen=()):
    probs = torch.zeros((2, 8, 10))
    probs[0] = 0.5
    probs[1, 2:6, 2:6] = 1.0
    return FrameResult(5, Segmentation((7,), probs), (TRACK,), (), seen, links, map_frame="world")


def find(i):
    return OBJECT if i == 3 else None


def test_markers_follow_objects_and_tracks():
    markers = Markers()
    linked = a_result(Association(7, 3, AssociationStatus.MATCHED, 0.8))
    first = markers.message(linked, find, STAMP).markers
    assert [(m.ns, m.id, m.type, m.action) for m in first] == [
        ("object", 3, Marker.CUBE, Marker.ADD),
        ("object_text", 3, Marker.TEXT_VIEW_FACING, Marker.ADD),
    ]
    assert (
        first[0].header.frame_id == "world"
        and first[0].scale.z == pytest.approx(0.3)
        and first[1].text == "7>3 MATCHED 0.80"
    )
    assert first[0].color == markers.message(linked, find, STAMP).markers[0].color, (
        "a track keeps its colour"
    )
    unfollowed = markers.message(
        a_result(Association(0, 3, AssociationStatus.OUT_OF_VIEW, 0.0)), find, STAMP
    ).markers
    assert unfollowed[0].color.r == unfollowed[0].color.g == unfollowed[0].color.b
    seen = Observation(
        7, np.zeros((3, 3), np.float32), np.array([1.0, 2, 3]), np.eye(3) * 0.01, None, 0.9
    )
    moved = markers.message(
        a_result(Association(7, 0, AssociationStatus.NEW, 0.0), seen=(seen,)), find, STAMP
    ).markers
    assert {(m.ns, m.id, m.action) for m in moved} == {
        ("track", 7, Marker.ADD),
        ("track_text", 7, Marker.ADD),
        ("object", 3, Marker.DELETE),
        ("object_text", 3, Marker.DELETE),
    }
    assert [m.action for m in markers.clear().markers] == [Marker.DELETEALL]
    assert markers.message(a_result(), find, STAMP).markers == []


def test_the_cloud_has_the_instance_pixels_that_have_depth():
    camera = Intrinsics(10.0, 20.0, 4.5, 3.5, 10, 8)
    rgb = np.zeros((8, 10, 3), np.uint8)
    rgb[2:6, 2:6] = 10, 20, 30
    depth = np.full((8, 10), 2.0, np.float32)
    depth[2] = 0.0
    frame = Frame(0, 5, rgb, depth, camera)
    result = a_result()
    cloud = labelled_cloud(frame, result.labels(), result, header_message(make, 5, "cam"))
    points = np.frombuffer(cloud.data, np.dtype([("xyz", "<f4", 3), ("rgb", "<u4"), ("id", "<u4")]))
    assert cloud.width == len(points) == 12 and cloud.point_step == 20
    assert points["xyz"][0] == pytest.approx([(2 - 4.5) * 2 / 10, (3 - 3.5) * 2 / 20, 2.0])
    assert set(points["id"]) == {7} and set(points["rgb"]) == {10 << 16 | 20 << 8 | 30}
    assert (
        labelled_cloud(
            replace(frame, depth=None), result.labels(), result, header_message(make, 5, "cam")
        ).width
        == 0
    )


def test_the_overlay_is_bgr():
    rgb = np.full((8, 10, 3), (200, 100, 0), np.uint8)
    result = a_result()
    msg = overlay_message(
        Frame(0, 5, rgb, None, Intrinsics(1.0, 1.0, 0.0, 0.0, 10, 8)),
        result.labels(),
        result,
        header_message(make, 5, "cam"),
    )
    assert msg.encoding == "bgr8" and np.frombuffer(msg.data, np.uint8)[-3:].tolist() == [
        0,
        100,
        200,
    ]
