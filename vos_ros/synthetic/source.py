"""A synthetic RGB-D sequence with everything known: frames, instance ids, poses, and the object map a mapper would hold.

A seed names a sequence exactly: the same ``SyntheticSpec`` gives the same bytes, and a longer sequence begins with the frames of
a shorter one. The world itself is in ``synthetic_world``, camera motion and sensor in ``synthetic_sensor``.
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
from jaxtyping import Float32, Float64, UInt8
from PIL import Image
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from vos_ros.geometry.camera import unproject
from vos_ros.geometry.voxels import first_in_each_voxel
from vos_ros.synthetic import scenes
from vos_ros.synthetic.sensor import camera_pose, sense_color, sense_depth, sweep_pose
from vos_ros.synthetic.world import View, World, WorldObject
from vos_ros.types import Frame, Intrinsics, MapObject, MapUpdate

START_NS = 100_000_000_000
MAP_MODES = ("full", "incremental")
DRIFTS = ("none", "random_walk", "constant")
_VOXEL_M, _POINT_SIGMA_M, _POINT_RADIUS_M = 0.008, 0.003, 0.006
_MIN_POINTS = 30
_MAPPING_VIEWS, _MAPPING_SPAN_S = 9, 9.0
_KEYFRAME_EVERY = 5
_EXPOSURE_S = 0.02
_SEEN_PX = 60  # in a view of 160x120


@dataclass(frozen=True)
class SyntheticSpec:
    """Names a sequence. Size in px, rate of the stamps in Hz.

    ``scene``: "table", a table full of things that stand still; "crossing", two that look alike pass each other in the image behind a
    third; "removed", some are taken away after they were seen, and stay in the map. The last two are set out in ``synthetic_scenes``.
    ``map_mode``: "full" gives one snapshot before the first frame, from an earlier look at part of the orbit; "incremental"
    begins with an empty map and adds objects and points as the camera discovers them. ``drift`` moves the reported poses (never
    the images): "random_walk" by ``drift_m`` and ``drift_deg`` per square root of a second and axis, "constant" by that much
    per second along one random direction and axis; the covariance stated with the poses grows with it. ``motion_blur`` is the
    number of instants averaged over the exposure, 1 = none.
    """

    seed: int = 0
    frames: int = 120
    width: int = 480
    height: int = 360
    rate_hz: float = 10.0
    map_mode: str = "full"
    drift: str = "none"
    drift_m: float = 0.02
    drift_deg: float = 0.5
    motion_blur: int = 1
    scene: str = "table"

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
    """A frame with its truth: object ids per pixel (0 = room), the camera's true pose, and the view before the sensor."""

    frame: Frame
    ids: UInt8[np.ndarray, "H W"]
    T_map_camera: Float64[np.ndarray, "4 4"]
    view: View


@lru_cache(maxsize=2)
def _world(seed: int, scene: str, without: frozenset[int] = frozenset()) -> World:
    return World(seed, scene, without)


class SyntheticSource:
    """A ``FrameSource``; also random access to its frames with their truth. Raises ImportError where Open3D is missing."""

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
        """All objects of the world; the map may lack some that it has not seen yet."""
        return self._world.objects

    @property
    def removed_ns(self) -> dict[int, int]:
        """The objects that are taken away, and since when they are gone: only in the scene "removed", and where the sequence lasts so
        long."""
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
            if self.spec.map_mode == "incremental" and index % _KEYFRAME_EVERY == 0:
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
        """Stamp of a frame."""
        return START_NS + round(index * 1e9 / self.spec.rate_hz)

    def capture(self, index: int) -> Capture:
        """Frame ``index`` with its truth. IndexError outside 0..len-1."""
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
        """The map that the mapper holds from an earlier look at part of the orbit, whatever ``map_mode`` says: revision 1."""
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

    def _mapped(self, full: bool | None = None) -> _Mapper:
        mapper = _Mapper(self._world.objects, self.spec.seed)
        if full if full is not None else self.spec.map_mode == "full":
            camera = Intrinsics(288.0, 288.0, 159.5, 119.5, 320, 240)
            for time_s in np.linspace(0.0, _MAPPING_SPAN_S, _MAPPING_VIEWS):
                T = self._pose(float(time_s), look_away=False)
                mapper.integrate(self._world.render(T, camera, smooth=False), camera, T)
        return mapper

    def _pose(self, time_s: float, *, look_away: bool = True) -> Float64[np.ndarray, "4 4"]:
        if self.spec.scene == "crossing":
            return sweep_pose(self.spec.seed, time_s)
        return camera_pose(self.spec.seed, time_s, look_away=look_away)

    def _world_at(self, time_s: float) -> World:
        gone = self._removed and time_s >= scenes.removal_s(self.spec.seed)
        return _world(self.spec.seed, self.spec.scene, self._removed) if gone else self._world

    def _taken_away(self) -> frozenset[int]:
        """Some of the objects that the camera saw well before; nothing that something else lies on."""
        camera = Intrinsics(144.0, 144.0, 79.5, 59.5, 160, 120)
        times_s = np.linspace(0.0, scenes.removal_s(self.spec.seed), 6)
        views = [
            self._world.render(self._pose(float(t)), camera, smooth=False).ids for t in times_s
        ]
        seen = (
            np.max(
                [np.bincount(ids.ravel(), minlength=len(self.objects) + 1) for ids in views], axis=0
            )
            >= _SEEN_PX
        )
        return scenes.removed(
            self.spec.seed, [o.id for o in self.objects if seen[o.id] and o.name != "book_large"]
        )

    def _reported(
        self, T: Float64[np.ndarray, "4 4"], index: int
    ) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "6 6"] | None]:
        """The pose as odometry would tell it, with its covariance in the map frame's axes."""
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


