"""Three simple ways to name masks, as baselines: projection, nearest object, best IoU per frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64, UInt16
from scipy.optimize import linear_sum_assignment

from vos_ros.types import FrameResult, MapObject, Projection

_MAX_CENTROID_DISTANCE_M = 0.5
"""A centroid farther from every object than this gets no name, m."""
_MIN_IOU = 0.2
"""Smallest IoU of a mask with a projection that names it."""


def projected(
    projections: Sequence[Projection], shape: tuple[int, ...]
) -> Int64[np.ndarray, "H W"]:
    """Return the visible projections as a label image of object ids: no image is used."""
    out = np.zeros(shape, np.int64)
    for p in projections:
        x0, y0, x1, y1 = p.roi
        out[y0:y1, x0:x1][p.mask_roi] = p.object_id
    return out


def by_centroid(
    result: FrameResult,
    objects: Mapping[int, MapObject],
    reported: Float64[np.ndarray, "4 4"] | None,
) -> dict[int, int]:
    """Name each mask by the object with the nearest centre.

    Centres are the means of points. Those of the masks are lifted with the ``reported`` pose; a
    mask farther than half a metre from every object gets no name.
    """
    out = {t.label_value: 0 for t in result.tracks}
    if not objects or reported is None or result.T_map_camera is None:
        return out
    back = reported @ np.linalg.inv(result.T_map_camera)
    ids, centres = list(objects), np.array([o.points.mean(0) for o in objects.values()])
    value = {t.track_id: t.label_value for t in result.tracks}
    for o in result.observations:
        away = np.linalg.norm(centres - (back[:3, :3] @ o.centroid + back[:3, 3]), axis=1)
        if away.min() <= _MAX_CENTROID_DISTANCE_M:
            out[value[o.track_id]] = ids[int(away.argmin())]
    return out


def by_iou(
    result: FrameResult, labels: UInt16[np.ndarray, "H W"], projections: Sequence[Projection]
) -> dict[int, int]:
    """Name masks one-to-one by their IoU with the visible projections of this frame, without
    memory.
    """
    out = {t.label_value: 0 for t in result.tracks}
    values = list(out)
    if not values or not projections:
        return out
    counts = np.zeros((len(values), len(projections)))
    area = np.bincount(labels.ravel(), minlength=max(values) + 1)
    for column, p in enumerate(projections):
        x0, y0, x1, y1 = p.roi
        both = np.bincount(labels[y0:y1, x0:x1][p.mask_roi], minlength=max(values) + 1)[values]
        counts[:, column] = both / np.maximum(area[values] + p.area_px - both, 1)
    for row, column in np.column_stack(linear_sum_assignment(-counts)).tolist():
        if counts[row, column] >= _MIN_IOU:
            out[values[row]] = projections[column].object_id
    return out
