"""The values that travel between stages: frozen, compared by identity.

Every array states its dtype, shape, frame and unit. Conventions:

- ``T_a_b`` maps coordinates of frame b to frame a. Camera frames are optical frames (REP-103: x
  right, y down, z forward), the map frame is that of REP-105.
- Pixels are (x, y) with the centre of the first pixel at (0, 0).
- Ids are uint32 >= 1; 0 means none. ``track_id`` belongs to the segmenter's stream,
  ``map_object_id`` to the mapper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, Integer, UInt8, UInt16

UNKNOWN_LABEL = 65535
"""Label value of a pixel outside the processed area."""
MAX_LABEL = UNKNOWN_LABEL - 1
"""Largest label value of an instance."""
_MAX_UINT8_ROWS = 256
"""Most rows of ``Segmentation.probs`` that uint8 names, and that OpenCV's table look-up takes."""


@dataclass(frozen=True, eq=False, slots=True)
class Intrinsics:
    """Describe a pinhole camera."""

    fx: float
    """Focal length along x, px."""
    fy: float
    """Focal length along y, px."""
    cx: float
    """Principal point's x, px."""
    cy: float
    """Principal point's y, px."""
    width: int
    """Width of the image, px."""
    height: int
    """Height of the image, px."""
    distortion_model: str = ""
    """ROS's name of it (plumb_bob, rational_polynomial, equidistant); "" for a rectified image."""
    distortion: tuple[float, ...] = ()
    """Coefficients of the model, in ROS's order."""

    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """Return the camera matrix K, px."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """Hold one time-aligned, rectified observation."""

    index: int
    """Number of the frame in its stream."""
    stamp_ns: int
    """Time of the image, ns."""
    rgb: UInt8[np.ndarray, "H W 3"]
    """Colour image."""
    depth: Float32[np.ndarray, "H W"] | None
    """Metres along z, 0 where unknown, registered to the colour image; None without a depth image.
    """
    intrinsics: Intrinsics
    """Camera of the colour image, without distortion."""
    T_map_camera: Float64[np.ndarray, "4 4"] | None = None
    """Pose of the camera; None where none is known."""
    pose_cov: Float64[np.ndarray, "6 6"] | None = None
    """Covariance of the pose error (see ``geometry.se3``): x y z m, rotation about x y z rad, along
    the axes of the map frame, as ROS PoseWithCovariance; None where the source states none."""
    frame_id: str = "camera"
    """Name of the camera's frame."""
    depth_frame_id: str = ""
    """Name of the depth image's frame, "" where it is the camera's."""
    T_bodies_camera: Mapping[str, Float64[np.ndarray, "4 4"]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    """Static poses of the camera on other frames of the robot, by their names."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (H, W) in px."""
        return int(self.rgb.shape[0]), int(self.rgb.shape[1])


@dataclass(frozen=True, eq=False, slots=True)
class Mask:
    """Prompt with the object's pixels."""

    mask: Bool[np.ndarray, "H W"]
    """True on the object."""


@dataclass(frozen=True, eq=False, slots=True)
class Box:
    """Prompt with a box around the object."""

    xyxy: Float32[np.ndarray, "4"]
    """x0 y0 x1 y1, px, exclusive upper corner."""


@dataclass(frozen=True, eq=False, slots=True)
class Points:
    """Prompt with clicks."""

    xy: Float32[np.ndarray, "P 2"]
    """Clicked pixels."""
    positive: Bool[np.ndarray, "P"]
    """True for a click on the object, false for one on the background."""
    within: Bool[np.ndarray, "H W"] | None = None
    """Pixels that may be the object; None: all."""
    extent: Bool[np.ndarray, "H W"] | None = None
    """Pixels that hold all of the object, and little else; None where that is not known."""


@dataclass(frozen=True, eq=False, slots=True)
class Scribble:
    """Prompt with strokes."""

    strokes: UInt8[np.ndarray, "H W"]
    """0 no stroke, 1 a stroke on the object, 2 a stroke on the background."""


Prompt = Mask | Box | Points | Scribble


@dataclass(frozen=True, eq=False, slots=True)
class Seed:
    """Start the segmentation of one object by a prompt, or correct it."""

    object_id: int
    """Id under which the segmenter follows the object."""
    prompt: Prompt
    """Where the object is."""
    weight: Float32[np.ndarray, "H W"] | None = None
    """How much each pixel counts, >= 0: 0 is ignored; None means 1 everywhere."""


@dataclass(frozen=True, eq=False, slots=True)
class Segmentation:
    """Hold per-pixel probabilities of N objects, on the segmenter's device."""

    object_ids: tuple[int, ...]
    """Ids of the objects, in the order of the rows of ``probs``."""
    probs: Float[torch.Tensor, "N1 H W"]
    """Probabilities; row 0 is the background, row n the n-th object. They sum to 1 per pixel."""
    boundary_px: float = 1.0
    """Error of an outline, 1 sigma, px, as the segmenter's resolution and upsampling allow."""

    def labels(self, label_values: Mapping[int, int] | None = None) -> UInt16[np.ndarray, "H W"]:
        """Return the label image of the most probable objects.

        Its values are 0 for background and ``label_values[object_id]`` for an object, the object id
        itself where no mapping is given.

        Raises ValueError: a value does not fit 1..65534.
        """
        ids = self.object_ids
        values = ids if label_values is None else tuple(label_values[i] for i in ids)
        return label_image(self.probs.max(0).indices.cpu().numpy(), values)


def label_image(
    instance_index: Integer[np.ndarray, "H W"], values: Sequence[int]
) -> UInt16[np.ndarray, "H W"]:
    """Return the label image of an image of indices: 0 where it is 0, else ``values[index - 1]``.

    Raises ValueError: a value does not fit 1..65534.
    """
    if any(v < 1 or v > MAX_LABEL for v in values):
        raise ValueError(
            f"label values must lie in 1..{MAX_LABEL}, got {list(values)}: pass label_values to map"
            " the ids"
        )
    if len(values) >= _MAX_UINT8_ROWS:
        return np.array([0, *values], np.uint16).take(instance_index)
    table = np.zeros(_MAX_UINT8_ROWS, np.uint16)
    table[1 : len(values) + 1] = values
    # cv2.LUT takes a quarter of the time of NumPy's take.
    return np.asarray(cv2.LUT(instance_index.astype(np.uint8, copy=False), table))


@dataclass(frozen=True, eq=False, slots=True)
class Mesh:
    """Hold a triangle mesh in the map frame."""

    vertices: Float32[np.ndarray, "V 3"]
    """Corners, m."""
    triangles: Int32[np.ndarray, "F 3"]
    """Rows of ``vertices``, three per triangle."""


@dataclass(frozen=True, eq=False, slots=True)
class MapObject:
    """Describe one object of the mapper's map."""

    id: int
    """Id that the mapper gave, >= 1."""
    class_id: int
    """Its class, 0 where unknown."""
    T_map_object: Float64[np.ndarray, "4 4"]
    """Pose of its box."""
    size: Float64[np.ndarray, "3"]
    """Full extents of its box along the axes of ``T_map_object``, m."""
    points: Float32[np.ndarray, "M 3"]
    """Samples of its surface, map frame, m."""
    point_radius: float
    """Radius of the disk of surface that each point stands for, m."""
    embedding: Float32[np.ndarray, "D"] | None = None
    """The mapper's description of its appearance, or None."""
    revision: int = 0
    """Revision of the map that changed it last."""
    mesh: Mesh | None = None
    """Its surface as triangles, rendered instead of the points, or None."""
    is_static: bool = True
    """False where the mapper lets it move."""

    @property
    def is_box(self) -> bool:
        """Tell whether the object is known by its box alone: it has a size, and no surface."""
        no_surface = not len(self.points) and self.mesh is None
        return bool(no_surface and np.isfinite(self.size).all() and self.size.max() > 0)


@dataclass(frozen=True, eq=False, slots=True)
class MapUpdate:
    """Hold a snapshot of the mapper's map, or a delta to the revision right before its own."""

    stamp_ns: int
    """Time of the map, ns."""
    session_id: str
    """Changes where the mapper starts over: its ids then mean other objects."""
    revision: int
    """Number of this state of the map."""
    full: bool
    """True for a snapshot, which replaces the map; false for a delta."""
    objects: tuple[MapObject, ...]
    """All objects of a snapshot; the new and changed ones of a delta."""
    deleted_ids: tuple[int, ...] = ()
    """Objects that the map has no more."""
    merged: tuple[tuple[int, int], ...] = ()
    """Pairs (from id, into id): the first object became part of the second."""
    frame_id: str = "map"
    """Name of the map's frame."""


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
    """Predict how one map object appears to a camera: the crop that its silhouette touches.

    Fractions are of the whole silhouette, the part outside the image included: visible + occluded +
    truncated = 1.
    """

    object_id: int
    """Id of the map object."""
    shape: tuple[int, int]
    """(H, W) of the image, px."""
    roi: tuple[int, int, int, int]
    """The crop: x0 y0 x1 y1 px, exclusive upper corner, clipped to the image."""
    mask_roi: Bool[np.ndarray, "h w"]
    """Visible pixels: in front in the z-buffer of all objects, and where depth was measured, it
    agrees."""
    silhouette_roi: Bool[np.ndarray, "h w"]
    """The object's pixels as if nothing hid them."""
    depth_roi: Float32[np.ndarray, "h w"]
    """Predicted z, m; 0 off the silhouette."""
    visible: float
    """Share of the silhouette in ``mask_roi``."""
    occluded: float
    """Share inside the image and not visible, pixels that are ``free`` included."""
    truncated: float
    """Share outside the image."""
    free: float = 0.0
    """Share of the silhouette inside the image where the measured depth lies behind the predicted
    surface: the object should be there and isn't. Such pixels are not in ``mask_roi``."""

    @property
    def area_px(self) -> int:
        """Count the visible pixels."""
        return int(np.count_nonzero(self.mask_roi))

    @property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        """Return the visible pixels in the whole image."""
        full = np.zeros(self.shape, bool)
        x0, y0, x1, y1 = self.roi
        full[y0:y1, x0:x1] = self.mask_roi
        return full

    @property
    def depth(self) -> Float32[np.ndarray, "H W"]:
        """Return the predicted depth in the whole image, m; 0 off the silhouette."""
        full = np.zeros(self.shape, np.float32)
        x0, y0, x1, y1 = self.roi
        full[y0:y1, x0:x1] = self.depth_roi
        return full


@dataclass(frozen=True, eq=False, slots=True)
class Observation:
    """Hold what one frame measured of one track, in the map frame."""

    track_id: int
    """The track."""
    points: Float32[np.ndarray, "P 3"]
    """Its pixels lifted to the map frame, m."""
    centroid: Float64[np.ndarray, "3"]
    """Mean of the points, m."""
    cov: Float64[np.ndarray, "3 3"]
    """Covariance of the points, m^2."""
    embedding: Float32[np.ndarray, "D"] | None
    """Description of its appearance, or None."""
    score: float
    """Mean probability of its pixels, 0..1."""

    @classmethod
    def of(cls, track_id: int, points: Float32[np.ndarray, "P 3"], score: float) -> Observation:
        """Compute mean and covariance of ``points``, two at least."""
        exact = np.array(points.T, np.float64, order="C")
        centroid = exact.sum(1) / len(points)
        exact -= centroid[:, None]
        return cls(track_id, points, centroid, exact @ exact.T / (len(points) - 1), None, score)


class TrackState(IntEnum):
    """State of a track; values are those of msg/Instance."""

    TENTATIVE = 0
    CONFIRMED = 1
    OCCLUDED = 2
    LOST = 3


class TrackSource(IntEnum):
    """What started a track; values are those of msg/Instance."""

    MAP = 0
    PROMPT = 1
    PROPOSAL = 2


class AssociationStatus(IntEnum):
    """Relation of a track and a map object; values are those of msg/Association."""

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
    """Summarize a track after a frame."""

    track_id: int
    """Id of the track, never reused within a session."""
    label_value: int
    """Its value in the label image, the same over its life."""
    class_id: int
    """Class of its object, 0 where unknown."""
    state: TrackState
    """Its state."""
    source: TrackSource
    """What started it."""
    score: float
    """Mean probability of its pixels, 0..1."""
    age_frames: int
    """Frames since it started."""
    misses: int
    """Frames in a row that it has missed."""
    area_px: int
    """Number of its pixels."""
    roi: tuple[int, int, int, int]
    """Box around its pixels: x0 y0 x1 y1 px, exclusive upper corner; zeros where it has none."""
    visible: float
    """``Projection.visible`` of its map object; NaN where there is no projection."""
    occluded: float
    """``Projection.occluded`` likewise."""
    truncated: float
    """``Projection.truncated`` likewise."""


@dataclass(frozen=True, eq=False, slots=True)
class Association:
    """Relate one track and one map object. NaN where evidence could not be measured."""

    track_id: int
    """The track; 0 for a map object without a track."""
    map_object_id: int
    """The map object; 0 for none."""
    status: AssociationStatus
    """What the relation is."""
    score: float
    """Probability of the match, 0..1."""
    mask_iou: float = float("nan")
    """Intersection over union of the track's mask and the object's projection."""
    depth_inlier_ratio: float = float("nan")
    """Share of the track's pixels whose measured depth agrees with the predicted one."""
    appearance_similarity: float = float("nan")
    """Similarity of the track's appearance to the most similar known view of the object."""
    runner_up_id: int = 0
    """The second most probable map object, 0 for none."""
    runner_up_score: float = 0.0
    """Probability of the runner-up, 0..1."""
    predicted_visible_fraction: float = float("nan")
    """``Projection.visible`` of the map object."""
    n_observations: int = 0
    """Frames in which the two were matched."""
    related_ids: tuple[int, ...] = ()
    """Other ids of a MERGE (map objects) or a SPLIT (tracks)."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """Evidence of the pair by the name of its term (``vos_ros.association.terms``)."""


class Verdict(IntEnum):
    """Say whether map, poses and depth belong together; values as in AssociationArray."""

    UNDECIDED = 0
    PASSED = 1
    CONTRADICTED = 2


@dataclass(frozen=True, eq=False, slots=True)
class SelfCheckResult:
    """Hold what is known after a frame."""

    verdict: Verdict = Verdict.UNDECIDED
    """Whether the inputs belong together."""
    findings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Likely mistakes that stand: kind -> one sentence with the way out."""
    believes_absence: bool = True
    """Whether an object that seems absent may be reported so."""


@dataclass(frozen=True, eq=False, slots=True)
class FrameResult:
    """Hold everything that the pipeline computed for one frame."""

    stamp_ns: int
    """Time of the image, ns."""
    segmentation: Segmentation
    """Probabilities of the tracks by the image alone."""
    tracks: tuple[Track, ...]
    """The tracks that are segmented, in the order of the segmentation's rows."""
    projections: tuple[Projection, ...]
    """Map objects in view, as predicted."""
    observations: tuple[Observation, ...]
    """What was measured of each track."""
    associations: tuple[Association, ...]
    """Relations of tracks and map objects."""
    map_session_id: str = ""
    """Session of the map that was used."""
    map_revision: int = 0
    """Revision of the map that was used."""
    map_stamp_ns: int = 0
    """Time of the map that was used, ns."""
    map_frame: str = "map"
    """Name of the map's frame."""
    T_map_camera: Float64[np.ndarray, "4 4"] | None = None
    """The pose that was used, corrected where it could be; None where there was none."""
    pose_cov: Float64[np.ndarray, "6 6"] | None = None
    """Its covariance (convention of ``Frame.pose_cov``)."""
    warnings: tuple[str, ...] = ()
    """What the user should know."""
    self_check: SelfCheckResult = field(default_factory=SelfCheckResult)
    """Whether map, poses and depth belong together."""
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds of each stage and their ``total``, which is less than the sum where stages ran
    in parallel."""

    instance_index: Integer[np.ndarray, "H W"] | None = None
    """Track of each pixel by image and map: 0 background, n the n-th of ``tracks``. None: the most
    probable of ``segmentation``."""

    def labels(self) -> UInt16[np.ndarray, "H W"]:
        """Return the label image, with the values of ``Track.label_value``."""
        values = {t.track_id: t.label_value for t in self.tracks}
        if self.instance_index is None:
            return self.segmentation.labels(values)
        return label_image(self.instance_index, tuple(values.values()))
