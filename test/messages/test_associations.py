"""Associations and instances of a frame, to messages and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vos_ros.geometry import se3
from vos_ros.messages.associations import (
    association_array_message,
    association_from_message,
    association_message,
    associations_from_message,
)
from vos_ros.messages.geometry import matrix_from_pose
from vos_ros.messages.instances import instance_array_message
from vos_ros.messages.stamps import header_message, ns_from_stamp
from vos_ros.types import (
    Association,
    AssociationStatus,
    FrameResult,
    Observation,
    Segmentation,
    Track,
    TrackSource,
    TrackState,
)

Make = Callable[..., Any]
T = se3.perturb(np.eye(4), np.array([0.1, -0.2, 0.3, 0.4, 0.5, -0.6]))
MATCHED = Association(
    track_id=7,
    map_object_id=2,
    status=AssociationStatus.MATCHED,
    score=0.75,
    mask_iou=0.5,
    depth_inlier_ratio=0.25,
    appearance_similarity=0.125,
    runner_up_id=9,
    runner_up_score=0.0625,
    predicted_visible_fraction=0.875,
    n_observations=4,
    related_ids=(3, 4),
    terms={"overlap": 1.5, "depth": -2.5},
)
NEW = Association(9, 0, AssociationStatus.NEW, 0.0)
OTHER_TERMS = Association(8, 1, AssociationStatus.SPLIT, 0.5, terms={"depth": 3.5, "shape": 4.5})


def track(track_id: int, value: int, roi: tuple[int, int, int, int]) -> Track:
    return Track(
        track_id=track_id,
        label_value=value,
        class_id=3,
        state=TrackState.CONFIRMED,
        source=TrackSource.PROMPT,
        score=0.75,
        age_frames=12,
        misses=2,
        area_px=256,
        roi=roi,
        visible=0.5,
        occluded=0.375,
        truncated=0.125,
    )


def result(*associations: Association, **fields: Any) -> FrameResult:
    cov = np.arange(1.0, 10.0).reshape(3, 3)
    seen = Observation(9, np.ones((5, 3), np.float32), np.array([1.0, 2, 3]), cov, None, 0.9)
    return FrameResult(
        stamp_ns=10**9,
        segmentation=Segmentation((7, 9), torch.zeros((3, 8, 8))),
        tracks=(track(7, 70, (4, 6, 21, 19)), track(9, 90, (0, 0, 0, 0))),
        projections=(),
        observations=(seen,),
        associations=associations,
        **fields,
    )


@pytest.fixture
def header(make: Make) -> Any:
    return header_message(make, 6, "camera")


def test_an_association_comes_back(
    make: Make, header: Any, transport: Callable[[Any], Any]
) -> None:
    msg = transport(association_array_message(make, header, result(MATCHED, NEW), session_id="s"))
    one, two = associations_from_message(msg)
    assert dataclasses.asdict(one) == dataclasses.asdict(MATCHED)
    assert (two.track_id, two.map_object_id, two.status) == (9, 0, AssociationStatus.NEW)
    assert math.isnan(two.mask_iou) and two.terms == {} and two.related_ids == ()


def test_values_stand_under_their_terms_in_whatever_order_they_came(
    make: Make, header: Any
) -> None:
    msg = association_array_message(make, header, result(NEW, MATCHED, OTHER_TERMS), session_id="s")
    assert list(msg.term_names) == ["overlap", "depth", "shape"]
    assert len(msg.associations[0].term_values) == 0
    _, one, two = associations_from_message(msg)
    assert one.terms["overlap"] == 1.5 and one.terms["depth"] == -2.5
    assert math.isnan(one.terms["shape"])
    assert two.terms["depth"] == 3.5 and two.terms["shape"] == 4.5
    assert math.isnan(two.terms["overlap"])


def test_the_state_of_the_map_and_the_pose_are_written(make: Make, header: Any) -> None:
    frame_result = result(
        map_session_id="m",
        map_revision=4,
        map_stamp_ns=5 * 10**9 + 1,
        map_frame="world",
        T_map_camera=T,
        pose_cov=np.eye(6),
    )
    msg = association_array_message(make, header, frame_result, session_id="s")
    assert (msg.session_id, msg.map_session_id, msg.map_revision, msg.map_frame) == (
        "s",
        "m",
        4,
        "world",
    )
    assert ns_from_stamp(msg.map_stamp) == 5 * 10**9 + 1 and ns_from_stamp(msg.header.stamp) == 6
    np.testing.assert_allclose(matrix_from_pose(msg.map_from_camera.pose), T, atol=1e-15)
    assert msg.map_from_camera.covariance[35] == 1.0 and len(msg.associations) == 0
    unknown = association_array_message(make, header, result(), session_id="s")
    assert math.isnan(unknown.map_from_camera.pose.position.z)


def test_a_status_or_terms_that_are_not_known_are_refused(make: Make) -> None:
    msg = association_message(make, MATCHED, ["overlap", "depth"])
    with pytest.raises(ValueError, match="2 term_values, wanted one of each of the 1 term_names"):
        association_from_message(msg, ["overlap"])
    msg.status = 77
    with pytest.raises(ValueError, match="status 77, wanted one of 0 MATCHED, 1 TENTATIVE"):
        association_from_message(msg, ["overlap", "depth"])


def test_instances_of_a_result(make: Make, header: Any, transport: Callable[[Any], Any]) -> None:
    frame_result = result(map_revision=4)
    msg = transport(
        instance_array_message(
            make,
            header,
            frame_result,
            session_id="s",
            method="lwl",
            shape=(48, 64),
            latency_ms=12.5,
        )
    )
    assert (msg.session_id, msg.method, msg.width, msg.height, msg.latency_ms) == (
        "s",
        "lwl",
        64,
        48,
        12.5,
    )
    assert (msg.map_revision, msg.header.frame_id) == (4, "camera")
    one, two = msg.instances
    assert (one.track_id, one.label_value, one.class_id, one.score) == (7, 70, 3, 0.75)
    assert (one.state, one.source, one.area_px, one.age_frames, one.misses) == (1, 1, 256, 12, 2)
    assert (one.roi.x_offset, one.roi.y_offset, one.roi.width, one.roi.height) == (4, 6, 17, 13)
    fractions = (one.visible_fraction, one.occluded_fraction, one.truncated_fraction)
    assert fractions == (0.5, 0.375, 0.125)
    assert (two.centroid.x, two.centroid.y, two.centroid.z) == (1.0, 2.0, 3.0)
    assert list(two.covariance) == list(range(1, 10))
    assert np.isnan([one.centroid.x, one.centroid.y, one.centroid.z, *one.covariance]).all()


def test_a_latency_that_is_not_known_is_nan(make: Make, header: Any) -> None:
    msg = instance_array_message(make, header, result(), session_id="", method="", shape=(8, 8))
    assert math.isnan(msg.latency_ms)
