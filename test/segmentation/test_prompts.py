from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.segmentation.prompts import (
    check_prompt,
    cut_at_depth_edges,
    separate_clicks,
    to_mask,
)
from vos_ros.types import Box, Frame, Mask, Points, Prompt, Scribble, Seed

H, W = 60, 80
SHAPE = (H, W)


def square() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[20:44, 30:58] = True
    return mask


@pytest.fixture
def frame(make_frame: Callable[..., Frame]) -> Frame:
    """A red square, and another one that nobody points at, on grey noise."""
    rgb = np.random.default_rng(0).integers(95, 125, (H, W, 3), np.uint8)
    for part in (square(), np.roll(square(), (-18, 40), (0, 1))):
        rgb[part] = (215, 40, 45)
    rgb[square()] += np.random.default_rng(1).integers(0, 25, (int(square().sum()), 3), np.uint8)
    return make_frame(0, H, W, rgb=rgb)


def box(*xyxy: float) -> Box:
    return Box(np.array(xyxy, np.float32))


def points(*xy: tuple[float, float], positive: tuple[bool, ...] | None = None) -> Points:
    return Points(
        np.array(xy, np.float32).reshape(-1, 2),
        np.array(positive if positive is not None else [True] * len(xy), bool),
    )


def scribble(*strokes: tuple[slice, slice, int], shape: tuple[int, int] = SHAPE) -> Scribble:
    image = np.zeros(shape, np.uint8)
    for rows, columns, value in strokes:
        image[rows, columns] = value
    return Scribble(image)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_mask_is_itself_even_where_it_is_empty(frame: Frame) -> None:
    assert np.array_equal(to_mask(Mask(square()), frame), square())
    assert not to_mask(Mask(np.zeros(SHAPE, bool)), frame).any()


@pytest.mark.parametrize(
    "prompt",
    [
        box(27, 17, 61, 47),
        box(29.6, 19.6, 58.4, 44.4),
        points((40, 30)),
        points((33, 23), (54, 41)),
        points((40, 30), (10, 10), positive=(True, False)),
        scribble((slice(30, 32), slice(33, 55), 1)),
        scribble((slice(30, 32), slice(33, 55), 1), (slice(50, 52), slice(20, 70), 2)),
    ],
    ids=[
        "box",
        "tight box",
        "click",
        "two clicks",
        "click and counter-click",
        "stroke",
        "two strokes",
    ],
)
def test_prompts_find_the_object_and_only_it(frame: Frame, prompt: Prompt) -> None:
    mask = to_mask(prompt, frame)
    assert mask.shape == SHAPE and mask.dtype == bool
    assert iou(mask, square()) > 0.9


@pytest.mark.parametrize(
    "prompt",
    [points((40, 30)), scribble((slice(30, 32), slice(33, 55), 1))],
    ids=["click", "stroke"],
)
@pytest.mark.parametrize("side", [6, 12])
def test_a_look_alike_that_is_not_connected_is_another_object(
    make_frame: Callable[..., Frame], prompt: Prompt, side: int
) -> None:
    """GrabCut knows colours alone, and takes both."""
    twin = np.zeros(SHAPE, bool)
    twin[4 : 4 + side, 4 : 4 + side] = True
    rgb = np.random.default_rng(0).integers(95, 125, (H, W, 3), np.uint8)
    both = square() | twin
    noise = np.random.default_rng(1).integers(0, 25, (int(both.sum()), 3), np.uint8)
    rgb[both] = np.array((215, 40, 45), np.uint8) + noise
    mask = to_mask(prompt, make_frame(0, H, W, rgb=rgb))
    assert iou(mask, square()) > 0.95 and not (mask & twin).any()


def test_what_was_pointed_at_is_in_the_mask_and_what_was_excluded_is_not(frame: Frame) -> None:
    mask = to_mask(points((31, 21), (5, 5), positive=(True, True)), frame)
    assert mask[21, 31] and mask[5, 5]
    excluded = to_mask(
        scribble((slice(30, 32), slice(33, 44), 1), (slice(20, 44), slice(50, 58), 2)), frame
    )
    assert not excluded[20:44, 50:58].any()


