"""render(): against closed forms, in the cases that break renderers, on the real sequence."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.config import MappingConfig
from vos_ros.evaluation.davis_metrics import region_similarity
from vos_ros.geometry import se3
from vos_ros.mapping.render import render
from vos_ros.types import Intrinsics, MapObject

HOME = np.eye(4)


def single(object_id, xyz, radius=0.01):
    points = np.asarray(xyz, np.float32).reshape(-1, 3)
    return MapObject(object_id, 1, np.eye(4), np.zeros(3), points, radius)


@pytest.mark.parametrize("distance", [0.4, 0.8, 1.5, 3.0, 6.0])
@pytest.mark.parametrize("spacing", [0.004, 0.01, 0.02])
def test_a_plate_is_whole_not_swollen_and_at_its_depth(
    camera, make_box, cut_boxes, distance, spacing
):
    half = 0.3 * distance
    low, high = [-half, -0.6 * half, distance], [half, 0.6 * half, distance]
    (p,) = render([make_box(7, low, high, spacing)], HOME, camera)
    exact = cut_boxes([(low, high)], HOME, camera) > 0
    assert p.object_id == 7 and p.shape == (240, 320)
    assert region_similarity(p.mask, exact) > 0.93
    assert not (exact[:, 1:-1] & exact[:, :-2] & exact[:, 2:] & ~p.mask[:, 1:-1])[70:170].any(), (
        "no holes"
    )
    np.testing.assert_allclose(p.depth[p.mask], distance, rtol=1e-5)
    assert (p.visible, p.occluded, p.truncated, p.free) == (1.0, 0.0, 0.0, 0.0)
    assert p.area_px == np.count_nonzero(p.mask)


def test_a_box_from_every_side(camera, make_box, cut_boxes):
    low, high = [-0.2, -0.15, -0.1], [0.2, 0.15, 0.1]
    box = make_box(1, low, high, 0.01)
    for angle in np.linspace(0.0, 2 * np.pi, 9):
        R = se3.so3_exp(np.array([0.4, angle, 0.2]))
        T = se3.from_rt(R, R @ np.array([0.05, 0.0, -1.2]))
        (p,) = render([box], T, camera)
        exact = cut_boxes([(low, high)], T, camera)
        assert region_similarity(p.mask, exact > 0) > 0.9
        both = p.mask & (exact > 0)
        assert np.median(np.abs(p.depth[both] - exact[both])) < 0.005


def test_a_window_wider_than_the_sampling_stays_open(camera, make_box):
    plate = make_box(1, [-0.3, -0.3, 1.0], [0.3, 0.3, 1.0], 0.01)
    x, y = plate.points[:, 0], plate.points[:, 1]
    frame = replace(plate, points=plate.points[(np.abs(x) > 0.05) | (np.abs(y) > 0.05)])
    (p,) = render([frame], HOME, camera)
    assert not p.mask[110:130, 150:170].any()
    assert p.mask[119, 100] and p.mask[60, 159]


def test_one_object_behind_another(camera, make_box, cut_boxes):
    far = ([-0.4, -0.4, 2.0], [0.4, 0.4, 2.0])
    near = ([0.0, -0.3, 1.0], [0.5, 0.3, 1.0])
    a, b = render([make_box(1, *far), make_box(2, *near)], HOME, camera)
    behind, front = (cut_boxes([box], HOME, camera) > 0 for box in (far, near))
    assert not (a.mask & b.mask).any()
    assert (
        region_similarity(a.mask, behind & ~front) > 0.95
        and region_similarity(b.mask, front) > 0.95
    )
    hidden = (behind & front).sum() / behind.sum()
    assert a.occluded == pytest.approx(hidden, abs=0.03) and a.visible == pytest.approx(
        1 - hidden, abs=0.03
    )
    assert b.visible == 1.0
    full = np.zeros(a.shape, bool)
    x0, y0, x1, y1 = a.roi
    full[y0:y1, x0:x1] = a.silhouette_roi
    assert region_similarity(full, behind) > 0.95, "the silhouette is that of the whole object"


def test_measured_depth_hides_what_it_stands_before_and_frees_what_it_sees_through(
    camera, make_box
):
    plate = make_box(1, [-0.4, -0.4, 2.0], [0.4, 0.4, 2.0])
    measured = np.full((240, 320), 2.0, np.float32)
    measured[:, :140] = 1.2
    measured[:, 180:] = 3.0
    measured[:100] = 0.0
    (p,) = render([plate], HOME, camera, depth=measured)
    seen = p.mask
    assert seen[105:150, 140:180].all() and seen[80:100, 120:200].all(), (
        "agreeing and unknown depth hide nothing"
    )
    assert not seen[105:150, :140].any() and not seen[105:150, 180:].any()
    silhouette = p.silhouette_roi.sum()
    freed = p.silhouette_roi[100 - p.roi[1] :, 180 - p.roi[0] :].sum()
    assert p.free == pytest.approx(freed / silhouette)
    assert p.visible + p.occluded + p.truncated == pytest.approx(1.0)


def test_the_tolerance_grows_with_the_square_of_range(camera, make_box):
    config = MappingConfig(depth_tolerance_m=0.02, depth_tolerance_per_m2=0.01)
    for z in (1.0, 4.0):
        plate = make_box(1, [-0.1 * z, -0.1 * z, z], [0.1 * z, 0.1 * z, z], 0.005 * z)
        for offset, seen in ((0.95, True), (1.05, False)):
            measured = np.full((240, 320), z + offset * (0.02 + 0.01 * z * z), np.float32)
            (p,) = render([plate], HOME, camera, depth=measured, config=config)
            assert (p.visible > 0.99) == seen and (p.free > 0.99) != seen


def test_depth_that_is_no_number_decides_nothing(camera, make_box):
    plate = make_box(1, [-0.1, -0.1, 1.0], [0.1, 0.1, 1.0])
    (p,) = render([plate], HOME, camera, depth=np.full((240, 320), np.nan, np.float32))
    assert p.visible == 1.0 and p.free == 0.0


def test_what_leaves_the_image_is_truncated(camera, make_box):
    edge = camera.width / camera.fx / 2  # the image's right border at 1 m
    (p,) = render([make_box(1, [edge - 0.1, -0.1, 1.0], [edge + 0.1, 0.1, 1.0])], HOME, camera)
    assert p.truncated == pytest.approx(0.5, abs=0.03)
    assert p.roi[2] == camera.width and p.visible == pytest.approx(1 - p.truncated)
    assert p.occluded == pytest.approx(0.0)


def test_fractions_of_an_object_that_is_cut_off_and_half_hidden_sum_to_one(camera, make_box):
    edge = camera.width / camera.fx / 2
    plate = make_box(1, [edge - 0.1, -0.1, 1.0], [edge + 0.1, 0.1, 1.0])
    measured = np.full((240, 320), 1.0, np.float32)
    measured[:120] = 0.5
    (p,) = render([plate], HOME, camera, depth=measured)
    assert p.truncated == pytest.approx(0.5, abs=0.03)
    assert p.visible == pytest.approx(0.25, abs=0.03) == p.occluded
    assert p.visible + p.occluded + p.truncated == pytest.approx(1.0) and p.free == 0.0


@pytest.mark.parametrize("side", ["left", "top", "bottom"])
def test_every_border_of_the_image_truncates(camera, make_box, side):
    x, y = camera.width / camera.fx / 2, camera.height / camera.fy / 2
    middle = {"left": [-x, 0.0], "top": [0.0, -y], "bottom": [0.0, y]}[side]
    centre, half = np.array([*middle, 1.0]), np.array([0.1, 0.1, 0.0])
    low, high = centre - half, centre + half
    (p,) = render([make_box(1, low, high)], HOME, camera)
    assert p.truncated == pytest.approx(0.5, abs=0.03)
    x0, y0, x1, y1 = p.roi
    assert (x0 >= 0 and y0 >= 0 and x1 <= camera.width and y1 <= camera.height) and {
        "left": x0 == 0,
        "top": y0 == 0,
        "bottom": y1 == camera.height,
    }[side]


def test_near_and_far_plane_cut_the_points_beyond(camera, make_box):
    config = MappingConfig(near_m=0.5, far_m=2.0)
    for z, seen in ((0.45, False), (0.55, True), (1.95, True), (2.05, False)):
        plate = make_box(1, [-0.1, -0.1, z], [0.1, 0.1, z])
        assert bool(render([plate], HOME, camera, config=config)) == seen, z


def test_both_focal_lengths_and_the_principal_point_count(make_box, cut_boxes):
    odd = Intrinsics(200.0, 300.0, 140.0, 130.0, 320, 240)
    plate = ([-0.2, -0.1, 1.0], [0.3, 0.15, 1.0])
    (p,) = render([make_box(1, *plate, 0.005)], HOME, odd)
    assert region_similarity(p.mask, cut_boxes([plate], HOME, odd) > 0) > 0.96


def test_an_object_that_reaches_behind_the_camera(camera, make_box):
    floor = make_box(1, [-1.0, 0.5, -3.0], [1.0, 0.5, 3.0], 0.02)
    (p,) = render([floor], HOME, camera)
    assert 0.5 < p.truncated < 1.0 and p.area_px > 1000
    assert (p.depth[p.mask] > 0.5).all()


def test_objects_that_are_not_on_the_image_have_no_projection(camera, make_box):
    behind = make_box(1, [-0.1, -0.1, -1.0], [0.1, 0.1, -0.9])
    aside = make_box(2, [5.0, 0.0, 1.0], [5.1, 0.1, 1.1])
    beyond = make_box(3, [-0.1, -0.1, 50.0], [0.1, 0.1, 50.1])
    empty = single(4, np.zeros((0, 3)))
    broken = single(5, [[np.nan, 0.0, 1.0], [np.inf, 0.0, 1.0]])
    at_the_lens = single(6, [0.0, 0.0, 0.0])
    assert render([behind, aside, beyond, empty, broken, at_the_lens], HOME, camera) == []
    assert render([], HOME, camera) == []
    assert render([empty], HOME, camera) == []


def test_a_single_point_far_away_is_one_pixel(camera):
    (p,) = render([single(9, [0.0, 0.0, 10.0], 0.001)], HOME, camera)
    assert p.area_px == 1 and p.visible == 1.0 and p.depth[p.mask] == pytest.approx(10.0)


def test_a_thin_rod_of_samples_stays_whole(camera):
    rod = np.stack([np.linspace(-0.3, 0.3, 400), np.zeros(400), np.full(400, 3.0)], axis=1)
    (p,) = render([single(1, rod, 0.002)], HOME, camera)
    columns = np.flatnonzero(p.mask.any(axis=0))
    assert len(columns) == columns[-1] - columns[0] + 1 >= 50
    assert p.mask.sum(axis=0).max() <= 3


def test_points_that_are_not_finite_leave_the_others(camera, make_box):
    plate = make_box(1, [-0.2, -0.2, 1.0], [0.2, 0.2, 1.0])
    dirty = replace(
        plate, points=np.concatenate([plate.points, np.full((5, 3), np.nan, np.float32)])
    )
    (clean,), (p,) = render([plate], HOME, camera), render([dirty], HOME, camera)
    np.testing.assert_array_equal(p.mask, clean.mask)
    assert p.truncated == 0.0


def test_splats_larger_than_allowed_are_cut_to_the_limit(camera):
    (p,) = render(
        [single(1, [0.0, 0.0, 0.1], 1.0)], HOME, camera, config=MappingConfig(max_splat_px=5)
    )
    assert 60 < p.area_px < 110  # a disk of radius 5


def test_a_map_far_from_its_origin_is_as_sharp(camera, make_box):
    plate = make_box(1, [-0.2, -0.2, 1.0], [0.2, 0.2, 1.0])
    offset = np.array([4096.0, -2048.0, 128.0])
    moved = replace(plate, points=plate.points + offset.astype(np.float32))
    (near,), (far,) = (
        render([plate], HOME, camera),
        render([moved], se3.from_rt(np.eye(3), offset), camera),
    )
    assert region_similarity(near.mask, far.mask) > 0.97


def test_three_hundred_objects_come_in_order_and_soon(camera, make_box):
    rng = np.random.default_rng(0)
    objects = []
    for i in range(300):
        corner = np.append(rng.uniform([-0.5, -0.4], [0.45, 0.35]), rng.uniform(1.0, 2.0))
        objects.append(make_box(1000 - i, corner, corner + 0.05, 0.01))
    start = time.process_time()
    projections = render(objects, HOME, camera)
    assert time.process_time() - start < 1.0
    assert [p.object_id for p in projections] == [o.id for o in objects]
    owners = sum(p.mask.astype(int) for p in projections)
    assert owners.max() == 1


def test_the_same_view_twice_is_the_same(camera, table_top):
    a, b = (
        render(table_top.objects, table_top.T_map_camera, camera, depth=table_top.depth())
        for _ in range(2)
    )
    for p, q in zip(a, b, strict=True):
        np.testing.assert_array_equal(p.mask, q.mask)
        assert p.visible == q.visible
    assert all(p.visible > 0.5 for p in a)


def test_a_pose_or_a_depth_that_cannot_be_used_is_refused(camera, make_box):
    plate = make_box(1, [-0.2, -0.2, 1.0], [0.2, 0.2, 1.0])
    for pose in (np.full((4, 4), np.nan), np.zeros((4, 4)), np.eye(3)):
        with pytest.raises(ValueError, match="not a rigid motion"):
            render([plate], pose, camera)
    with pytest.raises(ValueError, match="depth is 160x120, the intrinsics are of 320x240"):
        render([plate], HOME, camera, depth=np.zeros((120, 160), np.float32))


def test_the_acceptance_load_fits_its_time(make_box):
    """50 objects of 5,000 points at 640x480 take 25 ms on an idle machine (``make bench``).

    Here only an error of an order is noticed.
    """
    rng = np.random.default_rng(0)
    camera = Intrinsics(525.0, 525.0, 319.5, 239.5, 640, 480)
    objects = []
    for i in range(50):
        centre = np.append(rng.uniform([-1.2, -0.9], [1.2, 0.9]), rng.uniform(1.5, 4.0))
        points = rng.uniform(-0.1, 0.1, (5000, 3))
        points[np.arange(5000), rng.integers(0, 3, 5000)] = -0.1
        objects.append(
            MapObject(
                i + 1, 1, np.eye(4), np.full(3, 0.2), (points + centre).astype(np.float32), 0.004
            )
        )
    depth = np.full((480, 640), 4.5, np.float32)
    times = []
    for _ in range(5):
        start = time.process_time()
        render(objects, HOME, camera, depth=depth)
        times.append(time.process_time() - start)
    assert min(times) < 0.1


def test_the_real_kitchen_is_predicted_from_its_poses(kitchen):
    scores = []
    for i in range(0, len(kitchen.rows), 37):
        seen = {
            p.object_id: p.mask
            for p in render(
                kitchen.objects, kitchen.poses[i], kitchen.camera, depth=kitchen.depth(i)
            )
        }
        for object_id, mask, counted in kitchen.truth(i):
            scores.append(
                region_similarity(seen.get(object_id, np.zeros_like(mask)), mask, void=~counted)
            )
    assert np.mean(scores) > 0.86
