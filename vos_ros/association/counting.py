"""How many pixels tracks share with what the map expects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int32, UInt8

Crop = tuple[tuple[int, int, int, int], UInt8[np.ndarray, "h w"]]
"""A box of the image, x0 y0 x1 y1, and the bits that hold at each of its pixels."""


def shared_px(owner: Int32[np.ndarray, "H W"], rows: int, crops: Sequence[Crop], bits: Sequence[int]) -> Float64[np.ndarray, "B K rows"]:
    """By bit, crop and row: how many pixels of the crop that have the bit the row owns, whole numbers. ``owner`` is less than ``rows``; of
    row 0, the background, nothing is counted.

    Masks are of few pieces: what is counted are runs of pixels in which nothing changes, a few per cent of all pixels.
    """
    if not crops:
        return np.zeros((len(bits), 0, rows))
    shift = max(bits).bit_length()
    ends = np.cumsum([code.size for _, code in crops])
    pixels = np.concatenate([owner[y0:y1, x0:x1] for (x0, y0, x1, y1), _ in crops], axis=None, casting="unsafe",
                            dtype=np.min_scalar_type((rows << shift) - 1))
    pixels <<= shift
    pixels |= np.concatenate([code for _, code in crops], axis=None)
    last = np.append(pixels[1:] != pixels[:-1], True)  # pixel of its run
    last[ends - 1] = True
    at = np.flatnonzero(last)
    crop = np.repeat(np.arange(len(crops)), np.diff(np.searchsorted(at, ends), prepend=0))
    run, length = pixels[at], np.diff(at, prepend=-1)
    owned = np.flatnonzero((run >> shift > 0) & (run & (1 << shift) - 1 > 0))
    run, length = run[owned], length[owned].astype(np.float64)
    place = crop[owned] * rows + (run >> shift)
    counts = [np.bincount(place, length * (run & bit > 0), len(crops) * rows) for bit in bits]
    return np.stack(counts).reshape(len(bits), len(crops), rows)
