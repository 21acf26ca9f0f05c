"""Predict what the camera sees of the map, from pose, map and depth, before the image is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from vos_ros.association.predicted_pixels import PredictedPixels, predict_pixels
from vos_ros.config import Config, MappingConfig, TrackingConfig
from vos_ros.geometry.camera import project
from vos_ros.geometry.points import lift_at
from vos_ros.geometry.se3 import inverse, transform
from vos_ros.geometry.uncertainty import depth_tolerance, pose_covariance, position_sigma
from vos_ros.mapping.align import align
from vos_ros.mapping.lift import liftable_pixels
from vos_ros.mapping.render import render
from vos_ros.mapping.seeds import object_pixel_sigma
from vos_ros.pipeline.timing import StageTimer
from vos_ros.segmentation.fusion import Prior, box_priors, projection_prior
from vos_ros.types import Frame, MapObject, Projection, SelfCheckResult

_LATTICE_PX = 6
"""Distance of the pixels at which the depth image is sampled."""
_MIN_FREE_SHARE = 0.5
"""Minimum share of a silhouette behind which depth is measured, from which only the object's
absence explains that it isn't found."""
_POSE_SIGMAS = 2.0
"""Standard deviations of the camera's position by which the depth test is relaxed."""


@dataclass(frozen=True, eq=False, slots=True)
class Lattice:
    """Hold measured points at pixels of a regular lattice."""

    pixel: Int64[np.ndarray, "P"]
    """Indices of the pixels in the flattened image."""
    camera: Float32[np.ndarray, "P 3"]
    """Their points in the camera frame, m."""

    @classmethod
    def of(cls, frame: Frame, liftable: Bool[np.ndarray, "H W"] | None) -> Lattice:
        """Sample a frame with depth, only at ``liftable`` pixels where these are given."""
        assert frame.depth is not None
        known = frame.depth[::_LATTICE_PX, ::_LATTICE_PX] > 0
        if liftable is not None:
            known &= liftable[::_LATTICE_PX, ::_LATTICE_PX]
        y, x = (_LATTICE_PX * index for index in known.nonzero())
        return cls(
            y * frame.depth.shape[1] + x,
            lift_at(x, y, frame.depth[y, x], np.eye(4), frame.intrinsics),
        )


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MapView:
    """Hold what the map predicts in one frame. Dicts are keyed by map object id."""

    T_map_camera: Float64[np.ndarray, "4 4"] | None
    """Camera pose used, None where there is none; then nothing is predicted."""
    pose_cov: Float64[np.ndarray, "6 6"] | None
    """Covariance of that pose, convention of ``Frame.pose_cov``."""
    projections: Mapping[int, Projection]
    """Map objects in the image."""
    sigma_px: Mapping[int, float]
    """Uncertainty of each projection's place, px, 1 sigma."""
    priors: Mapping[int, Prior]
    """Prior of each pixel, for the fusion with the image."""
    predicted_pixels: tuple[PredictedPixels, ...]
    """Pixels where each object is expected, for the association."""
    box_centers: Mapping[int, Float64[np.ndarray, "2"]] = field(default_factory=dict)
    """Where the centre of each object of ``projections`` appears, px, that is known by its box
    alone; NaN where it is behind the camera."""
    absent: frozenset[int] = frozenset()
    """Map objects whose places were last seen empty."""
    aligned: bool = False
    """The measured depth confirmed or corrected the pose."""
    measured: Bool[np.ndarray, "H W"] | None = None
    """Pixels with measured depth, None without a depth image or without a pose."""
    liftable: Bool[np.ndarray, "H W"] | None = None
    """Pixels whose depth can be lifted, None as ``measured``."""
    lattice: Lattice | None = None
    """Some liftable points, None as ``measured``."""
    self_check: SelfCheckResult = field(default_factory=SelfCheckResult)
    """Whether map, pose and depth belong together."""

    def is_seedable(self, p: Projection, config: TrackingConfig) -> bool:
        """Tell whether enough of the object's part inside the image is predicted visible.

        Never of an object that is absent.
        """
        if p.object_id in self.absent:
            return False
        inside = max(1.0 - p.truncated, 1e-6)
        return p.area_px >= config.seed_min_px and p.visible / inside >= config.seed_min_visible

    def is_expected(self, p: Projection, config: TrackingConfig) -> bool:
        """Tell whether the object must be found in this frame, unless it is gone.

        It must be where it is predicted visible, and where free space is measured in its place.
        """
        free_px = p.free * np.count_nonzero(p.silhouette_roi)
        return self.is_seedable(p, config) or bool(
            free_px >= config.seed_min_px and p.free >= _MIN_FREE_SHARE
        )


