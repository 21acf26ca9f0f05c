"""Points of masks."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool


def inner_point(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int]:
    """Return (x, y), px, of the pixel of a mask that is farthest from its outline.

    The border of the image counts as outline (paper 002, sec. 4.3.2: the point from which an
    instance is segmented). Raises ValueError: an empty mask.

    >>> mask = np.zeros((6, 8), bool)
    >>> mask[1:4, 2:5] = True
    >>> inner_point(mask)
    (3, 2)
    """
    if not mask.any():
        raise ValueError("an empty mask has no inner point: wanted one pixel or more")
    inside = np.pad(mask.astype(np.uint8), 1)
    farthest = int(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5).argmax())
    y, x = np.unravel_index(farthest, inside.shape)
    return int(x) - 1, int(y) - 1
