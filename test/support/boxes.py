"""Scenes of upright boxes: sampled for the map, cut by rays for the measured depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vos_ros.geometry import se3
from vos_ros.types import Intrinsics, MapObject

CAMERA = Intrinsics(260.0, 260.0, 159.5, 119.5, 320, 240)


def scaled_camera(camera: Intrinsics, factor: float) -> Intrinsics:
    """The camera of the image resized by a factor."""
    return Intrinsics(
        camera.fx * factor,
        camera.fy * factor,
        (camera.cx + 0.5) * factor - 0.5,
        (camera.cy + 0.5) * factor - 0.5,
        round(camera.width * factor),
        round(camera.height * factor),
    )


def sample_box(low: Sequence[float], high: Sequence[float], spacing: float) -> np.ndarray:
    """Sample the faces of a box by a grid (map frame, m), up to half a step from its edges.

    A face without height or width is left out.
    """
    low_, high_ = np.asarray(low, float), np.asarray(high, float)
    faces = []
    for axis in range(3):
        a, b = (i for i in range(3) if i != axis)
        ticks = []
        for i in (a, b):
            n = max(round((high_[i] - low_[i]) / spacing), 1)
            ticks.append(low_[i] + (np.arange(n) + 0.5) * (high_[i] - low_[i]) / n)
        if high_[a] - low_[a] == 0 or high_[b] - low_[b] == 0:
            continue
        grid = np.stack(np.meshgrid(*ticks), axis=-1).reshape(-1, 2)
        for end in {low_[axis], high_[axis]}:
            face = np.empty((len(grid), 3))
            face[:, a], face[:, b], face[:, axis] = grid[:, 0], grid[:, 1], end
            faces.append(face)
    return np.concatenate(faces).astype(np.float32)


def box_object(
    object_id: int,
    low: Sequence[float],
    high: Sequence[float],
    spacing: float = 0.01,
    **fields: object,
) -> MapObject:
    """Make a map object of the surface of a box.

    Its points' disks reach the middle of the grid's squares.
    """
    T = se3.from_rt(np.eye(3), 0.5 * (np.asarray(low, float) + np.asarray(high, float)))
    return MapObject(
        object_id,
        1,
        T,
        np.subtract(high, low),
        sample_box(low, high, spacing),
        0.71 * spacing,
        **fields,
    )


def cut(
    boxes: Sequence[tuple[Sequence[float], Sequence[float]]],
    T_map_camera: np.ndarray,
    camera: Intrinsics,
) -> np.ndarray:
    """Return the exact depth (z, m) of boxes along the rays of a camera, 0 where there is none."""
    y, x = np.mgrid[0 : camera.height, 0 : camera.width]
    rays = (
        np.stack(
            [(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones(x.shape)], axis=-1
        )
        @ T_map_camera[:3, :3].T
    )
    depth = np.full(x.shape, np.inf)
    for low, high in boxes:
        with np.errstate(divide="ignore", invalid="ignore"):
            near, far = (np.asarray(e) - T_map_camera[:3, 3] for e in (low, high))
            enter, leave = (
                np.minimum(near / rays, far / rays).max(-1),
                np.maximum(near / rays, far / rays).min(-1),
            )
        hit = (enter <= leave) & (enter > 0)
        depth = np.where(hit & (enter < depth), enter, depth)
    return np.where(np.isfinite(depth), depth, 0.0).astype(np.float32)


TABLE = [
    ([-1.2, 0.8, -0.05], [1.2, 2.2, 0.0]),
    ([-0.5, 1.2, 0.0], [-0.3, 1.4, 0.25]),
    ([0.1, 1.5, 0.0], [0.35, 1.7, 0.4]),
    ([0.5, 1.1, 0.0], [0.6, 1.4, 0.15]),
    ([-0.1, 1.1, 0.0], [0.05, 1.2, 0.1]),
]


class TableTop:
    """Four boxes on a table, seen from above at 30 degrees; z is up."""

    boxes = TABLE
    objects = tuple(box_object(i, low, high, 0.012) for i, (low, high) in enumerate(TABLE, start=1))
    T_map_camera = se3.from_rt(
        np.array([[1.0, 0.0, 0.0], [0.0, -0.5, 0.866025403784], [0.0, -0.866025403784, -0.5]]),
        np.array([0.0, -0.1, 0.9]),
    )

    def depth(self, noise: float = 0.002, seed: int = 0) -> np.ndarray:
        """Return the measured depth (m), with noise of this many metres at one metre."""
        exact = cut(self.boxes, self.T_map_camera, CAMERA)
        noisy = exact + np.random.default_rng(seed).normal(0.0, 1.0, exact.shape) * noise * exact**2
        return np.where(exact > 0, noisy, 0.0).astype(np.float32)
