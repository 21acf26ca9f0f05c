from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.clusters import Cluster, clusters, planes_of, surfaces_off_planes
from vos_ros.discovery.grid import grid_of
from vos_ros.discovery.masks import full_mask
from vos_ros.types import Intrinsics

CONFIG = ProposalsConfig(min_px=150)
FLOOR = ([-3.0, -1.0, -1.05], [3.0, 3.0, -1.0])
TABLE = ([-1.2, 0.8, -0.05], [1.2, 2.2, 0.0])
BOX = ([-0.1, 1.4, 0.0], [0.1, 1.6, 0.2])


def found(
    depth: np.ndarray,
    camera: Intrinsics,
    known: np.ndarray | None = None,
    config: ProposalsConfig = CONFIG,
) -> list[Cluster]:
    grid = grid_of(depth, camera, config)
    planes = planes_of(grid, config)
    labels = surfaces_off_planes(grid, planes, config)
    known_cells = (
        np.zeros(labels.shape, np.int32) if known is None else grid.sample(known).astype(np.int32)
    )
    return clusters(grid, labels, planes, known_cells, grid.vertices[..., 2] > 0, config)


@pytest.fixture
def view(
    camera: Intrinsics, cut_boxes: Callable[..., np.ndarray], table_top
) -> Callable[..., np.ndarray]:
    """The depth of boxes on the table, with the floor."""

    def cut(*boxes: tuple[list[float], list[float]]) -> np.ndarray:
        exact = cut_boxes([FLOOR, TABLE, *boxes], table_top.T_map_camera, camera)
        return (
            exact
            + np.random.default_rng(0).normal(0, 0.001, exact.shape).astype(np.float32) * exact**2
        )

    return cut


@pytest.fixture
def truth(
    camera: Intrinsics, cut_boxes: Callable[..., np.ndarray], table_top
) -> Callable[..., np.ndarray]:
    def mask(*boxes: tuple[list[float], list[float]]) -> np.ndarray:
        return cut_boxes(list(boxes), table_top.T_map_camera, camera) > 0

    return mask


def test_each_box_on_a_table_is_a_cluster_and_the_table_is_none(
    camera: Intrinsics, view, truth
) -> None:
    boxes = [
        ([-0.5, 1.2, 0.0], [-0.3, 1.4, 0.25]),
        ([0.1, 1.5, 0.0], [0.35, 1.7, 0.4]),
        ([-0.1, 1.1, 0.0], [0.05, 1.2, 0.1]),
    ]
    depth = view(*boxes)
    grid = grid_of(depth, camera, CONFIG)
    all_of = found(depth, camera)
    assert len(all_of) == 3 and [len(c.points) for c in all_of] == sorted(
        (len(c.points) for c in all_of), reverse=True
    )
    for box in boxes:
        own = grid.sample(truth(box))
        (c,) = [c for c in all_of if (c.cells & own).any()]
        assert (c.cells & own).sum() > 0.8 * own.sum() and (c.cells & ~own).sum() < 0.1 * own.sum()


def test_a_bare_table_on_a_floor_has_no_objects(camera: Intrinsics, view) -> None:
    assert found(view(), camera) == []


@pytest.mark.parametrize(
    ("box", "changes"),
    [
        (BOX, {"min_size_m": 0.4}),
        (BOX, {"max_size_m": 0.15}),
        (BOX, {"min_px": 5000}),
        (BOX, {"far_m": 1.0}),
        (([-0.1, 1.4, 0.0], [0.1, 1.6, 0.01]), {}),
        (([-0.5, 1.4, 0.0], [0.5, 1.43, 0.05]), {}),
        (([-1.2, 1.4, 0.0], [-0.75, 1.8, 0.3]), {}),
    ],
    ids=["small", "large", "few pixels", "far", "flat", "long and thin", "cut by the image"],
)
def test_what_is_left_out(
    camera: Intrinsics, view, box: tuple[list[float], list[float]], changes: dict
) -> None:
    assert len(found(view(BOX), camera)) == 1
    assert found(view(box), camera, config=replace(CONFIG, **changes)) == []


def test_what_is_behind_something_is_not_whole(camera: Intrinsics, view) -> None:
    screen = ([-0.6, 0.5, -0.2], [0.2, 0.52, 0.32])
    assert len(found(view(([-0.05, 1.4, 0.0], [0.25, 1.6, 0.3])), camera)) == 1
    peeping = ([-0.05, 1.4, 0.0], [0.25, 1.6, 0.3])
    shares = [
        c for c in found(view(screen, peeping), camera) if 1.0 < np.median(c.points[:, 2]) < 2.0
    ]
    assert all((c.points[:, 0] > 0.1).mean() > 0.5 for c in shares)


