"""What speaks for whom, in one frame: masks, measured surfaces, looks, classes and motion gathered for the associator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from vos_ros.association.appearance import SAME_VIEW_SIMILARITY, AppearanceGallery, Descriptors
from vos_ros.association.interface import FrameEvidence, Match
from vos_ros.association.motion import MotionModel
from vos_ros.association.surfaces import Samples, Surfaces
from vos_ros.config import Config
from vos_ros.geometry.uncertainty import point_sigma
from vos_ros.pipeline.map_view import InstanceMasks, MapView, sampled
from vos_ros.segmentation.interface import VideoSegmenter
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Frame, MapObject, TrackState


class EvidenceCollector:
    """Remembers, of a session, what objects look like and where tracks were."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._looks = AppearanceGallery(config.association.appearance_views)
        self._surfaces, self._places = Surfaces(), MotionModel()
        self._descriptors: Descriptors = {}

    def forget_objects(self) -> None:
        """The map's ids mean other objects from now on."""
        self._looks.keep_only(())

    def view(
        self,
        frame: Frame,
        scene: MapView,
        found: InstanceMasks,
        tracks: TrackManager,
        objects: Iterable[MapObject],
        segmenter: VideoSegmenter,
    ) -> FrameEvidence:
        """The frame for an associator."""
        by_id = {o.id: o for o in objects}
        self._looks.keep_only(by_id)
        self._places.keep_only(r.track_id for r in tracks)
        samples = sampled(frame, scene, found)
        sigma = self._sigma_m(scene, samples)
        overlaps = self._surfaces.overlaps(
            samples, by_id.values(), sigma + self._config.mapping.depth_tolerance_m
        )
        self._descriptors = {}
        if self._config.association.appearance_views:
            self._descriptors = self._looks.describe(
                segmenter.features(frame), found.owner, found.track_ids
            )
        mine = [tracks[t] for t in found.track_ids]
        # the class of a track is that of its current match, or comes from a prompt
        own = {
            r.track_id: by_id[r.map_object_id].class_id if r.map_object_id in by_id else r.class_id
            for r in mine
        }
        measured = (
            frame.depth > 0
            if scene.measured is None and frame.depth is not None
            else scene.measured
        )
        return FrameEvidence(
            instance_index=found.owner,
            track_ids=found.track_ids,
            boxes=found.boxes,
            predicted_pixels=scene.predicted_pixels,
            measured=measured,
            current_match={r.track_id: r.map_object_id for r in mine},
            overlaps_3d=overlaps,
            similarities=self._looks.similarities(self._descriptors),
            track_classes=own,
            objects=by_id,
            consistency=self._places.consistency(samples, sigma),
            descriptors=self._descriptors,
            frame=replace(frame, T_map_camera=scene.T_map_camera, pose_cov=scene.pose_cov),
        )

    def learn(self, matches: Sequence[Match], tracks: TrackManager, scene: MapView) -> None:
        """What sure matches look like: those of confirmed tracks with the object that they are held to be, most of it in view."""
        for m in matches:
            r, e = tracks[m.track_id], m.evidence
            if (
                e is not None
                and e.score >= self._config.association.appearance_min_score
                and r.state == TrackState.CONFIRMED
                and e.map_object_id == r.map_object_id
                and m.track_id in self._descriptors
                and not e.value("similarity") >= SAME_VIEW_SIMILARITY
            ):
                p = scene.projections.get(e.map_object_id)
                if p is not None and p.visible >= 0.5:
                    self._looks.learn(e.map_object_id, self._descriptors[m.track_id])

    def _sigma_m(self, scene: MapView, samples: Samples) -> Float64[np.ndarray, "T"]:
        """How far the pose's uncertainty may move each track's points, 1 sigma."""
        if scene.T_map_camera is None or scene.pose_cov is None:
            return np.zeros(len(samples.track_ids))
        distance_m = np.linalg.norm(samples.mean - scene.T_map_camera[:3, 3], axis=1)
        return point_sigma(scene.pose_cov, distance_m)
