"""``tum``: TUM RGB-D, one sequence per folder (Sturm et al., IROS 2012).

``rgb.txt``, ``depth.txt`` (stamp in s, file), ``groundtruth.txt``; depth has 5000 units per metre.
The files don't state the camera: the published defaults serve, or a ``camera.json`` next to the
lists.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vos_ros.datasets.cameras import read_camera
from vos_ros.datasets.interface import DataSet, FrameFiles, Selection, VideoSequence
from vos_ros.datasets.registry import register
from vos_ros.datasets.trajectories import parse_stamps_ns, pose_at, read_trajectory
from vos_ros.geometry.pose_track import PoseTrack
from vos_ros.types import Intrinsics

SLOP_NS = 20_000_000
"""Colour and depth belong together within this; the tools published with the set use the same."""

_CAMERA = Intrinsics(525.0, 525.0, 319.5, 239.5, 640, 480)
_DEPTH_SCALE = 5000.0


def matches(root: Path) -> bool:
    """Tell whether the folder has the two lists of images."""
    return (root / "rgb.txt").is_file() and (root / "depth.txt").is_file()


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the one sequence of the folder. Raises FileNotFoundError: no lists."""
    camera, poses = root / "camera.json", root / "groundtruth.txt"
    intrinsics, scale = read_camera(camera) if camera.is_file() else (_CAMERA, _DEPTH_SCALE)
    track = read_trajectory(poses) if poses.is_file() else PoseTrack()
    color_ns, colors = _read_list(root / "rgb.txt")
    depth_ns, depths = _read_list(root / "depth.txt")
    times = np.array(depth_ns, np.int64)
    frames = []
    for number, (stamp, name) in enumerate(zip(color_ns, colors, strict=True)):
        near = int(np.abs(times - stamp).argmin()) if len(times) else -1
        together = near >= 0 and abs(depth_ns[near] - stamp) <= SLOP_NS
        frames.append(
            FrameFiles(
                name=Path(name).stem,
                number=number,
                image=root / name,
                depth=root / depths[near] if together else None,
                stamp_ns=stamp,
                T_map_camera=pose_at(track, stamp),
            )
        )
    return [
        VideoSequence(
            name=root.resolve().name,
            dataset="tum",
            frames=tuple(frames),
            intrinsics=intrinsics,
            depth_scale=scale,
        )
    ]


def _read_list(path: Path) -> tuple[list[int], list[str]]:
    """Return stamps (ns) and file names of a list."""
    rows = [
        line.split()
        for line in path.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return parse_stamps_ns(r[0] for r in rows), [r[1] for r in rows]


register(
    DataSet(
        name="tum",
        title="TUM RGB-D",
        layout="rgb.txt + depth.txt",
        matches=matches,
        sequences=sequences,
        has_camera=True,
        has_masks=False,
    )
)
