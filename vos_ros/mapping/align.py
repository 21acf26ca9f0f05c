"""The camera pose, corrected within its covariance by aligning the map with the measured depth.

Projective point-to-plane ICP: the map points that should be visible are looked up in the measured depth, and Gauss-Newton on
n . (R v + t - p), robustly weighted and with the given pose as the prior, moves the camera. Directions that the geometry says
nothing of, such as sliding along a bare table, stay where the prior has them, with the prior's uncertainty.

ICP alone falls into the nearest minimum. Where the prior is wider than its basin, many poses drawn from the prior are scored
first (a point seen to be empty space counts most against a pose), the best are refined all at once in one batch, and the
posterior's covariance grows to cover rivals that explain the depth about as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from vos_ros.config import MappingConfig
from vos_ros.geometry import se3
from vos_ros.geometry.camera import pixel_coordinates
from vos_ros.geometry.points import normal_map, vertex_map
from vos_ros.geometry.uncertainty import depth_tolerance, position_sigma, rotation_sigma
from vos_ros.types import Intrinsics, MapObject

_GRID_COLUMNS = 160
"""The depth is read on a grid of about this many columns: a finer one costs time and its neighbours say the same again."""
_MAX_POINTS = 3000
"""Map points used, spread evenly over the objects."""
_MIN_POINTS = 60
"""With fewer points on the image nothing is concluded."""
_FEW_POINTS, _SOME_POINTS = 400, 1000
"""Points used while many poses are compared, and a few."""
_OBJECT_POINTS = 6000
"""Points of one object looked at before visibility is known."""
_INDEPENDENT = 0.13
"""Share of the readings that count as independent: the errors of a depth camera and of the map's surfaces are correlated over
many pixels, so counting each one would promise a covariance that isn't there."""
_SIGMAS_PER_TOLERANCE = 3.0
"""The depth tolerance of the configuration is taken as so many standard deviations of a reading."""
_COARSE, _MIDDLE, _FINE = (30.0, 20.0, 14.0, 10.0), (8.0, 6.0, 4.0, 3.0), (3.0, 3.0)
"""Reach of Tukey's weight per iteration, in standard deviations of a reading."""
_BASIN_PX = 6.0
"""A prior whose standard deviation in the image is smaller needs no search: ICP finds the minimum from its mean."""
_ROUNDS, _HYPOTHESES, _STARTS, _RIVALS = (1.0, 1.4, 1.4), 256, 24, 3
"""Rounds of the search, as factors on the prior's spread; poses drawn, refined and kept in each."""
_GOOD_INLIERS, _MIN_INLIERS = 0.82, 0.6
"""Share of the points that agree with the depth: from the first on the search ends, under the second its result is refused, and in
between it is doubted: up to even odds that the minimum is a wrong one and the prior says all that is known."""
_UNKNOWN_COST, _HIDDEN_COST = 0.6, 0.8
"""Cost of a point that falls where nothing was measured, and of one behind the measured surface (something the map may lack
hides it); one that agrees costs 0 and one in front of it, in space seen to be empty, 1."""
_COST_NOISE = 0.01
"""Two poses whose mean costs differ by less explain the depth equally well: the grid's cells are coarse. The refined one is taken."""
_CLIP_M = 0.2
_MAX_SIGMAS = 5.0
_DRAWS = (
    np.random.default_rng(20240207).standard_normal((len(_ROUNDS), _HYPOTHESES, 6))
    * np.array(_ROUNDS)[:, None, None]
)
"""The same draws each time: a correction is a function of its arguments."""


@dataclass(frozen=True, eq=False, slots=True)
class Alignment:
    """A corrected pose. Where not ``accepted``, pose and covariance are those that were given and ``reason`` says why.

    ``pose_cov`` is the posterior covariance in the convention of ``Frame.pose_cov``. The residuals are mean absolute differences of
    predicted and measured range over the points used, m, each clipped at 0.2 m. ``inliers`` is the share of the points with a
    measurement that agree with it after the correction, those behind the measurement counted half. NaN where they were not computed.
    """

    T_map_camera: Float64[np.ndarray, "4 4"]
    pose_cov: Float64[np.ndarray, "6 6"]
    residual_before_m: float
    residual_after_m: float
    inliers: float
    accepted: bool
    reason: str


