"""Overlaps: each form against the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vos_ros.geometry import iou

LABELS = arrays(np.uint16, (7, 9), elements=st.sampled_from([0, 1, 2, 5, 65535]))


def plain(a, b):
    return (a & b).sum() / (a | b).sum() if (a | b).any() else 0.0


def test_masks():
    a, b = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    a[:, :3] = b[:, 2:] = True
    assert iou.mask_iou(a, b) == 4 / 20
    assert iou.mask_iou(a, b, ignore=b & ~a) == 4 / 12
    assert iou.mask_iou(np.zeros_like(a), np.zeros_like(a)) == 0.0
    with pytest.raises(ValueError, match="wanted one shape"):
        iou.mask_iou(a, b[:2])


@given(LABELS, LABELS)
def test_label_images(a, b):
    in_a, in_b, table = iou.label_iou(a, b, ignore=65535)
    assert in_a.tolist() == sorted(set(a.ravel().tolist()) - {0})
    assert in_b.tolist() == sorted(set(b.ravel().tolist()) - {0, 65535})
    counted = b != 65535
    for i, la in enumerate(in_a):
        for j, lb in enumerate(in_b):
            assert table[i, j] == pytest.approx(plain((a == la) & counted, (b == lb) & counted))


def test_label_images_that_cannot_be_compared():
    with pytest.raises(ValueError, match="wanted one shape"):
        iou.label_iou(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(ValueError, match="negative"):
        iou.label_iou(np.full((2, 2), -1), np.zeros((2, 2), int))


@given(arrays(np.int32, (8, 10), elements=st.integers(0, 3)), arrays(bool, (4, 5)), st.integers(0, 5), st.integers(0, 4))
def test_crops(owner, mask, x0, y0):
    got = iou.crop_iou(owner, 3, [mask], [(x0, y0, x0 + 5, y0 + 4)])
    full = np.zeros((8, 10), bool)
    full[y0 : y0 + 4, x0 : x0 + 5] = mask
    np.testing.assert_allclose(got[:, 0], [plain(owner == r, full) for r in (1, 2, 3)])


def test_a_crop_outside_the_image_is_refused():
    with pytest.raises(ValueError, match="inside the image"):
        iou.crop_iou(np.zeros((4, 4), int), 1, [np.ones((2, 2), bool)], [(3, 3, 5, 5)])


def test_boxes():
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 9]], np.float32)
    b = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]], np.float32)
    np.testing.assert_allclose(iou.box_iou(a, b), [[50 / 150, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert iou.box_iou(np.zeros((0, 4)), b).shape == (0, 3)
