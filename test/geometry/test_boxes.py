from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import find_objects

from vos_ros.geometry.boxes import boxes_of


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("highest", [1, 7, 8, 15, 31, 32, 90])
def test_boxes_are_those_of_scipy(highest: int, kind: type) -> None:
    rng = np.random.default_rng(highest)
    labels = np.zeros((60, 80), kind)
    for v in range(1, highest + 4):  # some above what is asked for
        y, x, h, w = rng.integers((0, 0, 1, 1), (60, 80, 12, 12))
        labels[y : y + h, x : x + w] = v
    wanted = {
        v: (s[1].start, s[0].start, s[1].stop, s[0].stop)
        for v, s in enumerate(find_objects(labels, highest), 1)
        if s is not None
    }
    assert boxes_of(labels, highest) == wanted
    assert boxes_of(np.zeros_like(labels), highest) == {}
