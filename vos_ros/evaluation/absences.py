"""Count how often the status ABSENT is right: for map objects that are no longer in the world."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from vos_ros.evaluation.metrics import MIN_PIXELS
from vos_ros.types import AssociationStatus, FrameResult, Projection

_MIN_SHOWN_SHARE = 0.5
"""Smallest share of a silhouette inside the image and not hidden that can show an absence."""
_MIN_SHOWN_S = 1.0
"""Shortest time in such frames after which an absence is due, s."""


@dataclass(frozen=True, slots=True)
class Absences:
    """Counts of ABSENT statements, one per object and frame. Counts add up over sequences."""

    right: int = 0
    """Statements that were right."""
    said: int = 0
    """Statements."""
    told: int = 0
    """Due objects that were reported absent at least once while gone."""
    due: int = 0
    """Objects that were gone while their place was visible for at least a second."""

    @property
    def precision(self) -> float:
        """Return the share of the statements that were right; NaN without statements."""
        return self.right / self.said if self.said else float("nan")

    @property
    def recall(self) -> float:
        """Return the share of the due objects that were reported; NaN without due objects."""
        return self.told / self.due if self.due else float("nan")


def total(some: Iterable[Absences]) -> Absences:
    """Add up the counts of several sequences."""
    some = list(some)
    return Absences(*(sum(getattr(a, k) for a in some) for k in ("right", "said", "told", "due")))


class AbsenceCount:
    """Counts ABSENT statements over a sequence.

    The place of an object is visible where at least half of its silhouette is inside the image and
    not hidden, and that part is as large as an object must be to count (``MIN_PIXELS``).
    """

    def __init__(self) -> None:
        self._right = self._said = 0
        self._told: set[int] = set()
        self._shown_s: dict[int, float] = {}
        self._last_ns: int | None = None

    def add(self, result: FrameResult, gone: Collection[int]) -> None:
        """Count one frame. ``gone`` are the map objects that are not in the world (any more)."""
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
        """Return the counts so far."""
        due = {i for i, shown_s in self._shown_s.items() if shown_s >= _MIN_SHOWN_S - 1e-6}
        return Absences(self._right, self._said, len(due & self._told), len(due))


def _in_view(p: Projection) -> bool:
    """Return whether the place of the object (not the object itself) is visible."""
    hidden = p.occluded - p.free * (1.0 - p.truncated)
    shown_px = np.count_nonzero(p.silhouette_roi) * (1.0 - hidden / max(1.0 - p.truncated, 1e-6))
    return bool(p.truncated + hidden <= 1.0 - _MIN_SHOWN_SHARE and shown_px >= MIN_PIXELS)
