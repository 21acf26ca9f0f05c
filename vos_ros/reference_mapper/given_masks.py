"""A map from masks that are known: what the mapper would hold if it had been told every object's pixels and been right each time."""

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

_SIZES_M = (0.007, 0.014, 0.028)
_TWICE = 0.5
"""Share of an object's cubes that must have been measured twice, else larger ones average more: far away, noise spreads a surface over
many small ones."""
_MODEL = ModelConfig(max_points=20000)
_MAPPING = MappingConfig(lift_max_points=20000)
_Measured = tuple[int, Float32[np.ndarray, "P 3"], Float64[np.ndarray, "6 6"]]


def map_from_masks(
    views: Iterable[tuple[Frame, UInt8[np.ndarray, "H W"]]], class_ids: Mapping[int, int]
) -> tuple[MapObject, ...]:
    """The objects that some frames show, by their masks (pixel value = object id), depth and poses; frames without depth or pose add
    nothing. ``class_ids``: object id -> class id of those that are wanted. Objects with fewer points than the mapper wants of a new one
    (``rules.new_points``) are left out."""
    measured: dict[int, list[_Measured]] = {i: [] for i in class_ids}
    for frame, mask in views:
        if frame.depth is None or frame.T_map_camera is None:
            continue
        sight = LabelledDepth(
            mask.astype(np.uint16), {i: i for i in class_ids}, frame.depth, frame.intrinsics
        )
        for i, points in lift_tracks(sight, class_ids, frame.T_map_camera, _MAPPING).items():
            measured[i].append(
                (
                    frame.stamp_ns,
                    points,
                    measurement_cov(points, frame.T_map_camera, frame.pose_cov, _MODEL),
                )
            )
    objects = (
        replace(_model(some), id=i).named(class_ids[i]).map_object(1, _MODEL)
        for i, some in sorted(measured.items())
        if some
    )
    return tuple(o for o in objects if len(o.points) >= RulesConfig().new_points)


def _model(measured: Sequence[_Measured]) -> ObjectModel:
    """In the smallest cubes of which enough were measured twice."""
    for size_m in _SIZES_M:
        config = replace(_MODEL, voxel_m=size_m)
        model = new_model(measured[0][1], measured[0][0], config)
        for stamp_ns, points, cov in measured:
            model = model.measured(points, cov, stamp_ns, config).seen(stamp_ns, config)
        if np.count_nonzero(model.grid.hits > 1) >= _TWICE * len(model.grid):
            break
    return model
