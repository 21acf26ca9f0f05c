"""What depth and pose may be off by, against sampled errors."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.geometry import se3, uncertainty


def test_the_tolerance_has_a_constant_and_a_quadratic_part():
    assert uncertainty.depth_tolerance(0.0, 0.03, 0.01) == 0.03
    assert uncertainty.depth_tolerance(3.0, 0.03, 0.01) == pytest.approx(0.03 + 0.09)
    z = np.array([1.0, 2.0], np.float32)
    assert uncertainty.depth_tolerance(z, 0.03, 0.01).dtype == np.float32


def test_a_step_has_a_linear_and_a_quadratic_part_and_no_constant():
    assert uncertainty.depth_step_limit(0.0, 0.5, 0.01) == 0.0
    assert uncertainty.depth_step_limit(3.0, 0.5, 0.01) == pytest.approx(1.5 + 0.09)


def test_sigmas_are_the_mean_of_the_variances_of_their_own_block():
    cov = np.diag([1.0, 4.0, 4.0, 9.0, 9.0, 9.0])
    assert uncertainty.position_sigma(cov) == pytest.approx(np.sqrt(3.0))
    assert uncertainty.rotation_sigma(cov) == 3.0
    assert uncertainty.isotropic_sigma(np.diag([2.0, 6.0])) == 2.0
    assert uncertainty.isotropic_sigma(-np.eye(3)) == 0.0


def test_a_point_moves_with_the_position_and_with_the_rotation_by_its_distance():
    cov = uncertainty.pose_covariance(0.03, np.rad2deg(0.01))
    np.testing.assert_allclose(cov, np.diag([9e-4] * 3 + [1e-4] * 3))
    rng = np.random.default_rng(0)
    delta = rng.multivariate_normal(np.zeros(6), cov, 200_000)
    # The distance is along z, which the rotation about z doesn't move: two of three axes count.
    ray = np.array([0.0, 0.0, 5.0])
    moved = delta[:, :3] + np.cross(delta[:, 3:], ray)
    assert uncertainty.point_sigma(cov, np.array([5.0]))[0] == pytest.approx(
        moved[:, 0].std(), rel=0.02
    )


def test_the_covariance_of_a_point_away_from_the_body():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(6, 6))
    cov = A @ A.T * 1e-6
    R = se3.so3_exp(np.array([0.3, -0.2, 0.5]))
    lever = np.array([0.4, 1.0, -0.7])
    samples = rng.multivariate_normal(np.zeros(6), cov, 400_000)
    for rotation in (R, None):
        turn = np.eye(3) if rotation is None else rotation
        turned = samples[:, 3:] @ turn.T
        moved = samples[:, :3] @ turn.T + np.cross(turned, lever)
        measured = np.cov(np.hstack([moved, turned]).T)
        carried = uncertainty.carry_covariance(cov, lever, rotation)
        assert np.abs(carried - measured).max() < 0.02 * np.abs(measured).max()
