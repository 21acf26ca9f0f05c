"""Frames from a folder: the layout of ours (frames.csv, camera.json, poses.txt, objects.json), TUM RGB-D, 7-Scenes.

ours      ``frames.csv`` (index, stamp s, color, depth), ``camera.json`` (fx fy cx cy width height, depth_scale = units per metre),
          ``poses.txt`` (TUM format, camera to map) and, where there is a map, ``objects.json`` with ``objects/*.ply``.
TUM       ``rgb.txt``, ``depth.txt``, ``groundtruth.txt``; depth 5000 units per metre.
7-Scenes  ``frame-NNNNNN.color.png``, ``.depth.png`` (mm, 65535 = none), ``.pose.txt``; 30 Hz.

Neither TUM nor 7-Scenes says what its camera is: the published defaults serve, or a ``camera.json`` beside the lists.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy.spatial import cKDTree

from vos_ros.datasets.ply import read_vertices
from vos_ros.geometry import se3
from vos_ros.geometry.pose_track import PoseTrack
from vos_ros.messages.stamps import NS_PER_S
from vos_ros.types import Frame, Intrinsics, MapObject, MapUpdate

SLOP_NS = 20_000_000
"""Colour and depth of TUM lists belong together within this (the tools published with the set use the same)."""


@dataclass(frozen=True, slots=True)
class _Record:
    stamp_ns: int
    color: Path
    depth: Path | None
    pose: Float64[np.ndarray, "4 4"] | None


@dataclass(frozen=True, slots=True)
class _Layout:
    records: tuple[_Record, ...]
    intrinsics: Intrinsics
    depth_scale: float
    objects: Path | None = None


class FolderSource:
    """A recorded folder as frames, its object map (where it has one) before the first frame.

    Raises ValueError (what was looked for, what was found) for a folder of no known layout, FileNotFoundError for no folder.
    ``layout``: auto, ours, tum, 7scenes. ``frames``: which of the frames to give, e.g. ``slice(0, 100)``.
    """

    map_frame = "map"

    def __init__(self, path: Path | str, layout: str = "auto", frames: slice | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"{self.path}: no such folder")
        self.layout = sniff(self.path) if layout == "auto" else layout
        if self.layout not in _READERS:
            raise ValueError(
                f"layout {layout!r} is not known: wanted auto or one of {', '.join(_READERS)}"
            )
        self._layout = _READERS[self.layout](self.path)
        self._records = self._layout.records[frames] if frames is not None else self._layout.records
        if not self._records:
            raise ValueError(
                f"{self.path}: no frames"
                + (f" in {frames}, the folder has {len(self._layout.records)}" if frames else "")
            )

    @property
    def intrinsics(self) -> Intrinsics:
        """The camera of every frame."""
        return self._layout.intrinsics

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        update = self.map_update()
        if update is not None:
            yield update
        for index, record in enumerate(self._records):
            yield self._frame(index, record)

    def map_update(self) -> MapUpdate | None:
        """The folder's objects as one snapshot, stamped as the first frame; None where it has no objects.json."""
        if self._layout.objects is None:
            return None
        return MapUpdate(
            stamp_ns=self._records[0].stamp_ns,
            session_id=self.path.resolve().name,
            revision=1,
            full=True,
            objects=read_objects(self._layout.objects),
            frame_id=self.map_frame,
        )

    def color_file(self, index: int) -> tuple[str, bytes]:
        """Format (jpeg, png, ...) and bytes of the colour image of frame ``index`` as it is stored."""
        path = self._records[index].color
        return {"jpg": "jpeg"}.get(
            path.suffix[1:].lower(), path.suffix[1:].lower()
        ), path.read_bytes()

    def _frame(self, index: int, record: _Record) -> Frame:
        k = self._layout.intrinsics
        rgb = read_color(record.color)
        if rgb.shape[:2] != (k.height, k.width):
            raise ValueError(
                f"{record.color}: got an image of {rgb.shape[1]}x{rgb.shape[0]} px, the camera has {k.width}x{k.height}"
            )
        depth = None
        if record.depth is not None:
            depth = read_depth(record.depth, self._layout.depth_scale)
            if depth.shape != rgb.shape[:2]:
                raise ValueError(
                    f"{record.depth}: got depth of {depth.shape[1]}x{depth.shape[0]} px, wanted it registered to the"
                    f" colour image, {k.width}x{k.height}"
                )
        return Frame(
            index=index,
            stamp_ns=record.stamp_ns,
            rgb=rgb,
            depth=depth,
            intrinsics=k,
            T_map_camera=record.pose,
        )


