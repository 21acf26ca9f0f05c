"""Masks that were given, in a segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool

from vos_ros.types import Segmentation


def overwrite_masks(
    result: Segmentation, masks: Mapping[int, Bool[np.ndarray, "H W"]]
) -> Segmentation:
    """Return a segmentation in which some objects have exactly the given masks.

    Where given masks overlap, the last one has the pixel.
    """
    owner = np.zeros(result.probs.shape[1:], np.int64)
    row_of = {i: row for row, i in enumerate(result.object_ids, start=1)}
    for i, mask in masks.items():
        owner[mask] = row_of[i]
    given = torch.from_numpy(owner).to(result.probs.device)
    probs = result.probs * (given == 0)
    for i in masks:
        probs[row_of[i]] = (given == row_of[i]).to(probs)
    probs[0] = (1 - probs[1:].sum(0)).clamp_min_(0)
    return replace(result, probs=probs)
