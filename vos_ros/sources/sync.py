"""Time: which messages belong together, and where the camera was at an image's stamp.

The offline counterpart of message_filters and tf2: nothing waits, and everything that is left out is counted with its reason.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation, Slerp

NS_PER_S = 1_000_000_000


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

    def add(self, stamp_ns: int, pose: Float64[np.ndarray, "4 4"], cov: Float64[np.ndarray, "6 6"] | None = None) -> None:
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

    def at(self, stamp_ns: int, max_gap_ns: int = NS_PER_S
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
        return interpolate(self._poses[before], self._poses[after], (stamp_ns - before) / (after - before)), self._covs.get(near)


def interpolate(a: Float64[np.ndarray, "4 4"], b: Float64[np.ndarray, "4 4"], u: float) -> Float64[np.ndarray, "4 4"]:
    """The pose at ``u`` in 0..1 between a and b: position linear, rotation SLERP."""
    out = np.eye(4)
    out[:3, 3] = (1 - u) * a[:3, 3] + u * b[:3, 3]
    out[:3, :3] = Slerp([0.0, 1.0], Rotation.from_matrix(np.stack([a[:3, :3], b[:3, :3]])))([u]).as_matrix()[0]
    return out
