"""Overlap of the track's mask and the object's projection."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from vos_ros.association.candidates import CandidatePairs, share
from vos_ros.association.registry import Term, register


class MaskIou(Term):
    """Compute the IoU of mask and projection, with free space in the object's place as missed."""

    name = "mask_iou"
    meaning = "IoU of the track's mask and the object's visible projection"
    weight = 5.25
    order = 2

    def values(self, pairs: CandidatePairs) -> Float64[np.ndarray, "n"]:
        iou = share(pairs.shared_mask_px, pairs.union_px)
        return np.where(pairs.masks_meet, iou, 0.0)


register(MaskIou)
