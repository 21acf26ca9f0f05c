"""lift(): from pixels to the map, and what must not come along."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.config import MappingConfig
from vos_ros.geometry import se3
from vos_ros.geometry.boxes import boxes_of
from vos_ros.geometry.camera import crop_intrinsics
from vos_ros.mapping.lift import lift, lift_labels, liftable_pixels
from vos_ros.types import Intrinsics

CUBE = ([-0.2, -0.15, 1.5], [0.2, 0.15, 1.9])
WALL = ([-3.0, -3.0, 3.0], [3.0, 3.0, 3.1])


@pytest.fixture
def view(camera, cut_boxes):
    depth = cut_boxes([CUBE, WALL], np.eye(4), camera)
    return depth < 2.5, depth


def test_points_lie_on_the_surface_in_the_map_frame(camera, view):
    mask, depth = view
    T = se3.perturb(np.eye(4), np.array([10.0, -5.0, 2.0, 0.5, -0.3, 1.0]))
    points = lift(mask, depth, T, camera, MappingConfig(lift_max_points=2000))
    assert points.dtype == np.float32 and 1000 < len(points) <= 2000
    local = se3.transform(se3.inverse(T), points.astype(np.float64))
    np.testing.assert_allclose(local[:, 2], 1.5, atol=1e-4)
    assert np.abs(local[:, 0]).max() < 0.2 and np.abs(local[:, 1]).max() < 0.15
    assert np.abs(local[:, 0]).max() > 0.17, "only the border is left out"


def test_a_mask_that_spills_over_the_edge_brings_no_wall(camera, view):
    mask, depth = view
    spilled = np.roll(mask, 6, axis=1) | mask
    points = lift(spilled, depth, np.eye(4), camera)
    np.testing.assert_allclose(points[:, 2], 1.5, atol=1e-4)


def test_pixels_that_mix_two_surfaces_are_left_out(camera, view):
    mask, depth = view
    mixed = depth.copy()
    step = mask & ~np.roll(
        mask, 1, axis=1
    )  # the left column of the cube: a sensor's ramp between the two
    for shift, share in ((0, 0.4), (-1, 0.7)):
        where = np.roll(step, shift, axis=1)
        mixed[where] = 1.5 + 1.5 * share
    points = lift(
        np.ones_like(mask),
        mixed,
        np.eye(4),
        camera,
        MappingConfig(lift_max_points=100000, edge_px=0),
    )
    assert not ((points[:, 2] > 1.6) & (points[:, 2] < 2.9)).any()


def test_a_slanted_surface_is_kept(camera, cut_boxes):
    T = se3.from_rt(se3.so3_exp(np.array([1.2, 0.0, 0.0])), np.array([0.0, 0.5, -1.0]))
    depth = cut_boxes([([-5, -5, 0.0], [5, 5, 0.1])], T, camera)
    mask = np.zeros(depth.shape, bool)
    mask[100:140, 100:220] = depth[100:140, 100:220] > 0
    assert mask.sum() > 1000
    points = lift(mask, depth, T, camera, MappingConfig(lift_max_points=100000))
    assert len(points) > 0.75 * mask.sum()
    np.testing.assert_allclose(points[:, 2], 0.0, atol=1e-4)


def test_few_wild_ranges_inside_are_outliers(camera, view):
    mask, depth = view
    dirty = depth.copy()
    inside = np.argwhere(mask)
    for y, x in inside[np.random.default_rng(0).choice(len(inside), 60, replace=False)]:
        dirty[y, x] = 0.7
    np.testing.assert_allclose(lift(mask, dirty, np.eye(4), camera)[:, 2], 1.5, atol=1e-4)


def test_no_more_points_than_asked_for_and_the_same_each_time(camera, view):
    mask, depth = view
    config = MappingConfig(lift_max_points=50)
    a, b = (lift(mask, depth, np.eye(4), camera, config) for _ in range(2))
    assert len(a) == 50
    np.testing.assert_array_equal(a, b)
    assert np.ptp(a[:, 1]) > 0.2, "spread over the whole mask"


def test_nothing_where_there_is_no_depth_or_no_mask(camera, view):
    mask, depth = view
    for d, m in (
        (np.zeros_like(depth), mask),
        (np.full_like(depth, np.nan), mask),
        (depth, np.zeros_like(mask)),
    ):
        points = lift(m, d, np.eye(4), camera)
        assert points.shape == (0, 3) and points.dtype == np.float32


def test_a_mask_thinner_than_the_border_still_gives_its_middle(camera, cut_boxes):
    depth = cut_boxes([WALL], np.eye(4), camera)
    mask = np.zeros(depth.shape, bool)
    mask[100:103, 50:80] = True
    points = lift(mask, depth, np.eye(4), camera, MappingConfig(edge_px=5))
    assert len(points) >= 20
    one = np.zeros_like(mask)
    one[5, 5] = True
    assert len(lift(one, depth, np.eye(4), camera)) == 1


def test_a_crop_gives_the_same_points(camera, view):
    mask, depth = view
    ys, xs = np.nonzero(mask)
    x0, y0, x1, y1 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    config = MappingConfig(lift_max_points=100000)
    whole = lift(mask, depth, np.eye(4), camera, config)
    part = lift(
        mask[y0:y1, x0:x1],
        depth[y0:y1, x0:x1],
        np.eye(4),
        crop_intrinsics(camera, (x0, y0, x1, y1)),
        config,
    )
    np.testing.assert_allclose(part, whole, atol=1e-6)


def test_sizes_that_differ_are_refused(camera, view):
    mask, depth = view
    with pytest.raises(ValueError, match="differ in size"):
        lift(mask[:-1], depth, np.eye(4), camera)
    with pytest.raises(ValueError, match="differ in size"):
        lift(mask[:-1], depth[:-1], np.eye(4), camera)


def brute_force(mask, depth, camera, edge_px):
    """Points of the mask's pixels farther than ``edge_px`` from its border; no outliers."""
    points = []
    for y, x in np.argwhere(mask):
        around = [
            (y + dy, x + dx)
            for dy in range(-edge_px, edge_px + 1)
            for dx in range(-edge_px, edge_px + 1)
            if dy * dy + dx * dx <= edge_px * edge_px
        ]
        inside = all(
            0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u] for v, u in around
        )
        if inside:
            z = depth[y, x]
            points.append([(x - camera.cx) / camera.fx * z, (y - camera.cy) / camera.fy * z, z])
    return np.array(points, np.float32)


