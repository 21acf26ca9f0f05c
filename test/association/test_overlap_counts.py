from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_ros.association.overlap_counts import overlap_counts

BITS = (1, 2, 4, 8, 16)
H, W = 24, 40
Crops = list[tuple[tuple[int, int, int, int], np.ndarray]]


def counted(index: np.ndarray, rows: int, crops: Crops, bits: tuple[int, ...]) -> np.ndarray:
    """Pixel by pixel."""
    out = np.zeros((len(bits), len(crops), rows))
    for k, ((x0, y0, x1, y1), codes) in enumerate(crops):
        own = index[y0:y1, x0:x1]
        for row in range(1, rows):
            out[:, k, row] = [np.count_nonzero((own == row) & (codes & bit > 0)) for bit in bits]
    return out


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(0, 6), st.sampled_from([1, 5]))
def test_counts_are_those_of_single_pixels(
    seed: int, tracks: int, objects: int, grain: int
) -> None:
    """Blocks or noise, crops at the border, empty ones, ones that end as the next begins."""
    rng = np.random.default_rng(seed)
    shape = -(-H // grain), -(-W // grain)
    index = rng.integers(0, min(tracks, 5) + 1, shape) + rng.choice(
        [0, tracks - min(tracks, 5)], shape
    )
    index = index.repeat(grain, 0).repeat(grain, 1)[:H, :W].astype(np.int32)
    crops = []
    for _ in range(objects):
        (x0, x1), (y0, y1) = np.sort(rng.integers(0, W + 1, 2)), np.sort(rng.integers(0, H + 1, 2))
        codes = rng.integers(0, 32, shape, np.uint8).repeat(grain, 0).repeat(grain, 1)[y0:y1, x0:x1]
        crops.append(((int(x0), int(y0), int(x1), int(y1)), codes))
    got = overlap_counts(index, tracks + 1, crops, BITS)
    assert (got == counted(index, tracks + 1, crops, BITS)).all()


def test_large_crops_are_counted_in_several_batches() -> None:
    rng = np.random.default_rng(0)
    index = rng.integers(0, 3, (400, 300)).astype(np.int32)
    crops = [
        ((0, 0, w, h), rng.integers(0, 32, (h, w), np.uint8))
        for w, h in ((300, 400), (200, 240), (200, 240), (10, 10), (300, 300))
    ]
    assert (overlap_counts(index, 3, crops, BITS) == counted(index, 3, crops, BITS)).all()


@pytest.mark.parametrize("bits", [(4,), (16, 1), (2, 8)])
def test_only_the_given_bits_are_counted_in_their_order(bits: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    index = rng.integers(0, 3, (H, W)).astype(np.uint8)
    codes = rng.integers(0, 1 << max(bits).bit_length(), (H, W), np.uint8)
    crops = [((0, 0, W, H), codes)]
    assert (overlap_counts(index, 3, crops, bits) == counted(index, 3, crops, bits)).all()


@pytest.mark.parametrize("rows", [1, 3])
def test_background_and_pixels_without_a_bit_count_nothing(rows: int) -> None:
    box = (0, 0, W, H)
    background, codes = np.zeros((H, W), np.int32), np.zeros((H, W), np.uint8)
    assert overlap_counts(background, rows, [(box, codes + 31)], BITS).sum() == 0
    assert overlap_counts(background + rows - 1, rows, [(box, codes)], BITS).sum() == 0
    empty = ((3, 3, 3, 9), codes[3:9, 3:3])
    assert overlap_counts(background + rows - 1, rows, [empty], BITS).sum() == 0
    assert overlap_counts(background, rows, [], BITS).shape == (5, 0, rows)
