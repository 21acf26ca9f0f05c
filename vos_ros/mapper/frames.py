"""What the mapper hears of one image: which instances, what was said of them, and their measured points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt16

from vos_ros.config import MappingConfig
from vos_ros.geometry.boxes import boxes_of
from vos_ros.mapping.lift import lift, liftable_pixels
from vos_ros.types import Association, AssociationStatus, Intrinsics

USED = frozenset({AssociationStatus.MATCHED, AssociationStatus.REIDENTIFIED, AssociationStatus.NEW, AssociationStatus.SPLIT})
"""Statuses of tracks whose points the mapper wants."""


@dataclass(frozen=True, eq=False, slots=True)
class SeenInstance:
    """A track in an image: whether it is confirmed, the class it was given (0 = unknown), its points (map frame, m; none where there was
    no depth, no pose, or no wish for them)."""

    track_id: int
    class_id: int
    confirmed: bool
    points: Float32[np.ndarray, "P 3"]


@dataclass(frozen=True, eq=False, slots=True)
class AssociatedFrame:
    """One image's instances and associations. ``session_id`` is the segmenter's, ``map_session_id`` and ``map_revision`` name the map that
    the associations speak of. ``T_map_camera`` and ``pose_cov`` (m, rad; fixed axes of the map frame) are the pose that was used."""

    stamp_ns: int
    session_id: str
    map_session_id: str
    map_revision: int
    map_frame: str
    T_map_camera: Float64[np.ndarray, "4 4"] | None
    pose_cov: Float64[np.ndarray, "6 6"] | None
    instances: tuple[SeenInstance, ...]
    associations: tuple[Association, ...]


def lift_labels(labels: UInt16[np.ndarray, "H W"], values: Mapping[int, int], depth: Float32[np.ndarray, "H W"],
                T_map_camera: Float64[np.ndarray, "4 4"], intrinsics: Intrinsics, config: MappingConfig
                ) -> dict[int, Float32[np.ndarray, "P 3"]]:
    """Points (map frame, m) of tracks: ``values`` maps a track id to its value in the label image.

    ValueError where labels and depth differ in size.
    """
    if labels.shape != depth.shape:
        raise ValueError(f"labels are {labels.shape[1]}x{labels.shape[0]} px, depth is {depth.shape[1]}x{depth.shape[0]} px: wanted depth"
                         " registered to the colour image that was segmented")
    if not values:
        return {}
    good = liftable_pixels(depth, intrinsics, config)
    boxes = boxes_of(labels, max(values.values()))
    out = {}
    for track_id, value in values.items():
        if value not in boxes:
            continue
        x0, y0, x1, y1 = boxes[value]
        crop = Intrinsics(intrinsics.fx, intrinsics.fy, intrinsics.cx - x0, intrinsics.cy - y0, x1 - x0, y1 - y0)
        where = (slice(y0, y1), slice(x0, x1))
        points = lift(labels[where] == value, depth[where], T_map_camera, crop, config, liftable=good[where])
        if len(points):
            out[track_id] = points
    return out


def wanted_tracks(associations: Sequence[Association]) -> set[int]:
    """The tracks whose points the mapper has a use for."""
    split = {t for a in associations if a.status == AssociationStatus.SPLIT for t in a.related_ids}
    return {a.track_id for a in associations if a.track_id and a.status in USED} | split
