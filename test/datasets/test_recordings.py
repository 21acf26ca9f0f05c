"""Folders of every layout, each made small by the test."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from vos_ros.datasets.object_maps import point_radius
from vos_ros.datasets.ours import read_recorded_folder
from vos_ros.datasets.ply import ply_bytes
from vos_ros.datasets.source import SequenceSource, open_recording
from vos_ros.datasets.trajectories import read_trajectory
from vos_ros.sources.interface import FrameSource
from vos_ros.types import Frame, MapUpdate

H, W = 12, 16
RGB = np.dstack([np.full((H, W), v, np.uint8) for v in (200, 100, 50)])
DEPTH = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 100
CAMERA = {
    "fx": 20.0,
    "fy": 21.0,
    "cx": 8.0,
    "cy": 6.0,
    "width": W,
    "height": H,
    "depth_scale": 1000.0,
}


def image(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[:, :, ::-1] if array.ndim == 3 else array)


def ours(root: Path, frames: int = 3) -> Path:
    rows = ["index,stamp,color,depth,mask"]
    for i in range(frames):
        image(root / f"color/{i}.png", RGB)
        image(root / f"depth/{i}.png", DEPTH)
        rows.append(f"{i},{i / 10:.6f},color/{i}.png,depth/{i}.png,masks/{i}.png")
    (root / "frames.csv").write_text("\n".join(rows))
    (root / "camera.json").write_text(json.dumps(CAMERA))
    half = np.sqrt(0.5)
    (root / "poses.txt").write_text(
        "# stamp ...\n0.000000 1 2 3 0 0 0 1\n0.050000 2 2 3 0 0 0 1\n"
        f"0.200000 5 2 3 0 0 {half} {half}\n"
    )
    points = np.array([[0, 0, 0], [1, 2, 3]], "<f4")
    (root / "objects").mkdir()
    (root / "objects/1.ply").write_bytes(ply_bytes(dict(zip("xyz", points.T, strict=True))))
    entry = {"name": "n", "bbox_min": [0, 0, 0], "bbox_max": [1, 2, 3], "ply": "objects/1.ply"}
    (root / "objects.json").write_text(
        json.dumps(
            [
                {**entry, "id": 7, "class": "mug"},
                {**entry, "id": 3, "class": "cup"},
                {**entry, "id": 9, "class": "mug", "class_id": 40},
            ]
        )
    )
    return root


def tum(root: Path) -> Path:
    for name in ("rgb/a.png", "rgb/b.png", "rgb/c.png"):
        image(root / name, RGB)
    image(root / "depth/a.png", DEPTH)
    (root / "rgb.txt").write_text(
        "# color\n1305031102.175304 rgb/a.png\n1305031102.211214 rgb/b.png\n"
        "1305031103.0 rgb/c.png\n"
    )
    (root / "depth.txt").write_text("# depth\n1305031102.160407 depth/a.png\n")
    (root / "groundtruth.txt").write_text(
        "1305031102.1 0 0 0 0 0 0 1\n1305031102.3 2 0 0 0 0 0 1\n"
    )
    (root / "camera.json").write_text(json.dumps({**CAMERA, "depth_scale": 5000.0}))
    return root


def seven_scenes(root: Path) -> Path:
    big, far = np.zeros((480, 640, 3), np.uint8), np.full((480, 640), 65535, np.uint16)
    far[0, 0] = 1234
    for i in (0, 3):
        image(root / f"frame-{i:06d}.color.png", big)
        image(root / f"frame-{i:06d}.depth.png", far)
    np.savetxt(root / "frame-000000.pose.txt", np.diag([1.0, 1.0, 1.0, 1.0]) + np.eye(4, k=3))
    np.savetxt(root / "frame-000003.pose.txt", np.full((4, 4), -np.inf))
    return root


def frames_of(source: SequenceSource) -> list[Frame]:
    return [i for i in source if isinstance(i, Frame)]


def test_our_layout(tmp_path: Path) -> None:
    source = open_recording(ours(tmp_path))
    assert (
        isinstance(source, FrameSource) and source.sequence.dataset == "ours" and len(source) == 3
    )
    update, *frames = list(source)
    assert (
        isinstance(update, MapUpdate)
        and update.full
        and update.stamp_ns == 0
        and update.session_id == tmp_path.name
    )
    assert [(o.id, o.class_id) for o in update.objects] == [(7, 2), (3, 1), (9, 40)]
    first = update.objects[0]
    np.testing.assert_allclose(
        first.T_map_object[:3], np.hstack([np.eye(3), [[0.5], [1.0], [1.5]]])
    )
    assert first.size.tolist() == [1, 2, 3] and first.points.tolist() == [[0, 0, 0], [1, 2, 3]]
    frame = frames[1]
    assert isinstance(frame, Frame) and (frame.index, frame.stamp_ns) == (1, 100_000_000)
    assert (frame.rgb == RGB).all() and frame.depth is not None and frame.T_map_camera is not None
    np.testing.assert_allclose(frame.depth, DEPTH / 1000.0, rtol=1e-6)
    assert frame.T_map_camera[0, 3] == pytest.approx(3.0), "one third of the way between two poses"
    assert np.arctan2(frame.T_map_camera[1, 0], frame.T_map_camera[0, 0]) == pytest.approx(
        np.pi / 6
    )
    assert source.color_file(2)[0] == "png"
    assert [f.index for f in frames_of(open_recording(tmp_path, frames=slice(1, 2)))] == [0]


def test_tum_layout(tmp_path: Path) -> None:
    source = open_recording(tum(tmp_path))
    assert source.sequence.dataset == "tum" and source.map_update() is None
    a, b, c = frames_of(source)
    assert a.stamp_ns == 1305031102175304000, "to the nanosecond, though a float64 of it isn't"
    assert a.depth is not None and a.depth[0, 5] == pytest.approx(500 / 5000)
    assert b.depth is None and c.depth is None
    assert a.T_map_camera is not None and a.T_map_camera[0, 3] == pytest.approx(0.75304)
    assert c.T_map_camera is None
    (tmp_path / "camera.json").unlink()
    assert (open_recording(tmp_path).intrinsics.fx, open_recording(tmp_path).intrinsics.cx) == (
        525.0,
        319.5,
    )


def test_seven_scenes_layout(tmp_path: Path) -> None:
    source = open_recording(seven_scenes(tmp_path))
    k = source.intrinsics
    assert source.sequence.dataset == "7scenes" and (k.fx, k.fy, k.cx, k.cy) == (
        585.0,
        585.0,
        320.0,
        240.0,
    )
    a, b = frames_of(source)
    assert (
        a.depth is not None and a.depth[0, 0] == pytest.approx(1.234) and a.depth[1:].max() == 0.0
    )
    assert a.T_map_camera is not None and a.T_map_camera[0, 3] == 1.0 and b.T_map_camera is None
    assert (a.stamp_ns, b.stamp_ns) == (0, 100_000_000)


def test_errors_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_recording(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(
        ValueError,
        match=r"frame-\*\.color\.png .*frames\.csv \+ camera\.json .*rgb\.txt.* holds notes\.txt",
    ):
        open_recording(tmp_path)
    with pytest.raises(
        ValueError, match=r"wanted auto or one of (.*, )?7scenes, (.*, )?ours, (.*, )?tum"
    ):
        open_recording(tmp_path, "kitti")
    root = ours(tmp_path / "o")
    with pytest.raises(ValueError, match=r"no frames in slice\(9, 12, None\), the folder has 3"):
        open_recording(root, frames=slice(9, 12))
    image(root / "color/1.png", RGB[1:])
    with pytest.raises(ValueError, match=r"1\.png: got an image of 16x11 px, the camera has 16x12"):
        list(open_recording(root))
    (root / "color/1.png").unlink()
    with pytest.raises(ValueError, match=r"1\.png: missing"):
        list(open_recording(root))
    image(root / "color/1.png", RGB)
    image(root / "depth/1.png", RGB)
    with pytest.raises(ValueError, match=r"uint8 of shape \(12, 16, 3\), wanted a 16-bit"):
        list(open_recording(root))
    image(root / "depth/1.png", DEPTH[1:])
    with pytest.raises(ValueError, match="wanted it registered"):
        list(open_recording(root))
    (root / "objects.json").write_text(json.dumps([{"id": 4, "class": "x", "bbox_min": [0, 0, 0]}]))
    with pytest.raises(ValueError, match="object 4 has no 'bbox_max'"):
        list(open_recording(root))
    (root / "camera.json").write_text(json.dumps({"fx": 1}))
    with pytest.raises(ValueError, match="no fy, cx, cy, width, height"):
        open_recording(root)
    (tmp_path / "t.txt").write_text("1 2 3\n")
    with pytest.raises(ValueError, match="got 3 columns, wanted 8"):
        read_trajectory(tmp_path / "t.txt")


def test_radius_closes_the_surface() -> None:
    x, y = np.meshgrid(np.arange(40) * 0.005, np.arange(40) * 0.005)
    grid = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1).astype(np.float32)
    assert point_radius(grid) == pytest.approx(0.005 * np.sqrt(2) / 2, rel=1e-4)
    assert point_radius(grid[:3]) == 0.005


def test_the_kitchen(shared_data: Path) -> None:
    source = open_recording(shared_data / "kitchen", frames=slice(0, 3))
    update, *frames = list(source)
    assert (
        isinstance(update, MapUpdate)
        and len(update.objects) == 25
        and len(open_recording(shared_data / "kitchen")) == 334
    )
    for o in update.objects:
        assert 0.003 < o.point_radius < 0.005
        assert (np.abs(o.points - o.T_map_object[:3, 3]) <= o.size / 2 + 1e-3).all()
    assert all(
        isinstance(f, Frame) and f.T_map_camera is not None and f.depth is not None for f in frames
    )


def test_a_folder_of_ground_truth_alone(tmp_path: Path) -> None:
    (tmp_path / "frames.csv").write_text("stamp,mask\n0.5,masks/7.png\n1.25,\n")
    (tmp_path / "objects.json").write_text(
        json.dumps(
            [
                {"id": 4, "name": "mug_1", "class": "mug", "alike_group": "mugs"},
                {"id": 2, "name": "cup", "alike_group": None, "removed_s": 1.5},
            ]
        )
    )
    sequence = read_recorded_folder(tmp_path)
    assert [(f.name, f.stamp_ns) for f in sequence.frames] == [("7", 500_000_000), ("", 1250000000)]
    assert sequence.frames[0].mask == tmp_path / "masks/7.png" and sequence.frames[0].image is None
    assert sequence.annotated == ("7",) and sequence.intrinsics is None
    assert [(o.id, o.name, o.category, o.alike_group, o.removed_ns) for o in sequence.objects] == [
        (4, "mug_1", "mug", "mugs", None),
        (2, "cup", "", "", 1_500_000_000),
    ]
    with pytest.raises(ValueError, match="no camera; wanted a recording with intrinsics"):
        SequenceSource(sequence)
    (tmp_path / "objects.json").write_text('[{"name": "x"}]')
    with pytest.raises(ValueError, match="an object has no id"):
        read_recorded_folder(tmp_path)
    (tmp_path / "frames.csv").write_text("stamp,depth\n0.5,x.png\n")
    with pytest.raises(
        ValueError, match="no column color or mask with file names; it has stamp, d"
    ):
        read_recorded_folder(tmp_path)


def test_a_recording_without_stamps_cannot_be_replayed(tmp_path: Path) -> None:
    ours(tmp_path)
    (tmp_path / "frames.csv").write_text("color\ncolor/0.png\ncolor/1.png\n")
    with pytest.raises(
        ValueError, match="no stamps; wanted a recording with intrinsics and a stamp"
    ):
        open_recording(tmp_path)


def test_frames_are_numbered_from_the_first_that_is_chosen(tmp_path: Path) -> None:
    ours(tmp_path, frames=5)
    image(tmp_path / "color/3.png", RGB // 2)
    source = open_recording(tmp_path, frames=slice(1, None, 2))
    update, *frames = list(source)
    assert isinstance(update, MapUpdate) and update.stamp_ns == 100_000_000
    assert [(f.index, f.stamp_ns) for f in frames if isinstance(f, Frame)] == [
        (0, 100_000_000),
        (1, 300_000_000),
    ]
    assert len(source) == 2 and (source.frame(1).rgb == RGB // 2).all()
    kind, data = source.color_file(1)
    assert kind == "png" and data == (tmp_path / "color/3.png").read_bytes()
    (tmp_path / "color/0.png").rename(tmp_path / "color/0.JPG")
    (tmp_path / "frames.csv").write_text("stamp,color\n0,color/0.JPG\n")
    assert open_recording(tmp_path).color_file(0)[0] == "jpeg"


def test_depth_of_tum_belongs_to_colour_within_20_ms(tmp_path: Path) -> None:
    tum(tmp_path)
    for seconds, together in (("0.155304", True), ("0.155303", False), ("0.195305", False)):
        (tmp_path / "depth.txt").write_text(f"130503110{2 + float(seconds):.6f} depth/a.png\n")
        frame = next(iter(frames_of(open_recording(tmp_path))))
        assert (frame.depth is not None) == together, seconds
