"""Frames and poses that are made in a line."""

from __future__ import annotations

import numpy as np

from vos_ros.geometry import se3
from vos_ros.types import Frame, Intrinsics

PERIOD_NS = 100_000_000
"""Time between two frames of ``make_frame``: 10 Hz."""


def pose_at(x: float = 0.0, y: float = 0.0, z: float = 0.0, *, yaw_deg: float = 0.0) -> np.ndarray:
    """Return a pose at a position (m), turned about the z axis, f64 (4,4)."""
    R = se3.so3_exp(np.array([0.0, 0.0, np.deg2rad(yaw_deg)]))
    return se3.from_rt(R, np.array([x, y, z]))


def make_frame(index: int = 0, height: int = 48, width: int = 64, **fields: object) -> Frame:
    """Make a frame of noise that is seeded by its index, with a flat wall 1.5 m away, at 10 Hz.

    ``fields`` replace fields of the frame.
    """
    rgb = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    given = {
        "index": index,
        "stamp_ns": index * PERIOD_NS,
        "rgb": rgb,
        "depth": np.full((height, width), 1.5, np.float32),
        "intrinsics": Intrinsics(50.0, 50.0, width / 2, height / 2, width, height),
        "T_map_camera": np.eye(4),
    }
    return Frame(**{**given, **fields})  # type: ignore[arg-type]
