"""How much two objects are the same thing in space. Pure functions of points in the map frame, m."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

Extent = Float64[np.ndarray, "2 3"]
"""Lowest and highest corner of a box with axes parallel to the map's, m."""


def extent_of(points: Float32[np.ndarray, "M 3"]) -> Extent:
    """The box of some points. ValueError where there are none."""
    if len(points) == 0:
        raise ValueError("got no points: the box of nothing is undefined; test for an empty array first")
    return np.stack([points.min(0), points.max(0)]).astype(np.float64)


def inside(points: Float32[np.ndarray, "P 3"], box: Extent, margin_m: float) -> np.ndarray:
    """Which points lie in the box grown by a margin: bool (P,)."""
    return np.asarray(((points >= box[0] - margin_m) & (points <= box[1] + margin_m)).all(axis=1))


def box_iou_3d(a: Extent, b: Extent, *, least_m: float = 0.0) -> float:
    """Intersection over union of two boxes; sides shorter than ``least_m`` count as that long, so that flat things have a volume."""
    grow = [np.maximum(least_m - (x[1] - x[0]), 0.0) / 2 for x in (a, b)]
    (a0, a1), (b0, b1) = (a[0] - grow[0], a[1] + grow[0]), (b[0] - grow[1], b[1] + grow[1])
    shared = float(np.prod(np.maximum(np.minimum(a1, b1) - np.maximum(a0, b0), 0.0)))
    whole = float(np.prod(a1 - a0) + np.prod(b1 - b0)) - shared
    return shared / whole if whole > 0 else 0.0


def surface_overlap(a: Float32[np.ndarray, "M 3"], b: Float32[np.ndarray, "K 3"], distance_m: float) -> float:
    """Share of one object's points that lie within ``distance_m`` of the other's, of the object that has the larger share (the smaller
    one, where one is part of the other); 0 where one has no points."""
    if len(a) == 0 or len(b) == 0 or (a.min(0) > b.max(0) + distance_m).any() or (b.min(0) > a.max(0) + distance_m).any():
        return 0.0
    return max(share_near(a, b, distance_m), share_near(b, a, distance_m))


def largest_piece(points: Float32[np.ndarray, "P 3"], gap_m: float) -> Float32[np.ndarray, "Q 3"]:
    """The points of the piece with the most of them, where what is farther apart than ``gap_m`` (to within a cube of that side) is not one
    piece."""
    if len(points) == 0:
        return points
    cells, cell_of = np.unique(np.floor(points / gap_m).astype(np.int64), axis=0, return_inverse=True)
    edges = cKDTree(cells).query_pairs(1.8, output_type="ndarray")  # cubes that touch, by a corner at least (sqrt 3)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(cells), len(cells)))
    _, piece_of = connected_components(graph, directed=False)
    piece = piece_of[cell_of.ravel()]
    return np.asarray(points[piece == np.bincount(piece).argmax()])


def share_near(points: Float32[np.ndarray, "P 3"], others: Float32[np.ndarray, "K 3"], distance_m: float) -> float:
    """Share of the points with one of the others within ``distance_m``; 0 where there are none of either."""
    if len(points) == 0 or len(others) == 0:
        return 0.0
    distance, _ = cKDTree(others).query(points, distance_upper_bound=distance_m)
    return float(np.isfinite(distance).mean())