def test_a_box_never_leaves_itself(frame: Frame) -> None:
    mask = to_mask(box(35, 25, 50, 40), frame)
    outside = np.ones(SHAPE, bool)
    outside[25:40, 35:50] = False
    assert mask.any() and not (mask & outside).any()


@pytest.mark.parametrize(
    "prompt",
    [box(-20, -20, 200, 200), box(0, 0, W, H), box(70, 50, 200, 200), box(3, 3, 5, 5)],
    ids=["beyond", "whole image", "over the corner", "2x2"],
)
def test_boxes_at_the_limits_give_a_mask(frame: Frame, prompt: Box) -> None:
    assert to_mask(prompt, frame).any()


@pytest.mark.parametrize(
    "prompt",
    [
        points((0, 0)),
        points((W - 1, H - 1)),
        points((-0.4, -0.4)),
        points((40, 30), (40, 30), positive=(True, False)),
    ],
    ids=["first pixel", "last pixel", "rounds in", "contradiction"],
)
def test_clicks_at_the_limits_give_a_mask(frame: Frame, prompt: Points) -> None:
    assert to_mask(prompt, frame).any()


def test_images_without_any_contrast_give_what_was_pointed_at(
    make_frame: Callable[..., Frame],
) -> None:
    uniform = make_frame(0, H, W, rgb=np.full((H, W, 3), 99, np.uint8))
    click = to_mask(points((40, 30)), uniform)
    assert click[30, 40] and click.sum() < 60
    assert to_mask(scribble((slice(None), slice(None), 1)), uniform).all()
    assert to_mask(box(10, 10, 20, 20), uniform).sum() == 100


def test_masks_are_the_same_each_time_whatever_ran_between(frame: Frame) -> None:
    first = to_mask(points((40, 30)), frame)
    to_mask(box(5, 5, 30, 30), frame)
    assert np.array_equal(to_mask(points((40, 30)), frame), first)


