"""Boxes in space with axes parallel to the map's. Pure functions of points in the map frame, m."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Float64

Extent = Float64[np.ndarray, "2 3"]
"""Lowest and highest corner of a box with axes parallel to the map's, m."""


def extent_of(points: Float32[np.ndarray, "M 3"]) -> Extent:
    """Compute the box around points (m).

    Raises ValueError: there are none.

    >>> extent_of(np.array([[0, 0, 0], [1, 2, 3]], np.float32)).tolist()
    [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]
    """
    if len(points) == 0:
        raise ValueError(
            "got no points: the box of nothing is undefined; test for an empty array first"
        )
    return np.stack([points.min(0), points.max(0)]).astype(np.float64)


def inside(
    points: Float32[np.ndarray, "P 3"], box: Extent, margin_m: float
) -> Bool[np.ndarray, "P"]:
    """Test which points lie in the box, grown by a margin.

    >>> box = np.array([[0.0, 0, 0], [1, 1, 1]])
    >>> inside(np.array([[1.1, 0.5, 0.5], [1.3, 0.5, 0.5]], np.float32), box, 0.2)
    array([ True, False])
    """
    return np.asarray(((points >= box[0] - margin_m) & (points <= box[1] + margin_m)).all(axis=1))


def box_iou_3d(a: Extent, b: Extent, *, least_m: float = 0.0) -> float:
    """Compute the intersection over union of two boxes.

    Sides shorter than ``least_m`` count as that long, so that flat things have a volume.

    >>> a = np.array([[0.0, 0, 0], [2, 1, 1]])
    >>> round(box_iou_3d(a, a + [1.0, 0, 0]), 6)
    0.333333
    """
    grow = [np.maximum(least_m - (x[1] - x[0]), 0.0) / 2 for x in (a, b)]
    (a0, a1), (b0, b1) = (a[0] - grow[0], a[1] + grow[0]), (b[0] - grow[1], b[1] + grow[1])
    shared = float(np.prod(np.maximum(np.minimum(a1, b1) - np.maximum(a0, b0), 0.0)))
    whole = float(np.prod(a1 - a0) + np.prod(b1 - b0)) - shared
    return shared / whole if whole > 0 else 0.0
