"""Frames whose pose is final, which later ones are aligned with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vos_ros.rgbd_odometry.config import FollowConfig
from vos_ros.rgbd_odometry.features import Landmarks, describe
from vos_ros.rgbd_odometry.scaled_frames import ScaledFrame


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Keyframe:
    """A frame that others are aligned with."""

    frame: ScaledFrame
    """The image."""
    o3d_images: Any
    """The image as Open3D holds it."""
    T_map_camera: Float64[np.ndarray, "4 4"]
    """Pose of the camera."""
    cov: Float64[np.ndarray, "6 6"]
    """Covariance of the pose (m, rad; axes of the map)."""
    run: int
    """Number of new starts before it. Poses of one run are chained to one another."""
    landmarks: Landmarks
    """Corners by which it is matched when the camera was lost."""
    thumbnail: Float32[np.ndarray, "n"]
    """Thumbnail by which similar keyframes are chosen."""


def make_keyframe(
    frame: ScaledFrame,
    o3d_images: Any,
    T_map_camera: Float64[np.ndarray, "4 4"],
    cov: Float64[np.ndarray, "6 6"],
    run: int,
) -> Keyframe:
    """Make a keyframe of an image and its pose.

    Args:
        frame: the image.
        o3d_images: the image as Open3D holds it.
        T_map_camera: pose of the camera.
        cov: covariance of the pose (m, rad; axes of the map).
        run: number of new starts before it.
    """
    return Keyframe(
        frame=frame,
        o3d_images=o3d_images,
        T_map_camera=T_map_camera,
        cov=cov,
        run=run,
        landmarks=describe(frame),
        thumbnail=frame.thumbnail(),
    )


class Keyframes:
    """Keyframes in the order in which they were made, at most ``max_keyframes`` of them."""

    def __init__(self, config: FollowConfig) -> None:
        self._config = config
        self._items: list[Keyframe] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Keyframe]:
        return iter(self._items)

    def distances(self, T_map_camera: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "K"]:
        """Compute the distance of a camera to each keyframe; below 1 it is near.

        |t| / ``keyframe_m`` + angle / ``keyframe_deg``.
        """
        T = np.stack([k.T_map_camera for k in self._items])
        way = np.linalg.norm(T[:, :3, 3] - T_map_camera[:3, 3], axis=1)
        cosine = (np.einsum("kij,ij->k", T[:, :3, :3], T_map_camera[:3, :3]) - 1) / 2
        angle_deg = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        return np.asarray(way / self._config.keyframe_m + angle_deg / self._config.keyframe_deg)

    def has_near(self, T_map_camera: Float64[np.ndarray, "4 4"], run: int) -> bool:
        """Return whether a keyframe of a run is near. Those of another run may lie wrongly."""
        return any(distance < 1 for distance, _ in self._of_run(T_map_camera, run))

    def reference(self, T_map_camera: Float64[np.ndarray, "4 4"], run: int) -> Keyframe:
        """Return the oldest keyframe of a run that is near; the nearest one where none is.

        With the oldest one, a camera that comes back to a place gets the pose that it had there.
        """
        own = self._of_run(T_map_camera, run)
        nearest = min(own, key=lambda pair: pair[0])[1]
        return next((keyframe for distance, keyframe in own if distance < 1), nearest)

    def _of_run(
        self, T_map_camera: Float64[np.ndarray, "4 4"], run: int
    ) -> list[tuple[float, Keyframe]]:
        """Return distance and keyframe for those of a run."""
        distances = self.distances(T_map_camera).tolist()
        pairs = zip(distances, self._items, strict=True)
        return [(distance, keyframe) for distance, keyframe in pairs if keyframe.run == run]

    def most_similar(
        self, thumbnail: Float32[np.ndarray, "n"], count: int, allowed: Callable[[Keyframe], bool]
    ) -> list[Keyframe]:
        """Return the keyframes whose image is most similar to a thumbnail, the best first."""
        candidates = [k for k in self._items if allowed(k)]
        return sorted(candidates, key=lambda k: -float(k.thumbnail @ thumbnail))[:count]

    def add(self, new: Keyframe) -> None:
        """Add a keyframe. With too many, one of the two that are nearest to each other is removed.

        It is the newer one of both, but never the first or the last keyframe.
        """
        self._items.append(new)
        if len(self._items) > max(self._config.max_keyframes, 2):
            nearest = [
                float(np.min(np.delete(self.distances(k.T_map_camera), i)))
                for i, k in enumerate(self._items[1:-1], 1)
            ]
            newest_of_best = len(nearest) - 1 - int(np.argmin(nearest[::-1]))
            del self._items[1 + newest_of_best]

    def remove_run(self, run: int) -> None:
        """Remove the keyframes of a run."""
        self._items = [k for k in self._items if k.run != run]
