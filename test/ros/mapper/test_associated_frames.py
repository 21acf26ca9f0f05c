"""Messages of the perception node as the mapper's frame: which pose, which points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from support import squares

from vos_ros.messages.geometry import pose_with_covariance_message
from vos_ros.messages.images import frame_messages, image_message
from vos_ros.msg import Association, AssociationArray, Instance, InstanceArray
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.object_mapper import ObjectMapper
from vos_ros.ros.common.logging import ConditionLog
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.poses import PoseAnswer
from vos_ros.ros.mapper.associated_frames import AssociatedFrameBuilder
from vos_ros.ros.mapper.mapper_inputs import Results

SLAM, USED = np.eye(4), np.eye(4)
USED[0, 3] = 0.04
"""Pose of the SLAM, and the one that the perception node has corrected."""


class Poses:
    """Give one answer, and keep what was asked for."""

    def __init__(self, answer: PoseAnswer) -> None:
        self.answer, self.asked = answer, None

    def at(self, stamp_ns: int, camera_frame: str, wait_s: float, give_up: Any) -> PoseAnswer:
        self.asked = stamp_ns, camera_frame
        return self.answer


def results(used: np.ndarray | None = USED, area_px: int = 576) -> Results:
    """Make the messages of one image: track 1 is the first square, matched to object 1."""
    _, info, depth = frame_messages(make, squares.frame_at(squares.START))
    head = info.header
    labels = np.zeros((squares.H, squares.W), np.uint16)
    x0, y0, x1, y1 = squares.BOXES[1]
    labels[y0:y1, x0:x1] = 9
    instance = Instance(track_id=1, label_value=9, class_id=11, area_px=area_px)
    instance.state = Instance.CONFIRMED
    match = Association(track_id=1, map_object_id=1, status=Association.MATCHED, score=0.9)
    return Results(
        stamp_ns=squares.START,
        labels=image_message(make, head, "16UC1", labels),
        instances=InstanceArray(header=head, session_id="s", instances=[instance]),
        associations=AssociationArray(
            header=head,
            session_id="s",
            map_session_id="m",
            map_revision=7,
            map_frame="map",
            map_from_camera=pose_with_covariance_message(make, used, np.eye(6) * 1e-4),
            associations=[match],
        ),
        arrived_s=0.0,
        depth=depth,
        camera_info=info,
    )


def build(answer: PoseAnswer, of: Results | None = None) -> tuple[Any, list[str], Poses]:
    log: list[str] = []
    poses = Poses(answer)
    config = MapperConfig()
    builder = AssociatedFrameBuilder(
        replace(config.node, given_sigma_m=0.03, edge_px=0),
        ObjectMapper(config).lifting,
        poses,
        ConditionLog(lambda level, text: log.append(text)),
        ("/image", "/depth"),
    )
    return builder.build(of or results()), log, poses


def test_points_are_placed_by_the_pose_of_the_slam() -> None:
    frame, log, poses = build(PoseAnswer(SLAM))
    assert poses.asked == (squares.START, "camera_optical") and log == []
    np.testing.assert_array_equal(frame.T_map_camera, SLAM)
    assert frame.pose_cov is None
    (instance,) = frame.instances
    assert (instance.track_id, instance.class_id, instance.confirmed) == (1, 11, True)
    x0, y0, x1, y1 = squares.BOXES[1]
    middle = ((x0 + x1 - 1) / 2 - squares.CAMERA.cx) / 100, ((y0 + y1 - 1) / 2 - 47.5) / 100, 1.0
    np.testing.assert_allclose(instance.points.mean(0), middle, atol=0.005)
    assert (frame.session_id, frame.map_session_id, frame.map_revision, frame.map_frame) == (
        "s",
        "m",
        7,
        "map",
    )


@pytest.mark.parametrize(("sigma_m", "expected"), [(0.0299, SLAM), (0.0301, USED)])
def test_an_uncertain_pose_of_the_slam_is_replaced_by_the_used_one(
    sigma_m: float, expected: np.ndarray
) -> None:
    cov = np.diag([*[sigma_m**2] * 3, 1e-4, 1e-4, 1e-4])
    frame, _, _ = build(PoseAnswer(SLAM, cov))
    np.testing.assert_allclose(frame.T_map_camera, expected, atol=1e-12)
    assert frame.pose_cov[0, 0] == pytest.approx(cov[0, 0] if expected is SLAM else 1e-4)


def test_an_uncertain_pose_is_used_where_there_is_no_other() -> None:
    frame, _, _ = build(PoseAnswer(SLAM, np.eye(6)), results(used=None))
    np.testing.assert_array_equal(frame.T_map_camera, SLAM)


def test_a_missing_pose_is_reported_and_the_used_one_is_taken() -> None:
    frame, log, _ = build(PoseAnswer(None, reason="TF has no map <- camera"))
    np.testing.assert_allclose(frame.T_map_camera, USED, atol=1e-12)
    assert len(log) == 1 and "TF has no map <- camera" in log[0] and "is used meanwhile" in log[0]


def test_without_any_pose_nothing_is_lifted() -> None:
    frame, _, _ = build(PoseAnswer(None), results(used=None))
    assert frame.T_map_camera is None and frame.pose_cov is None
    assert frame.instances[0].points.shape == (0, 3)


@pytest.mark.parametrize("missing", ["depth", "camera_info"])
def test_without_depth_or_calibration_nothing_is_lifted(missing: str) -> None:
    frame, _, _ = build(PoseAnswer(SLAM), replace(results(), **{missing: None}))
    assert frame.instances[0].points.shape == (0, 3)
    assert frame.associations[0].map_object_id == 1


def test_an_instance_without_pixels_is_not_lifted() -> None:
    frame, _, _ = build(PoseAnswer(SLAM), results(area_px=0))
    assert frame.instances[0].points.shape == (0, 3)


def test_depth_of_another_size_is_refused() -> None:
    of = results()
    small = image_message(make, of.labels.header, "16UC1", np.ones((48, 64), np.uint16))
    with pytest.raises(ValueError, match="depth is 64x48 px, its camera_info is for 128x96 px"):
        build(PoseAnswer(SLAM), replace(of, depth=small))