def test_known_pixels_are_taken_out_with_the_rims_that_they_leave(
    camera: Intrinsics, view, truth
) -> None:
    import cv2

    other = ([0.4, 1.3, 0.0], [0.6, 1.5, 0.25])
    depth, own = view(BOX, other), truth(BOX)
    assert len(found(depth, camera)) == 2
    for shrink in (1, 5, 9):  # a mask that is smaller than the object leaves a rim
        known = cv2.erode(own.astype(np.uint8), np.ones((shrink, shrink), np.uint8)) > 0
        (left,) = found(depth, camera, known)
        assert not (left.cells & grid_of(depth, camera, CONFIG).sample(own)).any()
    half = own.copy()
    half[:, : int(np.flatnonzero(own.any(0)).mean())] = False
    rest, alone = sorted(found(depth, camera, half), key=lambda c: -c.part_of)
    assert rest.part_of == 1 and not alone.part_of, (
        "half of an object is not another object, but more of it"
    )
    assert (
        rest.cells & grid_of(depth, camera, CONFIG).sample(own & ~half)
    ).sum() >= 0.9 * rest.cells.sum()


def test_a_part_belongs_to_what_it_goes_on_from(camera: Intrinsics, view, truth) -> None:
    """A long box of which a third is known; then one that only stands next to a known one."""
    long = ([-0.3, 1.4, 0.0], [0.3, 1.5, 0.15])
    depth, own = view(long), truth(long)
    columns = np.flatnonzero(own.any(0))
    third = own.copy()
    third[:, columns[len(columns) // 3] :] = False
    (rest,) = found(depth, camera, third)
    assert rest.part_of == 1
    low, tall = ([-0.15, 1.2, 0.0], [0.15, 1.4, 0.1]), ([-0.15, 1.4, 0.0], [0.15, 1.5, 0.3])
    assert not [c for c in found(view(low, tall), camera, truth(low)) if c.part_of], (
        "a crease lies between them"
    )
    nameless = third * np.int32(-1)
    assert not [c for c in found(view(long), camera, nameless) if c.part_of]


def test_an_object_that_touches_a_known_one_in_the_image_only_is_new(
    camera: Intrinsics, view, truth
) -> None:
    near, behind = ([-0.15, 1.1, 0.0], [0.05, 1.2, 0.12]), ([-0.05, 1.8, 0.0], [0.25, 1.9, 0.4])
    (left,) = found(view(near, behind), camera, truth(near))
    assert np.median(left.points[:, 2]) > 1.8


def test_the_mask_is_drawn_in_full_resolution(camera: Intrinsics, view, truth) -> None:
    depth, own = view(BOX), truth(BOX)
    rows, columns = np.nonzero(own)
    middle = (
        slice(int(rows.mean()) - 4, int(rows.mean()) + 4),
        slice(int(columns.mean()) - 4, int(columns.mean()) + 4),
    )
    depth[middle] = 0.0  # a hole in the measurement
    grid = grid_of(depth, camera, CONFIG)
    planes = planes_of(grid, CONFIG)
    (cluster,) = found(depth, camera)
    mask, weight = full_mask(
        cluster, grid, planes, depth, camera, np.zeros(depth.shape, bool), CONFIG
    )
    assert (mask & own).sum() / (mask | own).sum() > 0.8 and mask[middle].all()
    wrong = mask != own
    assert weight[wrong].sum() < 0.05 * wrong.sum(), (
        "what the planes cut off lies in the band of doubt"
    )
    assert set(np.unique(weight)) == {0.0, 1.0} and weight[mask].mean() > 0.5 and weight[0].all()
    taken = np.zeros(depth.shape, bool)
    taken[:, : int(columns.mean())] = True
    assert not (full_mask(cluster, grid, planes, depth, camera, taken, CONFIG)[0] & taken).any()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (48, 64), (240, 321)])
def test_noise_of_any_image_size_is_no_object(size: tuple[int, int]) -> None:
    h, w = size
    depth = np.random.default_rng(0).uniform(0.5, 3.0, size).astype(np.float32)
    assert found(depth, Intrinsics(200.0, 200.0, w / 2, h / 2, w, h)) == []
