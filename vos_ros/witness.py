"""What speaks for whom, in one frame: masks, measured surfaces, looks, classes and motion gathered for the associator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from vos_ros.association.appearance import AppearanceBook, Descriptors
from vos_ros.association.interface import Match, View
from vos_ros.association.surfaces import Places, Points, Surfaces
from vos_ros.config import Config
from vos_ros.scene import Found, Scene, sampled
from vos_ros.segmentation.interface import Describing, VideoSegmenter
from vos_ros.tracking.book import TrackBook, TrackRecord
from vos_ros.types import Frame, MapObject, TrackState


class Witness:
    """Remembers, of a session, what objects look like and where tracks were."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._looks = AppearanceBook(config.association.views)
        self._surfaces, self._places = Surfaces(), Places()
        self._descriptors: Descriptors = {}

    def forget_objects(self) -> None:
        """The map's ids mean other objects from now on."""
        self._looks.keep_only(())

    def view(self, frame: Frame, scene: Scene, found: Found, tracks: TrackBook, objects: Iterable[MapObject], segmenter: VideoSegmenter
             ) -> View:
        """The frame for an associator."""
        by_id = {o.id: o for o in objects}
        self._looks.keep_only(by_id)
        self._places.keep_only(r.track_id for r in tracks)
        points = sampled(frame, scene, found)
        sigma = self._sigma_m(scene, points)
        tolerance = {t: s + self._config.mapping.depth_tolerance_m for t, s in sigma.items()}
        overlaps = self._surfaces.overlaps(points, by_id.values(), tolerance)
        self._descriptors = {}
        if self._config.association.views and isinstance(segmenter, Describing):
            self._descriptors = self._looks.describe(segmenter.features(frame), found.owner, found.track_ids)
        mine = [tracks[t] for t in found.track_ids]
        return View(found.owner, found.track_ids, scene.expectations, None if frame.depth is None else frame.depth > 0,
                    {r.track_id: r.map_object_id for r in mine}, overlaps, self._looks.similarities(self._descriptors),
                    self._conflicts(mine, by_id), self._places.steadiness(points, sigma))

    def learn(self, matches: Sequence[Match], tracks: TrackBook, scene: Scene) -> None:
        """What sure matches look like: those of confirmed tracks with the object that they are held to be, most of it in view."""
        for m in matches:
            r, e = tracks[m.track_id], m.evidence
            if (e is not None and e.score >= self._config.association.view_score and r.state == TrackState.CONFIRMED
                    and e.map_object_id == r.map_object_id and m.track_id in self._descriptors):
                p = scene.projections.get(e.map_object_id)
                if p is not None and p.visible >= 0.5:
                    self._looks.learn(e.map_object_id, self._descriptors[m.track_id])

    def _sigma_m(self, scene: Scene, points: Points) -> dict[int, float]:
        """How far the pose's uncertainty may move each track's points, 1 sigma."""
        if scene.T_map_camera is None or scene.pose_cov is None:
            return dict.fromkeys(points, 0.0)
        moved, turned = (math.sqrt(float(np.trace(scene.pose_cov[k : k + 3, k : k + 3])) / 3) for k in (0, 3))
        here = scene.T_map_camera[:3, 3]
        return {t: math.hypot(moved, turned * float(np.linalg.norm(own.mean(0) - here))) for t, own in points.items()}

    def _conflicts(self, records: Iterable[TrackRecord], by_id: dict[int, MapObject]) -> frozenset[tuple[int, int]]:
        """Pairs whose classes are known and differ. A track's class is that of the object it is held to be, or what a prompt said."""
        classes = {o.id: o.class_id for o in by_id.values() if o.class_id}
        own = {r.track_id: by_id[r.map_object_id].class_id if r.map_object_id in by_id else r.class_id for r in records}
        return frozenset((t, i) for t, c in own.items() if c for i, other in classes.items() if other != c)
