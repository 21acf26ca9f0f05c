"""Which surfaces are objects and which are parts: each rule on a plate in front of a far wall."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.clusters import Cluster, clusters, surfaces_off_planes
from vos_ros.discovery.grid import grid_of
from vos_ros.discovery.masks import full_mask
from vos_ros.types import Intrinsics

CAMERA = Intrinsics(100.0, 100.0, 79.5, 59.5, 160, 120)  # a cell per pixel, 1 cm apart at 1 m
CONFIG = ProposalsConfig(min_px=50, far_m=3.5)
WALL_M, PLATE_M = 4.0, 1.0  # the wall is beyond far_m: measured, and no surface
ROWS, COLUMNS = slice(40, 70), slice(60, 90)  # of the plate, 30 cm each way


def plate() -> np.ndarray:
    depth = np.full((120, 160), WALL_M, np.float32)
    depth[ROWS, COLUMNS] = PLATE_M
    return depth


def found(
    depth: np.ndarray, known: np.ndarray | None = None, camera: Intrinsics = CAMERA
) -> list[Cluster]:
    grid = grid_of(depth, camera, CONFIG)
    surfaces = surfaces_off_planes(grid, [], CONFIG)
    known = np.zeros(surfaces.shape, np.int32) if known is None else known
    everywhere = np.ones(surfaces.shape, bool)
    return clusters(grid, surfaces, [], known, everywhere, CONFIG)


def test_a_plate_alone_is_an_object() -> None:
    (cluster,) = found(plate())
    assert cluster.part_of == 0 and cluster.cells[ROWS, COLUMNS].all()
    assert cluster.cells.sum() == 900


@pytest.mark.parametrize(("sides", "whole"), [(1, True), (2, False)])
def test_two_fifths_of_the_outline_may_be_hidden_by_something_nearer(
    sides: int, whole: bool
) -> None:
    depth = plate()
    depth[:, :60] = 0.5  # the left side: a quarter of the outline
    if sides == 2:
        depth[70:] = 0.5
    assert bool([c for c in found(depth) if c.points[0, 2] == PLATE_M]) == whole


@pytest.mark.parametrize(("rows", "whole"), [(30, True), (18, False)])
def test_a_fifth_of_the_outline_must_be_next_to_something_measured(rows: int, whole: bool) -> None:
    """The sides are next to unknown pixels, but for ``rows`` of the 120 edges on the right."""
    depth = np.where(plate() == PLATE_M, np.float32(PLATE_M), np.float32(0))
    depth[40 : 40 + rows, 90:] = WALL_M
    assert bool(found(depth)) == whole


def test_what_fills_less_than_half_of_its_hull_is_no_object() -> None:
    depth = np.full((120, 160), WALL_M, np.float32)
    depth[53:57, COLUMNS] = depth[ROWS, 73:77] = PLATE_M  # a cross
    assert found(depth) == []
    depth[48:62, COLUMNS] = depth[ROWS, 68:82] = PLATE_M  # with wide arms
    assert len(found(depth)) == 1


@pytest.mark.parametrize(
    ("known_columns", "part"),
    [(slice(60, 75), True), (slice(60, 65), False), (slice(60, 85), False)],
)
def test_a_part_is_neither_much_larger_nor_much_smaller_than_what_is_known(
    known_columns: slice, part: bool
) -> None:
    known = np.zeros((120, 160), np.int32)
    known[ROWS, known_columns] = 7
    got = found(plate(), known)
    assert [c.part_of for c in got] == ([7] if part else [])


def test_a_part_between_two_known_objects_is_of_neither() -> None:
    known = np.zeros((120, 160), np.int32)
    known[ROWS, 60:70] = 7
    assert [c.part_of for c in found(plate(), known)] == [7]
    known[ROWS, 80:90] = 8
    assert found(plate(), known) == []


def test_a_part_needs_most_of_its_object_on_the_same_surface() -> None:
    known = np.zeros((120, 160), np.int32)
    known[ROWS, 60:75] = 7
    depth = plate()
    depth[ROWS, 10:40] = 2.0  # the object 7 is also elsewhere
    known[ROWS, 10:40] = 7
    assert [c.part_of for c in found(depth, known)] == []


def mask_of(
    depth: np.ndarray, taken: np.ndarray | None = None, camera: Intrinsics = CAMERA
) -> tuple[np.ndarray, np.ndarray]:
    (cluster,) = found(depth, camera=camera)
    taken = np.zeros(depth.shape, bool) if taken is None else taken
    grid = grid_of(depth, camera, CONFIG)
    return full_mask(cluster, grid, [], depth, camera, taken, CONFIG)


def test_holes_of_the_measurement_are_filled_and_holes_of_the_object_stay() -> None:
    depth = plate()
    depth[45:55, 65:75] = 0.0
    depth[58:68, 78:88] = WALL_M
    mask, _ = mask_of(depth)
    assert mask[45:55, 65:75].all() and not mask[60:66, 80:86].any()
    assert mask[ROWS, COLUMNS].sum() > 780


def test_pixels_of_other_objects_are_not_in_the_mask_however_few() -> None:
    taken = np.zeros((120, 160), bool)
    taken[50:52, 70:72] = True  # closing the mask would fill them
    mask, _ = mask_of(plate(), taken)
    assert not mask[taken].any() and mask[ROWS, COLUMNS].sum() == 896


def test_the_ignored_band_is_as_wide_as_planes_may_have_cut_off() -> None:
    """Inside 2 px; outside 3 px and the tolerance of 1.6 cm, which is 2 px at 1 m."""
    mask, weight = mask_of(plate())
    (first, last), along = np.flatnonzero(mask[55])[[0, -1]], weight[55]
    assert first in (59, 60) and last in (89, 90)
    assert (along[first - 5 : first + 2] == 0).all() and (along[last - 1 : last + 6] == 0).all()
    assert (along[: first - 5] == 1).all() and (along[last + 6 :] == 1).all()
    assert (along[first + 2 : last - 1] == 1).all()
