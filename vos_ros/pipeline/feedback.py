"""Decide what the segmenter learns from a frame: fused masks, completed shapes and new objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vos_ros.config import MappingConfig
from vos_ros.discovery.proposals import ProposerInput, SeedProposer
from vos_ros.discovery.shape_completion import CompletedRegion, ShapeCompletion
from vos_ros.pipeline.instance_masks import InstanceMasks
from vos_ros.pipeline.map_view import MapView
from vos_ros.pipeline.plan import SegmenterPlan, TrackStart
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Frame, MapChange, MapObject, Mask, Seed, TrackSource

_MIN_CLEAR_PROBABILITY = 0.75
"""Minimum probability of a pixel's row from which the pixel is learned."""


class SegmenterTeacher:
    """Teach the segmenter the fused masks, so that it doesn't learn from its own guesses."""

    def __init__(self, interval: int, *, uses_image: bool) -> None:
        """``interval``: frames between two corrections. ``uses_image``: the segmenter's; one that
        doesn't learns nothing."""
        self._interval, self._uses_image = interval, uses_image
        self._since_taught = 0

    def plan(self, view: MapView, masks: InstanceMasks, tracks: TrackManager) -> SegmenterPlan:
        """Plan corrections of all tracks with a map object, where there is a pose.

        Pixels whose row is not clear have weight 0. An empty mask tells that the object is not in
        the image.
        """
        self._since_taught += 1
        if view.T_map_camera is None or not masks.track_ids or not self._uses_image:
            return SegmenterPlan()
        if self._since_taught < self._interval:
            return SegmenterPlan()
        self._since_taught = 0
        weight = (masks.prob > _MIN_CLEAR_PROBABILITY).astype(np.float32)
        return SegmenterPlan(
            corrections=tuple(
                Seed(t, Mask(masks.mask(t)), weight)
                for t in masks.track_ids
                if tracks[t].map_object_id
            )
        )


class ObjectDiscovery:
    """Find objects that the map doesn't have, and parts of objects that it doesn't have yet."""

    def __init__(
        self,
        proposer: SeedProposer,
        mapping: MappingConfig,
        max_objects: int,
        *,
        uses_image: bool,
    ) -> None:
        """Start a session.

        Args:
            proposer: finds new objects.
            mapping: of lifting completed parts.
            max_objects: maximum number of tracks that are segmented at once.
            uses_image: the segmenter's; one that doesn't could follow none of what is found.
        """
        self._proposer, self._completion = proposer, ShapeCompletion()
        self._mapping, self._max_objects = mapping, max_objects
        self._uses_image = uses_image

    def completed_objects(self, objects: Iterable[MapObject]) -> tuple[MapObject, ...]:
        """Return the map's objects with the parts that the map doesn't have yet."""
        return tuple(self._completion.completed_objects(objects))

    def follow_map(self, change: MapChange) -> None:
        """Forget parts that the map has now, and those of objects that were deleted or moved."""
        # In a new session, an object was not there before under any id.
        known = () if change.new_session else change.changed
        before = {o.id: o for o in (*(old for old, _ in known), *change.deleted)}
        after = {o.id: o for o in (*(new for _, new in change.changed), *change.added)}
        self._completion.prune_known(before, after)

    def plan(
        self, frame: Frame, view: MapView, masks: InstanceMasks, tracks: TrackManager
    ) -> SegmenterPlan:
        """Plan the tracks of new objects and the masks of completed ones.

        They are in the results from the next frame on. A proposed track that is lost before the map
        has its object is no longer segmented, so that it doesn't take what looks alike. It goes on
        where something stands at its place again.

        Args:
            frame: checked.
            view: what the map predicts.
            masks: of the segmented tracks.
            tracks: of the session; ids of new ones are reserved there.
        """
        if not self._uses_image:
            return SegmenterPlan()
        lost = tracks.lost_proposals()
        room = self._max_objects - len(set(masks.track_ids) - set(lost))
        proposals = self._proposer(
            ProposerInput(
                frame=frame,
                T_map_camera=view.T_map_camera,
                instance_index=masks.instance_index,
                track_ids=masks.track_ids,
                object_of={r.track_id: r.map_object_id for r in tracks},
                projections=view.projections.values(),
                sigma_px=view.sigma_px,
            ),
            tracks.reserve,
            room,
        )
        paused = {*lost, *proposals.drifted_tracks}
        completed = self._complete(frame, view, masks, tracks, proposals.parts)
        followed = set(masks.track_ids) - paused
        return SegmenterPlan(
            lost=proposals.drifted_tracks,
            pause=tuple(t for t in masks.track_ids if t in paused),
            corrections=tuple(s for s in (*completed, *proposals.seeds) if s.object_id in followed),
            starts=tuple(
                TrackStart(s, map_object_id=0, class_id=0, source=TrackSource.PROPOSAL)
                for s in proposals.seeds
                if s.object_id not in followed
            ),
        )

    def _complete(
        self,
        frame: Frame,
        view: MapView,
        masks: InstanceMasks,
        tracks: TrackManager,
        parts: Sequence[CompletedRegion],
    ) -> list[Seed]:
        """Add parts to their objects, and return the masks of the objects' tracks with them."""
        if frame.depth is None or view.T_map_camera is None:
            return []
        self._completion.check(frame, view.T_map_camera, self._mapping)
        self._completion.add(parts, frame, view.T_map_camera, self._mapping, liftable=view.liftable)
        track_of = tracks.track_by_object()
        followed = [(track_of.get(p.object_id, 0), p) for p in parts]
        return [
            Seed(t, Mask(p.mask | masks.mask(t)), p.weight)
            for t, p in followed
            if t in masks.track_ids
        ]
