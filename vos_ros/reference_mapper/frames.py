"""What one image contributes to the map: instances with measured points, and associations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt16

from vos_ros.config import MappingConfig
from vos_ros.geometry.boxes import boxes_of
from vos_ros.geometry.camera import pixels_hit
from vos_ros.geometry.uncertainty import depth_tolerance, position_sigma
from vos_ros.mapping.lift import lift_labels
from vos_ros.types import UNKNOWN_LABEL, Association, AssociationStatus, Intrinsics, Verdict

_LIFTED_STATUSES = frozenset(
    {
        AssociationStatus.MATCHED,
        AssociationStatus.REIDENTIFIED,
        AssociationStatus.NEW,
        AssociationStatus.SPLIT,
    }
)
"""Statuses of tracks whose points the mapper integrates."""


@dataclass(frozen=True, eq=False, slots=True)
class MeasuredInstance:
    """A track in an image, with its measured points."""

    track_id: int
    """Id of the track."""
    class_id: int
    """Class that the frame gives it; 0 = unknown."""
    confirmed: bool
    """Whether the track is CONFIRMED."""
    points: Float32[np.ndarray, "P 3"]
    """Points on its surface, map frame, m; none without depth or pose, or where not lifted."""


@dataclass(frozen=True, eq=False, slots=True)
class LabelledDepth:
    """Label image and depth image of a frame, rectified alike."""

    labels: UInt16[np.ndarray, "H W"]
    """Label of each pixel: 0 background, 65535 unknown."""
    label_values: Mapping[int, int]
    """Track id -> its value in ``labels``."""
    depth: Float32[np.ndarray, "H W"]
    """Measured depth, m; 0 = unknown."""
    intrinsics: Intrinsics
    """Camera of both images."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AssociatedFrame:
    """Instances and associations of one image."""

    stamp_ns: int
    """Stamp of the image."""
    session_id: str
    """Session of the segmenter, in which track ids are unique."""
    map_session_id: str
    """Session of the map that the associations refer to; "" = none."""
    map_revision: int
    """Revision of that map."""
    map_frame: str
    """Frame of that map."""
    T_map_camera: Float64[np.ndarray, "4 4"] | None
    """Pose of the camera; None = unknown."""
    pose_cov: Float64[np.ndarray, "6 6"] | None
    """Covariance of the pose (m, rad; axes of the map frame); None where its source has none."""
    instances: tuple[MeasuredInstance, ...]
    """Tracks in the image."""
    associations: tuple[Association, ...]
    """Associations of tracks with map objects."""
    labelled_depth: LabelledDepth | None = None
    """Label and depth image; None without depth."""
    self_check: Verdict = Verdict.UNDECIDED
    """Whether map, poses and depth belong together, by the perception node."""

    def can_measure(self, instance: MeasuredInstance | None, max_pose_sigma_m: float) -> bool:
        """Return whether an instance has points, placed by a pose that is certain enough."""
        if instance is None or len(instance.points) == 0 or self.T_map_camera is None:
            return False
        sigma_m = 0.0 if self.pose_cov is None else position_sigma(self.pose_cov)
        return sigma_m <= max_pose_sigma_m


def lift_tracks(
    image: LabelledDepth,
    tracks: Collection[int],
    T_map_camera: Float64[np.ndarray, "4 4"],
    config: MappingConfig,
) -> dict[int, Float32[np.ndarray, "P 3"]]:
    """Lift the pixels of some tracks to points (map frame, m).

    Args:
        image: label and depth image.
        tracks: ids of the tracks; those without pixels are left out.
        T_map_camera: pose of the camera.
        config: border of the masks, number of points.

    Raises ValueError: labels and depth differ in size.
    """
    labels, depth, intrinsics = image.labels, image.depth, image.intrinsics
    values = {t: v for t, v in image.label_values.items() if t in tracks}
    if labels.shape != depth.shape:
        raise ValueError(
            f"labels are {labels.shape[1]}x{labels.shape[0]} px, depth is {depth.shape[1]}x"
            f"{depth.shape[0]} px: wanted depth registered to the colour image that was segmented"
        )
    if not values:
        return {}
    wanted = set(values.values())
    boxes = {value: box for value, box in boxes_of(labels, max(wanted)).items() if value in wanted}
    lifted = lift_labels(labels, boxes, depth, T_map_camera, intrinsics, config)
    return {track_id: lifted[value] for track_id, value in values.items() if value in lifted}


def contradicted_points(
    points: Float32[np.ndarray, "P 3"],
    track_id: int,
    image: LabelledDepth,
    T_map_camera: Float64[np.ndarray, "4 4"],
    config: MappingConfig,
) -> Bool[np.ndarray, "P"]:
    """Return which points of a track's object a frame contradicts.

    It does in two cases. Another surface is measured in the place of the point: no pixel of the
    track's mask is within ``edge_px`` + 1 of the point's. Or its place is empty: on all pixels
    within ``edge_px`` the measured depth lies behind it. Points that are hidden, out of view or
    without depth are not contradicted.

    Args:
        points: points of the object, map frame, m.
        track_id: the track; without a label value it contradicts nothing.
        image: label and depth image.
        T_map_camera: pose of the camera.
        config: border of the masks, tolerance of the depth.
    """
    out = np.zeros(len(points), bool)
    value = image.label_values.get(track_id)
    camera = (points.astype(np.float64) - T_map_camera[:3, 3]) @ T_map_camera[:3, :3]
    front, u, v = pixels_hit(camera, image.intrinsics, config.near_m)
    if value is None or len(front) == 0:
        return out
    z, measured = camera[front, 2], image.depth[v, u]
    tolerance_m = depth_tolerance(z, config.depth_tolerance_m, config.depth_tolerance_per_m2)
    agrees = (measured > 0) & (np.abs(measured - z) <= tolerance_m)
    other_surface = agrees & (image.labels[v, u] != UNKNOWN_LABEL)
    # The track's mask, grown by the reach, in the part of the image that the points fall on.
    reach = config.edge_px + 1
    x0, y0 = max(int(u.min()) - reach, 0), max(int(v.min()) - reach, 0)
    window = image.labels[y0 : int(v.max()) + reach + 1, x0 : int(u.max()) + reach + 1]
    mask = (window == value).astype(np.uint8)
    grown = np.asarray(cv2.dilate(mask, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)))
    other_surface &= grown[v - y0, u - x0] == 0
    # The nearest depth around the point; 0 where one of the pixels has none.
    kernel = np.ones((2 * config.edge_px + 1,) * 2, np.uint8)
    nearest = np.asarray(cv2.erode(image.depth, kernel))[v, u]
    out[front] = other_surface | (nearest > z + tolerance_m)
    return out


def tracks_to_lift(associations: Sequence[Association]) -> set[int]:
    """Return the tracks whose points the mapper integrates."""
    split = {t for a in associations if a.status == AssociationStatus.SPLIT for t in a.related_ids}
    lifted = {a.track_id for a in associations if a.track_id and a.status in _LIFTED_STATUSES}
    return lifted | split
