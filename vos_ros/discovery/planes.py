"""The large planes of a depth image: table tops, floor, walls.

RANSAC (Fischler and Bolles 1981) on a decimated vertex map, one plane after the other. Three nearby
cells make a hypothesis; a cell supports it where it lies near the plane and its normal, where it
has one, agrees. A plane has no end, but a table top has: what counts is how much of the plane is
visible in one patch, and only what lies in or next to such patches is a part of it. Planes that
were found before may show less of themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from vos_ros.geometry.points import normal_map

_HYPOTHESES, _MAX_VOTERS = 128, 1500
"""Planes tried per round, and most cells that vote on each."""
_MIN_REACH_CELLS, _MAX_REACH_CELLS = 3, 20
"""Least and largest distance of the cells of a hypothesis from its first one, along each axis."""
_MIN_COSINE = 0.75
"""Least cosine of the angle between a cell's normal and that of its plane: normals of single
measurements are noisy."""
_MIN_CELLS = 40
"""Least number of cells of a plane."""
_GUESSED_SHARE = 0.1
"""Area that a plane found before must show, over that of a new one."""
_MAX_PLANES = 8
"""Most new planes of one image."""
_MAX_TRIES = 12
"""Most hypotheses that are tested, those included that turn out to be no plane."""
_PATCH_M, _MAX_PATCHES = 0.1, 1024
"""Side of the squares that a plane is divided into, and the most squares along one side. Cells in
the same square, in neighbouring ones or in the next but one are one patch: things stand between,
and far away the cells are far apart."""
_MIN_GRAZING_SINE = 0.15
"""Sine of the least angle between a ray and its plane: what a cell covers at a smaller angle is not
known, and not counted in full."""
_REFINEMENTS = 2
"""Times that a plane is fitted to its own support."""

Plane = Float64[np.ndarray, "4"]
"""Unit normal and offset (m) of the plane n . p + d = 0."""


@dataclass(frozen=True, eq=False, slots=True)
class Flat:
    """Hold a plane and the cells that are a part of it."""

    plane: Plane
    """The plane."""
    cells: Bool[np.ndarray, "h w"]
    """Cells on the plane, and in or next to a patch of it that is large enough."""


def smooth_normals(vertices: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Compute unit normals of a vertex map, each the mean of its 3x3 neighbourhood.

    0 0 0 where there is none.
    """
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
    """Find the planes, at most 8, that show enough of themselves in one patch.

    Those with the most support come first, then those near ``guesses``. Camera frame.
    Deterministic.

    Args:
        vertices: measured points, m; 0 0 0 where unknown.
        normals: unit normals; 0 0 0 where there is none.
        tolerance: largest distance, m, of a measurement from its plane.
        cell_m2: area, m^2, that a cell covers of a surface that faces the camera.
        min_area_m2: least visible area of a plane's patch.
        guesses: planes that were found before, and the cells where each may be: of these, a tenth
            of the area is enough.
    """
    measured = vertices[..., 2] > 0
    left, untried = measured.copy(), measured.copy()
    flats: list[Flat] = []
    # The same draws each time: the planes are a function of the arguments.
    rng = np.random.default_rng(1)

    def add(near: Plane, among: Bool[np.ndarray, "h w"], min_m2: float) -> Bool[np.ndarray, "h w"]:
        """Add the plane where there is enough of it in one patch.

        Returns the cells that support it; none where all of them are too little.
        """
        plane, on = _refine(near, vertices, normals, tolerance, among)
        if plane is None or (areas := _areas(plane, vertices, cell_m2, on)).sum() < min_m2:
            return np.zeros_like(on)
        cells = _in_patches(
            plane,
            vertices,
            areas,
            measured & on_plane(plane, vertices, normals, tolerance),
            min_m2,
        )
        if cells.any():
            flats.append(Flat(plane, cells))
            left[cells] = False
        return on

    for _ in range(_MAX_TRIES):
        best = _hypothesis(vertices, normals, tolerance, left & untried, cell_m2, rng)
        if best is None or not (support := add(best, left & untried, min_area_m2)).any():
            break
        untried &= ~support
        if len(flats) == _MAX_PLANES:
            break
    for guess, there in guesses:
        add(guess, left & there, _GUESSED_SHARE * min_area_m2)
    return flats


