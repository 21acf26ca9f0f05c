"""Averaged points in cubes: bounded, independent of order, exact where it can be."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_ros.reference_mapper.voxels import empty_grid, grid_from_means

ORIGIN = np.array([100.0, -50.0, 3.0])


def cloud(seed: int, count: int = 300, spread: float = 0.2) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(-spread, spread, (count, 3)) + ORIGIN).astype(
        np.float32
    )


def test_a_cube_holds_the_mean_of_its_points_and_its_frames() -> None:
    points = np.array([[0.001, 0.002, 0.003], [0.003, 0.004, 0.005], [0.051, 0.0, 0.0]], np.float32)
    grid = empty_grid(0.01, np.zeros(3)).with_points(points, 1000).with_points(points[:2], 1000)
    assert len(grid) == 2 and sorted(grid.hits) == [1, 2]
    np.testing.assert_allclose(grid.points(2), [[0.002, 0.003, 0.004]], atol=1e-6)
    assert len(grid.points(1)) == len(grid.means()) == 2 and grid.point_radius_m == 0.0075


@settings(max_examples=25, deadline=None)
@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=4))
def test_the_order_of_frames_is_no_matter_and_every_point_is_near_a_kept_one(
    seeds: list[int],
) -> None:
    there, back = empty_grid(0.02, ORIGIN), empty_grid(0.02, ORIGIN)
    for s in seeds:
        there = there.with_points(cloud(s), 10_000)
    for s in reversed(seeds):
        back = back.with_points(cloud(s), 10_000)
    np.testing.assert_array_equal(there.keys, back.keys)
    assert (np.diff(there.keys) > 0).all()
    np.testing.assert_allclose(there.means(), back.means(), atol=1e-5)
    np.testing.assert_array_equal(there.hits, back.hits)
    assert there.weights.sum() == 300 * len(seeds)
    for p in cloud(seeds[0])[:20]:
        assert np.abs(there.means() - p).max(axis=1).min() <= 0.02


def test_too_many_cubes_are_doubled_and_stay_where_they_are() -> None:
    points = cloud(1, 5000)
    fine, bounded = (empty_grid(0.01, ORIGIN).with_points(points, most) for most in (100_000, 500))
    assert len(fine) > 4000 and len(bounded) <= 500 and bounded.size_m >= 0.04
    np.testing.assert_allclose(
        np.average(bounded.means(), axis=0, weights=bounded.weights), points.mean(0), atol=1e-3
    )
    np.testing.assert_allclose(bounded.means().min(0), points.min(0), atol=bounded.size_m)


def test_two_grids_become_one_of_the_coarser_cubes() -> None:
    a = empty_grid(0.01, ORIGIN).with_points(cloud(1), 10_000)
    b = empty_grid(0.02, ORIGIN + 0.005).with_points(cloud(2), 10_000).with_points(cloud(2), 10_000)
    both, other = a.with_grid(b, 10_000), b.with_grid(a, 10_000)
    assert both.size_m == other.size_m == 0.02 and both.hits.max() == 2
    assert both.weights.sum() == other.weights.sum() == 900


def test_what_was_missed_too_often_is_not_published() -> None:
    points = np.array([[0.005, 0, 0], [0.105, 0, 0]], np.float32)
    grid = empty_grid(0.01, np.zeros(3))
    for _ in range(3):
        grid = grid.with_points(points, 100)
    far = grid.means()[:, 0] > 0.1
    for _ in range(7):
        grid = grid.with_misses(far).with_points(points[:1], 100)
    assert len(grid) == 2 and len(grid.points(1)) == 1 and grid.points(1)[0, 0] < 0.01
    assert grid.contradicted_count() == 1
    assert (
        len(grid.coarser().points(1)) == 1
        and len(empty_grid(0.01, np.zeros(3)).with_grid(grid, 100).points(1)) == 1
    )
    for _ in range(2):
        grid = grid.with_points(points, 100)
    assert len(grid.points(1)) == 2, "it comes back where it is measured again"
    assert grid.contradicted_count() == 0


def test_what_is_too_far_or_not_finite_is_left_out() -> None:
    points = np.array([[1e9, 0, 0], [np.nan, 0, 0], [0, np.inf, 0], [0.005, 0, 0]], np.float32)
    assert len(empty_grid(0.01, np.zeros(3)).with_points(points, 100)) == 1
    assert len(empty_grid(0.01, np.zeros(3)).with_points(points[:0], 100)) == 0


def test_a_grid_is_made_again_of_its_points() -> None:
    grid = empty_grid(0.01, ORIGIN).with_points(cloud(3), 10_000).with_points(cloud(4), 10_000)
    again = grid_from_means(0.01, ORIGIN, grid.means(), grid.weights, grid.hits, grid.misses)
    # float32 a hundred metres from the map's origin is good to 8 um: a mean on the side of its
    # cube may change sides.
    assert abs(len(again) - len(grid)) <= 2
    assert again.weights.sum() == grid.weights.sum() and again.hits.max() == grid.hits.max()


def test_a_surface_is_one_layer_in_the_middle_of_what_noise_fills() -> None:
    rng = np.random.default_rng(3)
    grid = empty_grid(0.01, np.zeros(3))
    normal = np.array([0.0, 0.6, 0.8])
    across = np.stack([[1.0, 0.0, 0.0], [0.0, 0.8, -0.6]])
    for _ in range(60):  # a slanted plate of 30 cm, measured with 1.2 cm of noise along its normal
        plate = (
            rng.uniform(-0.15, 0.15, (600, 2)) @ across + rng.normal(0, 0.012, (600, 1)) * normal
        )
        grid = grid.with_points(plate.astype(np.float32), 100000)
    points, surface = grid.points(4), grid.surface(4)
    thick, thin = (np.ptp(np.percentile(p @ normal, [2, 98])) for p in (points, surface))
    assert thick > 0.035 and thin < 0.5 * thick
    assert abs(float(np.median(surface @ normal))) < 0.002 and len(surface) < 0.7 * len(points)
    for axis in across:  # it is as large as it was
        assert 0.28 < np.ptp(surface @ axis) < 0.32


def test_a_thin_surface_stays_where_it_is_also_where_it_is_round() -> None:
    directions = np.random.default_rng(1).normal(size=(40000, 3))
    ball = (0.06 * directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(
        np.float32
    )
    grid = empty_grid(0.01, np.zeros(3)).with_points(ball, 100000)
    radius = np.linalg.norm(grid.surface(1), axis=1)
    assert radius.min() > 0.055 and radius.max() < 0.061
    assert len(empty_grid(0.01, np.zeros(3)).surface(1)) == 0
    few = grid_from_means(
        0.01, np.zeros(3), ball[:3], np.ones(3), np.ones(3, np.int32), np.zeros(3, np.int32)
    )
    np.testing.assert_array_equal(few.surface(1), few.points(1))