def read_color(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """An image file as RGB, its pixels as stored (an EXIF orientation is not applied: it would break the calibration)."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError(f"{path}: missing, or not an image that OpenCV reads")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def read_depth(path: Path, depth_scale: float) -> Float32[np.ndarray, "H W"]:
    """A 16-bit depth image in metres; 0 and 65535 (no measurement) become 0. ``depth_scale`` is units per metre."""
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.ndim != 2 or raw.dtype != np.uint16:
        got = "nothing that OpenCV reads" if raw is None else f"{raw.dtype} of shape {raw.shape}"
        raise ValueError(f"{path}: got {got}, wanted a 16-bit single-channel depth image")
    depth = raw.astype(np.float32)
    depth *= np.float32(1.0 / depth_scale)
    depth[raw == 65535] = 0.0
    return depth


def read_objects(path: Path) -> tuple[MapObject, ...]:
    """The map objects of an ``objects.json``: id, class, bbox_min/bbox_max (m), ply (relative to the file).

    ``T_map_object`` is the box's centre with identity rotation, ``size`` the box's extents;
    ``class_id`` is the entry's own where it has one, else 1 + the place of its class in the alphabet of the file's classes.
    """
    entries = json.loads(path.read_text())
    entries = entries["objects"] if isinstance(entries, dict) else entries
    classes = sorted({e["class"] for e in entries})
    return tuple(
        _read_object(path, e, int(e.get("class_id", 1 + classes.index(e["class"]))))
        for e in entries
    )


def _read_object(path: Path, entry: dict[str, object], class_id: int) -> MapObject:
    try:
        low, high = (np.asarray(entry[k], np.float64) for k in ("bbox_min", "bbox_max"))
        points = read_vertices(path.parent / str(entry["ply"]))
        object_id = int(str(entry["id"]))
    except KeyError as e:
        raise ValueError(
            f"{path}: object {entry.get('id', '?')} has no {e}; wanted id, class, bbox_min, bbox_max, ply"
        ) from e
    T_map_object = np.eye(4)
    T_map_object[:3, 3] = (low + high) / 2
    return MapObject(
        id=object_id,
        class_id=class_id,
        T_map_object=T_map_object,
        size=high - low,
        points=points,
        point_radius=point_radius(points),
        revision=1,
    )


def point_radius(points: Float32[np.ndarray, "M 3"]) -> float:
    """Radius in m of the disks that close the surface sampled by ``points``: half the diagonal of their spacing.

    Spacing = median over points of the mean distance to the 4 nearest neighbours: exact on a square grid, and on vertices of a
    mesh (whose very nearest neighbour is nearer than the spacing) within 5 %.
    """
    if len(points) < 5:
        return 0.005
    some = points[:: max(1, len(points) // 2000)]
    distances = np.asarray(cKDTree(points).query(some, k=5)[0])[:, 1:]
    return float(np.median(distances.mean(1)) * np.sqrt(2) / 2)


def read_trajectory(path: Path) -> PoseTrack:
    """A TUM trajectory, ``stamp tx ty tz qx qy qz qw`` per line: T_map_camera over time."""
    table = np.loadtxt(path, comments="#", ndmin=2)
    if table.shape[1] != 8:
        raise ValueError(
            f"{path}: got {table.shape[1]} columns, wanted 8: stamp tx ty tz qx qy qz qw"
        )
    stamps = _stamps_ns(
        [
            line.split()[0]
            for line in path.read_text().splitlines()
            if line.strip() and line[0] != "#"
        ]
    )
    track = PoseTrack()
    for stamp, row in zip(stamps, table, strict=True):
        track.add(stamp, se3.from_quaternion(row[1:4], row[4:]))
    return track


def _stamps_ns(texts: list[str]) -> list[int]:
    """Seconds as text to nanoseconds, without the 200 ns that a float64 loses on a Unix time."""
    out = []
    for text in texts:
        whole, _, part = text.partition(".")
        out.append(
            int(whole) * NS_PER_S + int((part + "000000000")[:9])
            if part.isdigit() or not part
            else round(float(text) * NS_PER_S)
        )
    return out


def _pose_at(track: PoseTrack, stamp_ns: int) -> Float64[np.ndarray, "4 4"] | None:
    found = track.at(stamp_ns)
    return found[0] if found is not None else None


def _camera(path: Path) -> tuple[Intrinsics, float]:
    values = json.loads(path.read_text())
    missing = [k for k in ("fx", "fy", "cx", "cy", "width", "height") if k not in values]
    if missing:
        raise ValueError(
            f"{path}: no {', '.join(missing)}; wanted fx fy cx cy (px), width, height and depth_scale (units per metre)"
        )
    return (
        Intrinsics(
            float(values["fx"]),
            float(values["fy"]),
            float(values["cx"]),
            float(values["cy"]),
            int(values["width"]),
            int(values["height"]),
        ),
        float(values.get("depth_scale", 1000.0)),
    )


def _read_ours(root: Path) -> _Layout:
    intrinsics, depth_scale = _camera(root / "camera.json")
    track = read_trajectory(root / "poses.txt") if (root / "poses.txt").is_file() else PoseTrack()
    with open(root / "frames.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    stamps = _stamps_ns([r["stamp"] for r in rows])
    records = tuple(
        _Record(
            stamp,
            root / r["color"],
            root / r["depth"] if r.get("depth") else None,
            _pose_at(track, stamp),
        )
        for stamp, r in zip(stamps, rows, strict=True)
    )
    objects = root / "objects.json"
    return _Layout(records, intrinsics, depth_scale, objects if objects.is_file() else None)


def _read_list(path: Path) -> tuple[list[int], list[str]]:
    rows = [
        line.split()
        for line in path.read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return _stamps_ns([r[0] for r in rows]), [r[1] for r in rows]


def _read_tum(root: Path) -> _Layout:
    intrinsics, depth_scale = Intrinsics(525.0, 525.0, 319.5, 239.5, 640, 480), 5000.0
    if (root / "camera.json").is_file():
        intrinsics, depth_scale = _camera(root / "camera.json")
    track = (
        read_trajectory(root / "groundtruth.txt")
        if (root / "groundtruth.txt").is_file()
        else PoseTrack()
    )
    color_ns, colors = _read_list(root / "rgb.txt")
    depth_ns, depths = _read_list(root / "depth.txt")
    times = np.array(depth_ns, np.int64)
    records = []
    for stamp, name in zip(color_ns, colors, strict=True):
        near = int(np.abs(times - stamp).argmin()) if len(times) else -1
        depth = (
            root / depths[near] if near >= 0 and abs(depth_ns[near] - stamp) <= SLOP_NS else None
        )
        records.append(_Record(stamp, root / name, depth, _pose_at(track, stamp)))
    return _Layout(tuple(records), intrinsics, depth_scale)


def _read_7scenes(root: Path) -> _Layout:
    intrinsics, depth_scale = Intrinsics(585.0, 585.0, 320.0, 240.0, 640, 480), 1000.0
    if (root / "camera.json").is_file():
        intrinsics, depth_scale = _camera(root / "camera.json")
    records = []
    for color in sorted(root.glob("frame-*.color.png")):
        name = color.name.removesuffix(".color.png")
        index = int(name.removeprefix("frame-"))
        depth, pose = root / f"{name}.depth.png", root / f"{name}.pose.txt"
        records.append(
            _Record(
                index * NS_PER_S // 30,
                color,
                depth if depth.is_file() else None,
                _matrix(pose) if pose.is_file() else None,
            )
        )
    return _Layout(tuple(records), intrinsics, depth_scale)


def _matrix(path: Path) -> Float64[np.ndarray, "4 4"] | None:
    """A 4x4 pose; None where it isn't finite (the tracker of 7-Scenes writes such where it was lost)."""
    pose = np.loadtxt(path)
    if pose.shape != (4, 4):
        raise ValueError(f"{path}: got a matrix of {pose.shape}, wanted 4x4, camera to world")
    return pose if np.isfinite(pose).all() else None


_READERS: dict[str, Callable[[Path], _Layout]] = {
    "ours": _read_ours,
    "tum": _read_tum,
    "7scenes": _read_7scenes,
}


def sniff(root: Path) -> str:
    """Name of the folder's layout; ValueError lists what each layout needs and what was found."""
    if (root / "frames.csv").is_file() and (root / "camera.json").is_file():
        return "ours"
    if (root / "rgb.txt").is_file() and (root / "depth.txt").is_file():
        return "tum"
    if any(root.glob("frame-*.color.png")):
        return "7scenes"
    found = sorted(p.name for p in root.iterdir())
    raise ValueError(
        f"{root}: no layout that is known. Looked for frames.csv + camera.json (ours), rgb.txt + depth.txt (TUM RGB-D),"
        f" frame-*.color.png (7-Scenes); the folder holds {', '.join(found[:12]) or 'nothing'}"
        + (f" and {len(found) - 12} more" if len(found) > 12 else "")
    )