def on_plane(
    plane: Plane,
    vertices: Float32[np.ndarray, "*S 3"],
    normals: Float32[np.ndarray, "*S 3"],
    tolerance: Float32[np.ndarray, "*S"],
) -> Bool[np.ndarray, "*S"]:
    """Test which points lie within ``tolerance`` (m) of the plane, with a normal that agrees.

    A point without a normal (0 0 0) is tested by its distance alone.
    """
    n = plane[:3].astype(np.float32)
    # Several times as fast as any(-1).
    none = (normals[..., 0] == 0) & (normals[..., 1] == 0) & (normals[..., 2] == 0)
    agrees = (np.abs(normals @ n) >= _MIN_COSINE) | none
    return np.asarray((np.abs(vertices @ n + np.float32(plane[3])) <= tolerance) & agrees)


def dense(on: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Select the cells of a mask that have most of their neighbours in it."""
    return np.asarray(on & (cv2.blur(on.astype(np.float32), (3, 3)) > 0.5))


def moved(plane: Plane, T_a_b: Float64[np.ndarray, "4 4"]) -> Plane:
    """Move a plane of frame b to frame a."""
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
    """Find the best of many planes through three cells, by the area that supports it.

    None where too few cells are left.
    """
    flat: Int64[np.ndarray, "C"] = np.flatnonzero(left)
    if len(flat) < _MIN_CELLS:
        return None
    h, w = left.shape
    first = rng.choice(flat, _HYPOTHESES)
    rows, columns = np.divmod(first, w)
    away = rng.integers(_MIN_REACH_CELLS, _MAX_REACH_CELLS + 1, (4, _HYPOTHESES)) * rng.choice(
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
    votes = flat[:: -(-len(flat) // _MAX_VOTERS)]
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
    """Fit a plane to its own support by total least squares, and return it with that support.

    None where the support is too small.
    """
    on = np.zeros(left.shape, bool)
    flat = np.flatnonzero(left)
    points, facing, tolerances = (
        vertices.reshape(-1, 3)[flat],
        normals.reshape(-1, 3)[flat],
        tolerance.reshape(-1)[flat],
    )
    for _ in range(_REFINEMENTS):
        near = points[on_plane(plane, points, facing, tolerances)].astype(np.float64)
        if len(near) < _MIN_CELLS:
            return None, on
        centre = near.mean(0)
        _, axes = np.linalg.eigh((near - centre).T @ (near - centre))
        plane = np.append(axes[:, 0], -axes[:, 0] @ centre)
    on.reshape(-1)[flat] = on_plane(plane, points, facing, tolerances)
    return plane, on


def _areas(
    plane: Plane,
    vertices: Float32[np.ndarray, "h w 3"],
    cell_m2: Float32[np.ndarray, "h w"],
    on: Bool[np.ndarray, "h w"],
) -> Float32[np.ndarray, "h w"]:
    """Compute the area (m^2) of the plane that each cell of ``on`` covers.

    It grows as the angle between ray and plane falls. Scattered cells cover nothing.
    """
    on = dense(on)
    rays = vertices[on]
    sine = np.abs(rays @ plane[:3].astype(np.float32)) / np.maximum(rays[:, 2], 1e-6)
    out = np.zeros(on.shape, np.float32)
    out[on] = cell_m2[on] / np.maximum(sine, _MIN_GRAZING_SINE)
    return out


def _in_patches(
    plane: Plane,
    vertices: Float32[np.ndarray, "h w 3"],
    areas: Float32[np.ndarray, "h w"],
    whole: Bool[np.ndarray, "h w"],
    min_m2: float,
) -> Bool[np.ndarray, "h w"]:
    """Select the cells of ``whole`` in or next to a patch whose ``areas`` add up to ``min_m2``.

    ``whole`` are all cells that lie on the plane.
    """
    across = np.linalg.svd(plane[None, :3])[2][1:].astype(np.float32)  # two directions in the plane
    flat = vertices[whole] @ across.T
    low = flat.min(0)
    side = max(_PATCH_M, float((flat.max(0) - low).max()) / _MAX_PATCHES)
    squares = ((flat - low) / side).astype(np.int64)
    columns, rows = squares.max(0) + 1
    index = squares[:, 1] * columns + squares[:, 0]
    area = np.bincount(index, areas[whole], rows * columns)
    joined = cv2.dilate(
        (area > 0).astype(np.uint8).reshape(rows, columns), np.ones((3, 3), np.uint8)
    )
    patch = cv2.connectedComponents(joined)[1].ravel()
    large = np.bincount(patch, area) >= min_m2
    large[0] = False
    out = np.zeros(whole.shape, bool)
    out[whole] = large[patch[index]]
    return out