WRONG: dict[str, tuple[Prompt, str]] = {
    "empty mask": (Mask(np.zeros(SHAPE, bool)), "without a pixel"),
    "mask of another size": (Mask(np.ones((H, W + 1), bool)), "shape"),
    "box of no area": (box(5, 5, 5, 20), "2x2"),
    "box turned round": (box(20, 20, 5, 5), "x0 y0 x1 y1"),
    "box outside": (box(100, 5, 120, 20), "80x60"),
    "box of NaN": (box(0, 0, float("nan"), 20), "not finite"),
    "endless box": (box(0, 0, float("inf"), 20), "not finite"),
    "no points": (points(), "positive"),
    "only negative points": (points((3, 3), positive=(False,)), "positive"),
    "flags missing": (points((3, 3), (4, 4), positive=(True,)), "2 points but 1"),
    "point outside": (points((3, 3), (W, 4)), "outside the 80x60 image"),
    "point before the image": (points((-3, 4)), "outside"),
    "point of NaN": (points((float("nan"), 4)), "outside"),
    "endless point": (points((4, float("inf"))), "outside"),
    "no stroke": (scribble((slice(3, 5), slice(3, 5), 2)), "value 1"),
    "strokes of another size": (scribble((slice(3, 5), slice(3, 5), 1), shape=(H, W - 1)), "shape"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_prompts_are_told(frame: Frame, wrong: str) -> None:
    prompt, words = WRONG[wrong]
    with pytest.raises(ValueError, match=words):
        check_prompt(prompt, SHAPE)
    if not isinstance(prompt, Mask):
        with pytest.raises(ValueError, match=words):
            to_mask(prompt, frame)


NEEDS_THE_SIZE = {"mask of another size", "box outside", "point outside", "strokes of another size"}


@pytest.mark.parametrize("wrong", [w for w in WRONG if w not in NEEDS_THE_SIZE])
def test_what_is_wrong_at_any_size_is_told_before_the_size_is_known(wrong: str) -> None:
    with pytest.raises(ValueError):
        check_prompt(WRONG[wrong][0], None)


@pytest.mark.parametrize(
    "prompt",
    [
        Mask(square()),
        box(900, 900, 999, 999),
        points((900, 900)),
        scribble((slice(3, 5), slice(3, 5), 1)),
    ],
)
def test_what_may_be_right_passes_before_the_size_is_known(prompt: Prompt) -> None:
    check_prompt(prompt, None)


def test_a_scribble_of_many_dots_takes_no_longer_than_a_stroke(make_frame) -> None:
    """Each dot was searched for among all pixels: 32 s at 640x480."""
    rgb = np.random.default_rng(0).integers(95, 125, (480, 640, 3), np.uint8)
    rgb[100:300, 200:400] = (215, 40, 45)
    strokes = np.zeros((480, 640), np.uint8)
    strokes[::3, ::3] = 1
    began = time.monotonic()
    mask = to_mask(Scribble(strokes), make_frame(0, 480, 640, rgb=rgb))
    assert time.monotonic() - began < 8.0
    assert mask[strokes == 1].all()


def test_grabcut_of_a_large_image_works_on_a_smaller_one(make_frame) -> None:
    rgb = np.random.default_rng(0).integers(95, 125, (1500, 2000, 3), np.uint8)
    wanted = np.zeros((1500, 2000), bool)
    wanted[400:900, 600:1300] = True
    rgb[wanted] = (215, 40, 45)
    strokes = np.zeros((1500, 2000), np.uint8)
    strokes[650, 700:1200] = 1
    strokes[100, 100:1900] = 2
    began = time.monotonic()
    mask = to_mask(Scribble(strokes), make_frame(0, 1500, 2000, rgb=rgb))
    assert time.monotonic() - began < 8.0
    assert (mask & wanted).sum() / (mask | wanted).sum() > 0.98
    assert mask[strokes == 1].all() and not mask[strokes == 2].any()


def two_boxes(make_frame: Callable[..., Frame]) -> tuple[Frame, np.ndarray]:
    """Return two boxes of one colour, 1 m and 1.5 m away, and the pixels of the nearer one."""
    rgb = np.full((H, W, 3), 110, np.uint8)
    depth = np.full(SHAPE, 3.0, np.float32)
    near, both = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    near[20:44, 20:40], both[20:44, 20:60] = True, True
    rgb[both] = (215, 40, 45)
    depth[both], depth[near] = 1.5, 1.0
    return make_frame(0, H, W, rgb=rgb, depth=depth), near


def test_clicks_are_cut_at_edges_of_the_depth(make_frame: Callable[..., Frame]) -> None:
    frame, near = two_boxes(make_frame)
    assert iou(to_mask(points((30, 30)), frame), near) > 0.95
    assert iou(to_mask(points((50, 30)), frame), np.roll(near, 20, 1)) > 0.95
    both = near | np.roll(near, 20, 1)
    assert iou(to_mask(points((30, 30), (50, 30)), frame), both) > 0.95
    assert iou(to_mask(points((30, 30)), replace(frame, depth=None)), both) > 0.95


def test_a_slope_is_one_surface_and_noise_is_no_edge(make_frame: Callable[..., Frame]) -> None:
    mask = np.ones(SHAPE, bool)
    slope = np.broadcast_to(np.linspace(1.0, 2.0, W, dtype=np.float32), SHAPE).copy()
    slope += 0.004 * np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    slope[10:12, 10:12] = 9.0
    cut = cut_at_depth_edges(mask, points((5, 30)), slope)
    assert cut.all(), "a speck belongs to what surrounds it"
    stairs = np.where(np.arange(W) < 50, np.float32(1.0), np.float32(1.05))
    cut = cut_at_depth_edges(mask, points((5, 30)), np.broadcast_to(stairs, SHAPE).copy())
    assert cut[:, :50].all() and not cut[:, 50:].any()


def test_unknown_depth_neither_connects_nor_cuts() -> None:
    mask, width = np.ones(SHAPE, bool), 16
    depth = np.full(SHAPE, 1.0, np.float32)
    depth[:, 40:] = 2.0
    depth[:, 40 - width : 40] = 0.0
    cut = cut_at_depth_edges(mask, points((5, 30)), depth)
    assert cut[:, :39].all(), "what is not known next to the clicked surface is kept"
    assert not cut[:, 40:].any(), "and does not lead to what is farther"
    same = np.where(depth > 0, np.float32(1.0), depth)
    assert not cut_at_depth_edges(mask, points((5, 30)), same)[:, 40:].any()
    narrow = np.full(SHAPE, 1.0, np.float32)
    narrow[:, 39] = 0.0
    assert cut_at_depth_edges(mask, points((5, 30)), narrow).all(), "a surface goes on over a gap"
    assert cut_at_depth_edges(mask, points((32, 30)), depth).all(), "the click itself has no depth"
    assert cut_at_depth_edges(mask, points((5, 30)), np.zeros(SHAPE, np.float32)).all()
    assert cut_at_depth_edges(mask, points((5, 30)), None) is mask


def test_clicks_stay_within_their_limit(frame: Frame) -> None:
    within = np.zeros(SHAPE, bool)
    within[20:44, 30:44] = True
    limited = Points(np.float32([[36, 30]]), np.array([True]), within)
    check_prompt(limited, SHAPE)
    mask = to_mask(limited, frame)
    assert iou(mask, within) > 0.9 and not mask[~within].any()
    with pytest.raises(ValueError, match="outside the pixels that may be"):
        check_prompt(replace(limited, xy=np.float32([[50, 30]])), SHAPE)
    with pytest.raises(ValueError, match="within has shape"):
        check_prompt(limited, (H, W + 1))


def test_clicks_of_one_frame_do_not_claim_each_others_objects() -> None:
    def click(*xy: tuple[int, int], positive: bool = True) -> Points:
        return Points(np.float32(xy), np.full(len(xy), positive))

    taken = np.zeros(SHAPE, bool)
    taken[:, :10] = True
    box = Seed(3, Box(np.float32([1, 1, 9, 9])))
    first, second, _, same = separate_clicks(
        [Seed(1, click((20, 5))), Seed(2, click((5, 5), (40, 7))), Seed(7, click((60, 9))), box],
        taken,
    )
    assert same is box
    assert isinstance(first.prompt, Points) and isinstance(second.prompt, Points)
    assert first.prompt.xy.tolist() == [[20, 5], [5, 5], [40, 7], [60, 9]]
    assert first.prompt.positive.tolist() == [True, False, False, False]
    assert first.prompt.within is not None and np.array_equal(first.prompt.within, ~taken)
    assert second.prompt.within is None, "it was clicked on what is followed already"
    assert second.prompt.positive.tolist() == [True, True, False, False]
    with pytest.raises(ValueError, match="outside"):
        separate_clicks([Seed(1, click((20, 5))), Seed(2, click((200, 5)))], taken)


def test_with_depth_an_extent_is_filled_by_the_surface_of_the_click(
    make_frame: Callable[..., Frame],
) -> None:
    frame, near = two_boxes(make_frame)
    limit = np.zeros(SHAPE, bool)
    limit[15:50, 15:45] = True
    prompt = Points(np.float32([[30, 30]]), np.array([True]), extent=limit)
    assert np.array_equal(to_mask(prompt, frame), near)
    left = np.zeros(SHAPE, bool)
    left[:, :35] = True
    assert np.array_equal(to_mask(replace(prompt, within=left), frame), near & left)
    blind = to_mask(replace(prompt, extent=near), replace(frame, depth=None))
    assert iou(blind, near) > 0.9 and not blind[~near].any()
