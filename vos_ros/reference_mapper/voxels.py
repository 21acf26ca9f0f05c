"""An object's surface as averaged points in cubes: bounded in memory, independent of how many frames went into it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Shaped
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from vos_ros.geometry.voxels import MAX_INDEX, indices_of_keys, voxel_keys

_REACH = 2.5
"""The surface through a cube's mean is that of the means within so many sides of a cube."""
_FEW = 8
"""With fewer points there is no surface to speak of."""
DISK = 0.75
"""Radius of a point's disk over the side of its cube: the disk covers the cube's middle section (half its diagonal is 0.71)."""


@dataclass(frozen=True, eq=False, slots=True)
class VoxelGrid:
    """Cubes of side ``size_m`` around ``origin_m`` (map frame): per cube the mean of its points, in how many frames it was measured, and in
    how many its place was measured and was something else (``misses``).

    ``keys`` are sorted; ``sums`` (m, from the origin) over ``weights`` (number of points) is a cube's mean. The grid is a value: every
    change gives another one.
    """

    size_m: float
    origin_m: Float64[np.ndarray, "3"]
    keys: Int64[np.ndarray, "V"]
    sums: Float64[np.ndarray, "V 3"]
    weights: Float64[np.ndarray, "V"]
    hits: Int32[np.ndarray, "V"]
    misses: Int32[np.ndarray, "V"]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def point_radius_m(self) -> float:
        """Radius of the disk that each point stands for."""
        return DISK * self.size_m

    def means(self) -> Float32[np.ndarray, "V 3"]:
        """The mean point (map frame, m) of every cube."""
        return np.asarray(self.sums / self.weights[:, None] + self.origin_m).astype(np.float32)

    def points(self, min_hits: int) -> Float32[np.ndarray, "M 3"]:
        """The mean points (map frame, m) of cubes that were measured in at least so many frames, and at least half as often as missed:
        masks that cover an object in part are no rarer than those that leak."""
        return np.asarray(self.means()[self._sound(min_hits)])

    def _sound(self, min_hits: int) -> Bool[np.ndarray, "V"]:
        return np.asarray((self.hits >= min_hits) & (2 * self.hits >= self.misses))

    def surface(self, min_hits: int) -> Float32[np.ndarray, "K 3"]:
        """``points`` as one layer: depth noise and poses fill cubes before and behind the surface, and what looks at the map sees those in
        front, so that a pose which is laid on it, and a map that is made from such poses, would creep towards the camera."""
        sound = self._sound(min_hits)
        points, weights = self.means()[sound].astype(np.float64), self.weights[sound]
        if len(points) < _FEW:
            return np.asarray(points.astype(np.float32))
        local = flattened(points, weights, _REACH * self.size_m) - self.origin_m
        none = np.zeros(len(local), np.int32)
        _, sums, total, _, _ = _gathered(
            _keys(local, self.size_m), local * weights[:, None], weights, none, none
        )
        return np.asarray(sums / total[:, None] + self.origin_m).astype(np.float32)

    def refuted(self) -> int:
        """Number of cubes that were missed too often to be published."""
        return int(np.count_nonzero(2 * self.hits < self.misses))

    def with_points(self, points: Float32[np.ndarray, "P 3"], max_voxels: int) -> VoxelGrid:
        """With the points (map frame, m) of one more frame. Cubes are doubled until there are at most ``max_voxels``."""
        local = points.astype(np.float64) - self.origin_m
        one, none = np.ones(len(local)), np.zeros(len(local), np.int32)
        values = _gathered(_keys(local, self.size_m), local, one, one.astype(np.int32), none)
        return self._joined(*values, add_hits=True)._limited(max_voxels)

    def with_misses(self, missed: Bool[np.ndarray, "V"]) -> VoxelGrid:
        """After a frame that measured something else in the place of some cubes."""
        return replace(self, misses=self.misses + missed)

    def with_grid(self, other: VoxelGrid, max_voxels: int) -> VoxelGrid:
        """With all that another grid holds, in cubes of the larger size of both; hits are the larger of both."""
        grid = self
        while grid.size_m < other.size_m:
            grid = grid.coarser()
        local = other.sums / other.weights[:, None] + other.origin_m - grid.origin_m
        values = _gathered(
            _keys(local, grid.size_m),
            local * other.weights[:, None],
            other.weights,
            other.hits,
            other.misses,
        )
        return grid._joined(*values, add_hits=False)._limited(max_voxels)

    def coarser(self) -> VoxelGrid:
        """With cubes of twice the side."""
        cells = indices_of_keys(self.keys) >> 1  # floors, so that eight cubes become one
        keys, sums, weights, hits, misses = _gathered(
            voxel_keys(cells), self.sums, self.weights, self.hits, self.misses
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

    def only(self, kept: Bool[np.ndarray, "V"]) -> VoxelGrid:
        """With some of the cubes."""
        return replace(
            self,
            keys=self.keys[kept],
            sums=self.sums[kept],
            weights=self.weights[kept],
            hits=self.hits[kept],
            misses=self.misses[kept],
        )

    def _limited(self, max_voxels: int) -> VoxelGrid:
        grid = self
        while len(grid) > max_voxels:
            grid = grid.coarser()
        return grid

    def _joined(
        self,
        keys: Int64[np.ndarray, "U"],
        sums: Float64[np.ndarray, "U 3"],
        weights: Float64[np.ndarray, "U"],
        hits: Int32[np.ndarray, "U"],
        misses: Int32[np.ndarray, "U"],
        *,
        add_hits: bool,
    ) -> VoxelGrid:
        """With more cubes, each at most once. Of those that are there already, points are added up; hits too, or the larger counts."""
        at = np.searchsorted(self.keys, keys)
        known = np.append(self.keys, -1)[at] == keys
        out_sums, out_weights, out_hits, out_misses = (
            self.sums.copy(),
            self.weights.copy(),
            self.hits.copy(),
            self.misses.copy(),
        )
        old = at[known]
        out_sums[old] += sums[known]
        out_weights[old] += weights[known]
        out_hits[old] = (
            out_hits[old] + hits[known] if add_hits else np.maximum(out_hits[old], hits[known])
        )
        out_misses[old] = np.maximum(out_misses[old], misses[known])
        new = ~known
        where = at[new]
        return replace(
            self,
            keys=np.insert(self.keys, where, keys[new]),
            sums=np.insert(out_sums, where, sums[new], axis=0),
            weights=np.insert(out_weights, where, weights[new]),
            hits=np.insert(out_hits, where, hits[new]),
            misses=np.insert(out_misses, where, misses[new]),
        )


def flattened(
    points: Float64[np.ndarray, "P 3"], weights: Float64[np.ndarray, "P"], reach_m: float
) -> Float64[np.ndarray, "P 3"]:
    """Points (m) moved onto the plane through the weighted mean of those within ``reach_m``, along its normal: a moving-least-squares
    surface with a constant kernel."""
    centre = points.mean(axis=0)
    p = points - centre
    pairs = cKDTree(p).query_pairs(reach_m, output_type="ndarray")
    own = np.arange(len(p))
    rows, columns = (
        np.concatenate([pairs[:, 0], pairs[:, 1], own]),
        np.concatenate([pairs[:, 1], pairs[:, 0], own]),
    )
    near = csr_array((weights[columns], (rows, columns)), shape=(len(p), len(p)))
    total = np.asarray(near.sum(axis=1)).reshape(-1, 1)
    mean = near @ p / total
    second = (near @ (p[:, :, None] * p[:, None, :]).reshape(-1, 9) / total).reshape(-1, 3, 3)
    _, axes = np.linalg.eigh(second - mean[:, :, None] * mean[:, None, :])
    normal = axes[:, :, 0]
    return np.asarray(points + normal * ((mean - p) * normal).sum(axis=1, keepdims=True))


def empty_grid(size_m: float, origin_m: Float64[np.ndarray, "3"]) -> VoxelGrid:
    """A grid without points. ``origin_m`` (map frame) should be near the object: what is more than a million cubes away is left out."""
    return VoxelGrid(
        size_m,
        np.asarray(origin_m, np.float64),
        np.zeros(0, np.int64),
        np.zeros((0, 3)),
        np.zeros(0),
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
    )


def grid_of(
    size_m: float,
    origin_m: Float64[np.ndarray, "3"],
    points: Float32[np.ndarray, "M 3"],
    weights: Float64[np.ndarray, "M"],
    hits: Int32[np.ndarray, "M"],
    misses: Int32[np.ndarray, "M"],
) -> VoxelGrid:
    """A grid from its mean points (map frame, m), as a file holds them."""
    local = points.astype(np.float64) - origin_m
    values = _gathered(
        _keys(local, size_m),
        local * weights[:, None],
        np.asarray(weights, np.float64),
        hits,
        misses,
    )
    return empty_grid(size_m, origin_m)._joined(*values, add_hits=False)


def _keys(local: Float64[np.ndarray, "P 3"], size_m: float) -> Int64[np.ndarray, "P"]:
    """Keys of points (m from the origin); -1 where one is too far away or not finite."""
    with np.errstate(invalid="ignore"):
        cells = np.floor(local / size_m)
        inside = np.asarray((np.abs(cells) < MAX_INDEX).all(axis=1))  # false for NaN
    return np.where(inside, voxel_keys(np.where(inside[:, None], cells, 0).astype(np.int64)), -1)


def _gathered(
    keys: Int64[np.ndarray, "P"],
    sums: Float64[np.ndarray, "P 3"],
    weights: Float64[np.ndarray, "P"],
    hits: Shaped[np.ndarray, "P"],
    misses: Shaped[np.ndarray, "P"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sorted unique keys (those below 0 are left out), with sums and weights added up and the largest of hits and misses."""
    good = keys >= 0
    unique, inverse = np.unique(keys[good], return_inverse=True)
    total = np.stack(
        [np.bincount(inverse, sums[good, axis], minlength=len(unique)) for axis in range(3)], 1
    )
    most = np.zeros((2, len(unique)), np.int32)
    np.maximum.at(most[0], inverse, hits[good])
    np.maximum.at(most[1], inverse, misses[good])
    return (
        unique,
        total,
        np.bincount(inverse, weights[good], minlength=len(unique)),
        most[0],
        most[1],
    )
