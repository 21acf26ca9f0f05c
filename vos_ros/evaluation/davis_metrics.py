"""Region similarity J, contour accuracy F and their statistics over time.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR
2016, sec. 4, with the rules of the DAVIS 2017 tool where the paper has none. Pure functions of
arrays; the numbers equal the tool's.
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
    """Statistics of one measure over time. NaN where there is nothing to average."""

    mean: float
    """Mean over the frames."""
    recall: float
    """Share of the frames strictly above 0.5."""
    decay: float
    """Mean of the first quarter minus mean of the last (positive: it gets worse), as the tool
    computes it: its index of a frame wraps round at 256.
    """
    decay_unwrapped: float
    """The same without wrapping."""


def region_similarity(
    predicted: Bool[np.ndarray, "H W"],
    truth: Bool[np.ndarray, "H W"],
    void: Bool[np.ndarray, "H W"] | None = None,
) -> float:
    """Return J: intersection over union; 1 where both masks are empty.

    Pixels of ``void`` count nowhere. Raises ValueError: the sizes differ.
    """
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
    """Return F: the harmonic mean of precision and recall of the outlines' pixels.

    A pixel of one outline is right where it lies within the tolerance of the other; F is 1 where
    neither mask has an outline. Pixels of ``void`` are removed from both masks, which gives these
    an outline along the void, as in the tool.

      Args:
          predicted: predicted mask.
          truth: annotated mask.
          void: pixels that count nowhere, or None.
          tolerance: below 1 a share of the diagonal, else px.

    Raises ValueError: the sizes differ.
    """
    _check(predicted, truth, void)
    radius = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*truth.shape))
    if void is not None:
        predicted, truth = predicted & ~void, truth & ~void
    # Only outline pixels count, so the box of both masks is enough, and one more px each way (where
    # it does not meet the image's border): an outline lies up to a px outside its mask.
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
            f"the prediction is {predicted.shape[1]}x{predicted.shape[0]} px,"
            f" the annotation {truth.shape[1]}x{truth.shape[0]}"
            + (f", its void pixels {void.shape[1]}x{void.shape[0]}" if void is not None else "")
            + ": wanted one size"
        )


def _outline(mask: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Return the pixels that differ from the next one to the right, below, or both.

    In the last row only to the right, in the last column only below (Martin's seg2bmap).
    """
    out = np.zeros_like(mask)
    out[:, :-1] = mask[:, :-1] ^ mask[:, 1:]
    out[:-1] |= mask[:-1] ^ mask[1:]
    out[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return out


def _near(outline: Bool[np.ndarray, "H W"], radius: float) -> Bool[np.ndarray, "H W"]:
    """Return the pixels within ``radius`` px of the outline, the radius included.

    A dilation by a disk is the union of dilations by the disk's rows; a row costs the same whatever
    its length.
    """
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
    """Return the statistics of a measure over the frames of a sequence, NaN values left out."""
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
