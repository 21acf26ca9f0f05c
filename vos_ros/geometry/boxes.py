"""Boxes of label images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer
from scipy.ndimage import find_objects


def boxes_of(labels: Integer[np.ndarray, "H W"], highest: int) -> dict[int, tuple[int, int, int, int]]:
    """label -> x0 y0 x1 y1 (px, exclusive upper corner) of the values 1..highest that occur; one pass, whatever their number."""
    slices = find_objects(labels, highest)
    return {v: (s[1].start, s[0].start, s[1].stop, s[0].stop) for v, s in enumerate(slices, start=1) if s is not None}
