"""J, F and their statistics: equal to the official tool's numbers, and to its way of computing
them, many times as fast.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_ros.evaluation.davis_metrics import contour_accuracy, region_similarity, statistics


def plain_outline(mask: np.ndarray) -> np.ndarray:
    """The tool's rule, pixel by pixel: neighbours outside the image are 0, but the last row looks
    only right, the last column only down, and the last pixel nowhere."""
    padded = np.pad(mask, ((0, 1), (0, 1)))
    right, below, both = mask ^ padded[:-1, 1:], mask ^ padded[1:, :-1], mask ^ padded[1:, 1:]
    outline = right | below | both
    outline[-1, :] = right[-1, :]
    outline[:, -1] = below[:, -1]
    outline[-1, -1] = False
    return outline


def plain_f(
    predicted: np.ndarray,
    truth: np.ndarray,
    void: np.ndarray | None = None,
    tolerance: float = 0.008,
) -> float:
    """F in the style of the tool: outlines of whole images, each dilated by a disk."""
    radius = int(np.ceil(tolerance * np.linalg.norm(truth.shape)))
    yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (yy**2 + xx**2 <= radius**2).astype(np.uint8)
    keep = np.ones_like(truth) if void is None else ~void
    ours, theirs = plain_outline(predicted & keep), plain_outline(truth & keep)
    n_ours, n_theirs = int(ours.sum()), int(theirs.sum())
    if n_ours == 0 or n_theirs == 0:
        precision, recall = float(n_ours == 0), float(n_theirs == 0)
    else:
        precision = float((ours & (cv2.dilate(theirs.astype(np.uint8), disk) > 0)).sum()) / n_ours
        recall = float((theirs & (cv2.dilate(ours.astype(np.uint8), disk) > 0)).sum()) / n_theirs
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def blobs(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    """Something like an object, now and then at the image's border, a speck, or nothing."""
    mask = np.zeros((h, w), np.uint8)
    for _ in range(int(rng.integers(0, 4))):
        centre = (int(rng.integers(-5, w + 5)), int(rng.integers(-5, h + 5)))
        axes = (int(rng.integers(0, w // 2 + 1)), int(rng.integers(0, h // 2 + 1)))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    if rng.random() < 0.3:
        mask ^= (rng.random((h, w)) < 0.02).astype(np.uint8)
    return mask.astype(bool)


def test_golden_j_and_f(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    official = golden("davis_metrics")
    compared = 0
    while f"pred{compared}" in official:
        predicted, truth, void, wanted = (
            official[f"{name}{compared}"] for name in ("pred", "gt", "void", "J")
        )
        assert region_similarity(predicted, truth) == pytest.approx(wanted, abs=1e-6)
        assert region_similarity(predicted, truth, void) == pytest.approx(
            official[f"Jvoid{compared}"], abs=1e-6
        )
        assert contour_accuracy(predicted, truth) == pytest.approx(
            official[f"F{compared}"], abs=1e-6
        )
        assert contour_accuracy(predicted, truth, void) == pytest.approx(
            official[f"Fvoid{compared}"], abs=1e-6
        )
        compared += 1
    assert compared == 12


def test_golden_statistics(golden: Callable[[str], dict[str, np.ndarray]]) -> None:
    official = golden("davis_metrics")
    curves = [k for k in official if k.startswith("curve")]
    assert len(curves) == 7
    for name in curves:
        got = statistics(official[name])
        assert [got.mean, got.recall, got.decay] == pytest.approx(
            official[name.replace("curve", "stats")].tolist(), abs=1e-6, nan_ok=True
        )
        if len(official[name]) <= 256:
            assert got.decay_unwrapped == got.decay
    wrapped = statistics(official["curve300"])
    assert math.isnan(wrapped.decay) and abs(wrapped.decay_unwrapped) < 0.1


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 90), st.integers(1, 90), st.booleans())
def test_equals_the_plain_way(seed: int, h: int, w: int, with_void: bool) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth, void = (blobs(rng, h, w) for _ in range(3))
    if rng.random() < 0.5:
        predicted = np.roll(truth, rng.integers(-3, 4, 2), (0, 1))
    tolerance = float(rng.choice([0.008, 0.03, 0.1]))
    open_pixels = void if with_void else None
    assert contour_accuracy(predicted, truth, open_pixels, tolerance) == plain_f(
        predicted, truth, open_pixels, tolerance
    )


def test_by_hand() -> None:
    nothing, square = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    square[10:20, 10:30] = True
    assert region_similarity(nothing, nothing) == contour_accuracy(nothing, nothing) == 1.0
    assert region_similarity(nothing, square) == contour_accuracy(nothing, square) == 0.0
    assert region_similarity(square, nothing) == contour_accuracy(square, nothing) == 0.0
    assert region_similarity(square, square) == contour_accuracy(square, square) == 1.0
    half = square.copy()
    half[15:] = False
    assert region_similarity(half, square) == 0.5
    assert (
        region_similarity(half, square, square & ~half)
        == contour_accuracy(half, square, square & ~half)
        == 1.0
    )
    assert contour_accuracy(np.roll(square, 2, 1), square, tolerance=2) == 1.0
    assert contour_accuracy(np.roll(square, 2, 1), square, tolerance=1) < 0.8
    everything = np.ones((40, 60), bool)
    assert contour_accuracy(everything, nothing) == 1.0, (
        "a mask of the whole image has no outline, as in the tool"
    )
    assert region_similarity(everything, nothing) == 0.0


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"prediction is 5x4 px, the annotation 6x4"):
        region_similarity(np.zeros((4, 5), bool), np.zeros((4, 6), bool))
    with pytest.raises(ValueError, match=r"void pixels 5x4"):
        contour_accuracy(np.zeros((4, 6), bool), np.zeros((4, 6), bool), np.zeros((4, 5), bool))


def test_statistics_by_hand() -> None:
    got = statistics(np.array([0.9, 0.5, 0.7, 0.1]))
    assert got.mean == pytest.approx(0.55) and got.recall == 0.5, "0.5 itself is no success"
    assert got.decay == pytest.approx((0.9 + 0.5) / 2 - (0.7 + 0.1) / 2), (
        "neighbouring quarters share a frame"
    )
    assert statistics(np.array([0.4])).decay == 0.0
    assert all(
        math.isnan(v) for v in (statistics(np.array([])).mean, statistics(np.array([])).decay)
    )


def test_f_of_854x480_is_fast(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    best = {"ours": 0.0, "plain": 0.0}
    for _ in range(5):
        mask = np.zeros((480, 854), np.uint8)
        cv2.fillPoly(
            mask, [(rng.normal(0, 1, (30, 2)) * (70, 50) + (400, 220)).astype(np.int32)], 1
        )
        truth = mask.astype(bool)
        predicted = np.roll(truth, (3, -5), (0, 1))
        for name, measure in (
            ("ours", contour_accuracy),
            ("plain", plain_f),
        ) * 5:  # in turn: the machine may be busy with other things
            start = time.perf_counter()
            measure(predicted, truth)
            best[name] = max(best[name], 1 / (time.perf_counter() - start))
        assert contour_accuracy(predicted, truth) == plain_f(predicted, truth)
    with capsys.disabled():
        print(
            f"\ncontour accuracy at 854x480, frames/s: ours {best['ours']:.0f},"
            f" in the style of the tool {best['plain']:.0f}"
        )
    assert best["ours"] >= 15.0 and best["ours"] > best["plain"]
