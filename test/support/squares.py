"""A tiny RGB-D scene: three coloured squares in front of a wall, and a camera that stays still."""

from __future__ import annotations

import numpy as np

from vos_ros.types import Frame, Intrinsics, MapObject

W, H = 128, 96
CAMERA = Intrinsics(100.0, 100.0, 63.5, 47.5, W, H)
BOXES = {1: (12, 36, 36, 60), 2: (52, 36, 76, 60), 3: (92, 36, 116, 60)}
"""Place of the objects in the image, x0 y0 x1 y1 (px): squares of 24 cm at 1 m, a wall at 2 m."""
COLORS = {1: (220, 40, 40), 2: (40, 200, 60), 3: (50, 70, 230)}
SECOND = 1_000_000_000
START = 1_000 * SECOND
STEP = SECOND // 10


def map_objects() -> tuple[MapObject, ...]:
    """Return the squares as map objects; the camera is at the map's origin."""
    out = []
    for i, (x0, y0, x1, y1) in BOXES.items():
        u, v = np.meshgrid(np.arange(x0, x1, 0.8), np.arange(y0, y1, 0.8))
        points = np.stack(
            [(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], -1
        ).reshape(-1, 3)
        T = np.eye(4)
        T[:3, 3] = points.mean(0)
        out.append(
            MapObject(i, 10 + i, T, np.array([0.24, 0.24, 0.02]), points.astype(np.float32), 0.006)
        )
    return tuple(out)


def frame_at(stamp_ns: int, index: int = 0) -> Frame:
    """Return the camera's frame of a stamp; ``index`` varies the noise of the wall."""
    rng = np.random.default_rng(index)
    rgb = rng.integers(110, 130, (H, W, 3), np.uint8)
    depth = np.full((H, W), 2.0, np.float32)
    for i, (x0, y0, x1, y1) in BOXES.items():
        rgb[y0:y1, x0:x1] = COLORS[i]
        depth[y0:y1, x0:x1] = 1.0
    return Frame(index, stamp_ns, rgb, depth, CAMERA, np.eye(4), frame_id="camera_optical")
