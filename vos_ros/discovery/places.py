"""Where in the map the objects of tracks are, as sets of voxels."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64, Integer

from vos_ros.discovery.grid import Grid
from vos_ros.geometry.voxels import share_among, voxel_indices, voxel_keys, with_neighbours

Voxels = Int64[np.ndarray, "V"]
"""Sorted keys of voxels of the map, each once (``geometry.voxels``)."""

_VOXEL_M = 0.025
"""Side of a voxel."""
MIN_HELD_SHARE = 0.4
"""Least share of a candidate's voxels in or next to a track's place from which it is that track's
object."""
_MIN_IOU = 0.5
"""Least IoU of a track's cells and a surface from which the surface shows the track's object."""
_MIN_AT_PLACE = 0.2
"""Least share of a track's measured cells that lie at its place: with less it follows something
else."""
_MIN_DRIFT_CELLS = 10
"""Least number of measured cells from which a track is tested for drift."""
_MAX_PLACE_VOXELS = 60_000
"""Number of voxels, neighbours included, from which a place grows no more."""


def voxels_of(
    points: Float32[np.ndarray, "P 3"], T_map_camera: Float64[np.ndarray, "4 4"]
) -> Voxels:
    """Find the map's voxels that camera-frame points (m) fall into."""
    mapped = points.astype(np.float64) @ T_map_camera[:3, :3].T + T_map_camera[:3, 3]
    return np.unique(voxel_keys(voxel_indices(mapped, _VOXEL_M)))


class TrackPlaces:
    """Remember where the object of each track is, and find tracks that left that place."""

    def __init__(self) -> None:
        self._places: dict[int, Voxels] = {}  # with their neighbours

    def keep_only(self, track_ids: Collection[int]) -> None:
        """Forget the places of all other tracks."""
        self._places = {t: place for t, place in self._places.items() if t in track_ids}

    def set(self, track_id: int, wide: Voxels) -> None:
        """Set the place of a track: voxels with their neighbours."""
        self._places[track_id] = wide

    def track_at(self, voxels: Voxels) -> int:
        """Return the track at whose place the voxels are; 0 for none."""
        shares = {t: share_among(voxels, place) for t, place in self._places.items()}
        best = max(shares, key=lambda t: shares[t], default=0)
        return best if best and shares[best] >= MIN_HELD_SHARE else 0

    def learn(
        self,
        track_ids: Sequence[int],
        instance_index: Integer[np.ndarray, "h w"],
        surfaces: Int32[np.ndarray, "h w"],
        grid: Grid,
        T_map_camera: Float64[np.ndarray, "4 4"],
    ) -> None:
        """Add what a frame shows of each track, where its mask and one surface agree.

        Args:
            track_ids: that the segmenter follows.
            instance_index: per cell, 1 + the index of its track in ``track_ids``; 0 for none.
            surfaces: connected cells off the planes, numbered from 1; 0 for none.
            grid: the depth image.
            T_map_camera: the camera's pose.
        """
        both = (surfaces > 0) & (instance_index > 0)
        pairs, counts = np.unique(
            np.stack([instance_index[both], surfaces[both]]), axis=1, return_counts=True
        )
        rows, sizes = np.bincount(instance_index.ravel()), np.bincount(surfaces.ravel())
        for (row, surface), count in zip(pairs.T, counts, strict=True):
            if count < _MIN_IOU * (rows[row] + sizes[surface] - count):
                continue
            track_id = track_ids[row - 1]
            place = self._places.get(track_id, np.zeros(0, np.int64))
            cells = (surfaces == surface) & (instance_index == row)
            seen = voxels_of(grid.vertices[cells], T_map_camera)
            if len(place) < _MAX_PLACE_VOXELS and (
                not len(place) or share_among(seen, place) >= _MIN_AT_PLACE
            ):
                self._places[track_id] = np.union1d(place, with_neighbours(seen))

    def drifted(
        self,
        candidates: Collection[int],
        track_ids: Sequence[int],
        instance_index: Integer[np.ndarray, "h w"],
        grid: Grid,
        T_map_camera: Float64[np.ndarray, "4 4"],
    ) -> list[int]:
        """Find the tracks whose cells lie somewhere else than their object.

        Where most do, the camera's pose has jumped: then their places are forgotten instead.

        Args:
            candidates: the tracks to test.
            track_ids: that the segmenter follows.
            instance_index: per cell, 1 + the index of its track in ``track_ids``; 0 for none.
            grid: the depth image.
            T_map_camera: the camera's pose.
        """
        out, tested = [], 0
        for row, track_id in enumerate(track_ids, start=1):
            if track_id not in candidates or track_id not in self._places:
                continue
            points = grid.vertices[(instance_index == row) & (grid.vertices[..., 2] > 0)]
            if len(points) >= _MIN_DRIFT_CELLS:
                tested += 1
                at_place = share_among(voxels_of(points, T_map_camera), self._places[track_id])
                if at_place < _MIN_AT_PLACE:
                    out.append(track_id)
        if len(out) > max(1, tested // 2):
            self._places, out = {t: p for t, p in self._places.items() if t not in out}, []
        return out
