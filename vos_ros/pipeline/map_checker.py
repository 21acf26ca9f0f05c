"""Check the map against depth and masks: absent objects, objects counted twice or as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vos_ros.association.absence import AbsenceDetector
from vos_ros.association.interface import Match, PairEvidence
from vos_ros.association.merge_split import MergeSplitDetector
from vos_ros.association.status import MapConflicts
from vos_ros.config import AssociationConfig
from vos_ros.pipeline.map_view import MapView
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import MapChange


class MapChecker:
    """Collect, over a session, what contradicts the map."""

    def __init__(self, config: AssociationConfig, moved_m: float) -> None:
        """``moved_m``: distance, m, from which an object of the map counts as moved."""
        self._match_score, self._moved_m = config.match_score, moved_m
        self._absence, self._merge_split = AbsenceDetector(config), MergeSplitDetector(config)

    def absent(self, stamp_ns: int) -> frozenset[int]:
        """Return the objects whose places were empty in the last frame, and long enough before."""
        return self._absence.absent(stamp_ns)

    def follow_map(self, change: MapChange) -> None:
        """Forget what was collected about objects that were deleted or moved.

        In a new session of the mapper, equal ids are other objects: all is forgotten.
        """
        moved = [
            old.id
            for old, new in change.changed
            if change.new_session
            or np.linalg.norm((new.T_map_object - old.T_map_object)[:3, 3]) > self._moved_m
        ]
        self._absence.forget([*moved, *(o.id for o in change.deleted)])

    def check(
        self,
        stamp_ns: int,
        view: MapView,
        matches: Sequence[Match],
        pairs: PairEvidence,
        tracks: TrackManager,
    ) -> MapConflicts:
        """Return what contradicts the map in this frame and enough frames before it.

        Args:
            stamp_ns: of the frame.
            view: what the map predicts.
            matches: the associations of the frame.
            pairs: all evidence for them.
            tracks: after they were advanced by the frame.
        """
        if (
            not view.self_check.believes_absence
        ):  # what seems to contradict the map may be a mistake
            return MapConflicts()
        matched = {
            m.evidence.map_object_id
            for m in matches
            if m.evidence is not None
            and not tracks[m.track_id].misses
            and m.evidence.score >= self._match_score
        }
        self._absence.observe(
            view.projections.values(), view.predicted_pixels, view.sigma_px, stamp_ns, matched
        )
        bound = {r.track_id: r.map_object_id for r in tracks}
        merged, split = self._merge_split.observe(pairs, bound, stamp_ns)
        return MapConflicts(self._absence.absent(stamp_ns), merged, split)
