"""Poses of one frame in another over time, interpolated at a stamp."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3

_MAX_GAP_NS = 1_000_000_000
"""Longest gap between two poses that is interpolated over: in 1 s a camera may turn back."""


class PoseTrack:
    """Collects stamped poses and interpolates between them (position linearly, rotation by SLERP).

    Poses may be added out of order; of two with the same stamp the later one is kept. With a
    ``keep_ns`` the track forgets poses that are older than the newest one by more than twice that
    span, down to that span, so that a long recording doesn't fill the memory.
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
        """First and last stamp, ns; None while empty."""
        return (self._stamps[0], self._stamps[-1]) if self._stamps else None

    def add(
        self,
        stamp_ns: int,
        pose: Float64[np.ndarray, "4 4"],
        cov: Float64[np.ndarray, "6 6"] | None = None,
    ) -> None:
        """Add the pose at ``stamp_ns`` and its covariance (m, rad), None where it is not known."""
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
        self, stamp_ns: int, max_gap_ns: int = _MAX_GAP_NS
    ) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "6 6"] | None] | None:
        """Interpolate the pose at ``stamp_ns``; its covariance is that of the nearer neighbour.

        None outside the track, and where its neighbours are more than ``max_gap_ns`` apart: a pose
        is never extrapolated.
        """
        i = bisect_left(self._stamps, stamp_ns)
        if i < len(self._stamps) and self._stamps[i] == stamp_ns:
            return self._poses[stamp_ns], self._covs.get(stamp_ns)
        if i == 0 or i == len(self._stamps):
            return None
        before, after = self._stamps[i - 1], self._stamps[i]
        if after - before > max_gap_ns:
            return None
        near = before if stamp_ns - before <= after - stamp_ns else after
        share = (stamp_ns - before) / (after - before)
        return (
            se3.interpolate(self._poses[before], self._poses[after], share),
            self._covs.get(near),
        )
