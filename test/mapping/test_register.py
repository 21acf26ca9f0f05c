"""The pose corrected by what the segmenter follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vos_ros.geometry.se3 import difference, perturb
from vos_ros.mapping.register import register
from vos_ros.mapping.render import render
from vos_ros.types import Intrinsics, MapObject

CAMERA = Intrinsics(500.0, 500.0, 319.5, 239.5, 640, 480)
CELL = 8
SIGMA_DEG = 1.2
COV = np.diag([1e-6] * 3 + [np.deg2rad(SIGMA_DEG) ** 2] * 3)


def plates(n: int = 5) -> list[MapObject]:
    """Square plates facing the camera, 30 cm wide, about 2 m away."""
    grid = np.stack(
        np.meshgrid(np.linspace(-0.15, 0.15, 40), np.linspace(-0.15, 0.15, 40)), -1
    ).reshape(-1, 2)
    out = []
    for i in range(n):
        centre = np.array([-0.9 + 0.45 * i, 0.25 * (-1) ** i, 2.0 + 0.1 * i])
        points = np.column_stack([grid, np.zeros(len(grid))]) + centre
        out.append(
            MapObject(
                i + 1, 1, np.eye(4), np.array([0.3, 0.3, 0.01]), points.astype(np.float32), 0.006
            )
        )
    return out


def evidence(objects: list[MapObject], T_map_camera: np.ndarray) -> dict[int, np.ndarray]:
    """The log odds of a segmenter that follows the objects exactly, seen from ``T_map_camera``."""
    out = {}
    for p in render(objects, T_map_camera, CAMERA):
        cells = p.mask.reshape(480 // CELL, CELL, 640 // CELL, CELL).mean((1, 3))
        out[p.object_id] = (2.2 * (2 * cells - 1)).astype(np.float32)
    return out


def angle_deg(T: np.ndarray, T_reference: np.ndarray) -> float:
    return float(np.rad2deg(np.linalg.norm(difference(T, T_reference)[3:5])))


@pytest.mark.parametrize("turn_deg", [(1.5, 0.0), (0.0, -2.0), (-1.0, 1.0)])
def test_a_turned_camera_is_turned_back(turn_deg: tuple[float, float]) -> None:
    objects, truth = plates(), np.eye(4)
    wrong = perturb(
        truth, np.array([0, 0, 0, np.deg2rad(turn_deg[0]), np.deg2rad(turn_deg[1]), 0.0])
    )
    projections = {p.object_id: p for p in render(objects, wrong, CAMERA)}
    found = register(
        objects, projections, evidence(objects, truth), CELL, wrong, COV, CAMERA, n_poses=30
    )
    assert found is not None
    assert angle_deg(found[0], truth) < 0.2 * angle_deg(wrong, truth) + 0.1
    assert np.linalg.eigvalsh(found[1]).min() > -1e-15
    assert np.trace(found[1]) < 0.5 * np.trace(COV)


def test_evidence_that_rests_on_one_pose_is_believed_half() -> None:
    """Both poses are equally good then: the middle is the best guess."""
    objects, truth = plates(), np.eye(4)
    wrong = perturb(truth, np.array([0, 0, 0, 0.0, np.deg2rad(2.0), 0.0]))
    projections = {p.object_id: p for p in render(objects, wrong, CAMERA)}
    found = register(
        objects, projections, evidence(objects, truth), CELL, wrong, COV, CAMERA, n_poses=1
    )
    assert found is not None
    assert angle_deg(found[0], truth) == pytest.approx(1.0, abs=0.15)


def test_a_right_pose_stays() -> None:
    objects, truth = plates(), np.eye(4)
    projections = {p.object_id: p for p in render(objects, truth, CAMERA)}
    found = register(
        objects, projections, evidence(objects, truth), CELL, truth, COV, CAMERA, n_poses=10
    )
    assert found is not None
    assert angle_deg(found[0], truth) < 0.1


def test_nothing_followed_measures_nothing() -> None:
    objects = plates()
    projections = {p.object_id: p for p in render(objects, np.eye(4), CAMERA)}
    assert register(objects, projections, {}, CELL, np.eye(4), COV, CAMERA, n_poses=1) is None
    assert (
        register(objects, {}, evidence(objects, np.eye(4)), CELL, np.eye(4), COV, CAMERA, n_poses=1)
        is None
    )


def test_twins_do_not_pull_a_projection_over() -> None:
    """Evidence that is also high on a neighbour: the common shift decides, not each object's."""
    objects, truth = plates(), np.eye(4)
    wrong = perturb(truth, np.array([0, 0, 0, 0.0, np.deg2rad(1.5), 0.0]))
    seen = evidence(objects, truth)
    seen[1], seen[2] = np.maximum(seen[1], seen[2]), np.maximum(seen[1], seen[2])
    projections = {p.object_id: p for p in render(objects, wrong, CAMERA)}
    found = register(objects, projections, seen, CELL, wrong, COV, CAMERA, n_poses=30)
    assert found is not None
    assert angle_deg(found[0], truth) < 0.5


