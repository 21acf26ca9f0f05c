"""The few-shot learner A of LWL (paper 003 sec. 3.3): steepest descent on eq. (3).

It serves many objects, samples and channels at once.

Objects share the features of their frames and differ in labels and weights: the N D filters are one
convolution's, and the transposed product is that convolution's derivative by its weights, for which
libraries have a kernel of its own. Features in channels_last order (h, w, C in memory) are what
CPUs convolve fastest. Features of less than single precision are multiplied as they are; sums,
residuals and filters stay in the filters' precision.

The residual is carried from iteration to iteration: x * (tau - alpha g) - e = (x * tau - e) - alpha
(x * g), so an iteration costs two products per sample. All is differentiable where gradients are
on, and builds no graph where they are off. Tensors in, tensors out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

_TINY = 1e-8
"""Smallest denominator of a step."""


class Samples(NamedTuple):
    """S frames of the training set, for n objects."""

    features: Float[torch.Tensor, "S C h w"]
    """Input of the target models."""
    rows: Int[torch.Tensor, "n"]
    """The objects, as positions in the batch of filters."""
    labels: Float[torch.Tensor, "S n D h w"]
    """E(y) of eq. (3)."""
    weights: Float[torch.Tensor, "S n D h w"]
    """W(y)^2 of eq. (3) times the frame's importance; 0 where an object doesn't learn from it."""


def apply_filters(
    features: Float[torch.Tensor, "S C h w"], filters: Float[torch.Tensor, "n D C K K"]
) -> Float[torch.Tensor, "S n D h w"]:
    """Return x * tau with zero padding: the target models of n objects on S frames."""
    n, d, _, k, _ = filters.shape
    out = F.conv2d(features, filters.flatten(0, 1).to(features.dtype), padding=k // 2)
    return out.to(filters.dtype).reshape(len(features), n, d, *out.shape[2:])


def correlate(
    features: Float[torch.Tensor, "S C h w"],
    residual: Float[torch.Tensor, "S n D h w"],
    kernel: int,
) -> Float[torch.Tensor, "n D C K K"]:
    """Return x *^T r summed over the frames: the derivative of <x * tau, r> by tau."""
    n, d = residual.shape[1:3]
    r = residual.flatten(1, 2).to(features.dtype)
    shape = features.new_empty(
        (n * d, features.shape[1], kernel, kernel)
    )  # only its size counts: x * tau is linear in tau
    pad = [kernel // 2, kernel // 2]
    out = torch.ops.aten.convolution_backward(
        r, features, shape, None, [1, 1], pad, [1, 1], False, [0, 0], 1, [False, True, False]
    )[1]
    return torch.as_tensor(out).to(residual.dtype).reshape(n, d, *shape.shape[1:])


def loss(
    filters: Float[torch.Tensor, "N D C K K"],
    blocks: Sequence[Samples],
    ridge: float | torch.Tensor,
) -> Float[torch.Tensor, "N"]:
    """Return eq. (3) of every object; ``ridge`` is lambda."""
    out = 0.5 * ridge * filters.flatten(1).square().sum(1)
    for b in blocks:
        residual = apply_filters(b.features, filters[b.rows]) - b.labels
        out = out.index_add(0, b.rows, 0.5 * (b.weights * residual.square()).sum((0, 2, 3, 4)))
    return out


def steepest_descent(
    filters: Float[torch.Tensor, "N D C K K"],
    blocks: Sequence[Samples],
    ridge: float | torch.Tensor,
    iterations: int,
    *,
    tolerance: float = 0.0,
) -> Float[torch.Tensor, "N D C K K"]:
    """Run steepest descent, eq. (4), each object with its own exact step length.

    Objects whose gradient vanishes stay where they are.

    Args:
        filters: where it starts.
        blocks: the training set.
        ridge: lambda of eq. (3).
        iterations: largest number of steps.
        tolerance: it stops where no step lowers any object's loss by more than this share of it
            (a step lowers it by alpha |g|^2 / 2); 0: never. The test waits for the device.
    """
    kernel, tau = filters.shape[-1], filters
    residuals = [apply_filters(b.features, tau[b.rows]) - b.labels for b in blocks]
    for _ in range(iterations):
        gradient = ridge * tau  # g = x *^T (W^2 (x * tau - e)) + lambda tau
        for b, r in zip(blocks, residuals, strict=True):
            gradient = gradient.index_add(0, b.rows, correlate(b.features, b.weights * r, kernel))
        norm = gradient.flatten(1).square().sum(1)
        curvature = ridge * norm
        along = [apply_filters(b.features, gradient[b.rows]) for b in blocks]
        for b, a in zip(blocks, along, strict=True):
            curvature = curvature.index_add(0, b.rows, (b.weights * a.square()).sum((0, 2, 3, 4)))
        # eq. (4): alpha = |g|^2 / (|W (x * g)|^2 + lambda |g|^2)
        alpha = norm / curvature.clamp_min(_TINY)
        if tolerance > 0:
            value = 0.5 * ridge * tau.flatten(1).square().sum(1)
            for b, r in zip(blocks, residuals, strict=True):
                value = value.index_add(0, b.rows, 0.5 * (b.weights * r.square()).sum((0, 2, 3, 4)))
            if bool((0.5 * alpha * norm <= tolerance * value).all()):
                break
        tau = tau - alpha[:, None, None, None, None] * gradient
        residuals = [
            r - alpha[b.rows][None, :, None, None, None] * a
            for b, r, a in zip(blocks, residuals, along, strict=True)
        ]
    return tau
