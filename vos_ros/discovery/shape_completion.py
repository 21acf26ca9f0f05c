"""Parts of map objects that the map lacks, and the map's objects completed with them.

A mapper has of an object what it has seen, which may be half of it. Where the measured surface goes
on beyond the map's, smoothly and connected, that is more of the object and not something else
(``object_parts``). Until the mapper has such parts they are kept here, so that projections, and
with them masks, cover the whole object. The mapper then learns the rest from the masks.
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

_MAX_POINTS = 4000
"""Most points kept per object."""
_SPACING_M = 0.01
"""Side of the cubes of which each keeps one point of a part."""
_DISK_RADIUS = 0.9
"""Radius of a point's disk over the side of its cube: more than half the cube's diagonal (0.87)."""
_NEAR_RADII = 2.0
"""Points within so many point radii of an object's points lie on its surface."""


@dataclass(frozen=True, eq=False, slots=True)
class CompletedRegion:
    """Hold the pixels of a part of a map object that the map lacks."""

    object_id: int
    """Id of the map object."""
    mask: Bool[np.ndarray, "H W"]
    """True on the part."""
    weight: Float32[np.ndarray, "H W"]
    """How much each pixel counts for a segmenter that learns from it, 0..1."""


class ShapeCompletion:
    """Keep parts of map objects that the map lacks, as points (map frame, m). Not thread-safe."""

    def __init__(self) -> None:
        self._parts: dict[int, Float32[np.ndarray, "P 3"]] = {}
        # By id: the object as the map has it, and completed.
        self._completed: dict[int, tuple[MapObject, MapObject]] = {}

    def completed_objects(self, known: Iterable[MapObject]) -> Iterator[MapObject]:
        """Complete the objects with their parts; those that are boxes have all parts already.

        The same values are returned each time until an object or its part changes.
        """
        for o in known:
            part = self._parts.get(o.id)
            if part is None or o.mesh is not None or o.is_box:
                yield o
                continue
            if (before := self._completed.get(o.id)) is None or before[0] is not o:
                radius = max(o.point_radius, _DISK_RADIUS * _SPACING_M)
                self._completed[o.id] = (
                    o,
                    replace(o, points=np.concatenate([o.points, part]), point_radius=radius),
                )
            yield self._completed[o.id][1]

    def add(
        self,
        regions: Iterable[CompletedRegion],
        frame: Frame,
        T_map_camera: Float64[np.ndarray, "4 4"],
        config: MappingConfig,
        *,
        liftable: Bool[np.ndarray, "H W"] | None = None,
    ) -> None:
        """Add parts that a frame with depth shows.

        Args:
            regions: pixels of the parts.
            frame: the frame, with depth.
            T_map_camera: the camera's pose.
            config: how pixels are lifted.
            liftable: ``liftable_pixels`` of the depth, where the caller has it already.
        """
        assert frame.depth is not None
        config = replace(config, lift_max_points=_MAX_POINTS)
        for region in regions:
            points = lift(
                region.mask, frame.depth, T_map_camera, frame.intrinsics, config, liftable=liftable
            )
            points = np.concatenate([self._parts.get(region.object_id, points[:0]), points])
            _, first = first_in_each_voxel(points, _SPACING_M)
            every = max(1, -(-len(first) // _MAX_POINTS))
            self._set(region.object_id, points[first[::every]])

    def prune_known(self, before: Mapping[int, MapObject], known: Mapping[int, MapObject]) -> None:
        """Drop, after a change of the map, the parts that it has itself now.

        Parts of objects that are deleted, or that have moved, are dropped too. An object that has
        grown has another centre, but has not moved.

        Args:
            before: the map's objects before the change, by id.
            known: the map's objects now, by id.
        """
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
        """Drop the points of parts at which the frame measures free space."""
        if frame.depth is None or not self._parts:
            return
        camera, reach = frame.intrinsics, 2 * config.edge_px + 1
        # 0 where any depth around a pixel is unknown.
        nearest = np.asarray(cv2.erode(frame.depth, np.ones((reach, reach), np.uint8)))
        for i, part in list(self._parts.items()):
            local = (part - T_map_camera[:3, 3]) @ T_map_camera[:3, :3]
            inside, u, v = pixels_hit(local, camera, config.near_m)
            z = local[inside, 2]
            free = np.zeros(len(part), bool)
            free[inside] = nearest[v, u] > z + depth_tolerance(
                z, config.depth_tolerance_m, config.depth_tolerance_per_m2
            )
            if free.any():
                self._set(i, part[~free])

    def _set(self, object_id: int, part: Float32[np.ndarray, "P 3"]) -> None:
        self._completed.pop(object_id, None)
        if len(part):
            self._parts[object_id] = part
        else:
            self._parts.pop(object_id, None)


def _same_place(old: MapObject, new: MapObject) -> bool:
    """Test whether most of the points that an object had are on its surface now."""
    return bool(
        len(old.points)
        and len(new.points)
        and 2 * np.count_nonzero(_near(old.points, new)) >= len(old.points)
    )


def _near(points: Float32[np.ndarray, "P 3"], surface: MapObject) -> Bool[np.ndarray, "P"]:
    """Test which points lie on an object's surface, to within the distance of its points."""
    if not len(surface.points):
        return np.zeros(len(points), bool)
    distance, _ = cKDTree(surface.points).query(
        points, distance_upper_bound=_NEAR_RADII * max(surface.point_radius, _SPACING_M)
    )
    return np.asarray(np.isfinite(distance))