def test_objects_without_an_area_or_evidence_are_not_measured() -> None:
    objects, truth = plates(2), np.eye(4)
    wrong = perturb(truth, np.array([0, 0, 0, 0.0, np.deg2rad(1.0), 0.0]))
    projections = {p.object_id: p for p in render(objects, wrong, CAMERA)}
    seen = evidence(objects, truth)
    both = register(objects, projections, seen, CELL, wrong, COV, CAMERA, n_poses=30)
    one = register(objects, projections, {1: seen[1]}, CELL, wrong, COV, CAMERA, n_poses=30)
    assert both is not None and one is not None
    assert np.trace(both[1]) < np.trace(one[1]), "more landmarks, less uncertainty"
    for rows, measured in ((9, False), (11, True)):  # 90 and 110 px: 1.4 and 1.7 cells
        mask = np.zeros_like(projections[1].mask_roi)
        mask[20 : 20 + rows, 20:30] = True
        part = {1: replace(projections[1], mask_roi=mask)}
        found = register(objects, part, seen, CELL, wrong, COV, CAMERA, n_poses=30)
        assert (found is not None) == measured


@pytest.mark.parametrize("axis", [3, 4])
def test_an_uncertain_direction_is_corrected_and_a_certain_one_is_not(axis: int) -> None:
    objects, truth = plates(), np.eye(4)
    cov = COV.copy()
    other = 7 - axis
    cov[other, other] = 1e-10
    delta = np.zeros(6)
    delta[[axis, other]] = np.deg2rad(1.0)
    wrong = perturb(truth, delta)
    projections = {p.object_id: p for p in render(objects, wrong, CAMERA)}
    found = register(
        objects, projections, evidence(objects, truth), CELL, wrong, cov, CAMERA, n_poses=30
    )
    assert found is not None
    rest = np.rad2deg(difference(found[0], truth))
    assert abs(rest[axis]) < 0.25 and abs(rest[other]) == pytest.approx(1.0, abs=0.05)


def test_the_correction_does_not_depend_on_the_number_of_poses_when_they_are_many() -> None:
    objects, truth = plates(), np.eye(4)
    wrong = perturb(truth, np.array([0, 0, 0, 0.0, np.deg2rad(2.0), 0.0]))
    projections = {p.object_id: p for p in render(objects, wrong, CAMERA)}
    seen = evidence(objects, truth)
    turned = []
    for n in (1, 3, 1000):
        found = register(objects, projections, seen, CELL, wrong, COV, CAMERA, n_poses=n)
        assert found is not None
        turned.append(angle_deg(found[0], wrong))
    assert turned == pytest.approx([1.0, 1.5, 2.0], abs=0.2), "n / (n + 1) of the way"


def test_the_common_shift_is_that_of_all_objects() -> None:
    """The first object has no evidence of its place; the shift is larger than its own search."""
    objects, truth = plates(), np.eye(4)
    wrong = perturb(truth, np.array([0, 0, 0, 0.0, np.deg2rad(3.0), 0.0]))
    seen = evidence(objects, truth)
    seen[1] = np.zeros_like(seen[1])
    projections = {p.object_id: p for p in render(objects, wrong, CAMERA)}
    found = register(objects, projections, seen, CELL, wrong, COV, CAMERA, n_poses=30)
    assert found is not None and angle_deg(found[0], truth) < 0.4


def test_a_roll_is_corrected_by_where_the_objects_are_in_the_image() -> None:
    objects, truth = plates(), np.eye(4)
    cov = np.diag([1e-10] * 5 + [np.deg2rad(3.0) ** 2])
    wrong = perturb(truth, np.array([0, 0, 0, 0, 0, np.deg2rad(3.0)]))
    projections = {p.object_id: p for p in render(objects, wrong, CAMERA)}
    found = register(
        objects, projections, evidence(objects, truth), CELL, wrong, cov, CAMERA, n_poses=100
    )
    assert found is not None
    assert abs(np.rad2deg(difference(found[0], truth)[5])) < 0.5
