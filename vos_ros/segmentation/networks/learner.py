"""The few-shot learner of LWL (paper 003 sec. 3.3): steepest descent on eq. (3), for many objects at once.

Objects share the features of a frame and differ in their labels and weights, so one convolution with N output channels
serves N objects. Tensors in, tensors out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int


class Sample(NamedTuple):
    """One frame of the training set D as seen by the objects ``rows`` (indices into the batch of filters).

    ``weight`` is W^2 of eq. (3), the frame's own importance included: the residual's square is weighted by it.
    """

    features: Float[torch.Tensor, "C h w"]
    rows: Int[torch.Tensor, "n"]
    target: Float[torch.Tensor, "n h w"]
    weight: Float[torch.Tensor, "n h w"]


def apply_filters(features: Float[torch.Tensor, "C h w"], filters: Float[torch.Tensor, "n C K K"]) -> Float[torch.Tensor, "n h w"]:
    """x * tau: the target models of n objects on one frame."""
    return F.conv2d(features[None], filters, padding=filters.shape[-1] // 2)[0]


def loss(filters: Float[torch.Tensor, "N C K K"], samples: Sequence[Sample], regularization: float) -> Float[torch.Tensor, "N"]:
    """Eq. (3) of every object."""
    out = 0.5 * regularization * filters.flatten(1).square().sum(1)
    for s in samples:
        residual = apply_filters(s.features, filters[s.rows]) - s.target
        out = out.index_add(0, s.rows, 0.5 * (s.weight * residual.square()).flatten(1).sum(1))
    return out


def steepest_descent(
    filters: Float[torch.Tensor, "N C K K"], samples: Sequence[Sample], regularization: float, iterations: int
) -> Float[torch.Tensor, "N C K K"]:
    """``iterations`` steps of eq. (4), each object with its own exact step length.

    The residuals are carried along (they change by -alpha x*g), so an iteration costs two products per sample. Both are matrix products
    with the sample's patches, which on CPUs is several times faster than a convolution's gradient with so few filters. Objects whose
    gradient vanishes stay where they are.
    """
    shape, kernel = filters.shape, filters.shape[-1]
    tau = filters.flatten(1)
    patches = [F.unfold(s.features[None], kernel, padding=kernel // 2)[0] for s in samples]  # (C K K, h w) each
    weights = [s.weight.flatten(1) for s in samples]
    residuals = [tau[s.rows] @ x - s.target.flatten(1) for s, x in zip(samples, patches, strict=True)]
    for _ in range(iterations):
        gradient = regularization * tau
        for s, x, w, r in zip(samples, patches, weights, residuals, strict=True):
            gradient = gradient.index_add(0, s.rows, (w * r) @ x.T)
        norm = gradient.square().sum(1)
        curvature = regularization * norm
        along = [gradient[s.rows] @ x for s, x in zip(samples, patches, strict=True)]
        for s, w, a in zip(samples, weights, along, strict=True):
            curvature = curvature.index_add(0, s.rows, (w * a.square()).sum(1))
        alpha = (norm / curvature.clamp_min(torch.finfo(tau.dtype).tiny))[:, None]
        tau = tau - alpha * gradient
        residuals = [r - alpha[s.rows] * a for s, r, a in zip(samples, residuals, along, strict=True)]
    return tau.reshape(shape)
