"""The decimated depth image."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.grid import (
    connected_surfaces,
    grid_of,
    plane_tolerance,
    sensor_interior,
    step_limit,
)
from vos_ros.types import Intrinsics

CONFIG = ProposalsConfig(plane_tolerance_m=0.01, plane_tolerance_per_m2=0.005)


def test_a_grid_has_about_160_columns_and_its_cells_are_pixels() -> None:
    camera = Intrinsics(500.0, 400.0, 319.5, 239.5, 640, 480)
    y, x = np.mgrid[0:480, 0:640]
    depth = (1.0 + x / 640 + y / 480).astype(np.float32)
    grid = grid_of(depth, camera, CONFIG)
    assert grid.step == 4 and grid.vertices.shape == (120, 160, 3)
    assert grid.vertices[10, 20, 2] == depth[42, 82]
    image = np.zeros((480, 640), bool)
    image[42, 82] = True
    assert np.argwhere(grid.sample(image)).tolist() == [[10, 20]]
    z = grid.vertices[10, 20, 2]
    assert grid.cell_m2[10, 20] == pytest.approx((4 * z / 500) * (4 * z / 400), rel=1e-5)
    assert grid.pitch == pytest.approx(4 / 450)
    assert grid.tolerance[10, 20] == pytest.approx(0.01 + 0.005 * z * z, rel=1e-5)
    assert plane_tolerance(2.0, CONFIG) == pytest.approx(0.03)
    assert step_limit(2.0, grid, CONFIG) == pytest.approx(3.0 * 2.0 * 4 / 450 + 0.02)
    assert grid_of(depth[:60, :80], camera, CONFIG).step == 1


@pytest.mark.parametrize("axis", [0, 1])
def test_surfaces_end_at_steps_of_depth_along_both_axes(axis: int) -> None:
    camera = Intrinsics(200.0, 200.0, 79.5, 59.5, 160, 120)
    depth = np.full((120, 120), 1.0, np.float32)
    far = np.s_[60:] if axis == 0 else np.s_[:, 60:]
    limit = 3.0 * 1.0 / 200 + 0.005  # at the nearer depth
    for step, surfaces in ((0.95 * limit, 1), (1.05 * limit, 2)):
        depth[far] = np.float32(1.0 + step)
        grid = grid_of(depth, camera, CONFIG)
        mask = np.ones((120, 120), bool)
        labels = connected_surfaces(mask, grid, CONFIG)
        assert labels.min() == 1 and labels.max() == surfaces
    mask[30] = mask[:, 30] = False  # off the mask nothing is connected
    labels = connected_surfaces(mask, grid, CONFIG)
    assert labels.max() == 6 and (labels > 0).sum() == mask.sum() and not labels[~mask].any()


def test_the_interior_of_a_sensor_that_measures_less_than_the_image() -> None:
    measured = np.zeros((60, 80), bool)
    inner = sensor_interior(measured)
    assert inner[1:-1, 1:-1].all() and not inner[0].any() and not inner[:, -1].any()
    measured[3:50, 10:75] = True
    measured[1, 40] = True  # noise
    wanted = np.pad(np.ones((45, 63), bool), ((4, 11), (11, 6)))
    assert np.array_equal(sensor_interior(measured), wanted)
    measured[0:3, 30:50] = True  # something rises above the rest: the sensor measures there too
    assert sensor_interior(measured)[1:49, 11:74].all() and not sensor_interior(measured)[0].any()
