"""The large planes of a depth image (table tops, floor, walls): what objects stand on and in front of.

RANSAC (Fischler and Bolles, 1981) on a decimated vertex map, one plane after the other. Three nearby cells make a hypothesis; a cell
supports it where it lies near the plane and its normal, where it has one, agrees. A plane goes on without end, a table top doesn't: what
counts is how much of it is seen in one patch, and only what lies in or beside such patches is a part of it. Planes known from before may
be smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
_MAX_TRIES = 12
"""Hypotheses that are looked into, those that turn out to be no plane among them."""
_PATCH_M, _MAX_RASTER = 0.1, 1024
"""Side of the squares that a plane is divided into, and the most squares along one side. What lies in the same square or the next but one
is one patch: things stand between, and far away the cells are far apart."""
_GRAZING = 0.15
"""Sine of the angle under which a plane is looked along, not at: what a cell covers of it is not known, and not counted in full."""

Plane = Float64[np.ndarray, "4"]
"""Unit normal and offset (m) of the plane n . p + d = 0."""


@dataclass(frozen=True, eq=False, slots=True)
class Flat:
    """A plane and the cells that are a part of it: on the plane and in or beside a patch of it that is large enough."""

    plane: Plane
    cells: Bool[np.ndarray, "h w"]


def smooth_normals(vertices: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Unit normals of a vertex map, each the mean of its 3x3 neighbourhood's; 0 0 0 where there is none."""
    normals = normal_map(vertices)
    mean = np.asarray(cv2.blur(normals, (3, 3), borderType=cv2.BORDER_REPLICATE))
    length = np.sqrt(np.einsum("hwi,hwi->hw", mean, mean))[..., None]
    none = (length < 1e-6) | ~normals.any(2, keepdims=True)
    return np.where(none, np.float32(0), mean / np.where(none, np.float32(1), length)).astype(
        np.float32
    )


def find_planes(
    vertices: Float32[np.ndarray, "h w 3"],
    normals: Float32[np.ndarray, "h w 3"],
    tolerance: Float32[np.ndarray, "h w"],
    cell_m2: Float32[np.ndarray, "h w"],
    min_area_m2: float,
    guesses: Sequence[tuple[Plane, Bool[np.ndarray, "h w"]]] = (),
) -> list[Flat]:
    """The planes, at most 8, that show at least ``min_area_m2`` of themselves in one patch, the best supported first; then those near
    ``guesses`` of which what is left shows at least a tenth of that. A guess is a plane and the cells where it may be.

    ``vertices`` m, 0 0 0 where unknown, and their ``normals``, 0 0 0 where there is none; ``tolerance`` is the distance (m) within which
    a reading lies on a plane, ``cell_m2`` the area that a cell covers at its depth, seen face to face. Camera frame. Deterministic.
    """
    measured = vertices[..., 2] > 0
    left, untried = measured.copy(), measured.copy()
    flats: list[Flat] = []
    rng = np.random.default_rng(
        1
    )  # the same draws each time: the planes are a function of the arguments

    def seen(
        near: Plane, among: Bool[np.ndarray, "h w"], least_m2: float
    ) -> Bool[np.ndarray, "h w"]:
        """Adds the plane where there is enough of it in one patch. What supports it; nothing where that is too little all in all."""
        plane, on = _refine(near, vertices, normals, tolerance, among)
        if plane is None or (areas := _areas(plane, vertices, cell_m2, on)).sum() < least_m2:
            return np.zeros_like(on)
        cells = _in_patches(
            plane,
            vertices,
            areas,
            measured & on_plane(plane, vertices, normals, tolerance),
            least_m2,
        )
        if cells.any():
            flats.append(Flat(plane, cells))
            left[cells] = False
        return on

    for _ in range(_MAX_TRIES):
        best = _hypothesis(vertices, normals, tolerance, left & untried, cell_m2, rng)
        if best is None or not (support := seen(best, left & untried, min_area_m2)).any():
            break
        untried &= ~support
        if len(flats) == _MAX_PLANES:
            break
    for guess, there in guesses:
        seen(guess, left & there, _GUESSED * min_area_m2)
    return flats


