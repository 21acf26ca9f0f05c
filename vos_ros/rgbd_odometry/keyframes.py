"""Views whose pose is settled, which later ones are aligned with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vos_ros.rgbd_odometry.config import FollowConfig
from vos_ros.rgbd_odometry.features import Landmarks, describe
from vos_ros.rgbd_odometry.views import View


@dataclass(frozen=True, eq=False, slots=True)
class Keyframe:
    """``run`` counts the new starts before it: poses of one run are chained to one another. ``images`` are the view as Open3D holds it."""

    view: View
    images: Any
    T_map_camera: Float64[np.ndarray, "4 4"]
    cov: Float64[np.ndarray, "6 6"]
    run: int
    landmarks: Landmarks
    thumbnail: Float32[np.ndarray, "n"]


def keyframe(
    view: View,
    images: Any,
    T_map_camera: Float64[np.ndarray, "4 4"],
    cov: Float64[np.ndarray, "6 6"],
    run: int,
) -> Keyframe:
    """A keyframe with what is needed to find it again."""
    return Keyframe(view, images, T_map_camera, cov, run, describe(view), view.thumbnail())


class Keyframes:
    """In the order in which they were made, at most ``max_keyframes`` of them."""

    def __init__(self, config: FollowConfig) -> None:
        self._config = config
        self._items: list[Keyframe] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Keyframe]:
        return iter(self._items)

    def distances(self, T_map_camera: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "K"]:
        """How far a camera is from each: below 1 it is near (``keyframe_m``, ``keyframe_deg``)."""
        T = np.stack([k.T_map_camera for k in self._items])
        way = np.linalg.norm(T[:, :3, 3] - T_map_camera[:3, 3], axis=1)
        cosine = (np.einsum("kij,ij->k", T[:, :3, :3], T_map_camera[:3, :3]) - 1) / 2
        return np.asarray(
            way / self._config.keyframe_m
            + np.degrees(np.arccos(np.clip(cosine, -1, 1))) / self._config.keyframe_deg
        )

    def near(self, T_map_camera: Float64[np.ndarray, "4 4"], run: int) -> bool:
        """Whether one of a run is near. (Those of another may lie there by mistake.)"""
        return any(
            d < 1 and k.run == run
            for d, k in zip(self.distances(T_map_camera), self._items, strict=True)
        )

    def reference(self, T_map_camera: Float64[np.ndarray, "4 4"], run: int) -> Keyframe:
        """The oldest near one of a run, so that who comes back to a place finds the pose that it had; the nearest where none is near."""
        mine = [
            (d, k)
            for d, k in zip(self.distances(T_map_camera), self._items, strict=True)
            if k.run == run
        ]
        return next((k for d, k in mine if d < 1), min(mine, key=lambda p: float(p[0]))[1])

    def alike(
        self, thumbnail: Float32[np.ndarray, "n"], count: int, allowed: Callable[[Keyframe], bool]
    ) -> list[Keyframe]:
        """Those that look most like an image, the best first."""
        found = [k for k in self._items if allowed(k)]
        return sorted(found, key=lambda k: -float(k.thumbnail @ thumbnail))[:count]

    def add(self, new: Keyframe) -> None:
        """One more. Where that is too many, one goes: of the two that are nearest to one another, the younger; never the first or the
        newest."""
        self._items.append(new)
        if len(self._items) > max(self._config.max_keyframes, 2):
            crowded = [
                float(np.min(np.delete(self.distances(k.T_map_camera), i)))
                for i, k in enumerate(self._items[1:-1], 1)
            ]
            del self._items[1 + len(crowded) - 1 - int(np.argmin(crowded[::-1]))]

    def drop(self, run: int) -> None:
        """Forgets a run."""
        self._items = [k for k in self._items if k.run != run]
