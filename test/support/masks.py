"""Masks and label images of simple shapes."""

from __future__ import annotations

import numpy as np

Size = tuple[int, int]
"""Height and width, px."""


def box_mask(size: Size, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Return a mask (bool, H W) of a box; the right and the lower border don't belong to it."""
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def square_mask(size: Size, x: int, y: int, side: int) -> np.ndarray:
    """Return a mask (bool, H W) of a square with this upper left corner."""
    return box_mask(size, x, y, x + side, y + side)


def disk_mask(size: Size, row: float, column: float, radius: float) -> np.ndarray:
    """Return a mask (bool, H W) of the pixels within ``radius`` of a point."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    return np.asarray((y - row) ** 2 + (x - column) ** 2 <= radius**2)


def label_image(size: Size, *boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """Return a label image (u16, H W) with boxes (value, y0, y1, x0, x1) painted in turn."""
    labels = np.zeros(size, np.uint16)
    for value, y0, y1, x0, x1 in boxes:
        labels[y0:y1, x0:x1] = value
    return labels
