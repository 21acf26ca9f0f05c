"""What the map does not hold yet of its objects: parts that the depth shows, and the object map with them.

A mapper knows of an object what it has seen, which may be half of it. Where the measured surface goes on beyond the map's, smoothly and in
the same piece, that is more of the object, not something else (``clusters`` finds such parts). Until the mapper has them they are kept
here, so that projections, and with them masks, cover the whole object; the mapper then learns the rest from the masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy.spatial import cKDTree

from vos_ros.config import MappingConfig
from vos_ros.geometry.camera import pixels_hit
from vos_ros.geometry.uncertainty import depth_tolerance
from vos_ros.geometry.voxels import first_in_each_voxel
from vos_ros.mapping.lift import lift
from vos_ros.types import Frame, MapObject

_MOST = 4000
"""Points kept per object."""
_SPACING_M = 0.01
"""Points of a part are thinned to about one per cube of this side ..."""
_RADIUS = 0.9
"""... and each stands for a disk of this times its side: more than half its diagonal."""


@dataclass(frozen=True, eq=False, slots=True)
class CompletedRegion:
    """Pixels that are more of a map object than the map has of it, and how much each pixel of the mask can be trusted (0..1)."""

    object_id: int
    mask: Bool[np.ndarray, "H W"]
    weight: Float32[np.ndarray, "H W"]


class ShapeCompletion:
    """Parts of map objects that the map has not got, as points (map frame, m). Not thread-safe."""

    def __init__(self) -> None:
        self._parts: dict[int, Float32[np.ndarray, "P 3"]] = {}
        self._whole: dict[int, tuple[MapObject, MapObject]] = {}  # as in the map, and with its part

    def objects(self, known: Iterable[MapObject]) -> Iterator[MapObject]:
        """The objects with their parts. As long as neither changes they are the same values each time."""
        for o in known:
            part = self._parts.get(o.id)
            if part is None or o.mesh is not None:
                yield o
                continue
            if (before := self._whole.get(o.id)) is None or before[0] is not o:
                radius = max(o.point_radius, _RADIUS * _SPACING_M)
                self._whole[o.id] = (
                    o,
                    replace(o, points=np.concatenate([o.points, part]), point_radius=radius),
                )
            yield self._whole[o.id][1]

    def add(
        self,
        parts: Iterable[CompletedRegion],
        frame: Frame,
        T_map_camera: Float64[np.ndarray, "4 4"],
        config: MappingConfig,
        *,
        liftable: Bool[np.ndarray, "H W"] | None = None,
    ) -> None:
        """More of some objects, as a frame with depth shows them. ``liftable`` as of ``lift``."""
        assert frame.depth is not None
        config = replace(config, lift_max_points=_MOST)
        for part in parts:
            points = lift(
                part.mask, frame.depth, T_map_camera, frame.intrinsics, config, liftable=liftable
            )
            points = np.concatenate([self._parts.get(part.object_id, points[:0]), points])
            _, first = first_in_each_voxel(points, _SPACING_M)
            self._set(part.object_id, points[first[:: max(1, -(-len(first) // _MOST))]])

    def prune_known(self, before: Mapping[int, MapObject], known: Mapping[int, MapObject]) -> None:
        """After a change of the map, by id: what it holds itself now is no part any more, nor is anything of objects that are gone, or that
        are elsewhere now. (An object that has grown has another middle, and is where it was.)"""
        for i, part in list(self._parts.items()):
            old, new = before.get(i), known.get(i)
            if new is old:
                continue
            if old is None or new is None or not _same_place(old, new):
                self._set(i, part[:0])
            else:
                self._set(i, part[~_near(part, new)])

    def check(
        self, frame: Frame, T_map_camera: Float64[np.ndarray, "4 4"], config: MappingConfig
    ) -> None:
        """Drops what the frame sees through: a part that isn't there was none, or is gone."""
        if frame.depth is None or not self._parts:
            return
        camera, reach = frame.intrinsics, 2 * config.edge_px + 1
        nearest = np.asarray(
            cv2.erode(frame.depth, np.ones((reach, reach), np.uint8))
        )  # 0 where one is unknown
        for i, part in list(self._parts.items()):
            seen = (part - T_map_camera[:3, 3]) @ T_map_camera[:3, :3]
            inside, u, v = pixels_hit(seen, camera, config.near_m)
            z = seen[inside, 2]
            free = np.zeros(len(part), bool)
            free[inside] = nearest[v, u] > z + depth_tolerance(
                z, config.depth_tolerance_m, config.depth_tolerance_per_m2
            )
            if free.any():
                self._set(i, part[~free])

    def _set(self, object_id: int, part: Float32[np.ndarray, "P 3"]) -> None:
        self._whole.pop(object_id, None)
        if len(part):
            self._parts[object_id] = part
        else:
            self._parts.pop(object_id, None)


def _same_place(old: MapObject, new: MapObject) -> bool:
    """Most of what was known of an object is where it was."""
    return bool(
        len(old.points)
        and len(new.points)
        and 2 * np.count_nonzero(_near(old.points, new)) >= len(old.points)
    )


def _near(points: Float32[np.ndarray, "P 3"], surface: MapObject) -> Bool[np.ndarray, "P"]:
    """Which points lie on an object's surface, as far as its points are apart."""
    if not len(surface.points):
        return np.zeros(len(points), bool)
    distance, _ = cKDTree(surface.points).query(
        points, distance_upper_bound=2.0 * max(surface.point_radius, _SPACING_M)
    )
    return np.asarray(np.isfinite(distance))
