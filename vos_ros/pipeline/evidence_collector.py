"""Collect the evidence of one frame for the association of tracks and map objects."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float64

from vos_ros.association.appearance import SAME_VIEW_SIMILARITY, AppearanceGallery, Descriptors
from vos_ros.association.interface import FrameEvidence, Match
from vos_ros.association.motion import MotionModel
from vos_ros.association.surfaces import Samples, Surfaces
from vos_ros.config import AssociationConfig, MappingConfig
from vos_ros.geometry.uncertainty import point_sigma
from vos_ros.pipeline.instance_masks import InstanceMasks
from vos_ros.pipeline.map_view import Lattice, MapView
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Frame, MapChange, MapObject, TrackState

_MIN_SAMPLES = 4
"""Minimum number of measured points that tell where a track is."""
_MIN_VISIBLE_TO_LEARN = 0.5
"""Minimum visible share of an object whose appearance is learned."""


class EvidenceCollector:
    """Remember, over a session, the appearance of map objects and the places of tracks."""

    def __init__(self, association: AssociationConfig, mapping: MappingConfig) -> None:
        self._association, self._mapping = association, mapping
        self._appearance = AppearanceGallery(association.appearance_views)
        self._surfaces, self._motion = Surfaces(), MotionModel()
        self._descriptors: Descriptors = {}

    def follow_map(self, change: MapChange) -> None:
        """Forget the appearance of all objects where ids mean other objects from now on."""
        if change.new_session:
            self._appearance.keep_only(())

    def collect(
        self,
        frame: Frame,
        view: MapView,
        masks: InstanceMasks,
        tracks: TrackManager,
        objects: Collection[MapObject],
        features: Float[torch.Tensor, "C h w"] | None,
    ) -> FrameEvidence:
        """Return the evidence of a frame: masks, surfaces, appearance, classes and motion.

        Args:
            frame: checked.
            view: what the map predicts.
            masks: of the tracks.
            tracks: with the map object that each is associated with so far.
            objects: of the map.
            features: of the frame's image, by which appearance is compared; None: it isn't.
        """
        by_id = {o.id: o for o in objects}
        self._appearance.keep_only(by_id)
        self._motion.keep_only(r.track_id for r in tracks)
        samples = sample_surfaces(frame, view, masks)
        sigma = _position_sigma_m(view, samples)
        self._descriptors = (
            self._appearance.describe(features, masks.instance_index, masks.track_ids)
            if self._association.appearance_views
            else {}
        )
        own = [tracks[t] for t in masks.track_ids]
        measured = view.measured
        if measured is None and frame.depth is not None:
            measured = frame.depth > 0
        return FrameEvidence(
            instance_index=masks.instance_index,
            track_ids=masks.track_ids,
            boxes=masks.boxes,
            predicted_pixels=view.predicted_pixels,
            measured=measured,
            current_match={r.track_id: r.map_object_id for r in own},
            overlaps_3d=self._surfaces.overlaps(
                samples, by_id.values(), sigma + self._mapping.depth_tolerance_m
            ),
            similarities=self._appearance.similarities(self._descriptors),
            # A track's class is that of its map object, or the one that came with its prompt.
            track_classes={
                r.track_id: by_id[r.map_object_id].class_id
                if r.map_object_id in by_id
                else r.class_id
                for r in own
            },
            objects=by_id,
            consistency=self._motion.consistency(samples, sigma),
            descriptors=self._descriptors,
            frame=replace(frame, T_map_camera=view.T_map_camera, pose_cov=view.pose_cov),
        )

    def learn(self, matches: Sequence[Match], tracks: TrackManager, view: MapView) -> None:
        """Learn the appearance of objects from certain matches in the frame just collected.

        Certain are those of confirmed tracks with the object that they are associated with, most of
        which is visible. Views that are like known ones teach nothing.
        """
        for m in matches:
            track, e = tracks[m.track_id], m.evidence
            if (
                e is None
                or e.score < self._association.appearance_min_score
                or e.map_object_id != track.map_object_id
                or track.state != TrackState.CONFIRMED
                or m.track_id not in self._descriptors
                or e.value("similarity") >= SAME_VIEW_SIMILARITY
            ):
                continue
            p = view.projections.get(e.map_object_id)
            if p is not None and p.visible >= _MIN_VISIBLE_TO_LEARN:
                self._appearance.learn(e.map_object_id, self._descriptors[m.track_id])


def sample_surfaces(frame: Frame, view: MapView, masks: InstanceMasks) -> Samples:
    """Return some measured points of each track, map frame, m; none without depth or pose."""
    if frame.depth is None or view.T_map_camera is None:
        return Samples.of(np.zeros((0, 3), np.float32), np.zeros(0, int), ())
    lattice = view.lattice if view.lattice is not None else Lattice.of(frame, view.liftable)
    row = masks.instance_index.ravel().take(lattice.pixel)
    own = row.nonzero()[0]
    points = lattice.camera[own] @ view.T_map_camera[:3, :3].T + view.T_map_camera[:3, 3]
    return Samples.of(points.astype(np.float32), row[own], masks.track_ids, _MIN_SAMPLES)


def _position_sigma_m(view: MapView, samples: Samples) -> Float64[np.ndarray, "T"]:
    """Return how far the pose's uncertainty may move the points of each track, m, 1 sigma."""
    if view.T_map_camera is None or view.pose_cov is None:
        return np.zeros(len(samples.track_ids))
    distance_m = np.linalg.norm(samples.mean - view.T_map_camera[:3, 3], axis=1)
    return point_sigma(view.pose_cov, distance_m)
