"""How right the statements ABSENT are: of objects that the map has and the world hasn't."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from vos_ros.evaluation.metrics import MIN_PIXELS
from vos_ros.types import AssociationStatus, FrameResult, Projection

_SHOWN = 0.5  # of an object's silhouette must be inside the image and unhidden for its absence to be seen ...
_SHOWN_S = 1.0  # ... in frames that make up so long


@dataclass(frozen=True, slots=True)
class Absences:
    """``right`` of ``said`` statements (one per object and frame) were right. Of ``due`` objects whose gap was in view for a second,
    ``told`` were told of. Counts add up over sequences."""

    right: int = 0
    said: int = 0
    told: int = 0
    due: int = 0

    @property
    def precision(self) -> float:
        """Of the statements; NaN where nothing was said."""
        return self.right / self.said if self.said else float("nan")

    @property
    def recall(self) -> float:
        """Of the objects; NaN where there was nothing to say."""
        return self.told / self.due if self.due else float("nan")


def total(some: Iterable[Absences]) -> Absences:
    """Of several sequences."""
    some = list(some)
    return Absences(*(sum(getattr(a, k) for a in some) for k in ("right", "said", "told", "due")))


class AbsenceCount:
    """Counts over a sequence. An object's gap is in view where at least half of its silhouette is inside the image and behind nothing, and
    that is as large as an object must be to count."""

    def __init__(self) -> None:
        self._right = self._said = 0
        self._told: set[int] = set()
        self._shown_s: dict[int, float] = {}
        self._last_ns: int | None = None

    def add(self, result: FrameResult, gone: Collection[int]) -> None:
        """One frame; ``gone`` are the map's objects that the world hasn't, or hasn't any more."""
        for a in result.associations:
            if a.status == AssociationStatus.ABSENT:
                self._said += 1
                self._right += a.map_object_id in gone
                self._told |= {a.map_object_id} & set(gone)
        since_s = (result.stamp_ns - self._last_ns) / 1e9 if self._last_ns is not None else 0.0
        self._last_ns = result.stamp_ns
        for p in result.projections:
            if p.object_id in gone and _in_view(p):
                self._shown_s[p.object_id] = self._shown_s.get(p.object_id, 0.0) + since_s

    def figures(self) -> Absences:
        """The counts so far."""
        due = {i for i, shown_s in self._shown_s.items() if shown_s >= _SHOWN_S - 1e-6}
        return Absences(self._right, self._said, len(due & self._told), len(due))


def _in_view(p: Projection) -> bool:
    """Whether the place of the object, not the object, is to be seen."""
    hidden = p.occluded - p.free * (1.0 - p.truncated)
    shown_px = np.count_nonzero(p.silhouette_roi) * (1.0 - hidden / max(1.0 - p.truncated, 1e-6))
    return bool(p.truncated + hidden <= 1.0 - _SHOWN and shown_px >= MIN_PIXELS)
