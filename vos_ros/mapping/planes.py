"""The large planes of a depth image (table tops, floor, walls): what objects stand on and in front of.

RANSAC (Fischler and Bolles, 1981) on a decimated vertex map, one plane after the other. Three nearby cells make a hypothesis; a cell
supports it where it lies near the plane and its normal, where it has one, agrees. Planes known from before may be smaller.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from vos_ros.geometry.points import normal_map

_HYPOTHESES, _SAMPLES = 128, 1500
"""Planes tried per round, and cells that vote on each."""
_REACH = (3, 20)
"""Cells, least and largest distance of the three cells of a hypothesis along each axis."""
_MIN_COSINE = 0.75
"""Cosine of the angle up to which a cell's normal agrees with a plane's: normals of single readings are noisy."""
_MIN_CELLS = 40
_GUESSED = 0.1
"""A plane known from before may show so much less of itself than a new one must."""
_MAX_PLANES = 8
_GRAZING = 0.15
"""Sine of the angle under which a plane is looked along, not at: what a cell covers of it is not known, and not counted in full."""

Plane = Float64[np.ndarray, "4"]
"""Unit normal and offset (m) of the plane n . p + d = 0."""


def smooth_normals(vertices: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Unit normals of a vertex map, each the mean of its 3x3 neighbourhood's; 0 0 0 where there is none."""
    normals = normal_map(vertices)
    mean = np.asarray(cv2.blur(normals, (3, 3), borderType=cv2.BORDER_REPLICATE))
    length = np.sqrt(np.einsum("hwi,hwi->hw", mean, mean))[..., None]
    none = (length < 1e-6) | ~normals.any(2, keepdims=True)
    return np.where(none, np.float32(0), mean / np.where(none, np.float32(1), length)).astype(np.float32)


def find_planes(
    vertices: Float32[np.ndarray, "h w 3"],
    normals: Float32[np.ndarray, "h w 3"],
    tolerance: Float32[np.ndarray, "h w"],
    cell_m2: Float32[np.ndarray, "h w"],
    min_area_m2: float,
    guesses: Sequence[tuple[Plane, Bool[np.ndarray, "h w"]]] = (),
) -> list[Plane]:
    """The planes, at most 8, that show at least ``min_area_m2`` of themselves, the best supported first; then those near ``guesses`` of
    which what is left shows at least a tenth of that. A guess is a plane and the cells where it may be.

    ``vertices`` m, 0 0 0 where unknown, and their ``normals``, 0 0 0 where there is none; ``tolerance`` is the distance (m) within which
    a reading lies on a plane, ``cell_m2`` the area that a cell covers at its depth, seen face to face. Camera frame. Deterministic.
    """
    left = vertices[..., 2] > 0
    planes: list[Plane] = []
    rng = np.random.default_rng(1)  # the same draws each time: the planes are a function of the arguments
    while len(planes) < _MAX_PLANES:
        best = _hypothesis(vertices, normals, tolerance, left, cell_m2, rng)
        if best is None:
            break
        plane, on = _refine(best, vertices, normals, tolerance, left)
        if plane is None or _area(plane, vertices, cell_m2, on) < min_area_m2:
            break
        planes.append(plane)
        left &= ~on
    for guess, there in guesses:
        plane, on = _refine(guess, vertices, normals, tolerance, left & there)
        if plane is not None and _area(plane, vertices, cell_m2, on) >= _GUESSED * min_area_m2:
            planes.append(plane)
            left &= ~on
    return planes


def on_plane(
    plane: Plane, vertices: Float32[np.ndarray, "*S 3"], normals: Float32[np.ndarray, "*S 3"], tolerance: Float32[np.ndarray, "*S"]
) -> Bool[np.ndarray, "*S"]:
    """Which points lie within ``tolerance`` (m) of the plane and have no normal that speaks against it."""
    n = plane[:3].astype(np.float32)
    none = (normals[..., 0] == 0) & (normals[..., 1] == 0) & (normals[..., 2] == 0)  # several times as fast as any(-1)
    agrees = (np.abs(normals @ n) >= _MIN_COSINE) | none
    return np.asarray((np.abs(vertices @ n + np.float32(plane[3])) <= tolerance) & agrees)


