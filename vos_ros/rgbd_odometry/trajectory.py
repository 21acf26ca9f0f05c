"""Errors of an estimated trajectory against the true one (Sturm et al. 2012, section VI)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryError:
    """Errors of a trajectory, without alignment where not stated otherwise."""

    ate_m: float
    """Absolute trajectory error: RMS distance of the positions, m."""
    ate_aligned_m: float
    """RMS distance of the positions after the rigid motion that fits them best, m."""
    max_m: float
    """Largest distance of a position, m."""
    rotation_deg: float
    """RMS error of the rotation, deg."""
    rotation_max_deg: float
    """Largest error of a rotation, deg."""
    rpe_m: float
    """Relative pose error: RMS error of the motion over a second, m; NaN without two such poses."""
    rpe_deg: float
    """RMS error of the rotation over a second, deg."""
    nees: float
    """Normalized estimation error squared: mean of e^T C^-1 e. 6 where the covariances C are right,
    less where they are too large; NaN without covariances."""


def trajectory_error(
    stamps_ns: Sequence[int],
    poses: Float64[np.ndarray, "N 4 4"],
    truth: Float64[np.ndarray, "N 4 4"],
    covs: Float64[np.ndarray, "N 6 6"] | None = None,
) -> TrajectoryError:
    """Compute the errors of poses against the true ones of the same stamps.

    Args:
        stamps_ns: stamps, increasing.
        poses: estimated T_map_camera.
        truth: true T_map_camera.
        covs: covariances of the estimates (m, rad; axes of the map).

    Raises ValueError: there are no poses.
    """
    if not len(poses):
        raise ValueError("a trajectory without poses has no error")
    e = se3.difference(poses, truth)
    distances_m = np.linalg.norm(e[:, :3], axis=1)
    angles_deg = np.degrees(np.linalg.norm(e[:, 3:], axis=1))
    T = align_points(poses[:, :3, 3], truth[:, :3, 3])
    aligned_m = np.linalg.norm(se3.transform(T, poses[:, :3, 3]) - truth[:, :3, 3], axis=1)
    relative_m, relative_deg = _relative_errors(np.asarray(stamps_ns, np.int64), poses, truth)
    nees = (
        np.mean([d @ np.linalg.solve(c, d) for d, c in zip(e, covs, strict=True)])
        if covs is not None
        else np.nan
    )
    return TrajectoryError(
        ate_m=_rms(distances_m),
        ate_aligned_m=_rms(aligned_m),
        max_m=float(distances_m.max()),
        rotation_deg=_rms(angles_deg),
        rotation_max_deg=float(angles_deg.max()),
        rpe_m=_rms(relative_m),
        rpe_deg=_rms(relative_deg),
        nees=float(nees),
    )


def align_points(
    points: Float64[np.ndarray, "N 3"], onto: Float64[np.ndarray, "N 3"]
) -> Float64[np.ndarray, "4 4"]:
    """Compute the rigid motion of points that minimizes the squared distances to others.

    Umeyama 1991, eqs. (40) to (42), without scale: with U D V^T the singular value decomposition of
    the cross-covariance, R = U diag(1, 1, det(U V^T)) V^T and t = b - R a.
    """
    a, b = points.mean(0), onto.mean(0)
    U, _, Vt = np.linalg.svd((onto - b).T @ (points - a))
    R = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
    return se3.from_rt(R, b - R @ a)


def _rms(values: Float64[np.ndarray, "N"]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else float("nan")


def _relative_errors(
    stamps: np.ndarray, poses: Float64[np.ndarray, "N 4 4"], truth: Float64[np.ndarray, "N 4 4"]
) -> tuple[Float64[np.ndarray, "M"], Float64[np.ndarray, "M"]]:
    """Compute errors (m, deg) of the motions between poses that are 0.9 to 1.1 s apart."""
    later = np.searchsorted(stamps, stamps + NS_PER_S)
    errors_m, errors_deg = [], []
    for i, j in enumerate(later):
        near = [
            k
            for k in (j - 1, j)
            if i < k < len(stamps) and abs(int(stamps[k] - stamps[i]) - NS_PER_S) <= NS_PER_S // 10
        ]
        if near:
            k = min(near, key=lambda k: abs(int(stamps[k] - stamps[i]) - NS_PER_S))
            e = se3.difference(se3.inverse(poses[i]) @ poses[k], se3.inverse(truth[i]) @ truth[k])
            errors_m.append(float(np.linalg.norm(e[:3])))
            errors_deg.append(float(np.degrees(np.linalg.norm(e[3:]))))
    return np.array(errors_m), np.array(errors_deg)
