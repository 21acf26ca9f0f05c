"""``ours``: a folder as this project records it, one sequence per folder.

``frames.csv`` (index, stamp in s, color, depth, mask: files relative to the folder),
``camera.json`` (fx fy cx cy width height, depth_scale = units per metre), ``poses.txt`` (TUM
format, camera to map) and, where there is a map, ``objects.json`` with ``objects/*.ply``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from vos_ros.datasets.cameras import read_camera
from vos_ros.datasets.files import frame_numbers
from vos_ros.datasets.interface import DataSet, FrameFiles, Selection, VideoSequence
from vos_ros.datasets.object_maps import read_map_objects, read_object_infos
from vos_ros.datasets.registry import register
from vos_ros.datasets.trajectories import parse_stamps_ns, pose_at, read_trajectory
from vos_ros.geometry.pose_track import PoseTrack


def matches(root: Path) -> bool:
    """Tell whether the folder has a table of frames; a truth to score against needs no camera."""
    return (root / "frames.csv").is_file()


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the one sequence of the folder."""
    return [read_recorded_folder(root)]


def read_recorded_folder(root: Path) -> VideoSequence:
    """Read the tables of a folder; all but ``frames.csv`` may be missing.

    Of its columns, color or mask must be there: a folder may hold ground truth alone.
    Raises FileNotFoundError: no ``frames.csv``. Raises ValueError: a table that can't be read.
    """
    with open(root / "frames.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    if rows and not {"color", "mask"} & rows[0].keys():
        raise ValueError(
            f"{root / 'frames.csv'}: no column color or mask with file names; it has"
            f" {', '.join(rows[0])}"
        )
    camera, poses, objects = (root / n for n in ("camera.json", "poses.txt", "objects.json"))
    intrinsics, depth_scale = read_camera(camera) if camera.is_file() else (None, 1000.0)
    track = read_trajectory(poses) if poses.is_file() else PoseTrack()
    timed = bool(rows) and "stamp" in rows[0]
    stamps = parse_stamps_ns(r["stamp"] for r in rows) if timed else [None] * len(rows)
    names = [Path(r.get("color") or r.get("mask") or "").stem for r in rows]
    frames = tuple(
        FrameFiles(
            name=name,
            number=number,
            image=_file(root, row, "color"),
            mask=_file(root, row, "mask"),
            depth=_file(root, row, "depth"),
            stamp_ns=stamp,
            T_map_camera=None if stamp is None else pose_at(track, stamp),
        )
        for row, stamp, name, number in zip(rows, stamps, names, frame_numbers(names), strict=True)
    )
    return VideoSequence(
        name=root.resolve().name,
        dataset="ours",
        frames=frames,
        intrinsics=intrinsics,
        depth_scale=depth_scale,
        objects=read_object_infos(objects) if objects.is_file() else (),
        read_map=partial(read_map_objects, objects) if objects.is_file() else None,
    )


def _file(root: Path, row: Mapping[str, str], column: str) -> Path | None:
    return root / row[column] if row.get(column) else None


register(
    DataSet(
        name="ours",
        title="ours",
        layout="frames.csv + camera.json",
        matches=matches,
        sequences=sequences,
        has_camera=True,
        priority=1,  # a table of frames is written on purpose, whatever else the folder holds
    )
)
