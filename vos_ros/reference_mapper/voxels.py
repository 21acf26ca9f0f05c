"""The surface of an object as averaged points in cubes.

Memory is bounded by the number of cubes, whatever the number of frames that were integrated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Shaped
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from vos_ros.geometry.voxels import MAX_INDEX, indices_of_keys, voxel_keys

_SURFACE_RADIUS = 2.5
"""Radius, in sides of a cube, of the neighbourhood whose plane a cube's mean is moved onto."""
_MIN_SURFACE_POINTS = 8
"""Number of points from which on a surface is estimated."""
_DISK_RADIUS = 0.75
"""Radius of a point's disk in sides of its cube. Half the diagonal of a face is 0.71 of them, so
that the disk covers a section through the cube's middle."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class VoxelGrid:
    """Cubes around an origin, each with the points that were measured in it.

    A value: every change gives another grid.
    """

    size_m: float
    """Side of a cube, m."""
    origin_m: Float64[np.ndarray, "3"]
    """Corner of the cube (0, 0, 0), map frame, m."""
    keys: Int64[np.ndarray, "V"]
    """Key of each cube (see ``geometry.voxels``), increasing."""
    sums: Float64[np.ndarray, "V 3"]
    """Sum of the points of each cube, m from the origin."""
    weights: Float64[np.ndarray, "V"]
    """Number of points of each cube."""
    hits: Int32[np.ndarray, "V"]
    """Number of frames that measured each cube."""
    misses: Int32[np.ndarray, "V"]
    """Number of frames that measured something else in the place of each cube."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def point_radius_m(self) -> float:
        """Radius of the disk that each point stands for, m."""
        return _DISK_RADIUS * self.size_m

    def means(self) -> Float32[np.ndarray, "V 3"]:
        """Compute the mean point of every cube (map frame, m)."""
        return np.asarray(self.sums / self.weights[:, None] + self.origin_m).astype(np.float32)

    def points(self, min_hits: int) -> Float32[np.ndarray, "M 3"]:
        """Return the mean points (map frame, m) of the cubes that belong to the surface.

        These were measured in at least ``min_hits`` frames, and at least half as often as missed:
        masks that cover an object only in part are as frequent as those that leak.
        """
        return np.asarray(self.means()[self._on_surface(min_hits)])

    def _on_surface(self, min_hits: int) -> Bool[np.ndarray, "V"]:
        return np.asarray((self.hits >= min_hits) & (2 * self.hits >= self.misses))

    def surface(self, min_hits: int) -> Float32[np.ndarray, "K 3"]:
        """Return ``points`` as one layer (map frame, m).

        Noise of depth and poses fills cubes before and behind the surface. A projection of all of
        them shows those in front, so that a pose which is aligned with it is pulled towards the
        camera, and a map that is made from such poses moves with it.
        """
        chosen = self._on_surface(min_hits)
        points, weights = self.means()[chosen].astype(np.float64), self.weights[chosen]
        if len(points) < _MIN_SURFACE_POINTS:
            return np.asarray(points.astype(np.float32))
        projected = project_to_surface(points, weights, _SURFACE_RADIUS * self.size_m)
        local = projected - self.origin_m
        none = np.zeros(len(local), np.int32)
        _, sums, total, _, _ = _sum_by_key(
            _keys(local, self.size_m), local * weights[:, None], weights, none, none
        )
        return np.asarray(sums / total[:, None] + self.origin_m).astype(np.float32)

    def contradicted_count(self) -> int:
        """Count the cubes that were missed too often to belong to the surface."""
        return int(np.count_nonzero(2 * self.hits < self.misses))

    def with_points(self, points: Float32[np.ndarray, "P 3"], max_voxels: int) -> VoxelGrid:
        """Add the points (map frame, m) of one frame.

        The side of the cubes is doubled until there are at most ``max_voxels``.
        """
        local = points.astype(np.float64) - self.origin_m
        one, none = np.ones(len(local)), np.zeros(len(local), np.int32)
        cubes = _sum_by_key(_keys(local, self.size_m), local, one, one.astype(np.int32), none)
        return self._with_cubes(*cubes, add_hits=True)._limited_to(max_voxels)

    def with_misses(self, missed: Bool[np.ndarray, "V"]) -> VoxelGrid:
        """Count a frame that measured something else in the place of some cubes."""
        return replace(self, misses=self.misses + missed)

    def with_grid(self, other: VoxelGrid, max_voxels: int) -> VoxelGrid:
        """Add all cubes of another grid, in cubes of the larger size of both.

        Hits and misses of a cube are the larger of both.
        """
        grid = self
        while grid.size_m < other.size_m:
            grid = grid.coarser()
        local = other.sums / other.weights[:, None] + other.origin_m - grid.origin_m
        cubes = _sum_by_key(
            _keys(local, grid.size_m),
            local * other.weights[:, None],
            other.weights,
            other.hits,
            other.misses,
        )
        return grid._with_cubes(*cubes, add_hits=False)._limited_to(max_voxels)

    def coarser(self) -> VoxelGrid:
        """Double the side of the cubes."""
        indices = indices_of_keys(self.keys) >> 1  # rounds down, so that eight cubes become one
        keys, sums, weights, hits, misses = _sum_by_key(
            voxel_keys(indices), self.sums, self.weights, self.hits, self.misses
        )
        return replace(
            self,
            size_m=2.0 * self.size_m,
            keys=keys,
            sums=sums,
            weights=weights,
            hits=hits,
            misses=misses,
        )

    def select(self, chosen: Bool[np.ndarray, "V"]) -> VoxelGrid:
        """Keep some of the cubes."""
        return replace(
            self,
            keys=self.keys[chosen],
            sums=self.sums[chosen],
            weights=self.weights[chosen],
            hits=self.hits[chosen],
            misses=self.misses[chosen],
        )

    def _limited_to(self, max_voxels: int) -> VoxelGrid:
        grid = self
        while len(grid) > max_voxels:
            grid = grid.coarser()
        return grid

    def _with_cubes(
        self,
        keys: Int64[np.ndarray, "U"],
        sums: Float64[np.ndarray, "U 3"],
        weights: Float64[np.ndarray, "U"],
        hits: Int32[np.ndarray, "U"],
        misses: Int32[np.ndarray, "U"],
        *,
        add_hits: bool,
    ) -> VoxelGrid:
        """Add cubes of this size and origin.

        Args:
            keys: cubes, increasing, each once.
            sums: their sums of points, m from the origin.
            weights: their numbers of points.
            hits: their numbers of frames that measured them.
            misses: their numbers of frames that measured something else in their place.
            add_hits: whether the hits of a known cube are summed; else the larger number counts.
        """
        at = np.searchsorted(self.keys, keys)
        known = np.append(self.keys, -1)[at] == keys
        old, new = at[known], ~known
        all_sums, all_weights = self.sums.copy(), self.weights.copy()
        all_hits, all_misses = self.hits.copy(), self.misses.copy()
        all_sums[old] += sums[known]
        all_weights[old] += weights[known]
        if add_hits:
            all_hits[old] += hits[known]
        else:
            all_hits[old] = np.maximum(all_hits[old], hits[known])
        all_misses[old] = np.maximum(all_misses[old], misses[known])
        place = at[new]
        return replace(
            self,
            keys=np.insert(self.keys, place, keys[new]),
            sums=np.insert(all_sums, place, sums[new], axis=0),
            weights=np.insert(all_weights, place, weights[new]),
            hits=np.insert(all_hits, place, hits[new]),
            misses=np.insert(all_misses, place, misses[new]),
        )


