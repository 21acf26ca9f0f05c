"""What is particular to ``lwl`` without a network; what every segmenter must do is in
``test_contract``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from support.segmenters import segmentation_config

from vos_ros.config import ConfigError
from vos_ros.segmentation.methods.lwl.plain import PlainLwl
from vos_ros.types import Frame, Mask, Seed

H, W = 96, 128


def build(**fields: object) -> PlainLwl:
    lwl = {"update_every": 1, "memory_size": 4, **fields}
    return PlainLwl(segmentation_config(features={"long_side": 256, "channels": 16}, lwl=lwl))


def square(x: int, y: int = 30, side: int = 30) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y : y + side, x : x + side] = True
    return mask


RED, BLUE = (220, 40, 40), (40, 60, 225)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def test_a_moving_object_is_followed_beside_another(draw: Callable[..., Frame]) -> None:
    lwl = build()
    lwl.seed(
        draw(0, [(square(10), RED), (square(80), BLUE)]),
        [Seed(5, Mask(square(10))), Seed(2, Mask(square(80)))],
    )
    for i in range(1, 16):
        labels = lwl.step(draw(i, [(square(10 + 2 * i), RED), (square(80), BLUE)])).labels()
    assert iou(labels == 5, square(40)) > 0.7
    assert iou(labels == 2, square(80)) > 0.7


def test_the_appearance_may_change_slowly(draw: Callable[..., Frame]) -> None:
    """The memory learns: a colour that drifts from red to blue is followed, and is not without
    updates.
    """

    def last(iterations: int) -> float:
        lwl = build(iterations_update=iterations)
        lwl.seed(draw(0, [(square(40), RED)]), [Seed(5, Mask(square(40)))])
        for i in range(1, 25):
            share = i / 24
            color = tuple(int((1 - share) * a + share * b) for a, b in zip(RED, BLUE, strict=True))
            result = lwl.step(draw(i, [(square(40), color)]))
        return iou(result.labels() == 5, square(40))

    assert last(3) > 0.7
    assert last(0) < 0.3


def test_objects_far_from_where_the_target_was_are_not_taken_for_it(
    draw: Callable[..., Frame],
) -> None:
    """A look-alike outside the search window (sec. 3.5)."""
    lwl = build()
    small, twin = square(4, 4, 12), square(110, 78, 12)
    lwl.seed(draw(0, [(small, RED), (twin, RED)]), [Seed(5, Mask(small))])
    for i in range(1, 6):
        labels = lwl.step(draw(i, [(small, RED), (twin, RED)])).labels()
    assert (labels[4:16, 4:16] == 5).mean() > 0.5
    assert not (labels[70:, 100:] == 5).any()


def test_an_object_that_comes_back_elsewhere_is_found_again(draw: Callable[..., Frame]) -> None:
    lwl = build()
    lwl.seed(draw(0, [(square(4, 4, 24), RED)]), [Seed(5, Mask(square(4, 4, 24)))])
    for i in range(1, 9):
        assert not (lwl.step(draw(i, [])).labels() == 5).sum() > 40
    labels = lwl.step(draw(9, [(square(96, 64, 24), RED)])).labels()
    assert iou(labels == 5, square(96, 64, 24)) > 0.5


def test_what_has_weight_zero_teaches_nothing(draw: Callable[..., Frame]) -> None:
    """A seed whose mask is 6 px too wide: with the rim as don't-care the object is found as it is,
    without as it was given.
    """
    frame = draw(0, [(square(40), RED)])
    wide = square(34, 24, 42)
    weight = np.where(wide & ~square(40), 0, 1).astype(np.float32)
    with_weight, without = build(), build()
    with_weight.seed(frame, [Seed(5, Mask(wide), weight)])
    without.seed(frame, [Seed(5, Mask(wide))])
    after = draw(1, [(square(40), RED)])
    good, bad = (iou(m.step(after).labels() == 5, square(40)) for m in (with_weight, without))
    assert good > 0.65 and good > bad + 0.05


def test_a_correction_is_learned_from(draw: Callable[..., Frame]) -> None:
    lwl = build(iterations_update=10)
    both = [(square(20), RED), (square(70), BLUE)]
    lwl.seed(draw(0, both), [Seed(5, Mask(square(20)))])
    for i in range(1, 8):
        frame = draw(i, both)
        lwl.step(frame)
        lwl.update(frame, [Seed(5, Mask(square(70)))])
    labels = lwl.step(draw(8, both)).labels()
    assert iou(labels == 5, square(70)) > 0.5


def test_the_seed_stays_in_memory_and_the_rest_is_the_latest(draw: Callable[..., Frame]) -> None:
    lwl = build(memory_size=4)
    lwl.seed(draw(0, [(square(40), RED)]), [Seed(5, Mask(square(40)))])
    for i in range(1, 20):
        lwl.step(draw(i, [(square(40), RED)]))
    samples = lwl.memory.samples_of(5)
    times = [s.time for s in samples]
    assert len(times) == 4 and times[0] == 0 and times[1:] == sorted(times[1:]) and times[1] >= 15
    assert [5 in s.first_of for s in samples] == [True, False, False, False]


def test_a_memory_of_one_is_the_seed(draw: Callable[..., Frame]) -> None:
    lwl = build(memory_size=1)
    lwl.seed(draw(0, [(square(40), RED)]), [Seed(5, Mask(square(40)))])
    for i in range(1, 6):
        lwl.step(draw(i, [(square(40), RED)]))
    assert [(s.time, s.first_of) for s in lwl.memory.samples] == [(0, {5})]


def test_weights_of_the_frames_sum_to_one_and_favour_the_young(
    draw: Callable[..., Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    import vos_ros.segmentation.methods.lwl.plain as module

    seen: list[list[float]] = []
    real = module.steepest_descent

    def spy(
        filters: torch.Tensor,
        samples: Sequence[module.Samples],
        regularization: float,
        iterations: int,
    ) -> torch.Tensor:
        seen.append([float(s.weights.sum()) for s in samples])
        return real(filters, samples, regularization, iterations)

    monkeypatch.setattr(module, "steepest_descent", spy)
    lwl = build(decay=0.5)
    lwl.seed(draw(0, [(square(40), RED)]), [Seed(5, Mask(square(40)))])
    for i in range(1, 4):
        lwl.step(draw(i, [(square(40), RED)]))
    assert seen[0] == pytest.approx([1.0], abs=1e-3)
    assert sum(seen[-1]) == pytest.approx(1.0, abs=1e-3)
    younger = [b / a for a, b in pairwise(seen[-1])]
    assert younger == pytest.approx([2.0] * len(younger), rel=1e-2)


def test_the_backbone_runs_once_per_frame_whatever_is_done_with_it(
    draw: Callable[..., Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    lwl = build()
    calls = []
    real = lwl.extract

    class Counting:
        def __call__(self, rgb: np.ndarray) -> torch.Tensor:
            calls.append(1)
            return real(rgb)

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    monkeypatch.setattr(lwl, "extract", Counting())
    frame = draw(0, [(square(10), RED), (square(80), BLUE)])
    lwl.step(frame)
    lwl.seed(frame, [Seed(5, Mask(square(10)))])
    lwl.seed(frame, [Seed(2, Mask(square(80)))])
    lwl.update(frame, [Seed(5, Mask(square(10)))])
    assert len(calls) == 1


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ConfigError, match="odd"):
        build(kernel_size=2)


def test_boundary_px_is_a_cell(draw: Callable[..., Frame]) -> None:
    result = build().seed(draw(0, []), [Seed(5, Mask(square(40)))])
    assert result.boundary_px == pytest.approx(W / 33, rel=0.01)