def dense(on: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The cells of a mask that have most of their neighbours in it."""
    return np.asarray(on & (cv2.blur(on.astype(np.float32), (3, 3)) > 0.5))


def moved(plane: Plane, T_a_b: Float64[np.ndarray, "4 4"]) -> Plane:
    """A plane of frame b in frame a."""
    normal = T_a_b[:3, :3] @ plane[:3]
    return np.append(normal, plane[3] - normal @ T_a_b[:3, 3])


def _hypothesis(
    vertices: Float32[np.ndarray, "h w 3"], normals: Float32[np.ndarray, "h w 3"], tolerance: Float32[np.ndarray, "h w"],
    left: Bool[np.ndarray, "h w"], cell_m2: Float32[np.ndarray, "h w"], rng: np.random.Generator,
) -> Plane | None:
    """The best of many planes through three cells, by the area that supports it; None where too few cells are left."""
    flat: Int64[np.ndarray, "C"] = np.flatnonzero(left)
    if len(flat) < _MIN_CELLS:
        return None
    h, w = left.shape
    first = rng.choice(flat, _HYPOTHESES)
    rows, columns = np.divmod(first, w)
    away = rng.integers(_REACH[0], _REACH[1] + 1, (4, _HYPOTHESES)) * rng.choice([-1, 1], (4, _HYPOTHESES))
    second = np.clip(rows + away[0], 0, h - 1) * w + np.clip(columns + away[1], 0, w - 1)
    third = np.clip(rows + away[2], 0, h - 1) * w + np.clip(columns + away[3], 0, w - 1)
    known = left.reshape(-1)
    points = vertices.reshape(-1, 3)
    a, b, c = points[first], points[second], points[third]
    n = np.cross(b - a, c - a)
    length = np.sqrt(np.einsum("ki,ki->k", n, n))
    usable = known[second] & known[third] & (length > 1e-6)
    if not usable.any():
        return None
    n, a = n[usable] / length[usable, None], a[usable]
    d = -np.einsum("ki,ki->k", n, a)
    votes = flat[:: -(-len(flat) // _SAMPLES)]
    near = np.abs(points[votes] @ n.T + d) <= tolerance.reshape(-1)[votes, None]
    cosine = normals.reshape(-1, 3)[votes] @ n.T
    near &= np.abs(cosine) >= _MIN_COSINE
    best = int((cell_m2.reshape(-1)[votes] @ near).argmax())
    return np.append(n[best], d[best]).astype(np.float64)


def _refine(
    plane: Plane, vertices: Float32[np.ndarray, "h w 3"], normals: Float32[np.ndarray, "h w 3"], tolerance: Float32[np.ndarray, "h w"],
    left: Bool[np.ndarray, "h w"],
) -> tuple[Plane | None, Bool[np.ndarray, "h w"]]:
    """The plane that fits its own support best (total least squares, twice) and that support; None where that is too little."""
    on = np.zeros(left.shape, bool)
    flat = np.flatnonzero(left)
    points, facing, slack = vertices.reshape(-1, 3)[flat], normals.reshape(-1, 3)[flat], tolerance.reshape(-1)[flat]
    for _ in range(2):
        near = points[on_plane(plane, points, facing, slack)].astype(np.float64)
        if len(near) < _MIN_CELLS:
            return None, on
        centre = near.mean(0)
        _, axes = np.linalg.eigh((near - centre).T @ (near - centre))
        plane = np.append(axes[:, 0], -axes[:, 0] @ centre)
    on.reshape(-1)[flat] = on_plane(plane, points, facing, slack)
    return plane, on


def _area(
    plane: Plane, vertices: Float32[np.ndarray, "h w 3"], cell_m2: Float32[np.ndarray, "h w"], on: Bool[np.ndarray, "h w"]
) -> float:
    """Area (m^2) of the plane that is seen: a cell covers more of it the flatter it is looked at. Scattered cells are no plane."""
    on = dense(on)
    rays = vertices[on]
    sine = np.abs(rays @ plane[:3].astype(np.float32)) / np.maximum(rays[:, 2], 1e-6)
    return float((cell_m2[on] / np.maximum(sine, _GRAZING)).sum())
