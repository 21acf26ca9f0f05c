"""The values that travel between stages: frozen, compared by identity, every array with dtype, shape, frame and unit.

Conventions. ``T_a_b`` maps coordinates of frame b to frame a. Camera frames are optical frames (REP-103: x right, y down,
z forward), the map frame is REP-105's. Pixels are (x, y) with the centre of the first pixel at (0, 0). Ids are uint32 >= 1,
0 means none. ``track_id`` belongs to the segmenter's stream, ``map_object_id`` to the mapper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, UInt8, UInt16

UNKNOWN_LABEL = 65535
"""Label value of a pixel that nothing is known of (outside the processed area)."""
MAX_LABEL = UNKNOWN_LABEL - 1
_TABLE = 256


@dataclass(frozen=True, eq=False, slots=True)
class Intrinsics:
    """A pinhole camera: focal lengths and principal point in px, image size, lens distortion.

    ``distortion_model`` is ROS's name (plumb_bob, rational_polynomial, equidistant) or "" for an already rectified image.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion_model: str = ""
    distortion: tuple[float, ...] = ()

    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """Camera matrix K, px."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One time-aligned, rectified observation.

    ``depth`` is metres along z, 0 where unknown, registered to the colour image, or None. ``T_map_camera`` is None where no pose
    is known. ``pose_cov`` is the covariance of a small motion (x y z m, rotation about x y z rad) of the *camera in the map
    frame's axes* (ROS PoseWithCovariance: fixed axes of the map frame), None where the source states none.
    """

    index: int
    stamp_ns: int
    rgb: UInt8[np.ndarray, "H W 3"]
    depth: Float32[np.ndarray, "H W"] | None
    intrinsics: Intrinsics
    T_map_camera: Float64[np.ndarray, "4 4"] | None = None
    pose_cov: Float64[np.ndarray, "6 6"] | None = None
    frame_id: str = "camera"

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) in px."""
        return int(self.rgb.shape[0]), int(self.rgb.shape[1])


@dataclass(frozen=True, eq=False, slots=True)
class Mask:
    """Prompt: the object's pixels."""

    mask: Bool[np.ndarray, "H W"]


@dataclass(frozen=True, eq=False, slots=True)
class Box:
    """Prompt: a box around the object, x0 y0 x1 y1 in px, exclusive upper corner."""

    xyxy: Float32[np.ndarray, "4"]


@dataclass(frozen=True, eq=False, slots=True)
class Points:
    """Prompt: clicks, xy in px; ``positive`` tells object from background."""

    xy: Float32[np.ndarray, "P 2"]
    positive: Bool[np.ndarray, "P"]


@dataclass(frozen=True, eq=False, slots=True)
class Scribble:
    """Prompt: strokes as an image: 0 nothing said, 1 object, 2 background."""

    strokes: UInt8[np.ndarray, "H W"]


Prompt = Mask | Box | Points | Scribble


@dataclass(frozen=True, eq=False, slots=True)
class Seed:
    """A prompt that starts (or corrects) one object. ``weight`` >= 0 per pixel, 0 = don't care; None = 1 everywhere."""

    object_id: int
    prompt: Prompt
    weight: Float32[np.ndarray, "H W"] | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Segmentation:
    """Per-pixel probabilities of N objects; row 0 is the background, rows sum to 1, on the segmenter's device.

    ``boundary_px`` is how far (1 sigma) an outline of the segmenter may be from the true one, what its resolution and upsampling
    allow. ``winner`` is the row that each pixel is held to be of, and ``best`` its probability: the largest of ``probs``, or, where
    the map was heard too, of the two together; None where nobody has asked yet.
    """

    object_ids: tuple[int, ...]
    probs: Float[torch.Tensor, "N1 H W"]
    boundary_px: float = 1.0
    winner: Int[torch.Tensor, "H W"] | None = None
    best: Float[torch.Tensor, "H W"] | None = None

    def labels(self, label_values: Mapping[int, int] | None = None) -> UInt16[np.ndarray, "H W"]:
        """Label image: 0 background, else ``label_values[object_id]`` (the object id itself where no mapping is given).

        Raises ValueError where a value does not fit 1..65534.
        """
        values = [
            0,
            *((label_values[i] if label_values is not None else i) for i in self.object_ids),
        ]
        if any(v < 1 or v > MAX_LABEL for v in values[1:]):
            raise ValueError(
                f"label values must lie in 1..{MAX_LABEL}, got {values[1:]}: pass label_values to map the ids"
            )
        winner = self.probs.max(0).indices if self.winner is None else self.winner
        if len(values) > _TABLE:
            return np.array(values, np.uint16).take(winner.cpu().numpy())
        table = np.zeros(_TABLE, np.uint16)
        table[: len(values)] = values
        return np.asarray(
            cv2.LUT(winner.to(torch.uint8).cpu().numpy(), table)
        )  # four times as fast


