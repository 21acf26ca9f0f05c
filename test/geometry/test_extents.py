"""Boxes in space."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.geometry.extents import box_iou_3d, extent_of, inside


def test_box_iou() -> None:
    unit = np.array([[0.0, 0, 0], [1, 1, 1]])
    assert box_iou_3d(unit, unit) == 1.0
    assert box_iou_3d(unit, unit + 0.5) == pytest.approx(0.125 / 1.875)
    assert box_iou_3d(unit, unit + 2.0) == 0.0
    flat = np.array([[0.0, 0, 0], [1, 1, 0]])
    assert box_iou_3d(flat, flat) == 0.0 and box_iou_3d(flat, flat, least_m=0.01) == pytest.approx(
        1.0
    )


def test_extent_and_inside() -> None:
    x, y = np.meshgrid(np.arange(10) * 0.01, np.arange(10) * 0.01)
    square = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3).astype(np.float32)
    box = extent_of(square)
    np.testing.assert_allclose(box, [[0, 0, 0], [0.09, 0.09, 0]], atol=1e-6)
    assert inside(np.array([[0.1, 0.1, 0.0], [0.2, 0.0, 0.0]], np.float32), box, 0.02).tolist() == [
        True,
        False,
    ]
    with pytest.raises(ValueError, match="no points"):
        extent_of(np.zeros((0, 3), np.float32))
