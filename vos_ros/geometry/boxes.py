"""Boxes of label images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Integer
from scipy.ndimage import find_objects

_MAX_BIT_LABELS = 31
"""Most labels for which one bit each is the fastest: they fit a uint32."""


def boxes_of(
    labels: Integer[np.ndarray, "H W"], highest: int
) -> dict[int, tuple[int, int, int, int]]:
    """Find the box x0 y0 x1 y1 (px, exclusive upper corner) of each label 1..highest that occurs.

    One pass, whatever their number. Values are at least 0.

    >>> boxes_of(np.array([[0, 2, 2], [0, 2, 0]]), 2)
    {2: (1, 0, 3, 2)}
    """
    if highest > _MAX_BIT_LABELS or not labels.size:
        return {
            v: (s[1].start, s[0].start, s[1].stop, s[0].stop)
            for v, s in enumerate(find_objects(labels, highest), start=1)
            if s
        }
    # One bit per label: which of them occur in each line.
    kind = np.min_scalar_type(2**highest).type
    bits = np.left_shift(
        kind(1),
        np.where(labels > highest, 0, labels).astype(kind)
        if labels.max() > highest
        else labels.astype(kind),
    )
    one = np.left_shift(kind(1), np.arange(1, highest + 1, dtype=kind))[:, None]
    y0, y1 = _span(np.bitwise_or.reduce(bits, 1) & one > 0)
    x0, x1 = _span(np.bitwise_or.reduce(bits, 0) & one > 0)
    return {v: box for v, box in enumerate(zip(x0, y0, x1, y1, strict=True), start=1) if box[2]}


def _span(there: Bool[np.ndarray, "V n"]) -> tuple[list[int], list[int]]:
    """Find the first true of each row and one past the last; 0 and 0 where there is none."""
    none = ~there.any(1)
    first, last = there.argmax(1), there.shape[1] - there[:, ::-1].argmax(1)
    first[none] = last[none] = 0
    return first.tolist(), last.tolist()
