"""A map made of annotated masks: what the mapper would hold with perfect associations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vos_ros.config import MappingConfig
from vos_ros.reference_mapper.config import ModelConfig, RulesConfig
from vos_ros.reference_mapper.frames import LabelledDepth, lift_tracks
from vos_ros.reference_mapper.model import ObjectModel, measurement_cov, new_model
from vos_ros.types import Frame, MapObject

_VOXEL_SIZES_M = (0.007, 0.014, 0.028)
"""Sides of the cubes that are tried, the smallest first."""
_MIN_TWICE_MEASURED = 0.5
"""Share of an object's cubes that must have been measured in two frames. Far away, noise spreads a
surface over many small cubes; then larger ones average more."""
_MODEL = ModelConfig(max_points=20000)
_MAPPING = MappingConfig(lift_max_points=20000)
_Measurement = tuple[int, Float32[np.ndarray, "P 3"], Float64[np.ndarray, "6 6"]]
"""Stamp, points (map frame, m), covariance of the place."""


def map_from_masks(
    views: Iterable[tuple[Frame, UInt8[np.ndarray, "H W"]]], class_ids: Mapping[int, int]
) -> tuple[MapObject, ...]:
    """Make the objects that frames show, from their masks, depth and poses.

    Pixel values of a mask are object ids. Frames without depth or pose add nothing. Objects with
    fewer points than the mapper requires of a new one (``rules.new_points``) are left out.

    ``class_ids``: class id of each object that is wanted.
    """
    measured: dict[int, list[_Measurement]] = {i: [] for i in class_ids}
    for frame, mask in views:
        if frame.depth is None or frame.T_map_camera is None:
            continue
        values = {i: i for i in class_ids}
        image = LabelledDepth(mask.astype(np.uint16), values, frame.depth, frame.intrinsics)
        for i, points in lift_tracks(image, class_ids, frame.T_map_camera, _MAPPING).items():
            cov = measurement_cov(points, frame.T_map_camera, frame.pose_cov, _MODEL)
            measured[i].append((frame.stamp_ns, points, cov))
    objects = (
        replace(_model(measurements), id=i).with_vote(class_ids[i]).map_object(1, _MODEL)
        for i, measurements in sorted(measured.items())
        if measurements
    )
    return tuple(o for o in objects if len(o.points) >= RulesConfig().new_points)


def _model(measurements: Sequence[_Measurement]) -> ObjectModel:
    """Make a model in the smallest cubes of which enough were measured in two frames."""
    first_ns, first_points, _ = measurements[0]
    for size_m in _VOXEL_SIZES_M:
        config = replace(_MODEL, voxel_m=size_m)
        model = new_model(first_points, first_ns, config)
        for stamp_ns, points, cov in measurements:
            model = model.with_measurement(points, cov, stamp_ns, config)
            model = model.with_match(stamp_ns, config)
        if np.count_nonzero(model.grid.hits > 1) >= _MIN_TWICE_MEASURED * len(model.grid):
            break
    return model
