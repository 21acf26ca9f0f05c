"""Values that stages of the pipeline exchange, made in a few lines.

The camera is at the origin of the map and looks along z. Objects are upright plates; everything is
48 x 64 px, with one pixel per centimetre at 1 m.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from vos_ros.association.interface import Evidence, Match
from vos_ros.association.predicted_pixels import predict_pixels
from vos_ros.config import Config, TrackingConfig, from_flat
from vos_ros.pipeline.instance_masks import InstanceMasks
from vos_ros.pipeline.map_view import MapView
from vos_ros.segmentation.fusion import projection_prior
from vos_ros.segmentation.interface import VideoSegmenter, check_known, check_new
from vos_ros.segmentation.prompts import to_mask
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import (
    Frame,
    Intrinsics,
    MapObject,
    Mask,
    Projection,
    Seed,
    Segmentation,
    TrackSource,
    TrackState,
)

H, W = 48, 64
CAMERA = Intrinsics(100.0, 100.0, (W - 1) / 2, (H - 1) / 2, W, H)
TOLERANCE_M = 0.05
A_STAMP_NS = 1_000_000_000
"""Stamp of ``frame()``."""


def config(**values: object) -> Config:
    """A configuration; ``tracking__max_objects=3`` sets ``tracking.max_objects``."""
    return from_flat({k.replace("__", "."): v for k, v in values.items()})


def rect(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """A rectangular mask."""
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def pose(x: float = 0.0, *, turned_deg: float = 0.0) -> np.ndarray:
    """T_map_camera ``x`` m to the right of the origin, turned about the vertical axis."""
    c, s = math.cos(math.radians(turned_deg)), math.sin(math.radians(turned_deg))
    return np.array([[c, 0, s, x], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]])


def covariance(position_m: float, rotation_rad: float) -> np.ndarray:
    """A pose covariance of equal standard deviations per axis."""
    return np.diag([position_m**2] * 3 + [rotation_rad**2] * 3)


def frame(t: float = 1.0, **fields: object) -> Frame:
    """A frame at ``t`` s with depth 2 m everywhere and a pose at the origin."""
    given = {
        "index": 0,
        "stamp_ns": round(t * 1e9),
        "rgb": np.zeros((H, W, 3), np.uint8),
        "depth": np.full((H, W), 2.0, np.float32),
        "intrinsics": CAMERA,
        "T_map_camera": pose(),
    }
    return Frame(**{**given, **fields})  # type: ignore[arg-type]


def map_object(object_id: int, mask: np.ndarray, z: float = 1.0, **fields: object) -> MapObject:
    """A plate at ``z`` m that the camera at the origin sees as the rectangle ``mask``."""
    ys, xs = np.nonzero(mask)
    u, v = np.meshgrid(
        np.arange(xs.min(), xs.max() + 0.6, 0.5), np.arange(ys.min(), ys.max() + 0.6, 0.5)
    )
    x, y = (u - CAMERA.cx) / CAMERA.fx * z, (v - CAMERA.cy) / CAMERA.fy * z
    points = np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], 1).astype(np.float32)
    T = np.eye(4)
    T[:3, 3] = points.mean(0)
    given = {
        "id": object_id,
        "class_id": 10 + object_id,
        "T_map_object": T,
        "size": np.ptp(points, axis=0).astype(np.float64),
        "points": points,
        "point_radius": 0.004 * z,
    }
    return MapObject(**{**given, **fields})  # type: ignore[arg-type]


def projection(object_id: int, mask: np.ndarray, z: float = 2.0, **fields: object) -> Projection:
    """A visible object at ``z`` m."""
    ys, xs = np.nonzero(mask)
    x0, y0, x1, y1 = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
    crop = mask[y0:y1, x0:x1]
    given = {
        "object_id": object_id,
        "shape": mask.shape,
        "roi": (x0, y0, x1, y1),
        "mask_roi": crop,
        "silhouette_roi": crop,
        "depth_roi": np.where(crop, np.float32(z), np.float32(0)),
        "visible": 1.0,
        "occluded": 0.0,
        "truncated": 0.0,
    }
    return Projection(**{**given, **fields})  # type: ignore[arg-type]


def map_view(
    *projections: Projection,
    sigma_px: float | Mapping[int, float] = 0.0,
    depth: np.ndarray | None = None,
    **fields: object,
) -> MapView:
    """A view of some projections from the origin."""
    sigma = {
        p.object_id: sigma_px[p.object_id] if isinstance(sigma_px, Mapping) else sigma_px
        for p in projections
    }
    given = {
        "T_map_camera": pose(),
        "pose_cov": covariance(0.01, 0.01),
        "projections": {p.object_id: p for p in projections},
        "sigma_px": sigma,
        "priors": {
            p.object_id: projection_prior(p, sigma[p.object_id], depth, TOLERANCE_M)
            for p in projections
        },
        "predicted_pixels": tuple(
            predict_pixels(p, sigma[p.object_id], depth, TOLERANCE_M) for p in projections
        ),
    }
    return MapView(**{**given, **fields})  # type: ignore[arg-type]


def no_pose() -> MapView:
    """The view of a frame without a pose."""
    return map_view(T_map_camera=None, pose_cov=None)


def segmentation(
    masks: Mapping[int, np.ndarray] = {},
    p: float = 0.98,
    boundary_px: float = 4.0,
) -> Segmentation:
    """Objects of probability ``p`` in their masks; the rest is the background's."""
    planes = np.stack([np.zeros((H, W)), *(np.where(m, p, 0.0) for m in masks.values())])
    planes[0] = 1.0 - planes.sum(0)
    return Segmentation(tuple(masks), torch.from_numpy(planes.astype(np.float32)), boundary_px)


