"""What every registered segmenter must do, whatever it is: a new method is tested because it is
registered.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.segmenters import segmentation_config

from vos_ros.config import Config, params
from vos_ros.segmentation.interface import VideoSegmenter
from vos_ros.segmentation.registry import create, names
from vos_ros.types import Box, Frame, Mask, Points, Prompt, Scribble, Seed, Segmentation

H, W = 72, 96
DISKS = {
    3: (24, 30, 14, (220, 40, 40)),
    8: (48, 68, 16, (40, 70, 230)),
}  # id: row, column, radius, colour
Scene = Callable[..., Frame]


def disk(object_id: int, shift: int = 0) -> np.ndarray:
    row, column, radius, _ = DISKS[object_id]
    y, x = np.mgrid[0:H, 0:W]
    return (y - row) ** 2 + (x - column - shift) ** 2 <= radius**2


@pytest.fixture(scope="module")
def scene(make_frame: Callable[..., Frame]) -> Scene:
    """``scene(index)``: two disks that move one pixel per frame over grey noise."""

    def build(index: int = 0) -> Frame:
        rgb = np.random.default_rng(index).integers(95, 125, (H, W, 3), np.uint8)
        for i, (*_, color) in DISKS.items():
            mask = disk(i, index)
            rgb[mask] = np.clip(
                np.array(color) + np.random.default_rng(i).integers(-20, 20, (int(mask.sum()), 1)),
                0,
                255,
            )
        return make_frame(index, H, W, rgb=rgb)

    return build


def prompt(kind: str, object_id: int) -> Prompt:
    row, column, radius, _ = DISKS[object_id]
    if kind == "Mask":
        return Mask(disk(object_id))
    if kind == "Box":
        return Box(
            np.array(
                [column - radius - 1, row - radius - 1, column + radius + 2, row + radius + 2],
                np.float32,
            )
        )
    if kind == "Points":
        xy = [[column, row], [column - 5, row + 4], [column + radius + 8, row]]
        return Points(np.array(xy, np.float32), np.array([True, True, False]))
    strokes = np.zeros((H, W), np.uint8)
    strokes[row, column - 8 : column + 9] = 1
    strokes[row + radius + 3, column - 8 : column + 9] = 2
    return Scribble(strokes)


# every registered method with its defaults, and more modes of some; those that need weights get a
# network that needs no training
KINDS: dict[str, dict[str, Any]] = {
    **{name: {} for name in names()},
    "lwl plain": {"model": "plain"},
    "lwl shared": {"crop": "shared"},
    "lwl per object": {"crop": "per_object", "search_scale": 2.5},
    "lwl reference": {"compat": "reference", "long_side": 384},
    "meta adam": {"optimizer": "adam", "one_shot": False},
    "meta steepest descent": {"optimizer": "steepest_descent"},
}
KEYS = {p.key for p in params(Config)}
Build = Callable[..., VideoSegmenter]


@pytest.fixture(params=KINDS)
def build(
    request: pytest.FixtureRequest, device: torch.device, stand_in_file: Callable[..., Path]
) -> Build:
    """Makes segmenters of one kind, small and quick: the contract is about behaviour, not about
    quality.
    """
    method, fields = request.param.split()[0], dict(KINDS[request.param])
    if fields and method == "lwl":
        fields.setdefault("model", str(stand_in_file()))

    def make(**others: Any) -> VideoSegmenter:
        small = {"update_every": 2, "memory_size": 3, "long_side": 288, **others}
        known = {k: v for k, v in small.items() if f"segmentation.{method}.{k}" in KEYS}
        sections = {"features": {"long_side": 96, "channels": 16}}
        if known or fields:
            sections[method] = {**known, **fields}
        return create(segmentation_config(method, str(device), **sections))

    return make


@pytest.fixture
def segmenter(build: Build) -> VideoSegmenter:
    return build()


def check(result: Segmentation, ids: tuple[int, ...], shape: tuple[int, int] = (H, W)) -> None:
    assert result.object_ids == ids
    assert result.probs.shape == (len(ids) + 1, *shape)
    assert result.probs.dtype in (torch.float16, torch.float32)
    assert bool(torch.isfinite(result.probs).all()) and float(result.probs.min()) >= 0.0
    assert torch.allclose(result.probs.float().cpu().sum(0), torch.ones(shape), atol=1e-3)
    assert set(np.unique(result.labels())) <= {0, *ids}


def mask_of(result: Segmentation, object_id: int) -> np.ndarray:
    return result.labels() == object_id


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def test_it_is_a_segmenter_that_follows_nothing_at_first(
    segmenter: VideoSegmenter, scene: Scene
) -> None:
    assert segmenter.object_ids == ()
    for index in range(2):
        result = segmenter.step(scene(index))
        check(result, ())
        assert float(result.probs.min()) == 1.0


@pytest.mark.parametrize("kind", ["Mask", "Box", "Points", "Scribble"])
def test_every_prompt_starts_an_object_that_is_then_followed(
    segmenter: VideoSegmenter, scene: Scene, kind: str
) -> None:
    first = segmenter.seed(scene(0), [Seed(8, prompt(kind, 8)), Seed(3, prompt(kind, 3))])
    check(first, (8, 3))
    assert segmenter.object_ids == (8, 3)
    for i in DISKS:
        assert iou(mask_of(first, i), disk(i)) > (0.99 if kind == "Mask" else 0.8)
    for index in range(1, 5):
        result = segmenter.step(scene(index))
        check(result, (8, 3))
    for i in DISKS:
        assert iou(mask_of(result, i), disk(i, 4)) > 0.5
    corrected = segmenter.update(scene(4), [Seed(3, prompt(kind, 3))])
    check(corrected, (8, 3))
    segmenter.drop([8])
    check(segmenter.step(scene(5)), (3,))


def test_overlapping_masks_share_no_pixel(segmenter: VideoSegmenter, scene: Scene) -> None:
    whole = np.ones((H, W), bool)
    result = segmenter.seed(scene(0), [Seed(1, Mask(whole)), Seed(2, Mask(disk(8)))])
    check(result, (1, 2))
    assert np.array_equal(mask_of(result, 2), disk(8))
    assert np.array_equal(mask_of(result, 1), ~disk(8))


def test_one_frame_may_be_seeded_twice(segmenter: VideoSegmenter, scene: Scene) -> None:
    frame = scene(0)
    segmenter.seed(frame, [Seed(3, prompt("Mask", 3))])
    result = segmenter.seed(frame, [Seed(8, prompt("Mask", 8))])
    check(result, (3, 8))
    assert iou(mask_of(result, 8), disk(8)) > 0.99
    assert iou(mask_of(result, 3), disk(3)) > 0.5
    check(segmenter.step(scene(1)), (3, 8))


def test_a_frame_may_be_stepped_then_seeded_then_corrected(
    segmenter: VideoSegmenter, scene: Scene
) -> None:
    segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3))])
    frame = scene(1)
    segmenter.step(frame)
    check(segmenter.seed(frame, [Seed(8, Mask(disk(8, 1)))]), (3, 8))
    result = segmenter.update(frame, [Seed(3, Mask(disk(3, 1))), Seed(8, Mask(disk(8, 1)))])
    check(result, (3, 8))
    for i in DISKS:
        assert np.array_equal(mask_of(result, i), disk(i, 1))
    check(segmenter.step(scene(2)), (3, 8))


def test_nothing_to_seed_or_correct_is_no_error(segmenter: VideoSegmenter, scene: Scene) -> None:
    check(segmenter.seed(scene(0), []), ())
    check(segmenter.update(scene(0), []), ())
    segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3))])
    check(segmenter.seed(scene(0), []), (3,))
    segmenter.step(scene(1))
    check(segmenter.update(scene(1), []), (3,))
    segmenter.drop([])
    assert segmenter.object_ids == (3,)


def test_a_dropped_id_may_come_back(segmenter: VideoSegmenter, scene: Scene) -> None:
    segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3)), Seed(8, prompt("Mask", 8))])
    segmenter.step(scene(1))
    segmenter.drop([3])
    assert segmenter.object_ids == (8,)
    check(segmenter.step(scene(2)), (8,))
    elsewhere = np.roll(disk(3, 2), 20, axis=0)
    result = segmenter.seed(scene(2), [Seed(3, Mask(elsewhere))])
    check(result, (8, 3))
    assert np.array_equal(mask_of(result, 3), elsewhere & ~mask_of(result, 8))
    segmenter.drop([3, 8])
    assert segmenter.object_ids == ()
    check(segmenter.step(scene(3)), ())


WRONG_SEEDS = {
    "followed already": [Seed(3, Mask(np.ones((H, W), bool)))],
    "twice": [Seed(5, Mask(np.ones((H, W), bool))), Seed(5, Mask(np.ones((H, W), bool)))],
    "no id": [Seed(0, Mask(np.ones((H, W), bool)))],
    "mask size": [Seed(5, Mask(np.ones((H, W + 1), bool)))],
    "strokes size": [Seed(5, Scribble(np.ones((H + 1, W), np.uint8)))],
    "weight size": [Seed(5, Mask(np.ones((H, W), bool)), np.ones((H, 1), np.float32))],
    "second is wrong": [
        Seed(5, Mask(np.ones((H, W), bool))),
        Seed(6, Box(np.array([200, 0, 250, 9], np.float32))),
    ],
    "empty box": [Seed(5, Box(np.array([9, 9, 9, 20], np.float32)))],
    "box without end": [Seed(5, Box(np.array([0, 0, np.inf, 20], np.float32)))],
    "no positive point": [Seed(5, Points(np.array([[4, 4]], np.float32), np.array([False])))],
    "point outside": [Seed(5, Points(np.array([[4, H + 1]], np.float32), np.array([True])))],
    "empty scribble": [Seed(5, Scribble(np.full((H, W), 2, np.uint8)))],
}


def test_wrong_seeds_change_nothing(build: Build, scene: Scene) -> None:
    segmenter, twin = build(long_side=96), build(long_side=96)
    for s in (segmenter, twin):
        s.seed(scene(0), [Seed(3, prompt("Mask", 3))])
    accepted = []
    for name, wrong in WRONG_SEEDS.items():
        try:
            segmenter.seed(scene(0), wrong)
        except ValueError:
            continue
        accepted.append(name)
    assert not accepted and segmenter.object_ids == (3,)
    for index in range(1, 4):
        assert torch.equal(segmenter.step(scene(index)).probs, twin.step(scene(index)).probs)
    assert segmenter.object_ids == (3,)


def test_unknown_ids_are_key_errors_and_change_nothing(
    segmenter: VideoSegmenter, scene: Scene
) -> None:
    segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3)), Seed(8, prompt("Mask", 8))])
    segmenter.step(scene(1))
    empty = Mask(np.zeros((H, W), bool))
    with pytest.raises(KeyError, match="7"):
        segmenter.update(scene(1), [Seed(3, empty), Seed(7, empty)])
    with pytest.raises(KeyError, match="7"):
        segmenter.drop([3, 7])
    assert segmenter.object_ids == (3, 8)
    result = segmenter.step(scene(2))
    check(result, (3, 8))
    assert mask_of(result, 3).any()


def test_a_wrong_correction_changes_nothing(segmenter: VideoSegmenter, scene: Scene) -> None:
    segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3)), Seed(8, prompt("Mask", 8))])
    segmenter.step(scene(1))
    for wrong in (Mask(np.zeros((H + 4, W), bool)), Box(np.array([5, 5, 5, 5], np.float32))):
        with pytest.raises(ValueError):
            segmenter.update(scene(1), [Seed(3, Mask(np.zeros((H, W), bool))), Seed(8, wrong)])
    result = segmenter.step(scene(2))
    check(result, (3, 8))
    assert iou(mask_of(result, 3), disk(3, 2)) > 0.5


def test_another_image_size_is_refused_while_objects_are_followed(
    segmenter: VideoSegmenter, scene: Scene, make_frame: Callable[..., Frame]
) -> None:
    other = make_frame(1, H + 8, W + 16)
    segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3)), Seed(8, prompt("Mask", 8))])
    mask = Mask(np.ones(other.shape, bool))
    for refused in (
        lambda: segmenter.step(other),
        lambda: segmenter.seed(other, [Seed(5, mask)]),
        lambda: segmenter.update(other, [Seed(3, mask)]),
    ):
        with pytest.raises(ValueError, match=f"{W}x{H}"):
            refused()
    check(segmenter.step(scene(1)), (3, 8))
    segmenter.drop([3, 8])
    check(segmenter.seed(other, [Seed(5, mask)]), (5,), other.shape)


def test_an_empty_correction_says_that_the_object_is_not_in_view(
    segmenter: VideoSegmenter, scene: Scene
) -> None:
    segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3)), Seed(8, prompt("Mask", 8))])
    segmenter.step(scene(1))
    result = segmenter.update(scene(1), [Seed(3, Mask(np.zeros((H, W), bool)))])
    check(result, (3, 8))
    assert not mask_of(result, 3).any()
    assert mask_of(result, 8).any()
    for index in range(2, 6):
        check(segmenter.step(scene(index)), (3, 8))


def test_one_pixel_is_an_object(segmenter: VideoSegmenter, scene: Scene) -> None:
    mask = np.zeros((H, W), bool)
    mask[40, 17] = True
    result = segmenter.seed(scene(0), [Seed(5, Mask(mask)), Seed(8, prompt("Mask", 8))])
    check(result, (5, 8))
    assert np.array_equal(mask_of(result, 5), mask)
    for index in range(1, 4):
        check(segmenter.step(scene(index)), (5, 8))


def test_weights_of_zero_everywhere_teach_nothing_and_break_nothing(
    segmenter: VideoSegmenter, scene: Scene
) -> None:
    segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3), np.zeros((H, W), np.float32))])
    for index in range(1, 4):
        check(segmenter.step(scene(index)), (3,))


@pytest.mark.parametrize("value", [0, 255])
def test_a_uniform_image_breaks_nothing(
    segmenter: VideoSegmenter, scene: Scene, make_frame: Callable[..., Frame], value: int
) -> None:
    """A covered lens, or the first frame of a camera that wakes up."""
    uniform = make_frame(0, H, W, rgb=np.full((H, W, 3), value, np.uint8))
    check(
        segmenter.seed(
            uniform,
            [Seed(3, prompt("Mask", 3)), Seed(8, prompt("Points", 8)), Seed(9, prompt("Box", 8))],
        ),
        (3, 8, 9),
    )
    for index in range(1, 4):
        check(segmenter.step(scene(index)), (3, 8, 9))


def run(segmenter: VideoSegmenter, scene: Scene, learn_pending: bool = False) -> list[torch.Tensor]:
    out = [
        segmenter.seed(scene(0), [Seed(3, prompt("Points", 3)), Seed(8, prompt("Box", 8))]).probs
    ]
    for index in range(1, 9):
        out.append(segmenter.step(scene(index)).probs)
        if index == 5:
            out.append(segmenter.update(scene(5), [Seed(3, Mask(disk(3, 5)))]).probs)
        if learn_pending:
            segmenter.learn_pending()
            segmenter.learn_pending()
    return out


def test_two_runs_agree_to_the_bit(build: Build, scene: Scene) -> None:
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            run(build(long_side=96), scene), run(build(long_side=96), scene), strict=True
        )
    )


def test_when_it_learns_from_a_frame_changes_nothing(build: Build, scene: Scene) -> None:
    early, late = build(long_side=96), build(long_side=96)
    assert all(
        torch.equal(a, b)
        for a, b in zip(run(early, scene, learn_pending=True), run(late, scene), strict=True)
    )


def test_inputs_are_left_as_they_were(segmenter: VideoSegmenter, scene: Scene) -> None:
    frames = [scene(i) for i in range(4)]
    for f in frames:
        f.rgb.flags.writeable = False
        assert f.depth is not None
        f.depth.flags.writeable = False
    mask, weight, strokes = disk(3), np.ones((H, W), np.float32), prompt("Scribble", 8).strokes
    for a in (mask, weight, strokes):
        a.flags.writeable = False
    segmenter.seed(frames[0], [Seed(3, Mask(mask), weight), Seed(8, Scribble(strokes))])
    segmenter.step(frames[1])
    segmenter.update(frames[1], [Seed(3, Mask(mask), weight)])
    for f in frames[2:]:
        segmenter.step(f)


def test_results_are_not_changed_by_later_frames(segmenter: VideoSegmenter, scene: Scene) -> None:
    first = segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3))])
    second = segmenter.step(scene(1))
    before = first.probs.clone(), second.probs.clone()
    segmenter.update(scene(1), [Seed(3, Mask(disk(8)))])
    for index in range(2, 5):
        segmenter.step(scene(index))
    assert torch.equal(first.probs, before[0]) and torch.equal(second.probs, before[1])


def held_bytes(thing: object, seen: set[int]) -> int:
    """Bytes of the arrays and tensors that are reachable from an object, each counted once."""
    if id(thing) in seen:
        return 0
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        storage = thing.untyped_storage()
        known = storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        return 0 if known else storage.nbytes()
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, dict):
        return sum(held_bytes(v, seen) for v in thing.values())
    if isinstance(thing, list | tuple | set):
        return sum(held_bytes(v, seen) for v in thing)
    slots = [s for c in type(thing).__mro__ for s in getattr(c, "__slots__", ())]
    values = [*getattr(thing, "__dict__", {}).values(), *(getattr(thing, s, None) for s in slots)]
    return sum(held_bytes(v, seen) for v in values)


def mentions(thing: object, number: int, seen: set[int]) -> bool:
    """Whether a number is reachable from an object, as a key or a member of a container."""
    if isinstance(thing, int):
        return thing == number and not isinstance(thing, bool)
    if id(thing) in seen or isinstance(thing, torch.Tensor | np.ndarray | str | bytes):
        return False
    seen.add(id(thing))
    if isinstance(thing, dict):
        return any(mentions(v, number, seen) for v in (*thing.keys(), *thing.values()))
    if isinstance(thing, list | tuple | set | frozenset):
        return any(mentions(v, number, seen) for v in thing)
    slots = [s for c in type(thing).__mro__ for s in getattr(c, "__slots__", ())]
    values = [*getattr(thing, "__dict__", {}).values(), *(getattr(thing, s, None) for s in slots)]
    return any(mentions(v, number, seen) for v in values)


def test_dropped_objects_leave_nothing_behind(segmenter: VideoSegmenter, scene: Scene) -> None:
    odd = 70_001
    segmenter.seed(scene(0), [Seed(odd, prompt("Mask", 3)), Seed(8, prompt("Mask", 8))])
    for index in range(1, 5):
        segmenter.step(scene(index))
    segmenter.update(scene(4), [Seed(odd, Mask(np.zeros((H, W), bool)))])
    assert mentions(segmenter, odd, set())
    segmenter.drop([odd])
    segmenter.step(scene(5))
    assert not mentions(segmenter, odd, set())


def test_memory_is_bounded(build: Build, scene: Scene) -> None:
    segmenter = build(long_side=96)
    segmenter.seed(scene(0), [Seed(3, prompt("Mask", 3)), Seed(8, prompt("Mask", 8))])
    held = []
    for index in range(1, 91):
        frame = scene(index % 9)
        segmenter.step(frame)
        if index % 3 == 0:
            segmenter.update(frame, [Seed(3, Mask(disk(3, index % 9)))])
        if index % 5 == 0:  # objects come and go
            segmenter.drop([8])
            segmenter.seed(
                frame,
                [
                    Seed(
                        8,
                        Mask(disk(8, index % 9)),
                        np.zeros((H, W), np.float32) if index % 2 else None,
                    )
                ],
            )
        held.append(held_bytes(segmenter, set()))
    assert max(held[60:]) <= 1.01 * max(
        held[30:60]
    )  # what happens has a period of 30 frames, but for what is learned from
