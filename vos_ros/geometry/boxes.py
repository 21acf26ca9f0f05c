"""Boxes of label images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer
from scipy.ndimage import find_objects

_FEW = 31
"""Up to so many labels, a bit for each is the fastest."""


def boxes_of(labels: Integer[np.ndarray, "H W"], highest: int) -> dict[int, tuple[int, int, int, int]]:
    """label -> x0 y0 x1 y1 (px, exclusive upper corner) of the values 1..highest that occur; one pass, whatever their number. Values are
    at least 0."""
    if highest > _FEW or not labels.size:
        return {v: (s[1].start, s[0].start, s[1].stop, s[0].stop) for v, s in enumerate(find_objects(labels, highest), start=1) if s}
    # a bit per label: which of them occur in each line
    kind = np.min_scalar_type(2**highest).type
    bits = np.left_shift(kind(1), np.where(labels > highest, 0, labels).astype(kind) if labels.max() > highest else labels.astype(kind))
    rows, columns = np.bitwise_or.reduce(bits, 1), np.bitwise_or.reduce(bits, 0)
    out = {}
    for v in range(1, highest + 1):
        ys, xs = np.flatnonzero(rows & kind(1 << v)), np.flatnonzero(columns & kind(1 << v))
        if len(ys):
            out[v] = int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
    return out