def align(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    pose_cov: Float64[np.ndarray, "6 6"],
    depth: Float32[np.ndarray, "H W"],
    intrinsics: Intrinsics,
    *,
    config: MappingConfig = MappingConfig(),  # noqa: B008 (frozen)
) -> Alignment:
    """The camera pose after alignment of the map's ``objects`` with ``depth`` (m, 0 unknown), given the pose believed before and its
    covariance (see ``Frame.pose_cov``).

    Deterministic. Raises ValueError where the depth's shape is not the intrinsics' or the covariance is not one.
    """
    if depth.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, the intrinsics are of {intrinsics.width}x{intrinsics.height}:"
            " register the depth to the colour image"
        )
    information = _information(pose_cov)

    def refused(
        reason: str, before: float = np.nan, after: float = np.nan, inliers: float = np.nan
    ) -> Alignment:
        return Alignment(T_map_camera, pose_cov, before, after, inliers, False, reason)

    origin = T_map_camera[:3, 3]
    points = _visible_points(objects, T_map_camera, intrinsics, config)
    if len(points) < _MIN_POINTS:
        return refused(f"{len(points)} map points in view, wanted {_MIN_POINTS}")
    reading = _Reading(depth, intrinsics, config)
    # Near the camera's position float32 is exact enough whatever the map's origin.
    prior = se3.from_rt(T_map_camera[:3, :3], np.zeros(3))
    problem = _Problem(reading, prior, information, len(points))
    some = points[:: max(1, len(points) // _SOME_POINTS)]
    poses, posterior = _search(problem, points, some, pose_cov, intrinsics)
    best = int(np.argmin(problem.cost(poses, some, 1.0)))
    poses[best], posterior[best] = (
        x[0] for x in problem.refine(poses[best : best + 1], points, _FINE)
    )
    cost = problem.cost(np.concatenate([poses, prior[None]]), points, 1.0)
    best = int(np.argmin(cost[:-1]))
    before, after = reading.residual(prior, points), reading.residual(poses[best], points)
    if min(before[2], after[2]) < _MIN_POINTS:
        return refused(
            f"{min(before[2], after[2])} map points fall on measured depth, wanted {_MIN_POINTS}",
            before[0],
        )
    if after[1] < _MIN_INLIERS:
        return refused(
            f"at best {after[1]:.0%} of the map points agree with the depth, wanted {_MIN_INLIERS:.0%}",
            before[0],
            after[0],
            after[1],
        )
    if cost[best] > cost[-1] + _COST_NOISE:
        return refused("no pose explains the depth better", before[0], after[0], after[1])
    delta = se3.difference(poses[best], prior)
    sigmas = float(np.sqrt(delta @ information @ delta))
    if sigmas > _MAX_SIGMAS:
        return refused(
            f"the correction would be {sigmas:.1f} standard deviations of the pose, wanted at most {_MAX_SIGMAS:g}",
            before[0],
            after[0],
            after[1],
        )
    covariance = _with_rivals(poses, posterior, cost[:-1] * len(points) * _INDEPENDENT, best)
    doubt = 0.5 * float(
        np.clip((_GOOD_INLIERS - after[1]) / (_GOOD_INLIERS - _MIN_INLIERS), 0.0, 1.0)
    )
    covariance = (1.0 - doubt) * covariance + doubt * pose_cov
    corrected = se3.from_rt(poses[best][:3, :3], poses[best][:3, 3] + origin)
    return Alignment(corrected, covariance, before[0], after[0], after[1], True, "")


def _information(pose_cov: Float64[np.ndarray, "6 6"]) -> Float64[np.ndarray, "6 6"]:
    if pose_cov.shape != (6, 6) or not np.isfinite(pose_cov).all():
        raise ValueError(
            f"pose covariance: got shape {pose_cov.shape}, finite {bool(np.isfinite(pose_cov).all())}; wanted finite (6,6)"
        )
    values, vectors = np.linalg.eigh(0.5 * (pose_cov + pose_cov.T))
    if values[0] < -1e-9 * max(values[-1], 1e-9):
        raise ValueError(
            f"pose covariance: smallest eigenvalue {values[0]:g}; wanted a positive semidefinite matrix"
        )
    # A pose stated to be exact is exact to a tenth of a millimetre and of a milliradian.
    return np.asarray((vectors / np.maximum(values, 1e-8)) @ vectors.T)


def _visible_points(
    objects: Sequence[MapObject],
    T_map_camera: np.ndarray,
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> Float32[np.ndarray, "P 3"]:
    """Points, relative to the camera's position in the map's axes, that nothing of the map hides and that lie in the view or so near
    its border that a correction may bring them in; at most ``_MAX_POINTS``, no object with more than its share."""
    kept = [o.points[:: -(-len(o.points) // _OBJECT_POINTS)] for o in objects if len(o.points)]
    if not kept:
        return np.zeros((0, 3), np.float32)
    owner = np.repeat(np.arange(len(kept)), [len(p) for p in kept])
    points = (np.concatenate(kept) - T_map_camera[:3, 3]).astype(np.float32)
    x, y, z = (points @ T_map_camera[:3, i].astype(np.float32) for i in range(3))
    with np.errstate(invalid="ignore", divide="ignore"):
        u, v = pixel_coordinates(x / z, y / z, intrinsics)
        w, h = intrinsics.width, intrinsics.height
        margin = 0.15 * w
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
    """At most ``limit`` of the points: every object gives all it has or the same number, evenly spread over its points."""
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


class _Reading:
    """The measured depth on a coarse grid, with points and normals."""

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
        """Largest difference of range that is still agreement, m."""
        return depth_tolerance(z, self.tolerance_m, self.tolerance_per_m2)

    def look_up(
        self, poses: Float64[np.ndarray, "K 4 4"], points: Float32[np.ndarray, "P 3"]
    ) -> tuple[Float32[np.ndarray, "K P 3"], Bool[np.ndarray, "K P"], Int64[np.ndarray, "K P"]]:
        """The points in each camera's frame, whether they fall on the grid, and on which cell."""
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

    def residual(
        self, pose: Float64[np.ndarray, "4 4"], points: Float32[np.ndarray, "P 3"]
    ) -> tuple[float, float, int]:
        """Mean clipped absolute difference of range (m), share that agrees, number of points with a measurement; a point hidden by
        something nearer counts half."""
        camera, inside, cell = self.look_up(pose[None], points)
        known = inside & (self.z[cell] > 0)
        if not known.any():
            return float("nan"), float("nan"), 0
        z = camera[..., 2][known]
        behind = z - self.z[cell][known]
        agree, hidden = np.abs(behind) < self.tolerance(z), behind >= self.tolerance(z)
        # Somebody who stands before the map makes no pose wrong; but a wrong pose hides much, too.
        share = agree.sum() / (len(z) - 0.5 * hidden.sum())
        return float(np.minimum(np.abs(behind), _CLIP_M).mean()), float(share), len(z)


class _Problem:
    """Poses of one camera against one reading, K at a time; positions are relative to the prior's. ``count`` is the number of points
    in all; where a method is given fewer, each stands for several."""

    def __init__(
        self,
        reading: _Reading,
        prior: Float64[np.ndarray, "4 4"],
        information: Float64[np.ndarray, "6 6"],
        count: int,
    ) -> None:
        self.reading, self.prior, self.information, self.count = reading, prior, information, count

    def cost(
        self, poses: Float64[np.ndarray, "K 4 4"], points: Float32[np.ndarray, "P 3"], scale: float
    ) -> Float64[np.ndarray, "K"]:
        """Mean cost per point, 0..1, plus the prior's share; ``scale`` widens the tolerance."""
        reading = self.reading
        camera, inside, cell = reading.look_up(poses, points)
        z = camera[..., 2]
        measured = reading.z[cell]
        ratio = (z - measured) / (scale * reading.tolerance(z))
        cost = np.minimum(ratio * ratio, np.float32(1))
        cost[ratio >= 1] = _HIDDEN_COST
        cost[~(inside & (measured > 0))] = _UNKNOWN_COST
        delta = se3.difference(poses, self.prior)
        prior = 0.5 * np.einsum("ki,ij,kj->k", delta, self.information, delta)
        return np.asarray(cost.mean(axis=1) + prior / (_INDEPENDENT * self.count))

    def refine(
        self,
        poses: Float64[np.ndarray, "K 4 4"],
        points: Float32[np.ndarray, "P 3"],
        reaches: Sequence[float],
    ) -> tuple[Float64[np.ndarray, "K 4 4"], Float64[np.ndarray, "K 6 6"]]:
        """Gauss-Newton from each pose, one iteration per reach of the robust weight; poses and the information at the last one."""
        reading = self.reading
        total = np.repeat(self.information[None], len(poses), axis=0)
        weight_each = _INDEPENDENT * self.count / len(points)
        for reach in reaches:
            camera, inside, cell = reading.look_up(poses, points)
            v, n = reading.vertices[cell], reading.normals[cell]
            residual = np.einsum("kpi,kpi->kp", v - camera, n)
            sigma = reading.tolerance(camera[..., 2]) / np.float32(_SIGMAS_PER_TOLERANCE)
            limit = sigma * np.float32(reach)
            ratio = residual / limit
            weight = (1 - ratio * ratio) ** 2 / (sigma * sigma) * np.float32(weight_each)
            far = np.abs(v[..., 2] - camera[..., 2]) > 3 * limit
            weight[~inside | ~reading.has_normal[cell] | (np.abs(ratio) >= 1) | far] = 0
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
    """The best minima found, and the information there: from the prior's mean, and where the prior is wide from the best of many poses
    drawn from it, in rounds until one explains the depth well."""
    prior = problem.prior[None]
    values, vectors = np.linalg.eigh(0.5 * (pose_cov + pose_cov.T))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    ranges = float(np.median(points @ prior[0, :3, 2].astype(np.float32)))
    spread = position_sigma(pose_cov) / max(ranges, 0.1) + rotation_sigma(pose_cov)
    if intrinsics.fx * spread < _BASIN_PX:
        return problem.refine(prior, some, _MIDDLE)
    few, sparse = (points[:: max(1, len(points) // n)] for n in (_FEW_POINTS, _FEW_POINTS // 2))
    poses, posterior = prior[:0], np.zeros((0, 6, 6))
    for draws in _DRAWS:
        drawn = se3.perturb(prior, draws @ root.T)
        ranked = np.argsort(problem.cost(drawn, sparse, 3.0), kind="stable")
        starts, _ = problem.refine(
            np.concatenate([prior, drawn[ranked[: _STARTS - 1]]]), few, _COARSE
        )
        starts = starts[np.argsort(problem.cost(starts, some, 1.5), kind="stable")[:_RIVALS]]
        found = problem.refine(starts, some, _MIDDLE)
        poses, posterior = np.concatenate([poses, found[0]]), np.concatenate([posterior, found[1]])
        best = np.argsort(problem.cost(poses, some, 1.0), kind="stable")[:_RIVALS]
        poses, posterior = poses[best], posterior[best]
        if problem.reading.residual(poses[0], some)[1] >= _GOOD_INLIERS:
            break
    return poses, posterior


def _with_rivals(
    poses: np.ndarray, information: np.ndarray, energy: np.ndarray, best: int
) -> Float64[np.ndarray, "6 6"]:
    """Covariance about the best pose, of all poses weighted by how well they explain the depth (``energy``: negative log
    likelihood)."""
    weight = np.exp(-(energy - energy[best]))
    offset = se3.difference(poses, poses[best])
    spread = np.linalg.inv(information) + offset[:, :, None] * offset[:, None, :]
    covariance = np.einsum("k,kij->ij", weight / weight.sum(), spread)
    return np.asarray(0.5 * (covariance + covariance.T))
