"""Overlap of masks that forgives what the uncertainty of the camera pose explains."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from vos_ros.association.candidates import CandidatePairs, share
from vos_ros.association.registry import Term, register


class TolerantIou(Term):
    """Compute the IoU of mask M and projection P without the pixels that the pose explains.

    P may be off by sigma px. Only the part of M outside P dilated by sigma (P+) is wrong, and the
    part of P eroded by sigma (P-) that M misses: 1 - (|M \\ P+| + |P- \\ M|) / |M u P|. At sigma 0
    it is the plain IoU. Pixels where free space was measured in place of the object are missed in
    any case; otherwise what is left of a removed object's projection, its foot on the table, would
    be matched.
    """

    name = "tolerant_iou"
    meaning = "IoU of mask and projection, without pixels within 1 sigma of the projection's border"
    weight = 5.28
    order = 1

    def values(self, pairs: CandidatePairs) -> Float64[np.ndarray, "n"]:
        outside = pairs.track_px - pairs.shared_near_px
        missed = pairs.core_px - pairs.shared_core_px
        wrong = outside + missed + pairs.missing_px
        iou = (1.0 - share(wrong, pairs.union_px)).clip(0.0)
        return np.where(pairs.masks_meet, iou, 0.0)


register(TolerantIou)
