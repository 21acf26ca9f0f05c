"""From a label image and depth to points of the wanted tracks."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.config import MappingConfig
from vos_ros.reference_mapper.frames import (
    LabelledDepth,
    contradicted_points,
    lift_tracks,
    tracks_to_lift,
)
from vos_ros.types import UNKNOWN_LABEL, Association, AssociationStatus, Intrinsics

K = Intrinsics(100.0, 100.0, 31.5, 23.5, 64, 48)


def test_tracks_to_lift_are_lifted_to_the_map_frame():
    labels, depth = np.zeros((48, 64), np.uint16), np.full((48, 64), 2.0, np.float32)
    labels[10:30, 5:25], labels[10:30, 35:60] = 7, 300
    depth[10:30, 5:25] = 1.0
    T = np.eye(4)
    T[:3, 3] = 0, 0, 10
    image = LabelledDepth(labels, {1: 7, 2: 9, 3: 300}, depth, K)
    points = lift_tracks(image, {1, 2}, T, MappingConfig())
    assert list(points) == [1], "9 isn't in the image"
    np.testing.assert_allclose(points[1][:, 2], 11.0, atol=1e-5)
    np.testing.assert_allclose(
        points[1][:, :2].mean(0), [(14.5 - 31.5) / 100, (19.5 - 23.5) / 100], atol=0.005
    )
    assert lift_tracks(image, (), T, MappingConfig()) == {}
    with pytest.raises(ValueError, match="labels are 64x48 px, depth is 32x48 px"):
        lift_tracks(LabelledDepth(labels, {1: 7}, depth[:, ::2], K), {1}, T, MappingConfig())


def test_what_is_measured_as_something_else_is_told_and_nothing_more():
    labels, depth = np.zeros((48, 64), np.uint16), np.full((48, 64), 2.0, np.float32)
    labels[10:30, 5:25] = 7
    depth[10:30, 5:25] = 1.0
    depth[:, 60:] = 0.0
    labels[40:, 40:50] = UNKNOWN_LABEL
    T = np.eye(4)
    T[:3, 3] = 0, 0, 10

    def at(u, v, z):
        return [(u - K.cx) / K.fx * z, (v - K.cy) / K.fy * z, z + 10]

    cases = {
        "own": (at(15, 20, 1.0), False),
        "next to its edge": (at(27, 20, 2.0), False),
        "wall": (at(40, 20, 2.0), True),
        "hidden": (at(40, 20, 2.5), False),
        "free": (at(40, 20, 1.0), True),
        "free next to its edge": (at(26, 20, 1.5), False),
        "no depth": (at(62, 20, 2.0), False),
        "wall with an unknown label": (at(45, 44, 2.0), False),
        "out of view": (at(80, 20, 2.0), False),
        "behind the camera": ([0, 0, 9.0], False),
    }
    points = np.array([p for p, _ in cases.values()], np.float32)
    image = LabelledDepth(labels, {1: 7}, depth, K)
    assert dict(
        zip(cases, contradicted_points(points, 1, image, T, MappingConfig()), strict=True)
    ) == {k: v for k, (_, v) in cases.items()}
    assert not contradicted_points(points, 2, image, T, MappingConfig()).any(), (
        "a track without a mask says nothing"
    )


def test_only_what_the_mapper_uses_is_wanted():
    said = [
        Association(
            t, 5, status, 1.0, related_ids=(40, 41) if status == AssociationStatus.SPLIT else ()
        )
        for t, status in enumerate(AssociationStatus, start=1)
    ]
    wanted = {
        a.track_id for a in said if a.status.name in ("MATCHED", "NEW", "SPLIT", "REIDENTIFIED")
    } | {40, 41}
    assert tracks_to_lift([*said, Association(0, 9, AssociationStatus.MATCHED, 1.0)]) == wanted
