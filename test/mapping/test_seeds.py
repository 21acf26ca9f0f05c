"""Seeds: how wide the band of doubt is, and what is left of small objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vos_ros.geometry import se3
from vos_ros.mapping.render import render
from vos_ros.mapping.seeds import object_pixel_sigma, seed_of
from vos_ros.types import Intrinsics, Mask, Projection


def square(side, at=(50, 60), shape=(240, 320)):
    x0, y0 = at
    mask = np.ones((side, side), bool)
    return Projection(
        4,
        shape,
        (x0, y0, x0 + side, y0 + side),
        mask,
        mask,
        np.full((side, side), 2.0, np.float32),
        1.0,
        0.0,
        0.0,
    )


def distance_to_outline(projection):
    """Brute force: distance of every pixel to the nearest one on the other side of the outline."""
    mask = projection.mask
    ys, xs = np.mgrid[0 : mask.shape[0], 0 : mask.shape[1]]
    out = np.empty(mask.shape)
    for side in (True, False):
        others = np.argwhere(mask != side)
        x0, y0, x1, y1 = projection.roi
        near = others[
            (others[:, 0] >= y0 - 9)
            & (others[:, 0] < y1 + 9)
            & (others[:, 1] >= x0 - 9)
            & (others[:, 1] < x1 + 9)
        ]
        d = np.min([(ys - y) ** 2 + (xs - x) ** 2 for y, x in near], axis=0)
        out[mask == side] = np.sqrt(d)[mask == side]
    return out


@pytest.mark.parametrize("sigma", [0.0, 1.0, 2.5])
def test_the_band_is_two_sigma_wide_on_both_sides(sigma):
    projection = square(20)
    seed = seed_of(9, projection, sigma)
    assert seed.object_id == 9 and isinstance(seed.prompt, Mask)
    np.testing.assert_array_equal(seed.prompt.mask, projection.mask)
    distance = distance_to_outline(projection)
    band = max(2 * sigma, 1.0)
    assert (seed.weight[distance < 0.95 * band] == 0).all()
    assert (seed.weight[distance > 1.05 * band + 0.1] == 1).all()
    assert seed.weight.shape == (240, 320) and seed.weight.dtype == np.float32


def test_even_under_an_exact_pose_the_outline_itself_is_ignored():
    projection = square(20)
    weight, distance = seed_of(9, projection, 0.0).weight, distance_to_outline(projection)
    assert (weight[distance <= 1.0] == 0).all() and (weight[distance > 1.0] == 1).all()
    assert (weight == 0).sum() == 76 + 80


@pytest.mark.parametrize("side", [1, 2, 5, 12])
def test_an_object_that_the_band_swallows_keeps_its_middle(side):
    projection = square(side)
    weight = seed_of(1, projection, 20.0).weight
    kept = np.argwhere((weight > 0) & projection.mask)
    assert len(kept) >= 1
    assert np.abs(kept.mean(axis=0) - [60 + (side - 1) / 2, 50 + (side - 1) / 2]).max() <= 0.5
    assert len(kept) < side * side or side <= 2
    assert (weight[55:60, 50] == 0).all(), "the outside of the outline stays in doubt"


def test_the_edge_of_the_image_is_no_outline():
    weight = seed_of(1, square(30, at=(0, 0)), 2.0).weight
    assert (weight[:20, :20] == 1).all() and (weight[28, :20] == 0).all()


def test_the_border_with_what_hides_the_object_is_in_doubt(camera, make_box):
    far, near = (
        make_box(1, [-0.4, -0.4, 2.0], [0.4, 0.4, 2.0]),
        make_box(2, [0.0, -0.3, 1.0], [0.5, 0.3, 1.0]),
    )
    behind = render([far, near], np.eye(4), camera)[0]
    weight = seed_of(1, behind, 2.0).weight
    assert (weight[119, 156:164] == 0).all() and weight[119, 145] == 1 and weight[119, 175] == 1


def test_an_object_with_no_visible_pixel_gives_an_empty_mask():
    projection = square(10)
    hidden = Projection(
        4,
        projection.shape,
        projection.roi,
        np.zeros((10, 10), bool),
        projection.silhouette_roi,
        projection.depth_roi,
        0.0,
        1.0,
        0.0,
    )
    seed = seed_of(1, hidden, 1.0)
    assert not seed.prompt.mask.any() and (seed.weight == 1).all()


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_an_uncertainty_that_is_none_is_refused(sigma):
    with pytest.raises(ValueError, match="pixel_sigma"):
        seed_of(1, square(10), sigma)


def test_pixel_sigma_of_a_turn_and_of_a_step(camera, make_box):
    box = make_box(1, [-0.1, -0.1, 1.9], [0.1, 0.1, 2.1])
    turn, step = np.diag([0.0] * 3 + [1e-4, 1e-4, 0.0]), np.diag([1e-4, 1e-4, 0.0, 0.0, 0.0, 0.0])
    assert object_pixel_sigma(box, np.eye(4), camera, turn) == pytest.approx(
        0.01 * camera.fx, rel=0.02
    )
    assert object_pixel_sigma(box, np.eye(4), camera, step) == pytest.approx(
        0.01 * camera.fx / 2.0, rel=0.06
    )
    assert object_pixel_sigma(box, np.eye(4), camera, np.zeros((6, 6))) == 0.0


@pytest.mark.parametrize(("axis", "focal"), [(3, 340.0), (4, 260.0)])
def test_pixel_sigma_is_the_mean_of_the_variances_of_both_axes(make_box, axis, focal):
    """A turn about x moves pixels along y alone, by fy; one about y along x, by fx."""
    odd = Intrinsics(260.0, 340.0, 159.5, 119.5, 320, 240)
    box = make_box(1, [-0.02, -0.02, 2.0], [0.02, 0.02, 2.0], 0.004)
    turn = np.zeros((6, 6))
    turn[axis, axis] = 0.01**2
    sigma = object_pixel_sigma(box, np.eye(4), odd, turn)
    assert sigma == pytest.approx(0.01 * focal / np.sqrt(2), rel=0.01)


def test_pixel_sigma_is_that_of_most_of_the_surface_and_ignores_what_is_behind(camera, make_box):
    plate = make_box(1, [-0.1, -0.1, 2.0], [0.1, 0.1, 2.0])
    step = np.diag([1e-4, 1e-4, 0.0, 0.0, 0.0, 0.0])
    behind = np.tile(np.array([[0.0, 0.0, -1.0]], np.float32), (len(plate.points) // 3, 1))
    mixed = replace(plate, points=np.concatenate([plate.points, behind]))
    assert object_pixel_sigma(mixed, np.eye(4), camera, step) == pytest.approx(
        0.01 * camera.fx / 2.0, rel=0.02
    )


def test_pixel_sigma_of_objects_out_of_view_or_without_points(camera, make_box):
    box = make_box(1, [-0.1, -0.1, 1.9], [0.1, 0.1, 2.1])
    cov = 1e-4 * np.eye(6)
    behind = se3.from_rt(np.diag([1.0, -1.0, -1.0]), np.zeros(3))
    assert object_pixel_sigma(box, behind, camera, cov) == 0.0
    bare = replace(box, points=np.zeros((0, 3), np.float32))
    assert object_pixel_sigma(bare, np.eye(4), camera, cov) > 1.0
