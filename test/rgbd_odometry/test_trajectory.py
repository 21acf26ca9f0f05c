"""Errors of trajectories whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.geometry import se3
from vos_ros.rgbd_odometry.trajectory import NS_PER_S, align_points, trajectory_error


def path(n: int = 40) -> np.ndarray:
    t = np.linspace(0, 3, n)
    return np.stack(
        [
            se3.perturb(np.eye(4), np.array([s, np.sin(s), 0.1 * s, 0.1 * s, 0.2 * s, -0.3 * s]))
            for s in t
        ]
    )


def stamps(n: int = 40) -> list[int]:
    return [i * NS_PER_S // 10 for i in range(n)]


def test_the_truth_has_no_error():
    e = trajectory_error(stamps(), path(), path())
    assert max(
        e.ate_m, e.ate_aligned_m, e.rotation_max_deg, e.rpe_m, e.rpe_deg
    ) < 1e-6 and np.isnan(e.nees)


def test_a_moved_trajectory_is_right_once_aligned():
    T = se3.perturb(np.eye(4), np.array([0.3, -0.2, 0.5, 0.0, 0.0, 0.4]))
    e = trajectory_error(stamps(), T @ path(), path(), np.tile(np.eye(6), (40, 1, 1)))
    assert (
        e.ate_m > 0.3
        and e.ate_aligned_m < 1e-9
        and e.rpe_m < 1e-9
        and e.rotation_deg == pytest.approx(np.degrees(0.4))
    )
    np.testing.assert_allclose(align_points(path()[:, :3, 3], (T @ path())[:, :3, 3]), T, atol=1e-9)
    assert e.nees == pytest.approx(np.mean(np.sum(se3.difference(T @ path(), path()) ** 2, 1)))


def test_drift_is_an_error_per_second():
    moved = path().copy()
    moved[:, 2, 3] += 0.02 * np.arange(40) / 10
    e = trajectory_error(stamps(), moved, path())
    assert (
        e.rpe_m == pytest.approx(0.02, rel=0.01)
        and e.rpe_deg < 1e-6
        and e.max_m == pytest.approx(0.078)
    )
    assert np.isnan(trajectory_error([0, NS_PER_S // 2], moved[:2], path()[:2]).rpe_m), (
        "no two poses a second apart"
    )


def test_no_poses_no_error():
    with pytest.raises(ValueError, match="without poses"):
        trajectory_error([], path()[:0], path()[:0])
