"""What the stages of a frame hand on: the map as seen from the camera, and where each track was found."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Integer

from vos_ros.association.predicted_pixels import PredictedPixels, predict_pixels
from vos_ros.association.surfaces import Samples
from vos_ros.config import Config, MappingConfig
from vos_ros.geometry.boxes import boxes_of
from vos_ros.geometry.points import lift_at
from vos_ros.geometry.uncertainty import depth_tolerance, pose_covariance, position_sigma
from vos_ros.mapping.align import align
from vos_ros.mapping.lift import liftable_pixels
from vos_ros.mapping.render import render
from vos_ros.mapping.seeds import object_pixel_sigma
from vos_ros.segmentation.fusion import Prior, projection_prior
from vos_ros.tracking.track_manager import TrackRecord
from vos_ros.types import Frame, MapObject, Projection, Segmentation, Track, row_type

_EVERY_PX, _LEAST = (
    6,
    4,
)  # lattice of the points that are sampled of a track, and the fewest that say where it is


@dataclass(frozen=True, eq=False, slots=True)
class MapView:
    """The map as seen in one frame: the pose used, and per map object in view its projection, its 1-sigma uncertainty in px, what it
    says of each pixel for the fusion with the image, and what it lets the associator expect. ``aligned``: the measured depth confirmed
    the pose. Of the depth image, ``measured``: the pixels that have any; ``liftable``: those that can be lifted; ``lattice``: some of these
    in space."""

    T_map_camera: Float64[np.ndarray, "4 4"] | None
    pose_cov: Float64[np.ndarray, "6 6"] | None
    projections: dict[int, Projection]
    sigma_px: dict[int, float]
    priors: dict[int, Prior]
    predicted_pixels: tuple[PredictedPixels, ...]
    aligned: bool = False
    measured: Bool[np.ndarray, "H W"] | None = None
    liftable: Bool[np.ndarray, "H W"] | None = None
    lattice: Lattice | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Lattice:
    """Measured points of pixels that lie apart: their indices in the flattened image, and their places in the camera frame, m."""

    pixel: Int64[np.ndarray, "P"]
    camera: Float32[np.ndarray, "P 3"]

    @classmethod
    def of(cls, frame: Frame, liftable: Bool[np.ndarray, "H W"] | None) -> Lattice:
        """Those at a depth step are left out where they are known."""
        assert frame.depth is not None
        known = frame.depth[::_EVERY_PX, ::_EVERY_PX] > 0
        if liftable is not None:
            known &= liftable[::_EVERY_PX, ::_EVERY_PX]
        y, x = (_EVERY_PX * index for index in known.nonzero())
        return cls(
            y * frame.depth.shape[1] + x,
            lift_at(x, y, frame.depth[y, x], np.eye(4), frame.intrinsics),
        )


@dataclass(frozen=True, eq=False, slots=True)
class InstanceMasks:
    """Where each track is: ``owner`` holds 0 or 1 + its index in ``track_ids``, ``prob`` the owner's probability; areas (px), mean
    probabilities and boxes go by that row."""

    track_ids: tuple[int, ...]
    owner: Integer[np.ndarray, "H W"]
    prob: Float32[np.ndarray, "H W"]
    areas: Int64[np.ndarray, "N1"]
    scores: Float64[np.ndarray, "N1"]
    boxes: dict[int, tuple[int, int, int, int]]


def from_segmentation(segmentation: Segmentation) -> tuple[Segmentation, InstanceMasks]:
    """The most probable track of every pixel; also kept in the segmentation, so that its labels cost nothing more."""
    winner, best = segmentation.winner, segmentation.best
    rows = len(segmentation.object_ids) + 1
    if winner is None or best is None:
        best, winner = segmentation.probs.max(0)
    winner = winner.to(row_type(rows))
    owner, prob = winner.cpu().numpy(), best.float().cpu().numpy()
    boxes = boxes_of(owner, rows - 1)
    areas, means = np.zeros(rows, np.int64), np.zeros(rows)
    for row, (x0, y0, x1, y1) in boxes.items():
        own = (owner[y0:y1, x0:x1] == row).view(np.uint8)
        areas[row], means[row] = cv2.countNonZero(own), cv2.mean(prob[y0:y1, x0:x1], own)[0]
    areas[0] = owner.size - areas.sum()
    means[0] = (cv2.sumElems(prob)[0] - means @ areas) / max(areas[0], 1)
    found = InstanceMasks(segmentation.object_ids, owner, prob, areas, means, boxes)
    return replace(segmentation, winner=winner, best=best), found


def sampled(frame: Frame, scene: MapView, found: InstanceMasks) -> Samples:
    """Some measured points of each track in the map frame; nothing without depth or pose."""
    if frame.depth is None or scene.T_map_camera is None:
        return Samples.of(np.zeros((0, 3), np.float32), np.zeros(0, int), ())
    lattice = scene.lattice if scene.lattice is not None else Lattice.of(frame, scene.liftable)
    row = found.owner.ravel().take(lattice.pixel)
    own = row.nonzero()[0]
    points = lattice.camera[own] @ scene.T_map_camera[:3, :3].T + scene.T_map_camera[:3, 3]
    return Samples.of(points.astype(np.float32), row[own], found.track_ids, _LEAST)


def track_summary(r: TrackRecord, row: int, found: InstanceMasks, scene: MapView) -> Track:
    """A track after the frame; ``row`` is its row in ``found``."""
    p = scene.projections.get(r.map_object_id)
    fractions = (p.visible, p.occluded, p.truncated) if p else (math.nan, math.nan, math.nan)
    return Track(
        r.track_id,
        r.label_value,
        r.class_id,
        r.state,
        r.source,
        float(found.scores[row]),
        r.age_frames,
        r.misses,
        int(found.areas[row]),
        found.boxes.get(row, (0, 0, 0, 0)),
        *fractions,
    )


def predict_view(
    objects: Sequence[MapObject], whole: Sequence[MapObject], frame: Frame, config: Config
) -> tuple[MapView, dict[str, float]]:
    """All that map, pose and depth say before the image is asked: the pose at which ``objects`` (as the map has them) lie on the depth,
    these objects with all that is known of them (``whole``) as seen from it, the pixels that can be lifted; and the milliseconds that each
    took. Needs no segmentation, so that it can run beside it."""
    watch = StageTimer()
    if frame.T_map_camera is None:
        return MapView(None, frame.pose_cov, {}, {}, {}, ()), watch.done()
    scene = MapView(frame.T_map_camera, frame.pose_cov, {}, {}, {}, ())
    if objects:
        pose, cov, aligned = frame.T_map_camera, frame.pose_cov, False
        if cov is None:
            cov = pose_covariance(config.pose.sigma_m, config.pose.sigma_deg)
        if config.pose.correction in ("auto", "depth") and frame.depth is not None:
            alignment = align(
                objects, pose, cov, frame.depth, frame.intrinsics, config=config.mapping
            )
            pose, cov, aligned = alignment.T_map_camera, alignment.pose_cov, alignment.accepted
            watch.lap("pose")
        scene = replace(render_view(whole, frame, pose, cov, config.mapping), aligned=aligned)
        watch.lap("render")
    if frame.depth is not None:
        liftable = liftable_pixels(frame.depth, frame.intrinsics, config.mapping)
        scene = replace(
            scene, measured=frame.depth > 0, liftable=liftable, lattice=Lattice.of(frame, liftable)
        )
        watch.lap("lift")
    return scene, watch.done()


def render_view(
    objects: Sequence[MapObject],
    frame: Frame,
    T_map_camera: Float64[np.ndarray, "4 4"],
    pose_cov: Float64[np.ndarray, "6 6"],
    config: MappingConfig,
) -> MapView:
    """The map as seen from a pose."""
    # the depth test must not cut what the pose's uncertainty explains
    slack = 2.0 * position_sigma(pose_cov)
    config = replace(config, depth_tolerance_m=config.depth_tolerance_m + slack)
    projections = {
        p.object_id: p
        for p in render(objects, T_map_camera, frame.intrinsics, depth=frame.depth, config=config)
    }
    sigma = {
        o.id: object_pixel_sigma(o, T_map_camera, frame.intrinsics, pose_cov)
        for o in objects
        if o.id in projections
    }
    tolerance = {
        i: depth_tolerance(_range(p), config.depth_tolerance_m, config.depth_tolerance_per_m2)
        for i, p in projections.items()
    }
    priors = {
        i: projection_prior(p, sigma[i], frame.depth, tolerance[i]) for i, p in projections.items()
    }
    predicted_pixels = tuple(
        predict_pixels(p, sigma[i], frame.depth, tolerance[i]) for i, p in projections.items()
    )
    return MapView(T_map_camera, pose_cov, projections, sigma, priors, predicted_pixels)


def _range(p: Projection) -> float:
    """Farthest predicted depth of a projection, m."""
    return float(p.depth_roi.max(initial=0.0))


class StageTimer:
    """Milliseconds by stage; laps of one name add up."""

    def __init__(self) -> None:
        self._start = self._lap = time.perf_counter()
        self._ms: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Books the time since the last lap under ``name``."""
        now = time.perf_counter()
        self._ms[name] = self._ms.get(name, 0.0) + 1e3 * (now - self._lap)
        self._lap = now

    def book(self, times_ms: Mapping[str, float]) -> None:
        """Adds what ran beside other stages."""
        for name, ms in times_ms.items():
            self._ms[name] = self._ms.get(name, 0.0) + ms

    def done(self) -> dict[str, float]:
        """All stages, and ``total``; stages that ran beside others make their sum exceed it."""
        return {**self._ms, "total": 1e3 * (time.perf_counter() - self._start)}