def instance_masks(masks: Mapping[int, np.ndarray], p: float = 0.98) -> InstanceMasks:
    """Masks of tracks, whose pixels have probability ``p``."""
    return InstanceMasks.from_segmentation(segmentation(masks, p))


def track_manager(
    objects: Mapping[int, int] = {},
    tracking: TrackingConfig | None = None,
    *,
    source: TrackSource = TrackSource.MAP,
    state: TrackState = TrackState.TENTATIVE,
) -> TrackManager:
    """Tracks by id with their map objects (0 none); ids follow one another from 1."""
    tracks = TrackManager(tracking or TrackingConfig())
    for track_id, object_id in objects.items():
        assert tracks.reserve() == track_id, "name the tracks 1, 2, 3 .."
        record = tracks.start(track_id, map_object_id=object_id, class_id=0, source=source)
        record.state = state
    return tracks


def evidence(track_id: int, object_id: int, score: float = 0.9, **terms: float) -> Evidence:
    """Evidence for a pair, with values of its terms by name."""
    return Evidence(track_id, object_id, score, {"mask_iou": 0.8, **terms})


def match(track_id: int, object_id: int = 0, score: float = 0.9, **terms: float) -> Match:
    """A track that is matched with an object, or with none (0)."""
    found = evidence(track_id, object_id, score, **terms) if object_id else None
    return Match(track_id, found, None)


@dataclass
class FakeSegmenter(VideoSegmenter):
    """Repeats the masks that it was given, and notes what is done with it."""

    uses_image: bool = True
    done: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    given: dict[int, np.ndarray] = field(default_factory=dict)
    image_features: torch.Tensor | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.given)

    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        check_new(self.given, seeds, frame.shape)
        self._note("seed", [s.object_id for s in seeds])
        self.given.update({s.object_id: to_mask(s.prompt, frame) for s in seeds})
        return self._result(frame)

    def step(self, frame: Frame) -> Segmentation:
        self._note("step", self.given)
        return self._result(frame)

    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        check_known(self.given, (s.object_id for s in corrections))
        self._note("update", [s.object_id for s in corrections])
        self.given.update({s.object_id: to_mask(s.prompt, frame) for s in corrections})
        return self._result(frame)

    def drop(self, object_ids: Collection[int]) -> None:
        check_known(self.given, object_ids)
        self._note("drop", sorted(object_ids))
        for i in object_ids:
            del self.given[i]

    def features(self, frame: Frame) -> torch.Tensor | None:
        return self.image_features

    def learn_pending(self) -> None:
        self._note("learn_pending", ())

    def _note(self, what: str, object_ids: Collection[int]) -> None:
        self.done.append((what, tuple(object_ids)))

    def _result(self, frame: Frame) -> Segmentation:
        planes = [
            torch.zeros(frame.shape),
            *(torch.from_numpy(m).float() for m in self.given.values()),
        ]
        probs = torch.stack(planes)
        probs[0] = (probs.sum(0) == 0).float()
        return Segmentation(self.object_ids, probs / probs.sum(0, keepdim=True))


def prompt(mask: np.ndarray) -> Mask:
    """A mask prompt."""
    return Mask(mask)
