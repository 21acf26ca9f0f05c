"""Planes of the map that were found before: they may show less of themselves than new ones must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from vos_ros.discovery.planes import Flat, Plane, dense, moved

_MAX_PLANES = 12
"""Most planes that are remembered: those found most recently."""
_MARGIN_M = 0.1
"""A plane is expected this far around where it was found."""
_MIN_COSINE, _MAX_OFFSET_M = 0.99, 0.05
"""Two planes are one where the cosine of their normals is larger than the first, and their
distances from the camera differ by less than the second."""
_TRIMMED = 100
"""One of so many points is left out at each end of a plane's box: they are outliers."""


@dataclass(frozen=True, eq=False, slots=True)
class _Background:
    """A plane of the map and the box (m, map frame) in which it was found."""

    plane: Plane
    low: Float64[np.ndarray, "3"]
    high: Float64[np.ndarray, "3"]


class Backgrounds:
    """Remember the large planes of the map."""

    def __init__(self) -> None:
        self._planes: list[_Background] = []  # those found most recently at the end

    def guesses(
        self, in_map: Float64[np.ndarray, "3 h w"], T_map_camera: Float64[np.ndarray, "4 4"]
    ) -> list[tuple[Plane, Bool[np.ndarray, "h w"]]]:
        """Predict the known planes in the camera frame, and the cells where each may be."""
        T_camera_map = np.linalg.inv(T_map_camera)
        return [(moved(b.plane, T_camera_map), _in_box(in_map, b)) for b in self._planes]

    def add(
        self,
        planes: Sequence[Flat],
        in_map: Float64[np.ndarray, "3 h w"],
        T_map_camera: Float64[np.ndarray, "4 4"],
    ) -> None:
        """Add planes (camera frame); one that is the same and close by is joined with the new one.

        ``in_map`` are the cells' points in the map frame, m.
        """
        for flat in planes:
            points = in_map[:, dense(flat.cells)]
            if not points.size:
                continue
            new, rest = moved(flat.plane, T_map_camera), []
            points = np.sort(points, axis=1)
            outliers = points.shape[1] // _TRIMMED
            low, high = points[:, outliers] - _MARGIN_M, points[:, -1 - outliers] + _MARGIN_M
            for b in self._planes:
                if (
                    _same_plane(b.plane, new, T_map_camera[:3, 3])
                    and (np.maximum(b.low, low) < np.minimum(b.high, high)).all()
                ):
                    low, high = np.minimum(b.low, low), np.maximum(b.high, high)
                else:
                    rest.append(b)
            self._planes = [*rest, _Background(new, low, high)][-_MAX_PLANES:]


def _in_box(in_map: Float64[np.ndarray, "3 h w"], b: _Background) -> Bool[np.ndarray, "h w"]:
    """Select the points in a plane's box."""
    x, y, z = ((p > low) & (p < high) for p, low, high in zip(in_map, b.low, b.high, strict=True))
    return np.asarray(x & y & z)


def _same_plane(a: Plane, b: Plane, camera: Float64[np.ndarray, "3"]) -> bool:
    """Test whether two planes of the map are one, at the camera: far away, small angles add up."""
    cosine = float(a[:3] @ b[:3])
    return (
        abs(cosine) > _MIN_COSINE
        and abs((a[:3] @ camera + a[3]) - np.sign(cosine) * (b[:3] @ camera + b[3])) < _MAX_OFFSET_M
    )
