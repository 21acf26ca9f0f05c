"""Evidence that an object isn't where the map has it: free space, measured where its surface should be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from vos_ros.association.predicted_pixels import PredictedPixels
from vos_ros.config import AssociationConfig
from vos_ros.types import Projection

_CERTAIN = 0.25  # of the root of the object's area, px: a pose less sure than this can't tell the object's place from one beside it


@dataclass(slots=True)
class _Case:
    """Free space was measured where the object should be, in ``frames`` frames since ``since_ns``, and nothing spoke against it."""

    since_ns: int
    frames: int = 0


class AbsenceDetector:
    """Who is missing. A frame speaks for an object's absence where the depth camera sees through its place: measured depth lies behind
    the predicted surface on ``absent_px`` pixels and more, and on ``absent_free`` of those that nothing nearer hides. It speaks against
    it where the object's surface is measured on as much. What is hidden or out of view says nothing. An object is absent once frames have
    spoken for it, and none against it, for ``absent_s`` and at least ``absent_frames`` times; then it stays so while more of its place
    is seen through than shows its surface."""

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config
        self._cases: dict[int, _Case] = {}
        self._now: set[int] = set()

    def observe(
        self,
        projections: Iterable[Projection],
        predicted_pixels: Iterable[PredictedPixels],
        sigma_px: Mapping[int, float],
        stamp_ns: int,
        matched: Collection[int] = (),
    ) -> None:
        """One frame, as the map has it. ``sigma_px`` is how far the pose's uncertainty may move a projection, 1 sigma; ``matched`` are the
        objects that were found where the map has them."""
        self._now = set()
        expected = {e.object_id: e for e in predicted_pixels}
        for p in projections:
            if not p.free and p.object_id not in self._cases:
                continue  # nothing to begin with, nothing to speak against
            size = int(np.count_nonzero(p.silhouette_roi))
            free, seen = p.free * size, expected[p.object_id].agrees_px
            if p.object_id in matched or (seen >= self._config.absent_px and free < seen):
                self._cases.pop(p.object_id, None)
            elif free >= self._config.absent_px and sigma_px.get(
                p.object_id, np.inf
            ) <= _CERTAIN * np.sqrt(size):
                if free >= self._config.absent_free * (free + seen):
                    case = self._cases.setdefault(p.object_id, _Case(stamp_ns))
                    case.frames += 1
                    self._now.add(p.object_id)
                elif (
                    p.object_id in self._cases
                ):  # less of its place is seen through than it takes to begin with, and more than not
                    self._now.add(p.object_id)

    def absent(self, stamp_ns: int) -> frozenset[int]:
        """The objects whose places were seen empty in the frame just observed, and long enough before."""
        return frozenset(
            i
            for i in self._now
            if (case := self._cases[i]).frames >= self._config.absent_frames
            and stamp_ns - case.since_ns >= self._config.absent_s * 1e9
        )

    def forget(self, object_ids: Iterable[int]) -> None:
        """Drops what was collected of objects that are no more, or have moved in the map."""
        for i in object_ids:
            self._cases.pop(i, None)
            self._now.discard(i)
