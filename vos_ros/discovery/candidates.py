"""Places at which something was detected, until they were detected often and long enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.clusters import Cluster
from vos_ros.discovery.places import Voxels, voxels_of
from vos_ros.geometry.voxels import share_among, with_neighbours

_MIN_SHARED = 0.5
"""Least share of the voxels of either of two views in or next to the other's: they show one object.
"""


@dataclass(eq=False, slots=True)
class Candidate:
    """A place at which something was detected."""

    voxels: Voxels
    """Those of the first detection; of a part, those of the most recent one, as it grows."""
    wide: Voxels
    """The voxels and their neighbours."""
    first_ns: int
    """Time of the first detection."""
    last_ns: int
    """Time of the most recent detection."""
    detections: int = 1
    """Number of detections."""
    parts: Counter[int] = field(default_factory=Counter)
    """By id of a map object, in how many detections it was a part of that."""

    @property
    def part_of(self) -> int:
        """Return the map object of which it was a part in most detections; 0 for none."""
        return max((i for i, n in self.parts.items() if 2 * n > self.detections), default=0)

    def is_confirmed(self, config: ProposalsConfig) -> bool:
        """Whether it was detected often and long enough to be an object."""
        return (
            self.detections >= config.confirm_detections
            and self.last_ns - self.first_ns >= config.confirm_s * 1e9
        )


class Candidates:
    """Match detections with the candidates that they show."""

    def __init__(self, config: ProposalsConfig) -> None:
        self._config = config
        self._candidates: list[Candidate] = []

    def match(
        self, clusters: Sequence[Cluster], stamp_ns: int, T_map_camera: Float64[np.ndarray, "4 4"]
    ) -> list[tuple[Cluster, Candidate]]:
        """Count a frame's detections, and return those of places that were detected before."""
        self._candidates = [
            c for c in self._candidates if stamp_ns - c.last_ns <= self._config.forget_s * 1e9
        ]
        again = []
        for cluster in clusters:
            voxels = voxels_of(cluster.points, T_map_camera)
            wide = with_neighbours(voxels)
            candidate = self._find(cluster, voxels, wide, stamp_ns)
            if candidate is None:
                candidate = Candidate(voxels, wide, stamp_ns, stamp_ns, 0)
                self._candidates.append(candidate)
            candidate.last_ns, candidate.detections = stamp_ns, candidate.detections + 1
            if cluster.part_of:
                candidate.parts[cluster.part_of] += 1
                candidate.voxels, candidate.wide = voxels, wide
            if candidate.detections > 1:
                again.append((cluster, candidate))
        return again

    def remove(self, candidate: Candidate) -> None:
        """Drop a candidate: to be proposed again, it must be detected as often again."""
        self._candidates.remove(candidate)

    def _find(
        self, cluster: Cluster, voxels: Voxels, wide: Voxels, stamp_ns: int
    ) -> Candidate | None:
        """Find the candidate that a cluster shows and that was not detected in this frame yet."""
        for c in self._candidates:
            # A part is larger the more of it comes into view: its old voxels are some of it.
            if (
                c.last_ns < stamp_ns
                and share_among(c.voxels, wide) >= _MIN_SHARED
                and (share_among(voxels, c.wide) >= _MIN_SHARED or cluster.part_of in c.parts)
            ):
                return c
        return None
