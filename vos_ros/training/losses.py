"""Losses on masks, and the IoU that they stand for."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float


def lovasz(
    probs: Float[torch.Tensor, "P"], truth: Bool[torch.Tensor, "P"]
) -> Float[torch.Tensor, ""]:
    """Return the Lovasz-softmax loss of one class, a convex surrogate of 1 - IoU.

    Berman et al. 2018 (arXiv:1705.08790), eq. (8), alg. 1. ``probs`` are foreground probabilities
    of P pixels, ``truth`` tells which are foreground. The errors are sorted, largest first. Each
    has as weight what it adds to the Jaccard loss of those before it. Without foreground the loss
    is the largest error; without pixels it is 0.
    """
    if probs.numel() == 0:
        return probs.sum()
    errors, order = torch.sort(torch.where(truth, 1 - probs, probs), descending=True)
    with torch.no_grad():
        sorted_truth = truth[order].to(errors.dtype)
        total = sorted_truth.sum()
        intersection = total - sorted_truth.cumsum(0)
        union = total + (1 - sorted_truth).cumsum(0)
        jaccard = 1 - intersection / union
        steps = torch.diff(jaccard, prepend=jaccard.new_zeros(1))
    return errors @ steps


def iou(
    found: Bool[torch.Tensor, "M T H W"],
    truth: Bool[torch.Tensor, "M T H W"],
    valid: Bool[torch.Tensor, "M T H W"],
) -> Float[torch.Tensor, "M T"]:
    """Return intersection over union on the valid pixels; 1 where both are empty."""
    both = (found & truth & valid).sum((2, 3))
    either = ((found | truth) & valid).sum((2, 3))
    return torch.where(
        either > 0, both / either.clamp_min(1), torch.ones_like(both, dtype=torch.float32)
    )