def row_type(rows: int) -> torch.dtype:
    """The smallest integers that name so many rows of ``probs``: whatever is done with a winner is done the faster."""
    return torch.uint8 if rows <= _TABLE else torch.int16


@dataclass(frozen=True, eq=False, slots=True)
class Mesh:
    """Triangle mesh in the map frame: vertices m, triangles of vertex indices."""

    vertices: Float32[np.ndarray, "V 3"]
    triangles: Int32[np.ndarray, "F 3"]


@dataclass(frozen=True, eq=False, slots=True)
class MapObject:
    """One object of the mapper's map. ``points`` are surface samples in the map frame, m, each standing for a disk of
    ``point_radius`` m. ``size`` is the full box extents along the axes of ``T_map_object``, m. ``is_static`` is false where the mapper lets
    it move."""

    id: int
    class_id: int
    T_map_object: Float64[np.ndarray, "4 4"]
    size: Float64[np.ndarray, "3"]
    points: Float32[np.ndarray, "M 3"]
    point_radius: float
    embedding: Float32[np.ndarray, "D"] | None = None
    revision: int = 0
    mesh: Mesh | None = None
    is_static: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class MapUpdate:
    """A snapshot (``full``) or a delta of the mapper's map. ``merged`` holds (from id, into id) pairs. A delta applies to the
    revision right before its own."""

    stamp_ns: int
    session_id: str
    revision: int
    full: bool
    objects: tuple[MapObject, ...]
    deleted_ids: tuple[int, ...] = ()
    merged: tuple[tuple[int, int], ...] = ()
    frame_id: str = "map"


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MapChange:
    """Tell what an update did to the map, so that others can follow it."""

    reason: str = ""
    """Why the update was not applied, and nothing changed; "" where it was applied."""
    new_session: bool = False
    """The session id is another one: equal ids before and after mean different objects."""
    added: tuple[MapObject, ...] = ()
    """Objects whose ids the map did not have before."""
    changed: tuple[tuple[MapObject, MapObject], ...] = ()
    """Objects before and after, of ids that the map had and has; in a new session, all such ids."""
    deleted: tuple[MapObject, ...] = ()
    """Objects as they were, of ids that the map has no more: deleted, left out or merged."""
    merged: Mapping[int, int] = field(default_factory=dict)
    """By the id of a deleted object, the id of the object of the map that it became part of."""


@dataclass(frozen=True, eq=False, slots=True)
class Projection:
    """One map object as seen from a camera: the crop of the image that its silhouette touches.

    ``roi`` is x0 y0 x1 y1 px (exclusive upper corner), clipped to the image. ``mask_roi``: visible pixels (in front in the
    z-buffer of all objects, and not hidden by nearer measured depth). ``silhouette_roi``: its pixels as if nothing hid them.
    ``depth_roi``: predicted z in m, 0 off the silhouette. Fractions are of the whole silhouette, the part outside the image
    included: visible + occluded + truncated = 1. ``free`` is the share of the silhouette inside the image where the measured depth lies
    behind the predicted surface (the object should be there and isn't); such pixels are not in ``mask_roi`` and count as
    occluded here.
    """

    object_id: int
    shape: tuple[int, int]
    roi: tuple[int, int, int, int]
    mask_roi: Bool[np.ndarray, "h w"]
    silhouette_roi: Bool[np.ndarray, "h w"]
    depth_roi: Float32[np.ndarray, "h w"]
    visible: float
    occluded: float
    truncated: float
    free: float = 0.0

    @property
    def area_px(self) -> int:
        """Number of visible pixels."""
        return int(np.count_nonzero(self.mask_roi))

    @property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        """Visible pixels in the whole image."""
        full = np.zeros(self.shape, bool)
        x0, y0, x1, y1 = self.roi
        full[y0:y1, x0:x1] = self.mask_roi
        return full

    @property
    def depth(self) -> Float32[np.ndarray, "H W"]:
        """Predicted depth in the whole image, m, 0 off the silhouette."""
        full = np.zeros(self.shape, np.float32)
        x0, y0, x1, y1 = self.roi
        full[y0:y1, x0:x1] = self.depth_roi
        return full