def test_labels_are_lifted_each_by_itself_and_as_if_alone():
    odd = Intrinsics(200.0, 250.0, 40.0, 25.0, 90, 60)
    depth = np.full((60, 90), 2.0, np.float32)
    labels = np.zeros((60, 90), np.uint8)
    labels[10:25, 20:50], labels[25:40, 20:50] = 3, 7  # next to each other
    labels[50:60, 0:10] = 2  # in the corner of the image
    config = MappingConfig(lift_max_points=100000, edge_px=2)
    got = lift_labels(labels, boxes_of(labels, 7), depth, np.eye(4), odd, config)
    assert sorted(got) == [2, 3, 7]
    for value, points in got.items():
        np.testing.assert_allclose(
            points, brute_force(labels == value, depth, odd, 2), atol=1e-6, err_msg=str(value)
        )


@pytest.mark.parametrize("axis", [0, 1])
def test_pixels_on_both_sides_of_a_step_are_left_out_along_both_axes(axis):
    camera = Intrinsics(100.0, 100.0, 15.0, 15.0, 32, 32)
    depth = np.full((32, 32), 1.0, np.float32)
    depth[16:] = 2.0
    depth = depth if axis == 0 else depth.T
    good = liftable_pixels(depth, camera)
    lines = good if axis == 0 else good.T
    assert not lines[15:17].any() and lines[:15].all() and lines[17:].all()
    # 6 lateral distances of neighbours, and the noise of 1 % of z^2, at the nearer depth 1 m
    limit = 6.0 / 100.0 + 0.01
    for step, kept in ((0.98 * limit, True), (1.02 * limit, False)):
        depth[depth > 1.0] = np.float32(1.0 + step)
        assert liftable_pixels(depth, camera).all() == kept


def test_unknown_pixels_make_no_step_and_are_not_lifted():
    camera = Intrinsics(100.0, 100.0, 15.0, 15.0, 32, 32)
    depth = np.full((32, 32), 1.0, np.float32)
    depth[10, 10], depth[20, 20] = 0.0, np.nan
    wanted = np.ones((32, 32), bool)
    wanted[10, 10] = wanted[20, 20] = False
    np.testing.assert_array_equal(liftable_pixels(depth, camera), wanted)


def test_depths_within_the_sensor_s_tolerance_are_no_outliers():
    """A surface without a spread of its own: the tolerance decides, 3 cm + 1 % of z^2 at 2 m."""
    camera = Intrinsics(100.0, 100.0, 15.0, 15.0, 32, 32)
    config = MappingConfig(lift_max_points=100000, edge_px=0)
    everything = np.ones((32, 32), bool)
    for offset, kept in ((0.068, True), (0.072, False)):
        for sign in (1, -1):
            depth = np.full((32, 32), 2.0, np.float32)
            depth[8:12, 8:12] += np.float32(sign * offset)
            points = lift(everything, depth, np.eye(4), camera, config, liftable=everything)
            assert (len(points) == 32 * 32) == kept


def test_liftable_pixels_that_are_given_are_used_where_they_belong(camera, view):
    mask, depth = view
    some = np.zeros(mask.shape, bool)
    some[100:140, 130:150] = True
    points = lift(mask, depth, np.eye(4), camera, liftable=some)
    u = points[:, 0] / points[:, 2] * camera.fx + camera.cx
    v = points[:, 1] / points[:, 2] * camera.fy + camera.cy
    assert u.min() > 129.5 and u.max() < 149.5 and v.min() > 99.5 and v.max() < 139.5


@pytest.mark.parametrize("axis", [0, 1])
def test_a_step_is_measured_against_the_focal_length_of_its_own_axis(axis):
    """6 lateral distances are 6 cm along y (fy 100), and 12 cm along x (fx 50), at 1 m."""
    camera = Intrinsics(50.0, 100.0, 15.0, 15.0, 32, 32)
    depth = np.full((32, 32), 1.0, np.float32)
    depth[16:] += np.float32(0.1)
    assert liftable_pixels(depth if axis == 0 else depth.T, camera).all() == (axis == 1)
