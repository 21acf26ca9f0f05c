"""The object map that a mapper would have of the synthetic world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64

from vos_ros.geometry.camera import unproject
from vos_ros.geometry.voxels import first_in_each_voxel
from vos_ros.synthetic.world import View, WorldObject
from vos_ros.types import Intrinsics, MapObject

_VOXEL_M = 0.008
"""Side of the cubes of which each keeps one point."""
_POINT_SIGMA_M = 0.003
"""Standard deviation of a point per axis."""
_POINT_RADIUS_M = 0.006
"""Radius of the disk that a point stands for: three quarters of a cube's side."""
_MIN_POINTS = 30
"""Least points of an object that is in the map."""
_MIN_GROWTH = 1.25
"""Growth of an object's number of points from which the map is updated."""


class MapPoints:
    """Collect the points that a mapper has of each object: one noisy point per visible voxel."""

    def __init__(self, objects: Sequence[WorldObject], seed: int) -> None:
        self._objects = objects
        self._rng = np.random.default_rng((seed, 3))
        self._voxels: dict[int, set[tuple[int, int, int]]] = {o.id: set() for o in objects}
        self._points: dict[int, Float32[np.ndarray, "M 3"]] = {
            o.id: np.zeros((0, 3), np.float32) for o in objects
        }
        self._published: dict[int, int] = {}

    def integrate(
        self, view: View, intrinsics: Intrinsics, T_map_camera: Float64[np.ndarray, "4 4"]
    ) -> None:
        """Add the surfaces of a view."""
        rows, columns = np.nonzero(view.ids)
        z = view.depth[rows, columns].astype(float)
        camera = unproject(np.stack([columns, rows], 1), z, intrinsics)
        points = camera @ T_map_camera[:3, :3].T + T_map_camera[:3, 3]
        owner = view.ids[rows, columns]
        for number in np.unique(owner):
            mine = points[owner == number]
            mine = mine[self._rng.permutation(len(mine))]
            cells, first = first_in_each_voxel(mine, _VOXEL_M)
            known = self._voxels[int(number)]
            new = [
                k
                for k, cell in zip(first, map(tuple, cells.tolist()), strict=True)
                if cell not in known
            ]
            known.update(map(tuple, cells.tolist()))
            noisy = mine[new] + self._rng.normal(0, _POINT_SIGMA_M, (len(new), 3))
            self._points[int(number)] = np.concatenate(
                [self._points[int(number)], noisy.astype(np.float32)]
            )

    def changed(self) -> tuple[int, ...]:
        """Return the ids of objects that are new or have grown by a quarter since the last call."""
        grown = {
            i: len(p)
            for i, p in self._points.items()
            if len(p) >= max(_MIN_POINTS, _MIN_GROWTH * self._published.get(i, 0))
        }
        self._published.update(grown)
        return tuple(grown)

    def objects(self, ids: Sequence[int], revision: int) -> tuple[MapObject, ...]:
        """Make the map's entries of objects: boxes around their points, along the map's axes."""
        out = []
        for o in self._objects:
            if o.id in ids:
                points = self._points[o.id]
                low, high = points.min(0), points.max(0)
                T = np.eye(4)
                T[:3, 3] = (low + high) / 2
                size = (high - low).astype(float)
                out.append(
                    MapObject(o.id, o.class_id, T, size, points, _POINT_RADIUS_M, revision=revision)
                )
        return tuple(out)
