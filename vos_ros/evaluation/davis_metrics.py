"""Region similarity J, contour accuracy F and their statistics over time: Perazzi et al., "A Benchmark Dataset and Evaluation
Methodology for Video Object Segmentation", CVPR 2016, sec. 4, with the rules of the DAVIS 2017 tool where the paper has none.

Pure functions of arrays; the numbers equal the tool's.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float64

BOUNDARY_TOLERANCE = 0.008
"""Outlines match within this share of the image's diagonal, rounded up to whole px."""
_BINS = 4


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one measure over time. ``recall``: share of the frames strictly above 0.5. ``decay``: mean of the first quarter minus
    mean of the last (positive: it gets worse), as the tool computes it, whose index of a frame wraps round at 256;
    ``decay_unwrapped`` doesn't wrap. NaN where there is nothing to average."""

    mean: float
    recall: float
    decay: float
    decay_unwrapped: float


def region_similarity(
    predicted: Bool[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
    void: Bool[np.ndarray, "H W"] | None = None,
) -> float:
    """J: intersection over union; 1 where both are empty. Pixels of ``void`` count nowhere. ValueError: sizes differ."""
    _check(predicted, truth, void)
    if void is not None:
        predicted, truth = predicted & ~void, truth & ~void
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def contour_accuracy(
    predicted: Bool[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
    void: Bool[np.ndarray, "H W"] | None = None,
    tolerance: float = BOUNDARY_TOLERANCE,
) -> float:
    """F: harmonic mean of the shares of each outline's pixels that lie within the tolerance of the other outline; 1 where neither mask
    has an outline. ``tolerance`` below 1 is a share of the diagonal, else px. Pixels of ``void`` are taken out of both masks, which
    gives these an outline along the void, as in the tool. ValueError: sizes differ."""
    _check(predicted, truth, void)
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*truth.shape))
    if void is not None:
        predicted, truth = predicted & ~void, truth & ~void
    # Nothing but outline pixels is looked at, so the box of both masks is enough; one more px each way, where they don't meet
    # the image's border, because an outline lies up to a px outside its mask.
    x, y, w, h = cv2.boundingRect((predicted | truth).view(np.uint8))
    window = np.s_[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1]
    outlines = _outline(predicted[window]), _outline(truth[window])
    counts = [int(np.count_nonzero(o)) for o in outlines]
    if 0 in counts:
        return 1.0 if counts == [0, 0] else 0.0
    precision, recall = (
        np.count_nonzero(_near(there, radius) & here) / count
        for here, there, count in zip(outlines, outlines[::-1], counts, strict=True)
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _check(predicted: np.ndarray, truth: np.ndarray, void: np.ndarray | None) -> None:
    if predicted.shape != truth.shape or (void is not None and void.shape != truth.shape):
        raise ValueError(
            f"the prediction is {predicted.shape[1]}x{predicted.shape[0]} px, the annotation {truth.shape[1]}x{truth.shape[0]}"
            + (f", its void pixels {void.shape[1]}x{void.shape[0]}" if void is not None else "")
            + ": wanted one size"
        )


def _outline(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels that differ from the next one to the right, below, or both; in the last row only to the right, in the last column only
    below (Martin's seg2bmap)."""
    out = np.zeros_like(mask)
    out[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    out[:-1] |= mask[:-1] ^ mask[1:]
    out[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return out


def _near(outline: Bool[np.ndarray, "H W"], radius: float) -> Bool[np.ndarray, "H W"]:
    """Within ``radius`` px of the outline, the radius included: its dilation by a disk, as the union of the disk's rows, since a dilation
    by a row costs the same whatever its length."""
    image, height = outline.view(np.uint8), len(outline)
    out = np.zeros_like(image)
    wide: dict[int, np.ndarray] = {}
    for dy in range(min(int(radius) + 1, height)):
        half = math.isqrt(int(radius * radius) - dy * dy)
        if half not in wide:
            wide[half] = cv2.dilate(image, np.ones((1, 2 * half + 1), np.uint8))
        out[dy:] |= wide[half][: height - dy]
        out[: height - dy] |= wide[half][dy:]
    return out.view(bool)


def statistics(curve: Float64[np.ndarray, "F"]) -> Statistics:
    """Statistics of a measure over the frames of a sequence, NaN values left out."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # the mean of nothing is NaN, and that is what we mean
        recall = np.nanmean(curve > 0.5)
        return Statistics(
            float(np.nanmean(curve)),
            float(recall),
            _decay(curve, np.uint8),
            _decay(curve, np.int64),
        )


def _decay(curve: Float64[np.ndarray, "F"], index: type[np.integer]) -> float:
    if len(curve) == 0:
        return math.nan
    edges = (
        (np.round(np.linspace(1, len(curve), _BINS + 1) + 1e-10) - 1).astype(np.int64).astype(index)
    )
    first, last = (curve[int(edges[i]) : int(edges[i + 1]) + 1] for i in (0, _BINS - 1))
    return float(np.nanmean(first) - np.nanmean(last))