def on_plane(
    plane: Plane,
    vertices: Float32[np.ndarray, "*S 3"],
    normals: Float32[np.ndarray, "*S 3"],
    tolerance: Float32[np.ndarray, "*S"],
) -> Bool[np.ndarray, "*S"]:
    """Which points lie within ``tolerance`` (m) of the plane and have no normal that speaks against it."""
    n = plane[:3].astype(np.float32)
    none = (
        (normals[..., 0] == 0) & (normals[..., 1] == 0) & (normals[..., 2] == 0)
    )  # several times as fast as any(-1)
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
    vertices: Float32[np.ndarray, "h w 3"],
    normals: Float32[np.ndarray, "h w 3"],
    tolerance: Float32[np.ndarray, "h w"],
    left: Bool[np.ndarray, "h w"],
    cell_m2: Float32[np.ndarray, "h w"],
    rng: np.random.Generator,
) -> Plane | None:
    """The best of many planes through three cells, by the area that supports it; None where too few cells are left."""
    flat: Int64[np.ndarray, "C"] = np.flatnonzero(left)
    if len(flat) < _MIN_CELLS:
        return None
    h, w = left.shape
    first = rng.choice(flat, _HYPOTHESES)
    rows, columns = np.divmod(first, w)
    away = rng.integers(_REACH[0], _REACH[1] + 1, (4, _HYPOTHESES)) * rng.choice(
        [-1, 1], (4, _HYPOTHESES)
    )
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
    plane: Plane,
    vertices: Float32[np.ndarray, "h w 3"],
    normals: Float32[np.ndarray, "h w 3"],
    tolerance: Float32[np.ndarray, "h w"],
    left: Bool[np.ndarray, "h w"],
) -> tuple[Plane | None, Bool[np.ndarray, "h w"]]:
    """The plane that fits its own support best (total least squares, twice) and that support; None where that is too little."""
    on = np.zeros(left.shape, bool)
    flat = np.flatnonzero(left)
    points, facing, slack = (
        vertices.reshape(-1, 3)[flat],
        normals.reshape(-1, 3)[flat],
        tolerance.reshape(-1)[flat],
    )
    for _ in range(2):
        near = points[on_plane(plane, points, facing, slack)].astype(np.float64)
        if len(near) < _MIN_CELLS:
            return None, on
        centre = near.mean(0)
        _, axes = np.linalg.eigh((near - centre).T @ (near - centre))
        plane = np.append(axes[:, 0], -axes[:, 0] @ centre)
    on.reshape(-1)[flat] = on_plane(plane, points, facing, slack)
    return plane, on


def _areas(
    plane: Plane,
    vertices: Float32[np.ndarray, "h w 3"],
    cell_m2: Float32[np.ndarray, "h w"],
    on: Bool[np.ndarray, "h w"],
) -> Float32[np.ndarray, "h w"]:
    """What each cell of ``on`` shows of the plane (m^2), the more the flatter it is looked at. Scattered cells show nothing."""
    on = dense(on)
    rays = vertices[on]
    sine = np.abs(rays @ plane[:3].astype(np.float32)) / np.maximum(rays[:, 2], 1e-6)
    out = np.zeros(on.shape, np.float32)
    out[on] = cell_m2[on] / np.maximum(sine, _GRAZING)
    return out


def _in_patches(
    plane: Plane,
    vertices: Float32[np.ndarray, "h w 3"],
    areas: Float32[np.ndarray, "h w"],
    whole: Bool[np.ndarray, "h w"],
    least_m2: float,
) -> Bool[np.ndarray, "h w"]:
    """Which cells of ``whole``, all that lie on the plane, are in or beside a patch whose ``areas`` are ``least_m2`` together."""
    across = np.linalg.svd(plane[None, :3])[2][1:].astype(np.float32)  # two directions in the plane
    flat = vertices[whole] @ across.T
    low = flat.min(0)
    side = max(_PATCH_M, float((flat.max(0) - low).max()) / _MAX_RASTER)
    squares = ((flat - low) / side).astype(np.int64)
    columns, rows = squares.max(0) + 1
    index = squares[:, 1] * columns + squares[:, 0]
    area = np.bincount(index, areas[whole], rows * columns)
    beside = cv2.dilate(
        (area > 0).astype(np.uint8).reshape(rows, columns), np.ones((3, 3), np.uint8)
    )
    patch = cv2.connectedComponents(beside)[1].ravel()
    large = np.bincount(patch, area) >= least_m2
    large[0] = False
    out = np.zeros(whole.shape, bool)
    out[whole] = large[patch[index]]
    return out
