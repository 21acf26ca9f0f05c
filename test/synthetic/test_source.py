"""The synthetic world: its truth, repeatability, the mapper's map, the folder it writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_ros.sources.interface import FrameSource
from vos_ros.synthetic import catalogue, shapes, textures
from vos_ros.synthetic.sensor import camera_pose, sense_depth
from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec, write_folder
from vos_ros.synthetic.world import View
from vos_ros.types import Frame, MapUpdate

pytest.importorskip("open3d")
SMALL = {"seed": 0, "width": 160, "height": 120}


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(SyntheticSpec(frames=8, **SMALL))


def test_is_a_frame_source_in_time_order(source: SyntheticSource) -> None:
    assert isinstance(source, FrameSource)
    first, *rest = list(SyntheticSource(SyntheticSpec(frames=3, **SMALL)))
    assert (
        isinstance(first, MapUpdate)
        and first.full
        and first.revision == 1
        and first.frame_id == "map"
    )
    assert [type(x) for x in rest] == [Frame] * 3
    stamps = [first.stamp_ns, *(f.stamp_ns for f in rest)]
    assert (
        stamps == sorted(stamps)
        and np.diff([f.stamp_ns for f in rest]).tolist() == [100_000_000] * 2
    )


def test_frame_contract(source: SyntheticSource) -> None:
    frame = source.capture(2).frame
    assert frame.rgb.shape == (120, 160, 3) and frame.rgb.dtype == np.uint8
    assert frame.depth is not None and frame.depth.dtype == np.float32 and frame.pose_cov is None
    measured = frame.depth[frame.depth > 0]
    assert (
        measured.size > 0.7 * frame.depth.size and measured.min() >= 0.3 and measured.max() <= 6.0
    )
    np.testing.assert_allclose(measured * 1000, np.rint(measured * 1000), atol=1e-3)
    assert frame.T_map_camera is not None
    np.testing.assert_allclose(
        frame.T_map_camera[:3, :3] @ frame.T_map_camera[:3, :3].T, np.eye(3), atol=1e-12
    )
    assert np.linalg.det(frame.T_map_camera[:3, :3]) == pytest.approx(1.0)


def test_same_seed_same_bytes_and_longer_begins_like_shorter(source: SyntheticSource) -> None:
    again = SyntheticSource(SyntheticSpec(frames=20, **SMALL))
    a, b = source.capture(5), again.capture(5)
    np.testing.assert_array_equal(a.frame.rgb, b.frame.rgb)
    np.testing.assert_array_equal(a.frame.depth, b.frame.depth)
    np.testing.assert_array_equal(a.ids, b.ids)
    assert (a.frame.rgb != source.capture(6).frame.rgb).any()


def test_another_seed_is_another_sequence() -> None:
    assert not np.allclose(camera_pose(0, 1.0), camera_pose(1, 1.0))
    looks = [
        catalogue.items(rng, catalogue.Palette(rng))[0].shape.vertices
        for rng in map(np.random.default_rng, (0, 1))
    ]
    assert not np.array_equal(looks[0], looks[1])


def _flat(depth: np.ndarray, cosine: float = 1.0) -> View:
    shape = depth.shape
    return View(
        np.zeros((*shape, 3), np.float32),
        depth.astype(np.float32),
        np.zeros(shape, np.uint16),
        np.full(shape, cosine, np.float32),
    )


@pytest.mark.parametrize("z", [0.8, 2.0, 3.5])
def test_depth_noise_has_the_stated_sigma(z: float) -> None:
    depth = sense_depth(_flat(np.full((200, 200), z)), np.random.default_rng(0))
    read = depth[depth > 0]
    assert read.size > 0.99 * depth.size
    assert np.std(read) == pytest.approx(
        np.hypot(0.0012 + 0.0019 * (z - 0.4) ** 2, 0.001 / np.sqrt(12)), rel=0.05
    )
    np.testing.assert_allclose(read * 1000, np.rint(read * 1000), atol=1e-3)


def test_depth_has_holes_and_flying_pixels_at_steps_dropout_at_grazing_angles_and_a_range() -> None:
    rng = np.random.default_rng(0)
    step = np.full((200, 200), 1.0)
    step[:, 100:] = 2.5
    depth = sense_depth(_flat(step), rng)
    edge, off = depth[:, 98:102], np.delete(depth, slice(97, 103), axis=1)
    assert (edge == 0).mean() > 0.1 and (off == 0).mean() < 0.01
    assert ((edge > 1.1) & (edge < 2.3)).mean() > 0.05 and not ((off > 1.1) & (off < 2.3)).any()
    assert (sense_depth(_flat(np.ones((50, 50)), cosine=0.05), rng) == 0).mean() > 0.5
    for beyond in (0.2, 7.0, 0.0):
        assert not sense_depth(_flat(np.full((50, 50), beyond)), rng).any()


def test_surfaces_lie_where_the_objects_are(source: SyntheticSource) -> None:
    capture, k = source.capture(0), source.intrinsics
    rows, columns = np.nonzero(capture.ids)
    assert np.unique(capture.ids).size > 6
    z = capture.view.depth[rows, columns].astype(float)
    camera = np.stack([(columns - k.cx) / k.fx * z, (rows - k.cy) / k.fy * z, z], 1)
    points = camera @ capture.T_map_camera[:3, :3].T + capture.T_map_camera[:3, 3]
    assert (points[:, 2] > catalogue.TABLE_Z_M - 1e-3).all() and (
        points[:, 2] < catalogue.TABLE_Z_M + 0.35
    ).all()
    for o in source.objects:
        mine = points[capture.ids[rows, columns] == o.id]
        if len(mine):
            assert np.linalg.norm(mine[:, :2] - o.T_map_object[:2, 3], axis=1).max() < 0.2, o.name


def test_two_objects_are_alike_and_the_others_are_not(source: SyntheticSource) -> None:
    rng = np.random.default_rng(0)
    items = catalogue.items(rng, catalogue.Palette(rng))
    groups = [i.alike_group for i in items if i.alike_group]
    assert groups == ["mug", "mug"] and len(items) >= 8
    a, b = (i for i in items if i.alike_group)
    assert a.shape is b.shape and a.highlight == b.highlight
    alike = [o for o in source.objects if o.alike_group == "mug"]
    assert (
        len(alike) == 2
        and np.linalg.norm(alike[0].T_map_object[:2, 3] - alike[1].T_map_object[:2, 3]) > 0.4
    )


def test_objects_leave_the_view_return_and_hide_each_other() -> None:
    long = SyntheticSource(SyntheticSpec(frames=110, **SMALL))
    seen = np.array(
        [np.bincount(long.capture(i).ids.ravel(), minlength=15)[1:15] > 0 for i in range(0, 110, 4)]
    )
    gone = ~seen & (np.cumsum(seen, 0) > 0) & (np.cumsum(seen[::-1], 0)[::-1] > 0)
    assert gone.any(0).sum() >= 7, "at least half of the objects leave and return"
    widest = max((long.capture(i).ids > 0).mean() for i in (0, 20))
    assert widest > 0.05


def test_map_is_partial_noisy_and_true(source: SyntheticSource) -> None:
    snapshot = source.map_snapshot()
    assert {o.id for o in snapshot.objects} == {o.id for o in source.objects}
    for entry, o in zip(snapshot.objects, source.objects, strict=True):
        assert (
            entry.points.dtype == np.float32
            and len(entry.points) >= 30
            and entry.class_id == o.class_id
        )
        np.testing.assert_allclose(
            entry.points.min(0), entry.T_map_object[:3, 3] - entry.size / 2, atol=1e-5
        )
        assert np.linalg.norm(entry.points.mean(0)[:2] - o.T_map_object[:2, 3]) < 0.1
    # The ball is a sphere on the table: residuals are the stated noise, its underside is missing.
    ball = next(
        e for e, o in zip(snapshot.objects, source.objects, strict=True) if o.name == "ball"
    )
    centre = next(o for o in source.objects if o.name == "ball").T_map_object[:3, 3].copy()
    radius = np.median(np.linalg.norm(ball.points[:, :2] - centre[:2], axis=1).max())
    residual = np.linalg.norm(ball.points - centre - [0, 0, radius], axis=1)
    assert 0.0015 < np.std(residual) < 0.006
    assert ball.points[:, 2].min() > centre[2] + 0.005


def test_incremental_map_discovers_objects() -> None:
    stream = list(SyntheticSource(SyntheticSpec(frames=11, map_mode="incremental", **SMALL)))
    updates = [x for x in stream if isinstance(x, MapUpdate)]
    assert updates[0].full and not updates[0].objects
    assert [u.revision for u in updates] == list(range(1, len(updates) + 1)) and len(updates) >= 2
    assert not any(u.full for u in updates[1:]) and sum(len(u.objects) for u in updates) >= 6
    stamps = [x.stamp_ns for x in stream]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("drift", ["random_walk", "constant"])
def test_drift_moves_the_pose_within_its_covariance_and_not_the_image(
    source: SyntheticSource, drift: str
) -> None:
    spec = SyntheticSpec(frames=8, drift=drift, drift_m=0.05, drift_deg=1.0, **SMALL)
    off = SyntheticSource(spec).capture(7)
    np.testing.assert_array_equal(off.frame.rgb, source.capture(7).frame.rgb)
    np.testing.assert_array_equal(off.T_map_camera, source.capture(7).T_map_camera)
    assert off.frame.T_map_camera is not None and off.frame.pose_cov is not None
    error = off.frame.T_map_camera[:3, 3] - off.T_map_camera[:3, 3]
    sigma = np.sqrt(np.diag(off.frame.pose_cov))
    assert np.linalg.norm(error) > 0 and (np.abs(error) <= 4 * sigma[:3]).all()
    turned = off.frame.T_map_camera[:3, :3] @ off.T_map_camera[:3, :3].T
    assert 0 < np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1)) <= 4 * sigma[3] * np.sqrt(3)
    first = SyntheticSource(spec).capture(0)
    np.testing.assert_array_equal(first.frame.T_map_camera, first.T_map_camera)


def test_motion_blur_smears_the_colour_only() -> None:
    sharp, blurred = (
        SyntheticSource(SyntheticSpec(frames=30, motion_blur=n, **SMALL)).capture(24)
        for n in (1, 5)
    )
    np.testing.assert_array_equal(sharp.ids, blurred.ids)
    contrast = [
        float(np.abs(np.diff(c.frame.rgb.astype(float), axis=1)).mean()) for c in (sharp, blurred)
    ]
    assert contrast[1] < 0.95 * contrast[0]


def test_written_folder_holds_the_sequence(source: SyntheticSource, tmp_path: Path) -> None:
    short = SyntheticSource(SyntheticSpec(frames=2, **SMALL))
    write_folder(short, tmp_path)
    rows = list(csv.DictReader((tmp_path / "frames.csv").read_text().splitlines()))
    assert len(rows) == 2
    for index, row in enumerate(rows):
        capture = short.capture(index)
        assert round(float(row["stamp"]) * 1e9) == capture.frame.stamp_ns
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / row["mask"])), capture.ids)
        assert capture.frame.depth is not None
        np.testing.assert_allclose(
            np.array(Image.open(tmp_path / row["depth"])) / 1000.0, capture.frame.depth, atol=1e-4
        )
        color = np.array(Image.open(tmp_path / row["color"])).astype(float)
        assert np.abs(color - capture.frame.rgb).mean() < 4
    objects = json.loads((tmp_path / "objects.json").read_text())
    assert [o["id"] for o in objects] == [o.id for o in source.objects]
    assert sum(o["alike_group"] == "mug" for o in objects) == 2
    for o, entry in zip(objects, short.map_snapshot().objects, strict=True):
        data = (tmp_path / o["ply"]).read_bytes()
        points = np.frombuffer(data[data.index(b"end_header\n") + 11 :], "<f4").reshape(-1, 3)
        np.testing.assert_array_equal(points, entry.points)


@pytest.mark.parametrize(
    ("field", "value"),
    [("frames", 0), ("width", 10), ("map_mode", "some"), ("drift", "much"), ("seed", -1)],
)
def test_spec_refuses_nonsense_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        SyntheticSpec(**{field: value})  # type: ignore[arg-type]


def test_frame_index_out_of_range(source: SyntheticSource) -> None:
    with pytest.raises(IndexError, match="8 frames"):
        source.capture(8)


@pytest.mark.parametrize(
    "shape",
    [
        shapes.box((0.2, 0.1, 0.3), 0, cell_m=0.02),
        shapes.torus(0.08, 0.03, 0, cell_m=0.01),
        shapes.revolve([(0, 0), (0.05, 0), (0.05, 0.1), (0, 0.1)], 0, cell_m=0.01),
        shapes.revolve(shapes.arc_profile(0.1, 0.1, -np.pi / 2, np.pi / 2), 0, cell_m=0.02),
    ],
)
def test_shapes_are_wound_and_lit_outwards(shape: shapes.Shape) -> None:
    np.testing.assert_allclose(np.linalg.norm(shape.normals, axis=1), 1.0, atol=1e-9)
    a, b, c = (shape.vertices[shape.triangles[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    real = np.linalg.norm(cross, axis=1) > 1e-12
    outward = shape.normals[shape.triangles[:, 0]]
    agree = (cross[real] * outward[real]).sum(1)
    assert (agree > 0).all() or (agree < 0).all()
    # Divergence theorem: with normals outwards the enclosed volume is positive.
    centre = (a + b + c) / 3
    assert (np.linalg.norm(cross, axis=1) * (centre * outward).sum(1)).sum() > 0


def test_textures_repeat_without_a_seam_and_far_away_turn_grey() -> None:
    rng = np.random.default_rng(3)
    for image in (
        textures.noise(rng, (4, 4))[..., None],
        textures.marble(rng, (1, 1, 1), (0, 0, 0)),
    ):
        inner = np.abs(np.diff(image, axis=1)).mean()
        assert np.abs(image[:, 0] - image[:, -1]).mean() < 6 * inner + 0.02
    atlas = textures.Atlas([textures.checker(rng, (0, 0, 0), (1, 1, 1), 16)])
    uv = rng.random((500, 2)).astype(np.float32)
    near, far = (
        atlas.sample(np.zeros(500, int), uv, np.full(500, size, np.float32))
        for size in (0.001, 1.0)
    )
    assert np.std(near) > 0.3 and np.std(far) < 0.1
