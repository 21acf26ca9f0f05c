from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_ros.association.overlap_counts import overlap_counts

BITS = (1, 2, 4, 8, 16)
H, W = 24, 40


def listed(
    owner: np.ndarray, rows: int, crops: list[tuple[tuple[int, int, int, int], np.ndarray]]
) -> np.ndarray:
    """Pixel by pixel."""
    out = np.zeros((len(BITS), len(crops), rows))
    for k, ((x0, y0, x1, y1), codes) in enumerate(crops):
        own = owner[y0:y1, x0:x1]
        for row in range(1, rows):
            out[:, k, row] = [np.count_nonzero((own == row) & (codes & bit > 0)) for bit in BITS]
    return out


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(0, 6), st.sampled_from([1, 5]))
def test_runs_count_what_pixels_do(seed: int, tracks: int, objects: int, grain: int) -> None:
    """Whatever the masks: blocks or noise, crops that touch the border, empty ones, ones that end as the next begins."""
    rng = np.random.default_rng(seed)
    shape = -(-H // grain), -(-W // grain)
    owner = rng.integers(0, min(tracks, 5) + 1, shape) + rng.choice(
        [0, tracks - min(tracks, 5)], shape
    )
    owner = owner.repeat(grain, 0).repeat(grain, 1)[:H, :W].astype(np.int32)
    crops = []
    for _ in range(objects):
        (x0, x1), (y0, y1) = np.sort(rng.integers(0, W + 1, 2)), np.sort(rng.integers(0, H + 1, 2))
        codes = rng.integers(0, 32, shape, np.uint8).repeat(grain, 0).repeat(grain, 1)[y0:y1, x0:x1]
        crops.append(((int(x0), int(y0), int(x1), int(y1)), codes))
    assert (
        overlap_counts(owner, tracks + 1, crops, BITS) == listed(owner, tracks + 1, crops)
    ).all()


@pytest.mark.parametrize("rows", [1, 3])
def test_background_and_what_is_of_no_object_count_nothing(rows: int) -> None:
    box = (0, 0, W, H)
    nothing = np.zeros((H, W), np.uint8)
    assert overlap_counts(np.zeros((H, W), np.int32), rows, [(box, nothing + 31)], BITS).sum() == 0
    assert (
        overlap_counts(np.full((H, W), rows - 1, np.int32), rows, [(box, nothing)], BITS).sum() == 0
    )
    assert (
        overlap_counts(
            np.zeros((H, W), np.int32), rows, [((3, 3, 3, 9), nothing[3:9, 3:3])], BITS
        ).sum()
        == 0
    )
    assert overlap_counts(np.zeros((H, W), np.int32), rows, [], BITS).shape == (5, 0, rows)
