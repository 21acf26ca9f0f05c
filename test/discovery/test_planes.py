from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.grid import grid_of
from vos_ros.discovery.planes import find_planes, moved, on_plane
from vos_ros.geometry import se3
from vos_ros.types import Intrinsics

CONFIG = ProposalsConfig()
ROOM = [
    ([-3.0, -1.0, -1.05], [3.0, 3.0, -1.0]),
    ([-3.0, 2.5, -1.0], [3.0, 2.6, 2.0]),
]  # floor, wall


def planes_of(
    depth: np.ndarray, camera: Intrinsics, min_area: float = 0.2, guesses: Sequence = ()
) -> list[np.ndarray]:
    grid = grid_of(depth, camera, CONFIG)
    return [
        flat.plane
        for flat in find_planes(
            grid.vertices, grid.normals, grid.tolerance, grid.cell_m2, min_area, guesses
        )
    ]


def test_table_floor_and_wall_are_found(
    camera: Intrinsics, cut_boxes: Callable[..., np.ndarray], table_top
) -> None:
    depth = cut_boxes([*table_top.boxes, *ROOM], table_top.T_map_camera, camera)
    depth += np.random.default_rng(0).normal(0, 0.002, depth.shape).astype(np.float32) * depth**2
    in_map = [moved(p, table_top.T_map_camera) for p in planes_of(depth, camera)]
    in_map = [p * np.sign(p[np.abs(p[:3]).argmax()]) for p in in_map]
    for wanted in ([0, 0, 1, 0.0], [0, 0, 1, 1.0], [0, 1, 0, -2.5]):  # height 0, height -1, y = 2.5
        assert min(np.abs(p - wanted).max() for p in in_map) < 0.02, (wanted, in_map)
    assert len(in_map) <= 4, "the boxes' own faces are smaller than what counts as background"


def test_a_plane_must_show_its_least_area_whatever_the_distance(
    camera: Intrinsics, cut_boxes: Callable[..., np.ndarray]
) -> None:
    for distance in (0.6, 1.2, 2.4):
        wall = cut_boxes([([-0.2, -0.2, distance], [0.2, 0.2, distance + 0.1])], np.eye(4), camera)
        assert len(planes_of(wall, camera, 0.14)) == 1  # 0.16 m^2
        assert planes_of(wall, camera, 0.18) == []


def test_a_plane_known_from_before_may_show_less_of_itself(
    camera: Intrinsics, cut_boxes: Callable[..., np.ndarray]
) -> None:
    wall = cut_boxes([([-0.2, -0.2, 1.0], [0.2, 0.2, 1.1])], np.eye(4), camera)
    everywhere = np.ones((120, 160), bool)
    (found,) = planes_of(wall, camera, 0.3, [(np.array([0.0, 0.0, 1.0, -1.005]), everywhere)])
    assert abs(abs(found[3]) - 1.0) < 1e-3 and abs(abs(found[2]) - 1.0) < 1e-3
    assert planes_of(wall, camera, 0.3, [(np.array([0.0, 0.0, 1.0, -1.5]), everywhere)]) == [], (
        "a plane that isn't there"
    )
    assert planes_of(wall, camera, 0.3, [(np.array([0.0, 0.0, 1.0, -1.005]), ~everywhere)]) == [], (
        "one that is elsewhere"
    )


def test_a_surface_that_only_crosses_a_plane_is_not_of_it(
    camera: Intrinsics, cut_boxes: Callable[..., np.ndarray]
) -> None:
    wall = cut_boxes([([-1, -1, 1.0], [1, 1, 1.1])], np.eye(4), camera)
    grid = grid_of(wall, camera, CONFIG)
    crossing = np.array([0.0, 1.0, 0.0, 0.0])  # y = 0
    beside_nothing = np.zeros_like(grid.normals)
    assert not on_plane(crossing, grid.vertices, grid.normals, grid.tolerance)[1:-1, 1:-1].any()
    assert on_plane(crossing, grid.vertices, beside_nothing, grid.tolerance).any(), (
        "without a normal the distance alone decides"
    )


def test_a_moved_plane_holds_the_moved_points() -> None:
    rng = np.random.default_rng(0)
    T = se3.from_rt(
        se3.from_quaternion(np.zeros(3), np.array([0.1, 0.5, -0.3, 0.8]) / np.sqrt(0.99))[:3, :3],
        np.array([3.0, -2.0, 1.0]),
    )
    points = np.column_stack([rng.normal(size=(20, 2)), np.full(20, 2.0)])
    plane = moved(np.array([0.0, 0.0, 1.0, -2.0]), T)
    assert np.allclose((points @ T[:3, :3].T + T[:3, 3]) @ plane[:3] + plane[3], 0.0, atol=1e-9)


NOISE = np.random.default_rng(0).uniform(0.5, 4.0, (240, 320))


@pytest.mark.parametrize(
    "depth",
    [np.zeros((240, 320)), np.full((240, 320), np.nan), NOISE],
    ids=["unknown", "nan", "noise"],
)
def test_where_there_is_no_plane_none_is_found(camera: Intrinsics, depth: np.ndarray) -> None:
    assert planes_of(depth.astype(np.float32), camera) == []


def test_the_same_image_gives_the_same_planes(camera: Intrinsics, table_top) -> None:
    a, b = (planes_of(table_top.depth(), camera) for _ in range(2))
    assert np.array_equal(a, b)


def test_a_plane_is_what_lies_in_one_patch(
    camera: Intrinsics, cut_boxes: Callable[..., np.ndarray]
) -> None:
    """Two level shelves, each too small, make no plane; a wall next to one is its own plane."""
    left, right = (
        ([-0.75, -0.2, 1.0], [-0.45, 0.2, 1.1]),
        ([0.25, -0.2, 1.0], [0.55, 0.2, 1.1]),
    )  # 0.12 m^2 each
    assert planes_of(cut_boxes([left, right], np.eye(4), camera), camera, 0.2) == []
    near = ([-0.1, -0.2, 1.0], [0.2, 0.2, 1.1])  # as large, and next to the right one
    grid = grid_of(cut_boxes([left, near, right], np.eye(4), camera), camera, CONFIG)
    (flat,) = find_planes(grid.vertices, grid.normals, grid.tolerance, grid.cell_m2, 0.2)
    x = grid.vertices[..., 0]
    on_wall = grid.vertices[..., 2] > 0
    assert (
        flat.cells[on_wall & (x > -0.08)].mean() > 0.95
        and not flat.cells[on_wall & (x < -0.4)].any()
        and (on_wall & (x < -0.4)).any()
    )


def test_a_plane_at_a_slant_counts_with_its_own_area(
    camera: Intrinsics, cut_boxes: Callable[..., np.ndarray]
) -> None:
    """0.6 m^2 of floor, 0.4 m below the camera: face to face its cells cover a quarter of that."""
    floor = cut_boxes([([-0.3, 0.4, 1.0], [0.3, 0.45, 2.0])], np.eye(4), camera)
    assert len(planes_of(floor, camera, 0.45)) == 1
    assert planes_of(floor, camera, 0.7) == []