def project_to_surface(
    points: Float64[np.ndarray, "P 3"], weights: Float64[np.ndarray, "P"], radius_m: float
) -> Float64[np.ndarray, "P 3"]:
    """Move points (m) along the local normal onto the plane of their neighbours.

    A moving-least-squares surface (Alexa et al. 2003) with a constant kernel:
    p' = p + n n^T (m - p). m and C are the weighted mean and covariance of the points within
    ``radius_m`` of p, and n is the eigenvector of the smallest eigenvalue of C.
    """
    centre = points.mean(axis=0)
    p = points - centre
    pairs = cKDTree(p).query_pairs(radius_m, output_type="ndarray")
    own = np.arange(len(p))
    rows = np.concatenate([pairs[:, 0], pairs[:, 1], own])
    columns = np.concatenate([pairs[:, 1], pairs[:, 0], own])
    neighbours = csr_array((weights[columns], (rows, columns)), shape=(len(p), len(p)))
    total = np.asarray(neighbours.sum(axis=1)).reshape(-1, 1)
    m = neighbours @ p / total
    outer = (p[:, :, None] * p[:, None, :]).reshape(-1, 9)
    second = (neighbours @ outer / total).reshape(-1, 3, 3)
    _, axes = np.linalg.eigh(second - m[:, :, None] * m[:, None, :])  # C = E[p p^T] - m m^T
    n = axes[:, :, 0]
    return np.asarray(points + n * ((m - p) * n).sum(axis=1, keepdims=True))