class _Mapper:
    """The points a mapper has of each object: surfaces seen so far, one noisy point per voxel."""

    def __init__(self, objects: Sequence[WorldObject], seed: int) -> None:
        self._objects = objects
        self._rng = np.random.default_rng((seed, 3))
        self._voxels: dict[int, set[tuple[int, int, int]]] = {o.id: set() for o in objects}
        self._points: dict[int, Float32[np.ndarray, "M 3"]] = {
            o.id: np.zeros((0, 3), np.float32) for o in objects
        }
        self._published: dict[int, int] = {}

    def integrate(
        self, view: View, intrinsics: Intrinsics, T_map_camera: Float64[np.ndarray, "4 4"]
    ) -> None:
        """Adds the surfaces of a view."""
        rows, columns = np.nonzero(view.ids)
        z = view.depth[rows, columns].astype(float)
        camera = unproject(np.stack([columns, rows], 1), z, intrinsics)
        points = camera @ T_map_camera[:3, :3].T + T_map_camera[:3, 3]
        owner = view.ids[rows, columns]
        for number in np.unique(owner):
            mine = points[owner == number]
            mine = mine[self._rng.permutation(len(mine))]
            cells, first = first_in_each_voxel(mine, _VOXEL_M)
            known = self._voxels[int(number)]
            new = [
                k
                for k, cell in zip(first, map(tuple, cells.tolist()), strict=True)
                if cell not in known
            ]
            known.update(map(tuple, cells.tolist()))
            noisy = mine[new] + self._rng.normal(0, _POINT_SIGMA_M, (len(new), 3))
            self._points[int(number)] = np.concatenate(
                [self._points[int(number)], noisy.astype(np.float32)]
            )

    def changed(self) -> tuple[int, ...]:
        """Ids of objects that are new or have grown by a quarter since they were last asked for."""
        grown = {
            i: len(p)
            for i, p in self._points.items()
            if len(p) >= max(_MIN_POINTS, 1.25 * self._published.get(i, 0))
        }
        self._published.update(grown)
        return tuple(grown)

    def objects(self, ids: Sequence[int], revision: int) -> tuple[MapObject, ...]:
        """The map's entries of these objects: box and pose from their points, axes parallel to the map's."""
        out = []
        for o in self._objects:
            if o.id in ids:
                points = self._points[o.id]
                low, high = points.min(0), points.max(0)
                T = np.eye(4)
                T[:3, 3] = (low + high) / 2
                size = (high - low).astype(float)
                out.append(
                    MapObject(o.id, o.class_id, T, size, points, _POINT_RADIUS_M, revision=revision)
                )
        return tuple(out)


def write_folder(source: SyntheticSource, directory: Path | str, *, progress: bool = False) -> None:
    """Writes the sequence as a folder: color/, depth/, masks/, poses.txt, camera.json, frames.csv, objects.json, objects/*.ply.

    Poses are the reported ones (with drift, where asked for); masks are the truth; the PLYs are ``map_snapshot``. ``removed_s`` in
    objects.json is the stamp (s) from which on an object is gone. The folder is made where it is missing; files of the same names
    are overwritten.
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
            visible[number] += int(count[number] >= 50)
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
    """RGB of the 256 mask values: black for 0, then well spread hues."""
    hue = (np.arange(256) * 0.6180339887 % 1.0)[None, :, None]
    hsv = np.concatenate([hue * 179, np.full_like(hue, 190), np.full_like(hue, 235)], -1).astype(
        np.uint8
    )
    colors = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0]
    colors[0] = 0
    return [int(v) for v in colors.ravel()]
