"""Lift the tracks' pixels to the map frame by the measured depth."""

from __future__ import annotations

from vos_ros.config import MappingConfig
from vos_ros.mapping.lift import lift_labels
from vos_ros.pipeline.instance_masks import InstanceMasks
from vos_ros.pipeline.map_view import MapView
from vos_ros.types import Frame, Observation

_MIN_POINTS = 3
"""Minimum number of points of an observation, whose covariance is then of some use."""


def lift_instances(
    frame: Frame, view: MapView, masks: InstanceMasks, config: MappingConfig
) -> tuple[Observation, ...]:
    """Return an observation of each track with enough measured pixels.

    Without a pose, and without depth, there are none.
    """
    if frame.depth is None or view.T_map_camera is None:
        return ()
    lifted = lift_labels(
        masks.instance_index,
        masks.boxes,
        frame.depth,
        view.T_map_camera,
        frame.intrinsics,
        config,
        liftable=view.liftable,
    )
    return tuple(
        Observation.of(masks.track_ids[row - 1], points, float(masks.scores[row]))
        for row, points in lifted.items()
        if len(points) >= _MIN_POINTS
    )
