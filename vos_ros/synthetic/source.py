"""A synthetic RGB-D sequence with everything known: frames, instance ids, poses, object map.

A seed names a sequence exactly: the same ``SyntheticSpec`` gives the same bytes, and a longer
sequence begins with the frames of a shorter one. The world itself is in ``world``, camera motion
and sensor in ``sensor``, the mapper's points in ``map_points``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from vos_ros.synthetic import scenes
from vos_ros.synthetic.catalogue import GOLDEN_SECTION
from vos_ros.synthetic.map_points import MapPoints
from vos_ros.synthetic.sensor import camera_pose, sense_color, sense_depth, sweep_pose
from vos_ros.synthetic.world import View, World, WorldObject
from vos_ros.types import Frame, Intrinsics, MapObject, MapUpdate

START_NS = 100_000_000_000
"""Stamp of the first frame."""
MAP_MODES = ("full", "incremental")
DRIFTS = ("none", "random_walk", "constant")
_MAPPING_VIEWS, _MAPPING_SPAN_S = 9, 9.0
"""Views of which the full map is made, and the time over which they are spread."""
_KEYFRAME_INTERVAL = 5
"""Frames between two that the incremental map is extended with."""
_EXPOSURE_S = 0.02
"""Time over which the instants of a blurred image are spread."""
_MIN_SEEN_PX = 60
"""Least pixels, in a view of 160x120, of an object that was well visible before it is removed."""
_MIN_VISIBLE_PX = 50
"""Least pixels of an object in a frame that counts for ``frames_visible``."""


@dataclass(frozen=True)
class SyntheticSpec:
    """Name a sequence."""

    seed: int = 0
    """Of all that is drawn."""
    frames: int = 120
    """Number of frames."""
    width: int = 480
    """Of the images, px."""
    height: int = 360
    """Of the images, px."""
    rate_hz: float = 10.0
    """Of the stamps."""
    map_mode: str = "full"
    """"full" gives one snapshot before the first frame, from an earlier orbit around a part of the
    table. "incremental" begins with an empty map and adds objects and points as the camera
    discovers them."""
    drift: str = "none"
    """Error of the reported poses (never of the images). "random_walk" is by ``drift_m`` and
    ``drift_deg`` per square root of a second and axis, "constant" by that much per second along one
    random direction and axis. The covariance of the poses grows with it."""
    drift_m: float = 0.02
    """Drift of the position."""
    drift_deg: float = 0.5
    """Drift of the rotation."""
    motion_blur: int = 1
    """Number of instants averaged over the exposure; 1 = none."""
    scene: str = "table"
    """"table": a table full of things that stand still. "crossing": two that look alike pass each
    other in the image behind a third. "removed": some are taken away after they were visible, and
    stay in the map. See ``scenes``."""

    def __post_init__(self) -> None:
        words = (
            ("map_mode", self.map_mode, MAP_MODES),
            ("drift", self.drift, DRIFTS),
            ("scene", self.scene, scenes.SCENES),
        )
        for name, value, choices in words:
            if value not in choices:
                raise ValueError(f"{name}: got {value!r}, wanted one of {', '.join(choices)}")
        bounds = {
            "seed": (0, 2**32 - 1),
            "frames": (1, 100_000),
            "width": (64, 4096),
            "height": (48, 4096),
            "rate_hz": (0.1, 1000.0),
            "drift_m": (0.0, 10.0),
            "drift_deg": (0.0, 90.0),
            "motion_blur": (1, 32),
        }
        for name, (low, high) in bounds.items():
            number = getattr(self, name)
            if not low <= number <= high:
                raise ValueError(f"{name}: got {number}, wanted {low:g}..{high:g}")


@dataclass(frozen=True, eq=False, slots=True)
class Capture:
    """Hold a frame with its truth."""

    frame: Frame
    """The frame, with the reported pose."""
    ids: UInt8[np.ndarray, "H W"]
    """Object of each pixel; 0 for the room."""
    T_map_camera: Float64[np.ndarray, "4 4"]
    """The camera's true pose."""
    view: View
    """The image before the sensor."""