def empty_grid(size_m: float, origin_m: Float64[np.ndarray, "3"]) -> VoxelGrid:
    """Make a grid without points.

    ``origin_m`` (map frame) should be near the object: points more than a million cubes away from
    it are left out.
    """
    return VoxelGrid(
        size_m=size_m,
        origin_m=np.asarray(origin_m, np.float64),
        keys=np.zeros(0, np.int64),
        sums=np.zeros((0, 3)),
        weights=np.zeros(0),
        hits=np.zeros(0, np.int32),
        misses=np.zeros(0, np.int32),
    )


def grid_from_means(
    size_m: float,
    origin_m: Float64[np.ndarray, "3"],
    means: Float32[np.ndarray, "M 3"],
    weights: Float64[np.ndarray, "M"],
    hits: Int32[np.ndarray, "M"],
    misses: Int32[np.ndarray, "M"],
) -> VoxelGrid:
    """Make a grid from the mean points of its cubes, as a file holds them.

    Args:
        size_m: side of a cube, m.
        origin_m: corner of the cube (0, 0, 0), map frame, m.
        means: mean point of each cube, map frame, m.
        weights: number of points of each cube.
        hits: number of frames that measured each cube.
        misses: number of frames that measured something else in its place.
    """
    local = means.astype(np.float64) - origin_m
    weights = np.asarray(weights, np.float64)
    cubes = _sum_by_key(_keys(local, size_m), local * weights[:, None], weights, hits, misses)
    return empty_grid(size_m, origin_m)._with_cubes(*cubes, add_hits=False)


def _keys(local: Float64[np.ndarray, "P 3"], size_m: float) -> Int64[np.ndarray, "P"]:
    """Compute the keys of points (m from the origin); -1 for those too far away or not finite."""
    with np.errstate(invalid="ignore"):
        indices = np.floor(local / size_m)
        inside = np.asarray((np.abs(indices) < MAX_INDEX).all(axis=1))  # false for NaN
    keys = voxel_keys(np.where(inside[:, None], indices, 0).astype(np.int64))
    return np.where(inside, keys, -1)


def _sum_by_key(
    keys: Int64[np.ndarray, "P"],
    sums: Float64[np.ndarray, "P 3"],
    weights: Float64[np.ndarray, "P"],
    hits: Shaped[np.ndarray, "P"],
    misses: Shaped[np.ndarray, "P"],
) -> tuple[
    Int64[np.ndarray, "U"],
    Float64[np.ndarray, "U 3"],
    Float64[np.ndarray, "U"],
    Int32[np.ndarray, "U"],
    Int32[np.ndarray, "U"],
]:
    """Sum points of one key, and take the largest of their hits and of their misses.

    Args:
        keys: key of each row; rows with negative ones are left out.
        sums: sums of points, m from the origin.
        weights: numbers of points.
        hits: numbers of frames that measured them.
        misses: numbers of frames that measured something else in their place.

    Returns:
        Keys, increasing, each once, with sums, weights, hits and misses.
    """
    valid = keys >= 0
    unique, inverse = np.unique(keys[valid], return_inverse=True)
    count = len(unique)
    columns = [np.bincount(inverse, sums[valid, axis], minlength=count) for axis in range(3)]
    largest = np.zeros((2, count), np.int32)
    np.maximum.at(largest[0], inverse, hits[valid])
    np.maximum.at(largest[1], inverse, misses[valid])
    total = np.bincount(inverse, weights[valid], minlength=count)
    return unique, np.stack(columns, 1), total, largest[0], largest[1]
