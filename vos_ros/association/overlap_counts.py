"""How many pixels tracks share with what the map expects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Integer, UInt8

Crop = tuple[tuple[int, int, int, int], UInt8[np.ndarray, "h w"]]
"""A box of the image, x0 y0 x1 y1, and the bits that hold at each of its pixels."""
_AT_ONCE = 96_000  # px: larger arrays are given back to the system each time, and new ones cost more than what is done with them


def overlap_counts(
    owner: Integer[np.ndarray, "H W"], rows: int, crops: Sequence[Crop], bits: Sequence[int]
) -> Float64[np.ndarray, "B K rows"]:
    """By bit, crop and row: how many pixels of the crop that have the bit the row owns, whole numbers. ``owner`` is less than ``rows``; of
    row 0, the background, nothing is counted.

    Masks are of few pieces: what is counted are runs of pixels in which nothing changes, a few per cent of all pixels.
    """
    shift = max(bits).bit_length()
    kind = np.min_scalar_type((rows << shift) - 1)
    out = np.zeros((len(bits), len(crops), rows))
    size = np.cumsum([code.size for _, code in crops], dtype=int)
    start = 0
    while start < len(crops):
        stop = max(
            start + 1,
            int(np.searchsorted(size, size[start] - crops[start][1].size + _AT_ONCE, "right")),
        )
        some = crops[start:stop]
        pixels = np.concatenate(
            [owner[y0:y1, x0:x1] for (x0, y0, x1, y1), _ in some], axis=None
        ).astype(kind)
        pixels <<= shift
        pixels |= np.concatenate([code for _, code in some], axis=None)
        ends = size[start:stop] - size[start] + crops[start][1].size
        last = np.zeros(pixels.size, bool)  # pixel of its run
        np.not_equal(pixels[1:], pixels[:-1], out=last[:-1])
        last[ends[ends > 0] - 1] = True
        at = np.flatnonzero(last)
        run, length = pixels[at], at + 1
        length[1:] -= at[:-1] + 1
        owned = np.flatnonzero((run >> shift > 0) & (run & (1 << shift) - 1 > 0))
        place = (np.searchsorted(ends, at[owned], "right") * rows << shift) + run[owned]
        by_code = np.bincount(place, length[owned], len(some) * rows << shift).reshape(
            -1, 1 << shift
        )
        out[:, start:stop] = (by_code @ _holds(tuple(bits))).T.reshape(len(bits), len(some), rows)
        start = stop
    return out


@lru_cache(maxsize=4)
def _holds(bits: tuple[int, ...]) -> Float64[np.ndarray, "C B"]:
    """Which code has which bit."""
    return np.asarray(np.arange(1 << max(bits).bit_length())[:, None] & np.array(bits) > 0).astype(
        np.float64
    )
