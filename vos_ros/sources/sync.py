"""Time: which messages belong together, and where the camera was at an image's stamp.

The offline counterpart of message_filters and tf2: nothing waits, and everything that is left out is counted with its reason.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3

NS_PER_S = 1_000_000_000
Item = TypeVar("Item")


class PoseTrack:
    """Poses of one frame in another over time; ``at`` interpolates (position linear, rotation SLERP).

    Poses may be added out of order; a stamp added twice keeps the latest. With a ``keep_ns`` only the poses of that last span are
    kept, so that a long recording doesn't fill the memory.
    """

    def __init__(self, keep_ns: int | None = None) -> None:
        self._keep_ns = keep_ns
        self._stamps: list[int] = []
        self._poses: dict[int, Float64[np.ndarray, "4 4"]] = {}
        self._covs: dict[int, Float64[np.ndarray, "6 6"]] = {}

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """First and last stamp, None while empty."""
        return (self._stamps[0], self._stamps[-1]) if self._stamps else None

    def add(
        self,
        stamp_ns: int,
        pose: Float64[np.ndarray, "4 4"],
        cov: Float64[np.ndarray, "6 6"] | None = None,
    ) -> None:
        """``pose`` holds at ``stamp_ns``; ``cov`` is its 6x6 covariance (m, rad), None where the source states none."""
        if stamp_ns not in self._poses:
            insort(self._stamps, stamp_ns)
        self._poses[stamp_ns] = pose
        self._covs.pop(stamp_ns, None)
        if cov is not None:
            self._covs[stamp_ns] = cov
        if self._keep_ns is not None and self._stamps[-1] - self._stamps[0] > 2 * self._keep_ns:
            cut = bisect_left(self._stamps, self._stamps[-1] - self._keep_ns)
            for old in self._stamps[:cut]:
                del self._poses[old]
                self._covs.pop(old, None)
            del self._stamps[:cut]

    def at(
        self, stamp_ns: int, max_gap_ns: int = NS_PER_S
    ) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "6 6"] | None] | None:
        """Pose and covariance (of the nearer neighbour) at ``stamp_ns``; None outside the track, and inside a gap of more than
        ``max_gap_ns`` between its neighbours. Never extrapolates."""
        i = bisect_left(self._stamps, stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == stamp_ns:
            return self._poses[stamp_ns], self._covs.get(stamp_ns)
        if i == 0 or i == len(self._stamps):
            return None
        before, after = self._stamps[i - 1], self._stamps[i]
        if after - before > max_gap_ns:
            return None
        near = before if stamp_ns - before <= after - stamp_ns else after
        return se3.interpolate(
            self._poses[before], self._poses[after], (stamp_ns - before) / (after - before)
        ), self._covs.get(near)


class Matcher(Generic[Item]):
    """Finds the partner (depth) of each stamp of a leading stream (colour): the same stamp first, else the nearest within the slop.

    A partner serves once. ``unmatched`` counts the partners that were passed over.
    """

    def __init__(self, slop_ns: int) -> None:
        self.slop_ns = slop_ns
        self.unmatched = 0
        self._stamps: list[int] = []
        self._items: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, item: Item) -> None:
        """A candidate; one of the same stamp is replaced."""
        if stamp_ns not in self._items:
            insort(self._stamps, stamp_ns)
        self._items[stamp_ns] = item

    def settled(self, stamp_ns: int) -> bool:
        """Whether waiting cannot give ``stamp_ns`` a better partner: its twin is here, or the candidates are past it."""
        return stamp_ns in self._items or (
            bool(self._stamps) and self._stamps[-1] >= stamp_ns + self.slop_ns
        )

    def take(self, stamp_ns: int, reserved: Collection[int] = ()) -> Item | None:
        """The partner of ``stamp_ns``, or None. ``reserved``: stamps of the leading stream still to come, whose twins are left to
        them. Candidates too old for this and later stamps are let go."""
        low, high = (
            bisect_left(self._stamps, stamp_ns - self.slop_ns),
            bisect_left(self._stamps, stamp_ns + self.slop_ns + 1),
        )
        near = [s for s in self._stamps[low:high] if s == stamp_ns or s not in reserved]
        found = min(near, key=lambda s: abs(s - stamp_ns)) if near else None
        for old in self._stamps[:low]:
            del self._items[old]
        self.unmatched += low
        del self._stamps[:low]
        if found is None:
            return None
        self._stamps.remove(found)
        return self._items.pop(found)


class MissingDataCounts:
    """Counts what a source left out or could not fill in, by reason, with an example of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """``reason`` is a fixed text; ``example`` says where it happened."""
        if count:
            self.counts[reason] += count
            self._examples.setdefault(reason, example)

    def lines(self) -> list[str]:
        """One line per reason, the most frequent first."""
        return [
            f"{n} x {reason}"
            + (f" (first: {self._examples[reason]})" if self._examples[reason] else "")
            for reason, n in self.counts.most_common()
        ]