@dataclass(frozen=True, eq=False, slots=True)
class Observation:
    """What one frame measured of one track: its pixels lifted to the map frame (m), their mean and 3x3 covariance (m^2)."""

    track_id: int
    points: Float32[np.ndarray, "P 3"]
    centroid: Float64[np.ndarray, "3"]
    cov: Float64[np.ndarray, "3 3"]
    embedding: Float32[np.ndarray, "D"] | None
    score: float

    @classmethod
    def of(cls, track_id: int, points: Float32[np.ndarray, "P 3"], score: float) -> Observation:
        """What ``points`` say, two at least."""
        exact = np.array(points.T, np.float64, order="C")
        centroid = exact.sum(1) / len(points)
        exact -= centroid[:, None]
        return cls(track_id, points, centroid, exact @ exact.T / (len(points) - 1), None, score)


class TrackState(IntEnum):
    """Life of a track; values are those of msg/Instance."""

    TENTATIVE = 0
    CONFIRMED = 1
    OCCLUDED = 2
    LOST = 3


class TrackSource(IntEnum):
    """Where a track came from; values are those of msg/Instance."""

    MAP = 0
    PROMPT = 1
    PROPOSAL = 2


class AssociationStatus(IntEnum):
    """What is said of a track and a map object; values are those of msg/Association."""

    MATCHED = 0
    TENTATIVE = 1
    NEW = 2
    OCCLUDED = 3
    OUT_OF_VIEW = 4
    ABSENT = 5
    LOST = 6
    MERGE = 7
    SPLIT = 8
    REIDENTIFIED = 9


@dataclass(frozen=True, eq=False, slots=True)
class Track:
    """The public view of a track after a frame. ``label_value`` is its value in the label image, stable over its life."""

    track_id: int
    label_value: int
    class_id: int
    state: TrackState
    source: TrackSource
    score: float
    age_frames: int
    misses: int
    area_px: int
    roi: tuple[int, int, int, int]
    visible: float
    occluded: float
    truncated: float


@dataclass(frozen=True, eq=False, slots=True)
class Association:
    """The relation of one track and a map object. ``map_object_id`` 0 = none; ``track_id`` 0 = a map object without a track.
    Scores lie in 0..1; NaN where a term of evidence could not be had."""

    track_id: int
    map_object_id: int
    status: AssociationStatus
    score: float
    mask_iou: float = float("nan")
    depth_inlier_ratio: float = float("nan")
    appearance_similarity: float = float("nan")
    runner_up_id: int = 0
    runner_up_score: float = 0.0
    predicted_visible_fraction: float = float("nan")
    n_observations: int = 0
    related_ids: tuple[int, ...] = ()
    terms: Mapping[str, float] = field(default_factory=dict)
    """Evidence of the pair by the name of its term (``vos_ros.association.terms``), NaN where it could not be had."""


@dataclass(frozen=True, eq=False, slots=True)
class FrameResult:
    """Everything that one frame gave. ``T_map_camera``/``pose_cov`` are the pose that was used (None where there was none).
    ``timings_ms`` holds the stages and their ``total``; stages that ran side by side make the sum exceed it."""

    stamp_ns: int
    segmentation: Segmentation
    tracks: tuple[Track, ...]
    projections: tuple[Projection, ...]
    observations: tuple[Observation, ...]
    associations: tuple[Association, ...]
    map_session_id: str = ""
    map_revision: int = 0
    map_stamp_ns: int = 0
    map_frame: str = "map"
    T_map_camera: Float64[np.ndarray, "4 4"] | None = None
    pose_cov: Float64[np.ndarray, "6 6"] | None = None
    warnings: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    def labels(self) -> UInt16[np.ndarray, "H W"]:
        """The label image, values as in ``Track.label_value``."""
        return self.segmentation.labels({t.track_id: t.label_value for t in self.tracks})
