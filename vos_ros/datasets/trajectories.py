"""Text files of camera poses and stamps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3
from vos_ros.geometry.pose_track import PoseTrack
from vos_ros.messages.stamps import NS_PER_S


def read_trajectory(path: Path) -> PoseTrack:
    """Read a TUM trajectory, ``stamp tx ty tz qx qy qz qw`` per line: T_map_camera over time.

    Raises ValueError: another number of columns.
    """
    table = np.loadtxt(path, comments="#", ndmin=2)
    if table.shape[1] != 8:
        raise ValueError(
            f"{path}: got {table.shape[1]} columns, wanted 8: stamp tx ty tz qx qy qz qw"
        )
    stamps = parse_stamps_ns(
        line.split()[0] for line in path.read_text().splitlines() if line.strip() and line[0] != "#"
    )
    track = PoseTrack()
    for stamp, row in zip(stamps, table, strict=True):
        track.add(stamp, se3.from_quaternion(row[1:4], row[4:]))
    return track


def read_pose_matrix(path: Path) -> Float64[np.ndarray, "4 4"] | None:
    """Read a 4x4 pose as text; None where it isn't finite, as trackers write where they are lost.

    Raises ValueError: another shape.
    """
    pose = np.loadtxt(path)
    if pose.shape != (4, 4):
        raise ValueError(f"{path}: got a matrix of {pose.shape}, wanted 4x4, camera to world")
    return pose if np.isfinite(pose).all() else None


def pose_at(track: PoseTrack, stamp_ns: int) -> Float64[np.ndarray, "4 4"] | None:
    """Interpolate the pose at a stamp; None where the track doesn't reach."""
    found = track.at(stamp_ns)
    return found[0] if found is not None else None


def parse_stamps_ns(texts: Iterable[str]) -> list[int]:
    """Turn seconds as text into ns, without the 200 ns that a float64 loses on a Unix time."""
    out = []
    for text in texts:
        whole, _, part = text.partition(".")
        out.append(
            int(whole) * NS_PER_S + int((part + "000000000")[:9])
            if part.isdigit() or not part
            else round(float(text) * NS_PER_S)
        )
    return out
