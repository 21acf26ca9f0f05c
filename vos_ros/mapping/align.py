"""The camera pose, corrected within its covariance by aligning the map with the measured depth.

Projective point-to-plane ICP (Chen and Medioni 1992; Newcombe et al. 2011, KinectFusion, section
3.5): the map points that should be visible are projected into the measured depth, and Gauss-Newton
on n . (R v + t - p), robustly weighted and with the given pose as the prior, moves the camera.
Directions that the geometry doesn't constrain, such as sliding along a bare table, stay where the
prior has them, with the prior's uncertainty.

ICP alone converges to the nearest minimum. Where the prior is wider than its basin, many poses
drawn from the prior are scored first (a point in space that was measured to be empty counts most
against a pose), the best are refined in one batch, and the posterior's covariance grows to cover
rivals that explain the depth about as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from vos_ros.config import MappingConfig
from vos_ros.geometry import se3
from vos_ros.geometry.camera import pixel_coordinates
from vos_ros.geometry.points import normal_map, vertex_map
from vos_ros.geometry.uncertainty import depth_tolerance, position_sigma, rotation_sigma
from vos_ros.types import Intrinsics, MapObject

# The numbers are choices of this project. test_align.py bounds the errors that result, on a table
# of boxes and on the kitchen recording, with poses disturbed by up to 10 cm and 5 degrees.
_GRID_COLUMNS = 160
"""Columns of the grid on which the depth is read. A finer one costs time and its neighbours measure
the same again."""
_MAX_POINTS = 3000
"""Most map points used, spread evenly over the objects."""
_MIN_POINTS = 60
"""Fewest points on measured depth from which a pose is computed: ten per degree of freedom."""
_MAX_RANKING_POINTS, _MAX_COMPARISON_POINTS = 400, 1000
"""Most points used to refine many poses, and to compare the best of them."""
_MAX_OBJECT_POINTS = 6000
"""Most points of one object that are projected to find out which are visible."""
_VIEW_MARGIN = 0.15
"""Border around the image, as a share of its width, from which a correction may bring points in."""
_INDEPENDENT_SHARE = 0.13
"""Share of the measurements that count as independent: the errors of a depth camera and of the
map's surfaces are correlated over many pixels. To count each one would promise a covariance that is
far too small (test_align.py compares chi^2 of the errors with its expectation)."""
_SIGMAS_PER_TOLERANCE = 3.0
"""Standard deviations of a measurement in the depth tolerance of the configuration."""
_COARSE_REACH, _MIDDLE_REACH, _FINE_REACH = (
    (30.0, 20.0, 14.0, 10.0),
    (8.0, 6.0, 4.0, 3.0),
    (3.0, 3.0),
)
"""Reach of Tukey's weight in each iteration, in standard deviations of a measurement."""
_MAX_DEPTH_GAP = 3.0
"""Largest difference of depth of a pair, in reaches: beyond it they are not the same surface."""
_BASIN_PX = 6.0
"""Standard deviation of the prior in the image under which no search is needed: ICP converges from
its mean."""
_MIN_RANGE_M = 0.1
"""Least distance of the points for which the prior's standard deviation in the image is computed.
"""
_ROUND_SPREADS = (1.0, 1.4, 1.4)
"""Rounds of the search: each draws poses with this many times the prior's standard deviation."""
_MAX_HYPOTHESES, _MAX_STARTS, _MAX_RIVALS = 256, 24, 3
"""Poses drawn, refined and kept in each round."""
_RANKING_SCALE, _START_SCALE = 3.0, 1.5
"""Factors on the depth tolerance while drawn and roughly refined poses are compared: they are not
exact yet."""
_GOOD_INLIERS, _MIN_INLIERS = 0.82, 0.6
"""Shares of the points that agree with the depth. From the first on the search ends. Under the
second its result is refused. In between it is in doubt: the covariance is mixed with the prior's,
half and half at the second."""
_MAX_DOUBT = 0.5
"""Largest share of the prior in the covariance of a pose in doubt: even odds."""
_UNKNOWN_COST, _HIDDEN_COST = 0.6, 0.8
"""Cost of a point that falls where nothing was measured, and of one behind the measured surface
(something that the map lacks may hide it). One that agrees costs 0, and one in front of it, in
space that was measured to be empty, 1."""
_HIDDEN_SHARE = 0.5
"""How much a hidden point counts in the share of inliers: what stands in front of the map makes no
pose wrong, but a wrong pose hides much, too."""
_COST_NOISE = 0.01
"""Difference of mean costs under which two poses explain the depth equally well: the grid's cells
are coarse. The refined one is taken."""
_MAX_RESIDUAL_M = 0.2
"""Residuals are clipped at this before they are averaged."""
_MAX_SIGMAS = 5.0
"""Largest correction that is accepted, in standard deviations of the prior."""
_MIN_VARIANCE = 1e-8
"""Least variance of a pose that is taken as exact: a tenth of a millimetre and of a milliradian.
"""
_DRAWS = (
    np.random.default_rng(20240207).standard_normal((len(_ROUND_SPREADS), _MAX_HYPOTHESES, 6))
    * np.array(_ROUND_SPREADS)[:, None, None]
)
"""The same draws each time: a correction is a function of its arguments."""


