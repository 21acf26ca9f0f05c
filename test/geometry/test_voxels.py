"""Cubes of space and their keys."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.geometry import voxels


def test_cubes_are_half_open_on_every_axis_and_on_both_sides_of_the_origin():
    points = np.array([[0.0, 0.99, -0.01], [1.0, -1.0, -1.01]])
    assert voxels.voxel_indices(points, 1.0).tolist() == [[0, 0, -1], [1, -1, -2]]
    assert voxels.voxel_indices(points, 0.5).tolist() == [[0, 1, -1], [2, -2, -3]]


def test_keys_are_unique_sorted_as_their_cubes_and_come_back():
    end = voxels.MAX_INDEX - 1
    axis = np.array([-end, -1, 0, 1, end])
    cubes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    keys = voxels.voxel_keys(cubes)
    assert (np.diff(keys) > 0).all() and keys.min() >= 0
    np.testing.assert_array_equal(voxels.indices_of_keys(keys), cubes)


def test_the_neighbours_are_the_26_around_on_every_side_of_the_origin():
    for cube in ([0, 0, 0], [-1, 0, 4000], [-300, 200, -1]):
        around = voxels.with_neighbours(voxels.voxel_keys(np.array([cube])))
        offsets = voxels.indices_of_keys(around) - cube
        assert len(around) == 27 and np.abs(offsets).max() == 1
        assert len(np.unique(offsets, axis=0)) == 27


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_point_of_each_cube_is_kept(dtype):
    points = np.array([[0.9, 0, 0], [0.1, 0, 0], [-0.1, 0, 0], [0.1, 0, -2]], dtype)
    cubes, rows = voxels.first_in_each_voxel(points, 1.0)
    assert cubes.tolist() == [[-1, 0, 0], [0, 0, -2], [0, 0, 0]] and rows.tolist() == [2, 3, 0]
