"""Saved maps of the reference mapper, made from points."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vos_ros.reference_mapper.model import ObjectModel
from vos_ros.reference_mapper.object_mapper import SavedMap
from vos_ros.reference_mapper.voxels import grid_from_means


def saved_map(
    points: Mapping[int, np.ndarray],
    *,
    stamp_ns: int = 2,
    class_ids: Mapping[int, int] | None = None,
    session_id: str = "s",
    revision: int = 3,
) -> SavedMap:
    """Make a saved map of objects whose points (map frame, m) were measured nine times each."""
    objects = []
    for object_id, means in points.items():
        ones = np.ones(len(means))
        hits, misses = (9 * ones).astype(np.int32), np.zeros(len(means), np.int32)
        class_id = (class_ids or {}).get(object_id, 0)
        objects.append(
            ObjectModel(
                id=object_id,
                grid=grid_from_means(0.01, np.zeros(3), means, ones, hits, misses),
                first_ns=1,
                last_ns=stamp_ns,
                observations=9,
                votes={class_id: 9} if class_id else {},
                log_odds=2.0,
            )
        )
    return SavedMap(
        session_id=session_id,
        revision=revision,
        stamp_ns=stamp_ns,
        frame_id="map",
        next_id=max(points, default=0) + 1,
        merged={},
        objects=tuple(objects),
    )