@dataclass(frozen=True, eq=False, slots=True)
class Alignment:
    """Hold a corrected pose, or the reason why it was not corrected. NaN is: not computed."""

    T_map_camera: Float64[np.ndarray, "4 4"]
    """The corrected pose; the given one where not ``accepted``."""
    pose_cov: Float64[np.ndarray, "6 6"]
    """Its covariance (convention of ``Frame.pose_cov``); the given one where not ``accepted``."""
    residual_before_m: float
    """Mean absolute difference of predicted and measured depth at the given pose, each clipped at
    0.2 m."""
    residual_after_m: float
    """The same at the best pose."""
    inliers: float
    """Share of the points with a measurement that agree with it at the best pose; those behind the
    measurement count half."""
    accepted: bool
    """Whether the pose was corrected."""
    reason: str
    """Why it was not; "" where it was."""


def align(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    pose_cov: Float64[np.ndarray, "6 6"],
    depth: Float32[np.ndarray, "H W"],
    intrinsics: Intrinsics,
    *,
    config: MappingConfig = MappingConfig(),  # noqa: B008 (frozen)
) -> Alignment:
    """Correct the camera pose by aligning the map's objects with the measured depth.

    Deterministic.

    Args:
        objects: of the map.
        T_map_camera: the pose before, the mean of the prior.
        pose_cov: its covariance (convention of ``Frame.pose_cov``).
        depth: measured z, m, 0 where unknown.
        intrinsics: of the camera.
        config: tolerance of depth, near and far plane.

    Raises ValueError: the depth's shape is not that of the intrinsics, or the covariance is not
    finite, 6x6 and positive semidefinite.
    """
    if depth.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, the intrinsics are of"
            f" {intrinsics.width}x{intrinsics.height}: register the depth to the colour image"
        )
    information = _information(pose_cov)

    def refused(
        reason: str, before: float = np.nan, after: float = np.nan, inliers: float = np.nan
    ) -> Alignment:
        return Alignment(
            T_map_camera=T_map_camera,
            pose_cov=pose_cov,
            residual_before_m=before,
            residual_after_m=after,
            inliers=inliers,
            accepted=False,
            reason=reason,
        )

    origin = T_map_camera[:3, 3]
    points = _visible_points(objects, T_map_camera, intrinsics, config)
    if len(points) < _MIN_POINTS:
        return refused(f"{len(points)} map points in view, wanted {_MIN_POINTS}")
    grid = _DepthGrid(depth, intrinsics, config)
    # Near the camera's position float32 is exact enough, wherever the map's origin lies.
    prior = se3.from_rt(T_map_camera[:3, :3], np.zeros(3))
    problem = _Problem(grid, prior, information, len(points))
    some = points[:: max(1, len(points) // _MAX_COMPARISON_POINTS)]
    poses, posterior = _search(problem, points, some, pose_cov, intrinsics)
    best = int(np.argmin(problem.cost(poses, some, 1.0)))
    poses[best], posterior[best] = (
        x[0] for x in problem.refine(poses[best : best + 1], points, _FINE_REACH)
    )
    cost = problem.cost(np.concatenate([poses, prior[None]]), points, 1.0)
    best = int(np.argmin(cost[:-1]))
    before, after = grid.fit(prior, points), grid.fit(poses[best], points)
    measured = min(before.n_points, after.n_points)
    if measured < _MIN_POINTS:
        return refused(
            f"{measured} map points fall on measured depth, wanted {_MIN_POINTS}",
            before.residual_m,
        )
    if after.inliers < _MIN_INLIERS:
        return refused(
            f"at best {after.inliers:.0%} of the map points agree with the depth,"
            f" wanted {_MIN_INLIERS:.0%}",
            before.residual_m,
            after.residual_m,
            after.inliers,
        )
    if cost[best] > cost[-1] + _COST_NOISE:
        return refused(
            "no pose explains the depth better",
            before.residual_m,
            after.residual_m,
            after.inliers,
        )
    delta = se3.difference(poses[best], prior)
    sigmas = float(np.sqrt(delta @ information @ delta))
    if sigmas > _MAX_SIGMAS:
        return refused(
            f"the correction would be {sigmas:.1f} standard deviations of the pose,"
            f" wanted at most {_MAX_SIGMAS:g}",
            before.residual_m,
            after.residual_m,
            after.inliers,
        )
    covariance = _with_rivals(poses, posterior, cost[:-1] * len(points) * _INDEPENDENT_SHARE, best)
    doubt = _MAX_DOUBT * float(
        np.clip((_GOOD_INLIERS - after.inliers) / (_GOOD_INLIERS - _MIN_INLIERS), 0.0, 1.0)
    )
    return Alignment(
        T_map_camera=se3.from_rt(poses[best][:3, :3], poses[best][:3, 3] + origin),
        pose_cov=(1.0 - doubt) * covariance + doubt * pose_cov,
        residual_before_m=before.residual_m,
        residual_after_m=after.residual_m,
        inliers=after.inliers,
        accepted=True,
        reason="",
    )


def _information(pose_cov: Float64[np.ndarray, "6 6"]) -> Float64[np.ndarray, "6 6"]:
    """Invert the prior's covariance."""
    if pose_cov.shape != (6, 6) or not np.isfinite(pose_cov).all():
        raise ValueError(
            f"pose covariance: got shape {pose_cov.shape}, finite"
            f" {bool(np.isfinite(pose_cov).all())}; wanted finite (6,6)"
        )
    values, vectors = np.linalg.eigh(0.5 * (pose_cov + pose_cov.T))
    if values[0] < -1e-9 * max(values[-1], 1e-9):
        raise ValueError(
            f"pose covariance: smallest eigenvalue {values[0]:g};"
            " wanted a positive semidefinite matrix"
        )
    return np.asarray((vectors / np.maximum(values, _MIN_VARIANCE)) @ vectors.T)


def _visible_points(
    objects: Sequence[MapObject],
    T_map_camera: np.ndarray,
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> Float32[np.ndarray, "P 3"]:
    """Select map points that nothing of the map hides, in view or close to the border of the image.

    They are relative to the camera's position, along the map's axes, m. At most ``_MAX_POINTS``, no
    object with more than its share.
    """
    kept = [o.points[:: -(-len(o.points) // _MAX_OBJECT_POINTS)] for o in objects if len(o.points)]
    if not kept:
        return np.zeros((0, 3), np.float32)
    owner = np.repeat(np.arange(len(kept)), [len(p) for p in kept])
    points = (np.concatenate(kept) - T_map_camera[:3, 3]).astype(np.float32)
    x, y, z = (points @ T_map_camera[:3, i].astype(np.float32) for i in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v = pixel_coordinates(x / z, y / z, intrinsics)
        w, h = intrinsics.width, intrinsics.height
        margin = _VIEW_MARGIN * w
        near = (
            (z > config.near_m)
            & (z < config.far_m)
            & (u > -margin)
            & (u < w + margin)
            & (v > -margin)
            & (v < h + margin)
        )
    index = np.flatnonzero(near)
    if not len(index):
        return np.zeros((0, 3), np.float32)
    cell = max(1.0, w / _GRID_COLUMNS)
    columns, rows = int((w + 2 * margin) / cell) + 1, int((h + 2 * margin) / cell) + 1
    flat = ((v[index] + margin) / cell).astype(np.int64) * columns + (
        (u[index] + margin) / cell
    ).astype(np.int64)
    nearest = np.full(rows * columns, np.float32(1e9))
    np.minimum.at(nearest, flat, z[index])
    around = cv2.erode(nearest.reshape(rows, columns), np.ones((3, 3), np.uint8)).ravel()
    # One point per cell, and none that shows between the sparse samples of a nearer surface.
    tolerance = 2.0 * depth_tolerance(
        z[index], config.depth_tolerance_m, config.depth_tolerance_per_m2
    )
    index = index[(z[index] == nearest[flat]) & (z[index] < around[flat] + tolerance)]
    return np.asarray(points[_fair_share(owner, index, _MAX_POINTS)])


def _fair_share(
    owner: Int64[np.ndarray, "M"], index: Int64[np.ndarray, "P"], limit: int
) -> Int64[np.ndarray, "Q"]:
    """Select at most ``limit`` points: each object gives all it has, or the same number as others.

    They are evenly spread over its points. ``owner`` is the object of each point, ascending, and
    ``index`` are the points to select from.
    """
    counts = np.bincount(owner[index])
    quota, left = limit, int(counts.sum())
    if left > limit:
        quota, spare = 0, limit
        ascending = sorted(int(c) for c in counts if c > 0)
        for n, count in enumerate(ascending):
            quota = spare // (len(ascending) - n)
            if count >= quota:
                break
            spare -= count
        quota = max(quota, 1)
    of = owner[index]  # ascending: points come object by object
    rank = np.arange(len(index)) - (np.cumsum(counts) - counts)[of]
    share = np.minimum(counts[of], quota)
    return np.asarray(index[(rank + 1) * share // counts[of] != rank * share // counts[of]])


class _Fit(NamedTuple):
    """How well one pose explains the depth."""

    residual_m: float
    """Mean absolute difference of predicted and measured depth, each clipped; NaN without any."""
    inliers: float
    """Share of the points that agree; a hidden one counts half. NaN without any."""
    n_points: int
    """Points that fall on measured depth."""


class _DepthGrid:
    """Hold the measured depth on a coarse grid, with points and normals."""

    def __init__(self, depth: np.ndarray, intrinsics: Intrinsics, config: MappingConfig) -> None:
        step = max(1, round(intrinsics.width / _GRID_COLUMNS))
        vertices = vertex_map(depth, intrinsics, step=step)
        normals = normal_map(vertices)
        self.rows, self.columns = vertices.shape[:2]
        self.vertices, self.normals = vertices.reshape(-1, 3), normals.reshape(-1, 3)
        self.z = np.ascontiguousarray(self.vertices[:, 2])
        self.has_normal = self.normals[:, 2] != 0
        focal = np.array([intrinsics.fx, intrinsics.fy], np.float32) / step
        centre = (np.array([intrinsics.cx, intrinsics.cy], np.float32) - step // 2) / step
        (fx, fy), (cx, cy) = focal.tolist(), centre.tolist()
        self.camera = Intrinsics(fx, fy, cx, cy, self.columns, self.rows)
        self.near = np.float32(config.near_m)
        self.tolerance_m, self.tolerance_per_m2 = (
            config.depth_tolerance_m,
            config.depth_tolerance_per_m2,
        )

    def tolerance(self, z: np.ndarray) -> np.ndarray:
        """Compute the largest difference (m) of predicted and measured depth that agree."""
        return depth_tolerance(z, self.tolerance_m, self.tolerance_per_m2)

    def project(
        self, poses: Float64[np.ndarray, "K 4 4"], points: Float32[np.ndarray, "P 3"]
    ) -> tuple[Float32[np.ndarray, "K P 3"], Bool[np.ndarray, "K P"], Int64[np.ndarray, "K P"]]:
        """Project points: those in each camera's frame, whether they fall on the grid, and where.

        The cell is an index into the flattened grid, 0 where they don't.
        """
        k = len(poses)
        stacked = poses[:, :3, :3].transpose(1, 0, 2).reshape(3, 3 * k).astype(np.float32)
        shift = np.einsum("kji,kj->ki", poses[:, :3, :3], poses[:, :3, 3]).astype(np.float32)
        camera = (points @ stacked).reshape(len(points), k, 3).transpose(1, 0, 2) - shift[:, None]
        z = camera[..., 2]
        inside = z > self.near
        inverse = 1.0 / np.where(inside, z, np.float32(1))
        slopes = camera[..., 0] * inverse, camera[..., 1] * inverse
        u, v = map(np.rint, pixel_coordinates(*slopes, self.camera))
        inside &= (u >= 0) & (u < self.columns) & (v >= 0) & (v < self.rows)
        return camera, inside, np.where(inside, v * self.columns + u, 0).astype(np.int64)

    def fit(self, pose: Float64[np.ndarray, "4 4"], points: Float32[np.ndarray, "P 3"]) -> _Fit:
        """Compare one pose with the measured depth."""
        camera, inside, cell = self.project(pose[None], points)
        known = inside & (self.z[cell] > 0)
        if not known.any():
            return _Fit(float("nan"), float("nan"), 0)
        z = camera[..., 2][known]
        behind = z - self.z[cell][known]
        agree, hidden = np.abs(behind) < self.tolerance(z), behind >= self.tolerance(z)
        share = agree.sum() / (len(z) - _HIDDEN_SHARE * hidden.sum())
        residual_m = float(np.minimum(np.abs(behind), _MAX_RESIDUAL_M).mean())
        return _Fit(residual_m, float(share), len(z))


class _Problem:
    """Compare poses of one camera with one depth image, K at a time.

    Positions are relative to that of the prior. ``count`` is the number of points in all; where a
    method is given fewer, each stands for several.
    """

    def __init__(
        self,
        grid: _DepthGrid,
        prior: Float64[np.ndarray, "4 4"],
        information: Float64[np.ndarray, "6 6"],
        count: int,
    ) -> None:
        self.grid, self.prior, self.information, self.count = grid, prior, information, count

    def cost(
        self, poses: Float64[np.ndarray, "K 4 4"], points: Float32[np.ndarray, "P 3"], scale: float
    ) -> Float64[np.ndarray, "K"]:
        """Compute the mean cost per point, 0..1, plus that of the prior.

        ``scale`` widens the tolerance.
        """
        grid = self.grid
        camera, inside, cell = grid.project(poses, points)
        z = camera[..., 2]
        measured = grid.z[cell]
        ratio = (z - measured) / (scale * grid.tolerance(z))
        cost = np.minimum(ratio * ratio, np.float32(1))
        cost[ratio >= 1] = _HIDDEN_COST
        cost[~(inside & (measured > 0))] = _UNKNOWN_COST
        delta = se3.difference(poses, self.prior)
        prior = 0.5 * np.einsum("ki,ij,kj->k", delta, self.information, delta)
        return np.asarray(cost.mean(axis=1) + prior / (_INDEPENDENT_SHARE * self.count))

    def refine(
        self,
        poses: Float64[np.ndarray, "K 4 4"],
        points: Float32[np.ndarray, "P 3"],
        reaches: Sequence[float],
    ) -> tuple[Float64[np.ndarray, "K 4 4"], Float64[np.ndarray, "K 6 6"]]:
        """Move each pose by Gauss-Newton, one iteration per reach of the robust weight.

        Returns the poses and the information (inverse covariance) of the last iteration.
        """
        grid = self.grid
        total = np.repeat(self.information[None], len(poses), axis=0)
        weight_each = _INDEPENDENT_SHARE * self.count / len(points)
        for reach in reaches:
            camera, inside, cell = grid.project(poses, points)
            v, n = grid.vertices[cell], grid.normals[cell]
            residual = np.einsum("kpi,kpi->kp", v - camera, n)  # n . (v - p)
            sigma = grid.tolerance(camera[..., 2]) / np.float32(_SIGMAS_PER_TOLERANCE)
            limit = sigma * np.float32(reach)
            ratio = residual / limit
            weight = (1 - ratio * ratio) ** 2 / (sigma * sigma) * np.float32(weight_each)
            far = np.abs(v[..., 2] - camera[..., 2]) > _MAX_DEPTH_GAP * limit
            weight[~inside | ~grid.has_normal[cell] | (np.abs(ratio) >= 1) | far] = 0
            turn = poses[:, :3, :3].astype(np.float32).transpose(0, 2, 1)
            jacobian = np.concatenate([n @ turn, _cross(v, n) @ turn], axis=-1)
            weighted = (jacobian * weight[..., None]).transpose(0, 2, 1)
            total = (weighted @ jacobian).astype(np.float64) + self.information
            gradient = (weighted @ residual[..., None])[..., 0] + se3.difference(
                poses, self.prior
            ) @ self.information
            poses = se3.perturb(poses, -np.linalg.solve(total, gradient[..., None])[..., 0])
        return poses, total


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    (ax, ay, az), (bx, by, bz) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def _search(
    problem: _Problem,
    points: Float32[np.ndarray, "P 3"],
    some: Float32[np.ndarray, "S 3"],
    pose_cov: np.ndarray,
    intrinsics: Intrinsics,
) -> tuple[Float64[np.ndarray, "K 4 4"], Float64[np.ndarray, "K 6 6"]]:
    """Find the best minima, and the information there.

    ICP starts from the prior's mean and, where the prior is wide, from the best of many poses drawn
    from it, in rounds until one explains the depth well.

    Args:
        problem: the poses' costs.
        points: all map points that are used.
        some: a part of them, to compare refined poses.
        pose_cov: covariance of the prior.
        intrinsics: of the camera.
    """
    prior = problem.prior[None]
    values, vectors = np.linalg.eigh(0.5 * (pose_cov + pose_cov.T))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    ranges = float(np.median(points @ prior[0, :3, 2].astype(np.float32)))
    spread = position_sigma(pose_cov) / max(ranges, _MIN_RANGE_M) + rotation_sigma(pose_cov)
    if intrinsics.fx * spread < _BASIN_PX:
        return problem.refine(prior, some, _MIDDLE_REACH)
    few, sparse = (
        points[:: max(1, len(points) // n)] for n in (_MAX_RANKING_POINTS, _MAX_RANKING_POINTS // 2)
    )
    poses, posterior = prior[:0], np.zeros((0, 6, 6))
    for draws in _DRAWS:
        drawn = se3.perturb(prior, draws @ root.T)
        ranked = np.argsort(problem.cost(drawn, sparse, _RANKING_SCALE), kind="stable")
        starts, _ = problem.refine(
            np.concatenate([prior, drawn[ranked[: _MAX_STARTS - 1]]]), few, _COARSE_REACH
        )
        starts = starts[
            np.argsort(problem.cost(starts, some, _START_SCALE), kind="stable")[:_MAX_RIVALS]
        ]
        found = problem.refine(starts, some, _MIDDLE_REACH)
        poses, posterior = np.concatenate([poses, found[0]]), np.concatenate([posterior, found[1]])
        best = np.argsort(problem.cost(poses, some, 1.0), kind="stable")[:_MAX_RIVALS]
        poses, posterior = poses[best], posterior[best]
        if problem.grid.fit(poses[0], some).inliers >= _GOOD_INLIERS:
            break
    return poses, posterior


def _with_rivals(
    poses: np.ndarray, information: np.ndarray, energy: np.ndarray, best: int
) -> Float64[np.ndarray, "6 6"]:
    """Compute the covariance around the best pose of all poses, each weighted by its likelihood.

    ``energy`` is the negative log likelihood of each.
    """
    weight = np.exp(-(energy - energy[best]))
    offset = se3.difference(poses, poses[best])
    spread = np.linalg.inv(information) + offset[:, :, None] * offset[:, None, :]
    covariance = np.einsum("k,kij->ij", weight / weight.sum(), spread)
    return np.asarray(0.5 * (covariance + covariance.T))
