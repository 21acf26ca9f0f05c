"""Measure how well map, camera pose and measured depth belong together, for any assumed pose."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Float64

from vos_ros.geometry.camera import project
from vos_ros.types import Intrinsics, MapObject

MAX_RANGE_M = 8.0
"""Objects farther from the camera are not compared: depth cameras measure little there."""
_MAX_OBJECTS, _OBJECT_POINTS = 40, 60
"""Objects that are compared, the nearest ones, and points of each."""
_MIN_Z_M = 0.05
_TOLERANCE_M, _TOLERANCE_SHARE = 0.03, 0.02
"""Difference of measured and predicted z that agrees: m, plus this share of z."""
_HIDDEN_WEIGHT = 0.5
"""Weight of points that something nearer hides: half of an object's own points face away."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Count the map's points in one view by what depth says of them."""

    agree: int = 0
    """Depth is measured on them."""
    free: int = 0
    """Depth is measured behind them: they would have to be seen, and are not."""
    hidden: int = 0
    """Depth is measured in front of them."""
    objects: int = 0
    """Objects with points in the image, measured or not."""
    ratio: float = float("nan")
    """Median of measured by predicted z, NaN without points."""
    spread: float = float("nan")
    """Half of the range of the middle half of log(measured / predicted)."""
    z_range: float = 1.0
    """Largest by smallest predicted z, without the outer tenths."""

    @property
    def count(self) -> int:
        """Return the number of points that are in the image and were measured."""
        return self.agree + self.free + self.hidden

    @property
    def share(self) -> float:
        """Return the share of points that agree, 0..1; those that are hidden count half."""
        return self.agree / max(self.agree + self.free + _HIDDEN_WEIGHT * self.hidden, 1.0)


class MapSample:
    """Give some points of the objects of one revision of the map.

    Where the objects are is found out only when it is asked for: a frame that fits needs just the
    points of those in view.
    """

    def __init__(self, objects: Iterable[MapObject]) -> None:
        self._objects = {o.id: o for o in objects if len(_points(o))}

    @cached_property
    def _centres(self) -> Float64[np.ndarray, "N 3"]:
        middles = [_middle(_points(o)) for o in self._objects.values()]
        return np.array(middles, np.float64).reshape(-1, 3)

    @property
    def extent_m(self) -> float:
        """Return the median distance of the objects from the map's origin, m; 0 without any."""
        distance = np.linalg.norm(self._centres, axis=1)
        return float(np.median(distance)) if len(distance) else 0.0

    def of(self, object_ids: Iterable[int]) -> list[Float64[np.ndarray, "P 3"]]:
        """Return points of some objects, by object."""
        known = (self._objects[i] for i in object_ids if i in self._objects)
        return [_some(_points(o)) for o in itertools.islice(known, _MAX_OBJECTS)]

    def near(
        self, T_map_camera: Float64[np.ndarray, "4 4"], scale: float = 1.0
    ) -> list[Float64[np.ndarray, "P 3"]]:
        """Return points of the objects nearest to a camera, by object; the map times ``scale``."""
        distance = np.linalg.norm(self._centres * scale - T_map_camera[:3, 3], axis=1)
        objects = list(self._objects.values())
        nearest = np.argsort(distance, kind="stable")[:_MAX_OBJECTS]
        return [
            _some(_points(objects[i])) * scale
            for i in nearest.tolist()
            if distance[i] <= MAX_RANGE_M
        ]


def fit(
    points: Sequence[Float64[np.ndarray, "P 3"]],
    T_map_camera: Float64[np.ndarray, "4 4"],
    depth: Float32[np.ndarray, "H W"] | None,
    intrinsics: Intrinsics,
    *,
    slack_m: float = 0.0,
    depth_factor: float = 1.0,
) -> Fit:
    """Compare points of the map with the measured depth, from an assumed pose.

    Args:
        points: of each object, map frame, m.
        T_map_camera: the assumed pose.
        depth: measured z, m, 0 where unknown; None: only what is in the image is counted.
        intrinsics: of the camera.
        slack_m: uncertainty of the pose, added to the tolerance.
        depth_factor: the measured depth is divided by it.
    """
    if not points:
        return Fit()
    owner = np.repeat(np.arange(len(points)), [len(p) for p in points])
    camera = (np.concatenate(points) - T_map_camera[:3, 3]) @ T_map_camera[:3, :3]
    ahead = camera[:, 2] > _MIN_Z_M
    camera, owner = camera[ahead], owner[ahead]
    pixels = np.rint(project(camera, intrinsics))
    inside = ((pixels >= 0) & (pixels < (intrinsics.width, intrinsics.height))).all(1)
    u, v = pixels[inside].astype(int).T
    z, objects = camera[inside, 2], len(np.unique(owner[inside]))
    if depth is None:
        return Fit(objects=objects)
    measured = depth[v, u] / depth_factor
    z, measured = z[measured > 0], measured[measured > 0]
    if not len(z):
        return Fit(objects=objects)
    tolerance = _TOLERANCE_M + _TOLERANCE_SHARE * z + slack_m
    behind = measured - z
    logs = np.log(measured / z)
    low, middle, high = np.percentile(logs, (25, 50, 75))
    return Fit(
        agree=int((np.abs(behind) <= tolerance).sum()),
        free=int((behind > tolerance).sum()),
        hidden=int((behind < -tolerance).sum()),
        objects=objects,
        ratio=float(np.exp(middle)),
        spread=float((high - low) / 2),
        z_range=float(np.divide(*np.percentile(z, (90, 10)))),
    )


def _points(o: MapObject) -> Float32[np.ndarray, "M 3"]:
    """Return the points of an object, or the vertices of its mesh, map frame, m."""
    return o.points if len(o.points) or o.mesh is None else o.mesh.vertices


def _some(points: Float32[np.ndarray, "M 3"]) -> Float64[np.ndarray, "P 3"]:
    """Return some of the points, evenly."""
    return points[:: -(-len(points) // _OBJECT_POINTS)].astype(np.float64)


def _middle(points: Float32[np.ndarray, "M 3"]) -> Float64[np.ndarray, "3"]:
    """Return a point in the middle of a few of the points."""
    return np.asarray(points[:: -(-len(points) // 8)].mean(axis=0, dtype=np.float64))
