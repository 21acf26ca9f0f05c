"""Objects that are a box alone: what of the measured depth is theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.evaluation.davis_metrics import region_similarity
from vos_ros.geometry import se3
from vos_ros.geometry.camera import project
from vos_ros.mapping.render import render
from vos_ros.mapping.seeds import box_seed_of
from vos_ros.types import Intrinsics, MapObject, Points, Projection

HOME = np.eye(4)
WALL_M = 4.0
Cut = Callable[..., np.ndarray]
LOW, HIGH = [-0.2, -0.15, 1.8], [0.2, 0.15, 2.2]


def box(object_id: int, low: list[float], high: list[float], turn: float = 0.0) -> MapObject:
    """Return an object of position and size, turned about the y axis of the camera."""
    corners = np.array([low, high])
    T = se3.from_rt(se3.so3_exp(np.array([0.0, turn, 0.0])), corners.mean(0))
    nothing = np.zeros((0, 3), np.float32)
    return MapObject(object_id, 1, T, corners[1] - corners[0], nothing, 0.0)


def depth_of(cut: Cut, camera: Intrinsics, *boxes: tuple[list[float], list[float]]) -> np.ndarray:
    """Return the depth of some boxes before a wall."""
    depth = cut(list(boxes), HOME, camera)
    return np.where(depth > 0, depth, WALL_M).astype(np.float32)


def test_only_a_position_with_a_size_and_no_surface_is_a_box() -> None:
    given = box(1, LOW, HIGH)
    assert given.is_box
    assert not replace(given, points=np.ones((1, 3), np.float32)).is_box
    assert not replace(given, size=np.zeros(3)).is_box
    assert not replace(given, size=np.array([np.nan, 1, 1])).is_box


def test_a_box_without_depth_is_its_outline(camera: Intrinsics, cut_boxes: Cut) -> None:
    (p,) = render([box(3, LOW, HIGH)], HOME, camera)
    exact = cut_boxes([(LOW, HIGH)], HOME, camera) > 0
    assert region_similarity(p.mask, exact) > 0.97
    assert (p.object_id, p.visible, p.occluded, p.truncated, p.free) == (3, 1.0, 0.0, 0.0, 0.0)
    middle = p.depth[p.mask]
    assert middle.min() > 1.8 and middle.max() < 2.2


@pytest.mark.parametrize("turn", [0.0, 0.5, -1.2])
def test_a_turned_box_covers_the_projection_of_its_corners(camera: Intrinsics, turn: float) -> None:
    o = box(3, LOW, HIGH, turn)
    (p,) = render([o], HOME, camera)
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    xy = project(se3.transform(o.T_map_object, signs * o.size), camera)
    x0, y0, x1, y1 = p.roi
    rows, columns = np.nonzero(p.mask)
    assert abs(columns.min() - xy[:, 0].min()) < 2 and abs(columns.max() - xy[:, 0].max()) < 2
    assert abs(rows.min() - xy[:, 1].min()) < 2 and abs(rows.max() - xy[:, 1].max()) < 2
    assert x0 <= columns.min() and x1 > columns.max() and y0 <= rows.min() and y1 > rows.max()


def test_what_is_seen_through_a_box_is_not_the_object(camera: Intrinsics, cut_boxes: Cut) -> None:
    left_half = (LOW, [0.0, *HIGH[1:]])
    depth = depth_of(cut_boxes, camera, left_half)
    (p,) = render([box(3, LOW, HIGH)], HOME, camera, depth=depth)
    exact = cut_boxes([left_half], HOME, camera) > 0
    assert region_similarity(p.mask, exact) > 0.97
    assert p.visible == 1.0 and p.free == 0.0
    np.testing.assert_allclose(p.depth[p.mask], depth[p.mask], atol=0.05)


def test_a_wall_in_front_hides_a_box(camera: Intrinsics, cut_boxes: Cut) -> None:
    depth = depth_of(cut_boxes, camera, (LOW, HIGH))
    depth[:, :160] = 1.0
    (p,) = render([box(3, LOW, HIGH)], HOME, camera, depth=depth)
    assert not p.mask[:, :160].any() and p.mask[:, 161:].any()
    assert p.visible == pytest.approx(0.5, abs=0.03) and p.occluded == 1 - p.visible
    (p,) = render([box(3, LOW, HIGH)], HOME, camera, depth=np.full_like(depth, 1.0))
    assert p.area_px == 0 and p.visible == 0.0 and p.free == 0.0


def test_an_empty_box_is_free_space(camera: Intrinsics) -> None:
    depth = np.full((camera.height, camera.width), WALL_M, np.float32)
    (p,) = render([box(3, LOW, HIGH)], HOME, camera, depth=depth)
    assert p.area_px == 0 and p.visible == 0.0 and p.free == 1.0


def test_a_pixel_is_one_objects(camera: Intrinsics, cut_boxes: Cut) -> None:
    """A small box in a large one has the points in both; a surface that agrees comes first."""
    small = (LOW, HIGH)
    large = ([-0.6, -0.4, 1.6], [0.6, 0.4, 2.6])
    depth = depth_of(cut_boxes, camera, small, ([-0.6, -0.4, 2.4], [0.6, 0.4, 2.6]))
    one, other = render([box(1, *large), box(2, *small)], HOME, camera, depth=depth)
    exact = cut_boxes([small], HOME, camera) > 0
    assert region_similarity(other.mask, exact) > 0.97
    assert one.area_px and not (one.mask & other.mask).any()
    near = render([box(1, *large), box(2, *small)], HOME, camera)
    assert not (near[0].mask & near[1].mask).any() and near[0].visible == 1.0


def test_a_known_surface_comes_before_a_box(
    camera: Intrinsics, cut_boxes: Cut, make_box: Callable[..., MapObject]
) -> None:
    surface = make_box(2, [-0.2, -0.15, 1.9], [0.2, 0.15, 1.9], 0.01)
    large = ([-0.6, -0.4, 1.6], [0.6, 0.4, 2.6])
    depth = depth_of(cut_boxes, camera, ([-0.2, -0.15, 1.9], [0.2, 0.15, 1.901]), large)
    depth[depth < 1.7] = 2.4  # the large box is seen by its back
    depth[cut_boxes([([-0.2, -0.15, 1.9], [0.2, 0.15, 1.901])], HOME, camera) > 0] = 1.9
    boxed, known = render([box(1, *large), surface], HOME, camera, depth=depth)
    assert known.area_px > 500 and boxed.area_px > 500
    assert not (boxed.mask & known.mask).any()


def test_boxes_at_the_border_behind_and_around_the_camera(camera: Intrinsics) -> None:
    half = camera.width / 2 / camera.fx * 2.0  # of the view, 2 m away
    (p,) = render([box(1, [half - 0.2, -0.1, 2.0], [half + 0.2, 0.1, 2.01])], HOME, camera)
    assert p.truncated == pytest.approx(0.5, abs=0.03) and p.visible == 1 - p.truncated
    assert render([box(1, [-0.2, -0.2, -3.0], [0.2, 0.2, -2.0])], HOME, camera) == []
    assert render([box(1, [5.0, -0.2, 2.0], [5.4, 0.2, 2.4])], HOME, camera) == []
    (p,) = render([box(1, [-1.0, -1.0, -1.0], [1.0, 1.0, 1.0])], HOME, camera)
    assert p.area_px == camera.width * camera.height


def clicked(p: Projection, center: tuple[float, float]) -> tuple[tuple[int, int], Points]:
    seed = box_seed_of(5, p, np.array(center))
    assert seed.object_id == 5 and isinstance(seed.prompt, Points) and seed.weight is None
    x, y = seed.prompt.xy[0].astype(int).tolist()
    assert seed.prompt.extent is not None and np.array_equal(seed.prompt.extent, p.mask)
    return (x, y), seed.prompt


def test_the_seed_of_a_box_is_a_click_on_what_is_seen_in_it() -> None:
    mask = np.ones((40, 40), bool)
    shape, roi = (100, 120), (30, 20, 70, 60)
    given = Projection(1, shape, roi, mask, mask, mask.astype(np.float32), 1.0, 0.0, 0.0)
    assert clicked(given, (50.2, 39.8))[0] == (50, 40)
    ring = mask.copy()
    ring[8:32, 8:32] = False
    (x, y), _ = clicked(replace(given, mask_roi=ring), (50, 40))
    assert ring[y - 20, x - 30] and ring[y - 22 : y - 17, x - 32 : x - 27].all(), "well inside"
    corner = clicked(given, (np.nan, np.nan))[0]
    assert given.mask[corner[1], corner[0]]
    thin = np.zeros_like(mask)
    thin[20] = True
    assert clicked(replace(given, mask_roi=thin), (50, 50))[0][1] == 40
