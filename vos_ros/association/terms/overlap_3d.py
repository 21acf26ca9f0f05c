"""Overlap of the track's measured points with the object's surface in space."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64

from vos_ros.association.candidates import CandidatePairs
from vos_ros.association.registry import Term, register


class Overlap3d(Term):
    """Read the share of the track's points on the object; 0 where depth was measured elsewhere."""

    name = "overlap_3d"
    meaning = "share of the track's measured points, in the map frame, on the object's points"
    weight = 1.59
    order = 3

    def values(self, pairs: CandidatePairs) -> Float64[np.ndarray, "n"]:
        listed = pairs.lookup(pairs.frame.overlaps_3d, math.nan)
        elsewhere = np.isnan(listed) & (pairs.track_depth_px > 0)
        return np.where(elsewhere, 0.0, listed)


register(Overlap3d)
