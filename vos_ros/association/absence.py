"""Detection of objects that are gone: free space is measured where the map has their surface."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from vos_ros.association.predicted_pixels import PredictedPixels
from vos_ros.config import AssociationConfig
from vos_ros.types import Projection

_MAX_SIGMA = 0.25  # of the root of the object's area: a less certain pose may show another place


@dataclass(slots=True)
class _FreeSpace:
    """Count the frames that measured free space in place of an object, and none against it."""

    since_ns: int
    frames: int = 0


class AbsenceDetector:
    """Detect absent objects.

    A frame is evidence for an object's absence if depth was measured behind its surface on
    ``absent_px`` pixels, and on ``absent_free`` of those that nothing nearer hides. It is evidence
    against it if the object's surface was measured on ``absent_px`` pixels and on more than are
    free. Hidden objects and objects out of view give no evidence. An object is absent after
    ``absent_frames`` frames and ``absent_s`` of evidence for it and none against it. It stays
    absent in later frames as long as more of its place is free than shows its surface.
    """

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config
        self._free_space: dict[int, _FreeSpace] = {}
        self._free_now: set[int] = set()

    def observe(
        self,
        projections: Iterable[Projection],
        predicted_pixels: Iterable[PredictedPixels],
        sigma_px: Mapping[int, float],
        stamp_ns: int,
        matched: Collection[int] = (),
    ) -> None:
        """Add one frame.

        Args:
            projections: the map's objects in view.
            predicted_pixels: of the same objects, compared with the measured depth.
            sigma_px: object id -> how far the pose's uncertainty may move its projection, 1 sigma.
            stamp_ns: stamp of the frame.
            matched: ids of the objects that were found in their places.
        """
        config = self._config
        self._free_now = set()
        predicted = {p.object_id: p for p in predicted_pixels}
        for p in projections:
            if not p.free and p.object_id not in self._free_space:
                continue  # no evidence so far, and none in this frame
            area = int(np.count_nonzero(p.silhouette_roi))
            free_px, surface_px = p.free * area, predicted[p.object_id].agrees_px
            max_sigma_px = _MAX_SIGMA * np.sqrt(area)
            if p.object_id in matched or (surface_px >= config.absent_px and free_px < surface_px):
                self._free_space.pop(p.object_id, None)
            elif free_px >= config.absent_px and sigma_px.get(p.object_id, np.inf) <= max_sigma_px:
                if free_px >= config.absent_free * (free_px + surface_px):
                    evidence = self._free_space.setdefault(p.object_id, _FreeSpace(stamp_ns))
                    evidence.frames += 1
                    self._free_now.add(p.object_id)
                elif p.object_id in self._free_space:
                    # too little free space to begin with, but more than surface
                    self._free_now.add(p.object_id)

    def absent(self, stamp_ns: int) -> frozenset[int]:
        """Return the objects whose places were free in the last frame and long enough before it."""
        return frozenset(
            i
            for i in self._free_now
            if self._free_space[i].frames >= self._config.absent_frames
            and stamp_ns - self._free_space[i].since_ns >= self._config.absent_s * 1e9
        )

    def forget(self, object_ids: Iterable[int]) -> None:
        """Drop the evidence for objects that were deleted or have moved in the map."""
        for i in object_ids:
            self._free_space.pop(i, None)
            self._free_now.discard(i)
