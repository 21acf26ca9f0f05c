"""Counts of the pixels that tracks share with the predicted pixels of map objects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Integer, UInt8

Crop = tuple[tuple[int, int, int, int], UInt8[np.ndarray, "h w"]]
"""A box of the image, x0 y0 x1 y1, and the bits that are set at each of its pixels."""
_MAX_BATCH_PX = 96_000  # px: the system takes larger arrays back each time, and new ones are slow


def overlap_counts(
    instance_index: Integer[np.ndarray, "H W"],
    rows: int,
    crops: Sequence[Crop],
    bits: Sequence[int],
) -> Float64[np.ndarray, "B K rows"]:
    """Return how many pixels with a bit an instance has in a crop, by bit, crop and instance.

    Row 0, the background, is not counted. Masks consist of few pieces: runs of equal pixels are
    counted, a few per cent of all pixels.

    Args:
        instance_index: instance of each pixel, 0 background, less than ``rows``.
        rows: number of instances, the background included.
        crops: boxes with codes.
        bits: bits of the codes to count, each a power of two.
    """
    shift = max(bits).bit_length()
    kind = np.min_scalar_type((rows << shift) - 1)
    out = np.zeros((len(bits), len(crops), rows))
    size = np.cumsum([code.size for _, code in crops], dtype=int)
    start = 0
    while start < len(crops):
        before = size[start] - crops[start][1].size
        stop = max(start + 1, int(np.searchsorted(size, before + _MAX_BATCH_PX, "right")))
        some = crops[start:stop]
        # a pixel's instance and code in one number
        pixels = np.concatenate(
            [instance_index[y0:y1, x0:x1] for (x0, y0, x1, y1), _ in some], axis=None
        ).astype(kind)
        pixels <<= shift
        pixels |= np.concatenate([code for _, code in some], axis=None)
        ends = size[start:stop] - before
        is_last = np.zeros(pixels.size, bool)  # the last pixel of its run
        np.not_equal(pixels[1:], pixels[:-1], out=is_last[:-1])
        is_last[ends[ends > 0] - 1] = True
        at = np.flatnonzero(is_last)
        run, length = pixels[at], at + 1
        length[1:] -= at[:-1] + 1
        counted = np.flatnonzero((run >> shift > 0) & (run & (1 << shift) - 1 > 0))
        place = (np.searchsorted(ends, at[counted], "right") * rows << shift) + run[counted]
        by_code = np.bincount(place, length[counted], len(some) * rows << shift).reshape(
            -1, 1 << shift
        )
        out[:, start:stop] = (by_code @ _bits_of_codes(tuple(bits))).T.reshape(
            len(bits), len(some), rows
        )
        start = stop
    return out


@lru_cache(maxsize=4)
def _bits_of_codes(bits: tuple[int, ...]) -> Float64[np.ndarray, "C B"]:
    """Return 1 where a code has a bit, else 0."""
    codes = np.arange(1 << max(bits).bit_length())[:, None]
    return np.asarray(codes & np.array(bits) > 0).astype(np.float64)
