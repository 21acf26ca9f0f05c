"""When two things are one."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.reference_mapper.overlap import largest_piece, share_near, surface_overlap


def sheet(x0: float, x1: float, z: float = 0.0) -> np.ndarray:
    x, y = np.meshgrid(np.arange(x0, x1, 0.01), np.arange(0.0, 0.1, 0.01))
    return np.stack([x, y, np.full_like(x, z)], -1).reshape(-1, 3).astype(np.float32)


def test_surface_overlap_is_of_the_smaller() -> None:
    assert surface_overlap(sheet(0, 0.4), sheet(0.1, 0.2), 0.005) == 1.0
    assert surface_overlap(sheet(0, 0.2), sheet(0.1, 0.3), 0.005) == pytest.approx(0.5)
    assert surface_overlap(sheet(0, 0.2), sheet(0, 0.2, z=0.05), 0.02) == 0.0
    assert surface_overlap(sheet(0, 0.2), sheet(0, 0.2)[:0], 0.02) == 0.0
    assert share_near(sheet(0, 0.4), sheet(0.1, 0.2), 0.005) == pytest.approx(0.25)
    assert share_near(sheet(0, 0.4)[:0], sheet(0.1, 0.2), 0.005) == 0.0


def test_the_largest_piece_of_what_is_apart() -> None:
    two = np.concatenate([sheet(0.5, 0.6), sheet(0, 0.2)])
    np.testing.assert_array_equal(largest_piece(two, 0.05), sheet(0, 0.2))
    assert len(largest_piece(sheet(0, 0.5), 0.05)) == len(sheet(0, 0.5))
    assert len(largest_piece(two[:0], 0.05)) == 0
