"""Merge independent probabilities of objects into one distribution per pixel."""

from __future__ import annotations

import torch
from jaxtyping import Float

_EPS = 1e-6


def soft_aggregate(probs: Float[torch.Tensor, "N H W"]) -> Float[torch.Tensor, "N1 H W"]:
    """Merge the probabilities of N objects by soft aggregation.

    Oh et al. 2018; paper 003 sec. 3.5. The background's probability is the product of all
    complements, and each class is weighted by its odds. Row 0 is the background; rows sum to 1 at
    every pixel.
    """
    p = probs.clamp(_EPS, 1 - _EPS)
    background = (1 - p).prod(0, keepdim=True).clamp_min(_EPS)
    background = background.clamp_max(1 - _EPS)
    odds = torch.cat([background / (1 - background), p / (1 - p)])
    return odds / odds.sum(0, keepdim=True)
