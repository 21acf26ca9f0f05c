"""How much two sets of surface points are the same thing. Points are in the map frame, m."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from vos_ros.geometry.voxels import voxel_indices

_TOUCHING = 1.8
"""Distance of two cubes, in sides, up to which they touch: by a corner it is sqrt(3) = 1.73."""


def surface_overlap(
    a: Float32[np.ndarray, "M 3"], b: Float32[np.ndarray, "K 3"], distance_m: float
) -> float:
    """Compute the share of one object's points within ``distance_m`` of the other's.

    It is that of the object with the larger share: the smaller one, where it is part of the other.
    0 where one has no points.
    """
    if len(a) == 0 or len(b) == 0:
        return 0.0
    above, below = a.min(0) > b.max(0) + distance_m, b.min(0) > a.max(0) + distance_m
    if above.any() or below.any():
        return 0.0
    return max(share_near(a, b, distance_m), share_near(b, a, distance_m))


def largest_piece(points: Float32[np.ndarray, "P 3"], gap_m: float) -> Float32[np.ndarray, "Q 3"]:
    """Return the points of the piece with the most of them.

    Two pieces are farther apart than ``gap_m``, to within a cube of that side.
    """
    if len(points) == 0:
        return points
    cubes, cube_of = np.unique(voxel_indices(points, gap_m), axis=0, return_inverse=True)
    edges = cKDTree(cubes).query_pairs(_TOUCHING, output_type="ndarray")
    touches = (np.ones(len(edges), bool), (edges[:, 0], edges[:, 1]))
    graph = coo_array(touches, shape=(len(cubes), len(cubes)))
    _, piece_of = connected_components(graph, directed=False)
    piece = piece_of[cube_of.ravel()]
    return np.asarray(points[piece == np.bincount(piece).argmax()])


def share_near(
    points: Float32[np.ndarray, "P 3"], others: Float32[np.ndarray, "K 3"], distance_m: float
) -> float:
    """Compute the share of points within ``distance_m`` of one of the others; 0 without either."""
    if len(points) == 0 or len(others) == 0:
        return 0.0
    distance, _ = cKDTree(others).query(points, distance_upper_bound=distance_m)
    return float(np.isfinite(distance).mean())
