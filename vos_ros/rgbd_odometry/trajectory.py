"""How far an estimated trajectory lies from the true one (Sturm et al. 2012, section VI)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TrajectoryError:
    """``ate_m``: RMS distance of the positions as they are, ``ate_aligned_m``: after the rigid motion that fits them best.
    ``rpe``: RMS error of the motion over a second; NaN where no two poses are a second apart. ``nees``: mean of e^T cov^-1 e, 6 where the
    covariances are right, less where they are cautious; NaN without covariances."""

    ate_m: float
    ate_aligned_m: float
    max_m: float
    rotation_deg: float
    rotation_max_deg: float
    rpe_m: float
    rpe_deg: float
    nees: float


def trajectory_error(
    stamps_ns: Sequence[int],
    poses: Float64[np.ndarray, "N 4 4"],
    truth: Float64[np.ndarray, "N 4 4"],
    covs: Float64[np.ndarray, "N 6 6"] | None = None,
) -> TrajectoryError:
    """Errors of poses against the true ones of the same stamps (in order). ValueError without poses."""
    if not len(poses):
        raise ValueError("a trajectory without poses has no error")
    e = se3.difference(poses, truth)
    away, turned = np.linalg.norm(e[:, :3], axis=1), np.degrees(np.linalg.norm(e[:, 3:], axis=1))
    T = aligning(poses[:, :3, 3], truth[:, :3, 3])
    aligned = np.linalg.norm(se3.transform(T, poses[:, :3, 3]) - truth[:, :3, 3], axis=1)
    ways, turns = _relative(np.asarray(stamps_ns, np.int64), poses, truth)
    nees = (
        np.mean([d @ np.linalg.solve(c, d) for d, c in zip(e, covs, strict=True)])
        if covs is not None
        else np.nan
    )
    return TrajectoryError(
        _rms(away),
        _rms(aligned),
        float(away.max()),
        _rms(turned),
        float(turned.max()),
        _rms(ways),
        _rms(turns),
        float(nees),
    )


def aligning(
    points: Float64[np.ndarray, "N 3"], onto: Float64[np.ndarray, "N 3"]
) -> Float64[np.ndarray, "4 4"]:
    """The rigid motion of points that brings them nearest, in the least-squares sense, to others (Umeyama 1991, without scale)."""
    a, b = points.mean(0), onto.mean(0)
    U, _, Vt = np.linalg.svd((onto - b).T @ (points - a))
    R = U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt
    return se3.from_rt(R, b - R @ a)


def _rms(values: Float64[np.ndarray, "N"]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else float("nan")


def _relative(
    stamps: np.ndarray, poses: Float64[np.ndarray, "N 4 4"], truth: Float64[np.ndarray, "N 4 4"]
) -> tuple[Float64[np.ndarray, "M"], Float64[np.ndarray, "M"]]:
    """Errors (m, degrees) of the motions between poses that are a second apart, give or take a tenth."""
    later = np.searchsorted(stamps, stamps + NS_PER_S)
    ways, turns = [], []
    for i, j in enumerate(later):
        near = [
            k
            for k in (j - 1, j)
            if i < k < len(stamps) and abs(int(stamps[k] - stamps[i]) - NS_PER_S) <= NS_PER_S // 10
        ]
        if near:
            k = min(near, key=lambda k: abs(int(stamps[k] - stamps[i]) - NS_PER_S))
            e = se3.difference(se3.inverse(poses[i]) @ poses[k], se3.inverse(truth[i]) @ truth[k])
            ways.append(float(np.linalg.norm(e[:3])))
            turns.append(float(np.degrees(np.linalg.norm(e[3:]))))
    return np.array(ways), np.array(turns)