def predict_view(
    objects: Sequence[MapObject],
    completed: Sequence[MapObject],
    absent: frozenset[int],
    frame: Frame,
    config: Config,
) -> tuple[MapView, dict[str, float]]:
    """Predict the view: align the pose with the depth, render the map, find liftable pixels.

    Needs no segmentation, so that it can run next to the segmenter.

    Args:
        objects: as the map has them; the pose is aligned with these.
        completed: the same objects with the parts that the map does not have yet.
        absent: ids of objects whose places were last seen empty.
        frame: checked; its pose and depth are used, not its image.
        config: of the pipeline.

    Returns the view and the milliseconds that each part took.
    """
    timer = StageTimer()
    pose, cov = frame.T_map_camera, frame.pose_cov
    view = _no_objects(pose, cov)
    if pose is None:
        return replace(view, absent=absent), timer.stages_ms
    if objects:
        aligned = False
        if cov is None:
            cov = pose_covariance(config.pose.sigma_m, config.pose.sigma_deg)
        if config.pose.correction in ("auto", "depth") and frame.depth is not None:
            with timer("pose"):
                alignment = align(
                    objects, pose, cov, frame.depth, frame.intrinsics, config=config.mapping
                )
            pose, cov, aligned = alignment.T_map_camera, alignment.pose_cov, alignment.accepted
        with timer("render"):
            view = replace(
                render_view(completed, frame, pose, cov, config.mapping), aligned=aligned
            )
    if frame.depth is not None:
        with timer("lift"):
            liftable = liftable_pixels(frame.depth, frame.intrinsics, config.mapping)
            view = replace(
                view,
                measured=frame.depth > 0,
                liftable=liftable,
                lattice=Lattice.of(frame, liftable),
            )
    return replace(view, absent=absent), timer.stages_ms


def render_view(
    objects: Sequence[MapObject],
    frame: Frame,
    T_map_camera: Float64[np.ndarray, "4 4"],
    pose_cov: Float64[np.ndarray, "6 6"],
    config: MappingConfig,
) -> MapView:
    """Predict the objects as seen from a pose.

    Args:
        objects: of the map, map frame.
        frame: its depth and intrinsics are used, not its pose.
        T_map_camera: the camera pose.
        pose_cov: its covariance, convention of ``Frame.pose_cov``.
        config: of rendering.
    """
    # The depth test must not remove what the pose's uncertainty explains.
    slack = _POSE_SIGMAS * position_sigma(pose_cov)
    config = replace(config, depth_tolerance_m=config.depth_tolerance_m + slack)
    rendered = render(objects, T_map_camera, frame.intrinsics, depth=frame.depth, config=config)
    projections = {p.object_id: p for p in rendered}
    # Beyond the image's size more is the same: a pose that knows nothing must not cost time. NaN is
    # more, too: min() returns its first argument then.
    most = float(max(frame.shape))
    sigma = {
        o.id: min(most, object_pixel_sigma(o, T_map_camera, frame.intrinsics, pose_cov))
        for o in objects
        if o.id in projections
    }
    tolerance = {
        i: depth_tolerance(_farthest_m(p), config.depth_tolerance_m, config.depth_tolerance_per_m2)
        for i, p in projections.items()
    }
    boxes = [o for o in objects if o.is_box and o.id in projections]
    centers = np.array([o.T_map_object[:3, 3] for o in boxes]).reshape(-1, 3)
    pixels = project(transform(inverse(T_map_camera), centers), frame.intrinsics)
    box_centers = dict(zip((o.id for o in boxes), pixels, strict=True))
    return MapView(
        T_map_camera=T_map_camera,
        pose_cov=pose_cov,
        projections=projections,
        sigma_px=sigma,
        priors={
            i: projection_prior(p, sigma[i], frame.depth, tolerance[i])
            for i, p in projections.items()
            if i not in box_centers
        }
        | box_priors([projections[i] for i in box_centers], sigma, frame.depth, tolerance),
        box_centers=box_centers,
        predicted_pixels=tuple(
            predict_pixels(p, sigma[i], frame.depth, tolerance[i]) for i, p in projections.items()
        ),
    )


def _no_objects(
    T_map_camera: Float64[np.ndarray, "4 4"] | None, pose_cov: Float64[np.ndarray, "6 6"] | None
) -> MapView:
    """Return the view of an empty map."""
    return MapView(
        T_map_camera=T_map_camera,
        pose_cov=pose_cov,
        projections={},
        sigma_px={},
        priors={},
        predicted_pixels=(),
    )


def _farthest_m(p: Projection) -> float:
    """Return the farthest predicted depth of a projection, m."""
    return float(p.depth_roi.max(initial=0.0))
