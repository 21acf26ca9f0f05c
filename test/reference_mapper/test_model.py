"""One object over many frames: place, certainty, existence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vos_ros.geometry import se3
from vos_ros.reference_mapper.config import ModelConfig
from vos_ros.reference_mapper.model import measurement_cov, new_model

C = ModelConfig()
POINTS = (np.random.default_rng(0).uniform(0, 0.1, (500, 3)) + np.array([1.0, 2.0, 0.5])).astype(
    np.float32
)
POSE = np.eye(4)


def test_a_pose_error_moves_what_is_seen_as_the_covariance_says() -> None:
    rng = np.random.default_rng(1)
    pose_cov = np.diag([0.01, 0.02, 0.005, 0.02, 0.01, 0.03]) ** 2
    T = np.eye(4)
    T[:3, 3] = -1.0, 0.5, 1.0
    centre = POINTS.mean(0, dtype=np.float64)
    in_camera = se3.transform(se3.inverse(T), centre[None])
    moved = [
        se3.transform(se3.perturb(T, rng.multivariate_normal(np.zeros(6), pose_cov)), in_camera)[0]
        for _ in range(4000)
    ]
    cov = measurement_cov(POINTS, T, pose_cov, replace(C, measured_sigma_m=1e-4))
    np.testing.assert_allclose(cov[:3, :3], np.cov(np.array(moved).T), atol=8e-5)


def test_an_object_turns_with_the_camera_and_moves_by_the_lever() -> None:
    yaw = np.diag([0.0, 0.0, 0.0, 0.0, 0.0, 0.01])
    points = np.full((5, 3), [3.0, 0.0, 0.0], np.float32)
    T = np.eye(4)
    T[:3, 3] = 1.0, 0.0, 0.0  # two metres before the object
    cov = measurement_cov(points, T, yaw, replace(C, measured_sigma_m=1e-4))
    expected = np.zeros((6, 6))
    expected[1, 1], expected[5, 5] = 0.04, 0.01
    expected[1, 5] = expected[5, 1] = 0.02
    np.testing.assert_allclose(cov, expected, atol=2e-6)


def test_certainty_grows_with_time_and_not_with_the_number_of_frames() -> None:
    cov = measurement_cov(POINTS, POSE, None, C)
    crowd = slow = new_model(POINTS, 0, C)
    for k in range(20):
        crowd = crowd.with_measurement(POINTS, cov, k * 10_000_000, C)  # within 0.2 s
        slow = slow.with_measurement(POINTS, cov, k * 1_000_000_000, C)
    assert crowd.pose_cov is not None and slow.pose_cov is not None
    np.testing.assert_allclose(crowd.pose_cov, cov, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(slow.pose_cov, cov / 20, rtol=1e-6, atol=1e-12)
    assert new_model(POINTS, 0, C).pose_cov is None


def test_existence_rises_falls_and_is_never_certain() -> None:
    model = new_model(POINTS, 0, C)
    assert model.existence == 0.5
    for k in range(1000):
        model = model.with_match(k, C)
    assert 0.95 < model.existence < 0.99 and model.observations == 1000
    model = model.with_absence(2000, C).with_absence(3000, C)
    assert model.absent_ns == 2000
    for k in range(20):
        model = model.with_absence(4000 + k, C)
    assert model.existence < 0.1 and model.with_match(5000, C).absent_ns is None


def test_classes_are_voted_for() -> None:
    model = new_model(POINTS, 0, C)
    assert (model.class_id, model.class_score) == (0, 0.0)
    for c in (3, 3, 0, 5):
        model = model.with_vote(c)
    assert (model.class_id, model.class_score) == (3, pytest.approx(2 / 3))


def test_the_box_is_of_what_was_measured_often_enough() -> None:
    cov = measurement_cov(POINTS, POSE, None, C)
    model = new_model(POINTS, 0, C)
    stray = POINTS[:1] + np.float32(0.5)
    for k in range(5):
        model = model.with_match(k, C).with_measurement(
            np.concatenate([POINTS, stray]) if k == 2 else POINTS, cov, k, C
        )
    out = replace(model, id=7).map_object(3, C)
    assert (out.id, out.revision, len(out.points)) == (
        7,
        3,
        len(out.points),
    ) and out.point_radius == pytest.approx(0.0075)
    np.testing.assert_allclose(out.size, 0.1, atol=0.02)
    np.testing.assert_allclose(out.T_map_object[:3, 3], [1.05, 2.05, 0.55], atol=0.01)
    np.testing.assert_array_equal(out.T_map_object[:3, :3], np.eye(3))
    once = new_model(POINTS, 0, C).with_match(0, C).with_measurement(POINTS, cov, 0, C)
    assert len(once.points(C)) == len(once.grid), "the first frame shows all that there is"


def test_two_models_become_one_with_all_that_both_know() -> None:
    vague, sharp = np.eye(6) * 0.04, np.eye(6) * 0.01
    a = new_model(POINTS, 5, C).with_measurement(POINTS, vague, 5, C)
    b = new_model(POINTS, 2, C).with_measurement(POINTS, sharp, 7, C)
    a = replace(a, id=3, last_ns=9, observations=4, votes={1: 2, 2: 1}, log_odds=1.0, absent_ns=6)
    b = replace(b, id=8, last_ns=7, observations=5, votes={2: 3}, log_odds=2.0)
    for one, other in ((a, b), (b, a)):
        both = one.merged_with(other, C)
        assert both.id == one.id and both.absent_ns is None
        assert (both.first_ns, both.last_ns, both.observations) == (2, 9, 9)
        assert both.votes == {1: 2, 2: 4} and both.class_id == 2 and both.log_odds == 2.0
        np.testing.assert_array_equal(both.information, b.information)
        assert both.measured_ns == 7
        assert both.grid.weights.sum() == 2 * len(POINTS) and both.grid.hits.max() == 1


def test_an_object_that_is_found_elsewhere_keeps_all_but_its_place() -> None:
    model = new_model(POINTS, 5, C).with_match(5, C).with_vote(3)
    model = model.with_measurement(POINTS, np.eye(6), 5, C).without_place()
    assert len(model.grid) == 0 and model.pose_cov is None and model.measured_ns is None
    assert (model.observations, model.class_id, model.first_ns) == (1, 3, 5)
    assert model.in_reach(POINTS + np.float32(9), C).all(), "it may be anywhere"


def test_points_in_reach_are_those_near_the_box() -> None:
    model = new_model(POINTS, 0, C).with_measurement(POINTS, np.eye(6), 0, C)
    high = float(model.extent(C)[1][0])
    side = float((model.extent(C)[1] - model.extent(C)[0]).max())
    limit = high + C.reach_m + C.reach_share * side
    x = np.array([high, limit - 1e-3, limit + 1e-3])
    probes = np.stack([x, np.full(3, 2.05), np.full(3, 0.55)], 1).astype(np.float32)
    assert model.in_reach(probes, C).tolist() == [True, True, False]
