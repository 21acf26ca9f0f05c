"""Three simple ways to name things, to be beaten: the map's projection as the mask, the nearest object, the best IoU frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64, UInt16
from scipy.optimize import linear_sum_assignment

from vos_ros.types import FrameResult, MapObject, Projection

_NEAR_M = 0.5  # a centroid farther from every object's names none
_LEAST_IOU = 0.2  # of a mask with a projection


def projected(
    projections: Sequence[Projection], shape: tuple[int, ...]
) -> Int64[np.ndarray, "H W"]:
    """No image at all: the visible projections as a label image of object ids."""
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
    """Each mask by the object whose points' mean is nearest to that of its own points, lifted with the ``reported`` pose, within half a
    metre."""
    out = {t.label_value: 0 for t in result.tracks}
    if not objects or reported is None or result.T_map_camera is None:
        return out
    back = reported @ np.linalg.inv(result.T_map_camera)
    ids, centres = list(objects), np.array([o.points.mean(0) for o in objects.values()])
    value = {t.track_id: t.label_value for t in result.tracks}
    for o in result.observations:
        away = np.linalg.norm(centres - (back[:3, :3] @ o.centroid + back[:3, 3]), axis=1)
        if away.min() <= _NEAR_M:
            out[value[o.track_id]] = ids[int(away.argmin())]
    return out


def by_iou(
    result: FrameResult, labels: UInt16[np.ndarray, "H W"], projections: Sequence[Projection]
) -> dict[int, int]:
    """One-to-one by the IoU of masks and visible projections in this frame, without memory."""
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
        if counts[row, column] >= _LEAST_IOU:
            out[values[row]] = projections[column].object_id
    return out
