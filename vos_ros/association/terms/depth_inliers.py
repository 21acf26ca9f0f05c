"""Agreement of the measured depth in the mask with the object's surface."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from vos_ros.association.candidates import CandidatePairs, share
from vos_ros.association.registry import Term, register


class DepthInliers(Term):
    """Compute the share of the track's measured pixels whose depth agrees with the object's."""

    name = "depth_inliers"
    meaning = "share of the track's pixels with depth whose depth agrees with the object's surface"
    weight = 0.92
    weight_unknown = 1.08
    order = 3

    def values(self, pairs: CandidatePairs) -> Float64[np.ndarray, "n"]:
        ratio = share(pairs.shared_surface_px, pairs.track_depth_px)
        return np.where(pairs.masks_meet, ratio, 0.0)


register(DepthInliers)
