"""Refine the camera pose by the image: the followed objects are landmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, Float64

from vos_ros.config import MappingConfig, PoseConfig
from vos_ros.mapping.register import register
from vos_ros.pipeline.map_view import MapView, render_view
from vos_ros.segmentation.fusion import projection_is_reliable
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Frame, MapObject, Segmentation

_CELL_PX = 8
"""Side of the cells in which projections and segmentation are compared."""
_REGISTRATION_ERROR = 0.125
"""Error of one registration, as a share of the error of one outline: many outlines take part."""
_MAX_PROBABILITY = 0.75
"""Maximum probability that counts in the odds of a cell: neighbouring cells err together."""


class PoseRefiner:
    """Correct the pose by the segmenter where the depth did not confirm it."""

    def __init__(self, pose: PoseConfig, mapping: MappingConfig, *, uses_image: bool) -> None:
        """``uses_image``: the segmenter's; one that doesn't use the image corrects nothing."""
        self._pose, self._mapping, self._uses_image = pose, mapping, uses_image
        self._n_poses = 0  # independent poses on which the segmenter's places rest

    def refine(
        self,
        frame: Frame,
        view: MapView,
        segmentation: Segmentation,
        tracks: TrackManager,
        objects: Sequence[MapObject],
        completed: Sequence[MapObject],
    ) -> MapView:
        """Return the view from the refined pose; the same view where nothing is refined.

        Args:
            frame: checked.
            view: as predicted from pose and depth.
            segmentation: the followed objects in the image.
            tracks: tell which map object each of them is.
            objects: as the map has them; these are registered.
            completed: with the parts that the map does not have yet; these are rendered.
        """
        correction = self._pose.correction
        if correction != "image" and (correction != "auto" or view.aligned):
            return view
        refined = self._registered_pose(frame, view, segmentation, tracks, objects)
        if refined is None:
            return view
        return replace(
            render_view(completed, frame, *refined, self._mapping),
            absent=view.absent,
            measured=view.measured,
            liftable=view.liftable,
            lattice=view.lattice,
        )

    def _registered_pose(
        self,
        frame: Frame,
        view: MapView,
        segmentation: Segmentation,
        tracks: TrackManager,
        objects: Sequence[MapObject],
    ) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "6 6"]] | None:
        """Return pose and covariance by the followed objects.

        None where the pose is certain enough already, or where too few objects are reliable.
        """
        if not self._uses_image or view.T_map_camera is None or view.pose_cov is None:
            return None
        max_sigma_px = max(view.sigma_px.values(), default=0.0)
        if max_sigma_px <= self._pose.image_correction_min_sigma_px:
            return None
        followed = {
            tracks[t].map_object_id: row for row, t in enumerate(segmentation.object_ids, start=1)
        }
        # The outline of a box is not that of its object.
        visible = view.projections.keys() - view.box_centers.keys()
        followed = {i: row for i, row in followed.items() if i in visible}
        reliable = {
            i: row
            for i, row in followed.items()
            if projection_is_reliable(view.projections[i], view.sigma_px[i])
        }
        # Where most objects were seeded next to where they are, the few large ones alone drag the
        # view along with their own errors.
        if not reliable or 2 * len(reliable) < len(followed):
            return None
        # A chain of registrations, each off by e px, drifts: averaging over more than sigma / e
        # poses makes places worse (the steady state of a Kalman filter that measures a random walk
        # of step e with noise sigma).
        error_px = _REGISTRATION_ERROR * max(segmentation.boundary_px, 1.0)
        useful = float(np.median(list(view.sigma_px.values()))) / error_px
        self._n_poses = min(self._n_poses + 1, max(1, round(useful)))
        odds = _cell_log_odds(segmentation, list(reliable.values()))
        return register(
            list(objects),
            view.projections,
            dict(zip(reliable, odds, strict=True)),
            _CELL_PX,
            view.T_map_camera,
            view.pose_cov,
            frame.intrinsics,
            self._n_poses,
        )


def _cell_log_odds(segmentation: Segmentation, rows: list[int]) -> Float32[np.ndarray, "n h w"]:
    """Return the log odds of some rows against all others, in cells of ``_CELL_PX`` px."""
    probs = torch.nn.functional.avg_pool2d(
        segmentation.probs[rows][None], _CELL_PX, ceil_mode=True, count_include_pad=False
    )[0]
    clamped = probs.clamp(1 - _MAX_PROBABILITY, _MAX_PROBABILITY).float()
    return np.asarray(torch.logit(clamped).cpu().numpy())
