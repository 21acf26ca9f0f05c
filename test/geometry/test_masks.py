"""Points of masks."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.geometry.masks import inner_point


def test_the_inner_point_is_farthest_from_the_outline() -> None:
    rng = np.random.default_rng(4)
    for _ in range(5):
        mask = np.zeros((20, 24), bool)
        for _ in range(3):
            y, x = rng.integers(0, 14, 2)
            mask[y : y + rng.integers(2, 9), x : x + rng.integers(2, 11)] = True
        px, py = inner_point(mask)
        outside = np.argwhere(~np.pad(mask, 1)) - 1
        gaps = np.array([np.hypot(*(outside - p).T).min() for p in np.argwhere(mask).astype(float)])
        reached = np.hypot(*(outside - np.array([py, px])).T).min()
        assert mask[py, px] and reached >= gaps.max() - 0.35
    with pytest.raises(ValueError, match="empty mask"):
        inner_point(np.zeros((3, 3), bool))