@lru_cache(maxsize=2)
def _world(seed: int, scene: str, without: frozenset[int] = frozenset()) -> World:
    return World(seed, scene, without)


class SyntheticSource:
    """Give frames in order, as a ``FrameSource``, and any frame with its truth.

    Raises ImportError: Open3D is missing.
    """

    map_frame = "map"

    def __init__(self, spec: SyntheticSpec | None = None) -> None:
        self.spec = spec if spec is not None else SyntheticSpec()
        s = self.spec
        self._world = _world(s.seed, s.scene)
        self._removed = self._taken_away() if s.scene == "removed" else frozenset()
        focal = 0.9 * max(s.width, s.height * 4 / 3)
        self.intrinsics = Intrinsics(
            focal, focal, (s.width - 1) / 2, (s.height - 1) / 2, s.width, s.height
        )

    @property
    def objects(self) -> tuple[WorldObject, ...]:
        """Return all objects of the world; the map may lack some."""
        return self._world.objects

    @property
    def removed_ns(self) -> dict[int, int]:
        """Return the stamps (ns) from which on objects are removed, by id.

        There are some only in the scene "removed", and where the sequence lasts so long.
        """
        gone_ns = START_NS + round(scenes.removal_s(self.spec.seed) * 1e9)
        return (
            {i: gone_ns for i in sorted(self._removed)}
            if gone_ns <= self.stamp_ns(len(self) - 1)
            else {}
        )

    def __len__(self) -> int:
        return self.spec.frames

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        mapper, revision = self._mapped(), 1
        yield self._update(1, START_NS, mapper.objects(mapper.changed(), 1), full=True)
        for index in range(len(self)):
            capture = self.capture(index)
            yield capture.frame
            if self.spec.map_mode == "incremental" and index % _KEYFRAME_INTERVAL == 0:
                mapper.integrate(capture.view, self.intrinsics, capture.T_map_camera)
                changed = mapper.changed()
                if changed:
                    revision += 1
                    yield self._update(
                        revision,
                        capture.frame.stamp_ns,
                        mapper.objects(changed, revision),
                        full=False,
                    )

    def stamp_ns(self, index: int) -> int:
        """Compute the stamp of a frame."""
        return START_NS + round(index * 1e9 / self.spec.rate_hz)

    def capture(self, index: int) -> Capture:
        """Render frame ``index`` with its truth.

        Raises IndexError: it is outside 0..len-1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of a sequence of {len(self)} frames")
        spec, stamp = self.spec, self.stamp_ns(index)
        time_s = (stamp - START_NS) / 1e9
        rng = np.random.default_rng((spec.seed, 5, index))
        T, world = self._pose(time_s), self._world_at(time_s)
        view = world.render(T, self.intrinsics)
        color = view.color
        if spec.motion_blur > 1:
            offsets = (np.arange(spec.motion_blur) / (spec.motion_blur - 1) - 0.5) * _EXPOSURE_S
            moments = [
                world.render(self._pose(time_s + dt), self.intrinsics, smooth=False)
                for dt in offsets
            ]
            color = np.asarray(np.mean([m.color for m in moments], axis=0), np.float32)
        exposure = 1.0 + 0.06 * float(np.sin(0.9 * time_s + spec.seed))
        reported, cov = self._reported(T, index)
        frame = Frame(
            index,
            stamp,
            sense_color(color, exposure, rng),
            sense_depth(view, rng),
            self.intrinsics,
            reported,
            cov,
        )
        return Capture(frame, view.ids.astype(np.uint8), T, view)

    def map_snapshot(self) -> MapUpdate:
        """Return the full map, whatever ``map_mode`` is: revision 1."""
        mapper = self._mapped(full=True)
        return self._update(1, START_NS, mapper.objects(mapper.changed(), 1), full=True)

    def _update(
        self, revision: int, stamp_ns: int, objects: tuple[MapObject, ...], *, full: bool
    ) -> MapUpdate:
        return MapUpdate(
            stamp_ns,
            f"synthetic-{self.spec.seed}",
            revision,
            full,
            objects,
            frame_id=self.map_frame,
        )

    def _mapped(self, full: bool | None = None) -> MapPoints:
        mapper = MapPoints(self._world.objects, self.spec.seed)
        if full if full is not None else self.spec.map_mode == "full":
            camera = Intrinsics(288.0, 288.0, 159.5, 119.5, 320, 240)
            for time_s in np.linspace(0.0, _MAPPING_SPAN_S, _MAPPING_VIEWS):
                T = self._pose(float(time_s), turn_away=False)
                mapper.integrate(self._world.render(T, camera, smooth=False), camera, T)
        return mapper

    def _pose(self, time_s: float, *, turn_away: bool = True) -> Float64[np.ndarray, "4 4"]:
        if self.spec.scene == "crossing":
            return sweep_pose(self.spec.seed, time_s)
        return camera_pose(self.spec.seed, time_s, turn_away=turn_away)

    def _world_at(self, time_s: float) -> World:
        gone = self._removed and time_s >= scenes.removal_s(self.spec.seed)
        return _world(self.spec.seed, self.spec.scene, self._removed) if gone else self._world

    def _taken_away(self) -> frozenset[int]:
        """Choose objects that were well visible before, and on which nothing else lies."""
        camera = Intrinsics(144.0, 144.0, 79.5, 59.5, 160, 120)
        times_s = np.linspace(0.0, scenes.removal_s(self.spec.seed), 6)
        views = [
            self._world.render(self._pose(float(t)), camera, smooth=False).ids for t in times_s
        ]
        seen = (
            np.max(
                [np.bincount(ids.ravel(), minlength=len(self.objects) + 1) for ids in views], axis=0
            )
            >= _MIN_SEEN_PX
        )
        return scenes.removed(
            self.spec.seed, [o.id for o in self.objects if seen[o.id] and o.name != "book_large"]
        )

    def _reported(
        self, T: Float64[np.ndarray, "4 4"], index: int
    ) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "6 6"] | None]:
        """Compute the pose as odometry would report it, with its covariance (map axes)."""
        spec = self.spec
        if spec.drift == "none":
            return T, None
        rng = np.random.default_rng((spec.seed, 6))
        scale = np.repeat([spec.drift_m, np.radians(spec.drift_deg)], 3)
        time_s = index / spec.rate_hz
        if spec.drift == "constant":
            way = rng.normal(size=(2, 3))
            error = scale * (way / np.linalg.norm(way, axis=1, keepdims=True)).ravel() * time_s
            cov = np.diag((scale * time_s) ** 2)
        else:
            error = scale * rng.normal(size=(spec.frames, 6))[:index].sum(0) / np.sqrt(spec.rate_hz)
            cov = np.diag(scale**2 * time_s)
        reported = np.eye(4)
        reported[:3, :3] = Rotation.from_rotvec(error[3:]).as_matrix() @ T[:3, :3]
        reported[:3, 3] = T[:3, 3] + error[:3]
        return reported, cov


def write_folder(source: SyntheticSource, directory: Path | str, *, progress: bool = False) -> None:
    """Write the sequence as a folder.

    It holds color/, depth/, masks/, poses.txt, camera.json, frames.csv, objects.json and
    objects/*.ply. Poses are the reported ones (with drift, where asked for); masks are the truth;
    the PLYs are ``map_snapshot``. ``removed_s`` in objects.json is the stamp (s) from which on an
    object is removed. The folder is made where it is missing; files of the same names are
    overwritten.
    """
    root = Path(directory)
    for name in ("color", "depth", "masks", "objects"):
        (root / name).mkdir(parents=True, exist_ok=True)
    palette = _palette()
    visible = {o.id: 0 for o in source.objects}
    poses, rows = ["# timestamp tx ty tz qx qy qz qw (camera to world, optical frame)"], []
    for index in tqdm(range(len(source)), desc="rendering", unit="frame", disable=not progress):
        capture = source.capture(index)
        frame, name = capture.frame, f"{index:06d}"
        assert frame.depth is not None and frame.T_map_camera is not None
        _imwrite(
            root / "color" / f"{name}.jpg", frame.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]
        )
        millimetres = np.rint(frame.depth * 1000.0).astype(np.uint16)
        _imwrite(root / "depth" / f"{name}.png", millimetres, [cv2.IMWRITE_PNG_COMPRESSION, 3])
        mask = Image.fromarray(capture.ids, mode="L")
        mask.putpalette(palette)
        mask.save(root / "masks" / f"{name}.png")
        stamp = f"{frame.stamp_ns // 10**9}.{frame.stamp_ns % 10**9:09d}"
        q = Rotation.from_matrix(frame.T_map_camera[:3, :3]).as_quat()
        poses.append(
            " ".join(
                [stamp, *(f"{v:.6f}" for v in frame.T_map_camera[:3, 3]), *(f"{v:.7f}" for v in q)]
            )
        )
        rows.append([index, stamp, f"color/{name}.jpg", f"depth/{name}.png", f"masks/{name}.png"])
        count = np.bincount(capture.ids.ravel(), minlength=256)
        for number in visible:
            visible[number] += int(count[number] >= _MIN_VISIBLE_PX)
    (root / "poses.txt").write_text("\n".join(poses) + "\n")
    k = source.intrinsics
    camera = {
        "fx": k.fx,
        "fy": k.fy,
        "cx": k.cx,
        "cy": k.cy,
        "width": k.width,
        "height": k.height,
        "depth_scale": 1000.0,
    }
    (root / "camera.json").write_text(json.dumps(camera, indent=1))
    with open(root / "frames.csv", "w", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerows([["index", "stamp", "color", "depth", "mask"], *rows])
    _write_map(source, root, visible)


def _write_map(source: SyntheticSource, root: Path, visible: dict[int, int]) -> None:
    named, entries = {o.id: o for o in source.objects}, []
    for entry in source.map_snapshot().objects:
        o, ply = named[entry.id], f"objects/{entry.id:02d}_{named[entry.id].name}.ply"
        low, high = entry.points.min(0), entry.points.max(0)
        places = {"centroid": entry.points.mean(0), "bbox_min": low, "bbox_max": high}
        entries.append(
            {
                "id": o.id,
                "name": o.name,
                "class": o.class_name,
                "class_id": o.class_id,
                "alike_group": o.alike_group or None,
                **{k: [round(float(x), 4) for x in v] for k, v in places.items()},
                "num_points": len(entry.points),
                "frames_visible": visible[o.id],
                "ply": ply,
                **(
                    {"removed_s": source.removed_ns[o.id] / 1e9}
                    if o.id in source.removed_ns
                    else {}
                ),
            }
        )
        header = (
            f"ply\nformat binary_little_endian 1.0\nelement vertex {len(entry.points)}\n"
            "property float x\nproperty float y\nproperty float z\nend_header\n"
        )
        (root / ply).write_bytes(header.encode() + entry.points.astype("<f4").tobytes())
    (root / "objects.json").write_text(json.dumps(entries, indent=1))


def _imwrite(path: Path, image: np.ndarray, options: Sequence[int]) -> None:
    if not cv2.imwrite(str(path), image, options):
        raise OSError(f"cannot write {path}: is the disk full, or the folder read-only?")


def _palette() -> list[int]:
    """Choose the RGB of the 256 mask values: black for 0, then well spread hues."""
    hue = (np.arange(256) * GOLDEN_SECTION % 1.0)[None, :, None]
    hsv = np.concatenate([hue * 179, np.full_like(hue, 190), np.full_like(hue, 235)], -1).astype(
        np.uint8
    )
    colors = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]
    colors[0] = 0
    return [int(v) for v in colors.ravel()]
