"""What the mapper hears of one image: which instances, what was said of them, and their measured points."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt16

from vos_ros.config import MappingConfig
from vos_ros.geometry.boxes import boxes_of
from vos_ros.geometry.camera import pixels_hit
from vos_ros.geometry.uncertainty import depth_tolerance
from vos_ros.mapping.lift import lift_labels
from vos_ros.types import UNKNOWN_LABEL, Association, AssociationStatus, Intrinsics

USED = frozenset(
    {
        AssociationStatus.MATCHED,
        AssociationStatus.REIDENTIFIED,
        AssociationStatus.NEW,
        AssociationStatus.SPLIT,
    }
)
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
class LabelledDepth:
    """The image of a frame: labels (``values`` says each track's), measured depth (m, 0 unknown), camera; all rectified alike."""

    labels: UInt16[np.ndarray, "H W"]
    values: Mapping[int, int]
    depth: Float32[np.ndarray, "H W"]
    intrinsics: Intrinsics


@dataclass(frozen=True, eq=False, slots=True)
class AssociatedFrame:
    """One image's instances and associations. ``session_id`` is the segmenter's, ``map_session_id`` and ``map_revision`` name the map that
    the associations speak of. ``T_map_camera`` and ``pose_cov`` (m, rad; fixed axes of the map frame) say where the camera stood. ``sight``
    is None where there was no depth."""

    stamp_ns: int
    session_id: str
    map_session_id: str
    map_revision: int
    map_frame: str
    T_map_camera: Float64[np.ndarray, "4 4"] | None
    pose_cov: Float64[np.ndarray, "6 6"] | None
    instances: tuple[SeenInstance, ...]
    associations: tuple[Association, ...]
    sight: LabelledDepth | None = None


def lift_tracks(
    sight: LabelledDepth,
    tracks: Collection[int],
    T_map_camera: Float64[np.ndarray, "4 4"],
    config: MappingConfig,
) -> dict[int, Float32[np.ndarray, "P 3"]]:
    """Points (map frame, m) of some of the tracks. ValueError where labels and depth differ in size."""
    labels, depth, intrinsics = sight.labels, sight.depth, sight.intrinsics
    values = {t: v for t, v in sight.values.items() if t in tracks}
    if labels.shape != depth.shape:
        raise ValueError(
            f"labels are {labels.shape[1]}x{labels.shape[0]} px, depth is {depth.shape[1]}x{depth.shape[0]} px: wanted depth"
            " registered to the colour image that was segmented"
        )
    if not values:
        return {}
    wanted = set(values.values())
    boxes = {value: box for value, box in boxes_of(labels, max(wanted)).items() if value in wanted}
    lifted = lift_labels(labels, boxes, depth, T_map_camera, intrinsics, config)
    return {track_id: lifted[value] for track_id, value in values.items() if value in lifted}


def contradicted(
    points: Float32[np.ndarray, "P 3"],
    track_id: int,
    sight: LabelledDepth,
    T_map_camera: Float64[np.ndarray, "4 4"],
    config: MappingConfig,
) -> Bool[np.ndarray, "P"]:
    """Which points (map frame, m) of a track's object the frame contradicts. Either something is measured where they are, and it isn't the
    track: no pixel of its mask is within ``edge_px`` + 1 of theirs. Or their place is empty: the frame sees through it to what lies behind,
    on all pixels within ``edge_px``. What is hidden, out of view or without depth is not said to be anything."""
    out = np.zeros(len(points), bool)
    value = sight.values.get(track_id)
    camera = (points.astype(np.float64) - T_map_camera[:3, 3]) @ T_map_camera[:3, :3]
    z = camera[:, 2]
    front, u, v = pixels_hit(camera, sight.intrinsics, config.near_m)
    if value is None or len(front) == 0:
        return out
    measured = sight.depth[v, u]
    tolerance_m = depth_tolerance(z[front], config.depth_tolerance_m, config.depth_tolerance_per_m2)
    there = (
        (measured > 0)
        & (np.abs(measured - z[front]) <= tolerance_m)
        & (sight.labels[v, u] != UNKNOWN_LABEL)
    )
    reach = config.edge_px + 1
    x0, y0 = max(int(u.min()) - reach, 0), max(int(v.min()) - reach, 0)
    mine = (
        sight.labels[y0 : int(v.max()) + reach + 1, x0 : int(u.max()) + reach + 1] == value
    ).astype(np.uint8)
    near = np.asarray(cv2.dilate(mine, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)))
    nearest = np.asarray(cv2.erode(sight.depth, np.ones((2 * config.edge_px + 1,) * 2, np.uint8)))[
        v, u
    ]  # 0 where one is unknown
    out[front] = (there & (near[v - y0, u - x0] == 0)) | (nearest > z[front] + tolerance_m)
    return out


def wanted_tracks(associations: Sequence[Association]) -> set[int]:
    """The tracks whose points the mapper has a use for."""
    split = {t for a in associations if a.status == AssociationStatus.SPLIT for t in a.related_ids}
    return {a.track_id for a in associations if a.track_id and a.status in USED} | split
