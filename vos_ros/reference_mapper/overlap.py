"""How much two objects are the same thing in space. Pure functions of points in the map frame, m."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from vos_ros.geometry.voxels import voxel_indices


def surface_overlap(
    a: Float32[np.ndarray, "M 3"], b: Float32[np.ndarray, "K 3"], distance_m: float
) -> float:
    """Share of one object's points that lie within ``distance_m`` of the other's, of the object that has the larger share (the smaller
    one, where one is part of the other); 0 where one has no points."""
    if (
        len(a) == 0
        or len(b) == 0
        or (a.min(0) > b.max(0) + distance_m).any()
        or (b.min(0) > a.max(0) + distance_m).any()
    ):
        return 0.0
    return max(share_near(a, b, distance_m), share_near(b, a, distance_m))


def largest_piece(points: Float32[np.ndarray, "P 3"], gap_m: float) -> Float32[np.ndarray, "Q 3"]:
    """The points of the piece with the most of them, where what is farther apart than ``gap_m`` (to within a cube of that side) is not one
    piece."""
    if len(points) == 0:
        return points
    cells, cell_of = np.unique(voxel_indices(points, gap_m), axis=0, return_inverse=True)
    edges = cKDTree(cells).query_pairs(
        1.8, output_type="ndarray"
    )  # cubes that touch, by a corner at least (sqrt 3)
    graph = coo_array(
        (np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(cells), len(cells))
    )
    _, piece_of = connected_components(graph, directed=False)
    piece = piece_of[cell_of.ravel()]
    return np.asarray(points[piece == np.bincount(piece).argmax()])


def share_near(
    points: Float32[np.ndarray, "P 3"], others: Float32[np.ndarray, "K 3"], distance_m: float
) -> float:
    """Share of the points with one of the others within ``distance_m``; 0 where there are none of either."""
    if len(points) == 0 or len(others) == 0:
        return 0.0
    distance, _ = cKDTree(others).query(points, distance_upper_bound=distance_m)
    return float(np.isfinite(distance).mean())
