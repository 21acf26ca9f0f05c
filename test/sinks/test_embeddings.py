from __future__ import annotations

import numpy as np
import pytest

from vos_ros.sinks.embeddings import principal_colors


def test_equal_features_have_equal_colours_in_all_frames_and_different_ones_don_t() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(4, 16)).astype(np.float32)
    where = rng.integers(0, 4, (3, 6, 8))
    colors = principal_colors(kinds[where], (24, 32))
    assert colors.shape == (3, 24, 32, 3) and colors.dtype == np.uint8
    cells = colors[:, 2::4, 2::4].reshape(-1, 3)
    seen = [np.unique(cells[where.ravel() == k], axis=0) for k in range(4)]
    assert [len(s) for s in seen] == [1] * 4 and len(np.unique(np.concatenate(seen), axis=0)) == 4


def test_the_first_component_is_the_direction_of_most_variance() -> None:
    x = np.zeros((1, 1, 101, 5), np.float32)
    x[0, 0, :, 3] = np.linspace(0, 1, 101)
    x[0, 0, :, 1] = 0.01 * np.sin(np.arange(101))
    red = principal_colors(x, (1, 101))[0, 0, :, 0].astype(int)
    assert red[0] == 0 and red[-1] == 255 and np.all(np.diff(red) >= 0)


def test_features_that_say_nothing_are_one_colour_and_too_few_are_refused() -> None:
    assert len(np.unique(principal_colors(np.ones((1, 4, 4, 3), np.float32), (8, 8)))) == 1
    with pytest.raises(ValueError, match=r"2 dimensions.*at least 3"):
        principal_colors(np.ones((1, 4, 4, 2), np.float32), (8, 8))
