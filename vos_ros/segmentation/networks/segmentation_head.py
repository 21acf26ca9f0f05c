"""The segmentation model f(I; theta) of paper 000.

theta is all that is learned of one object: a flat vector of a few thousand numbers.

f is the same small perceptron for every cell of the image: from the embedding of the cell, and what
is known of the cell without parameters (see ``methods.meta.inputs``), over two hidden layers
to the logit of the object. All objects have the same shape, so theta of N objects is (N, P), and
one batched matrix product per layer serves them all.

A cell's result depends on that cell's inputs alone, so f is learned from some hundred sampled cells
and not from images. The gradient is written out: it needs no graph, works in inference mode, and is
itself differentiable where gradients are on (the second-order terms of the meta-gradient). Tensors
in, tensors out.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float

_SLOPE = 0.1  # of the rectifiers below zero: no unit dies


class Samples(NamedTuple):
    """Training data of N objects: S cells each."""

    inputs: Float[torch.Tensor, "N C S"]
    """Inputs of f."""
    labels: Float[torch.Tensor, "N S"]
    """Share of each cell that is the object, 0..1."""
    weights: Float[torch.Tensor, "N S"]
    """Weights in the loss; they sum to 1 per object, or are all 0."""


class SegmentationHead:
    """f for a number of inputs per cell and widths of the hidden layers.

    It holds no parameters: they are arguments.

    theta is, layer after layer, the weights (out, in) and the biases (out).
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...]) -> None:
        self.inputs = inputs
        widths = (inputs, *hidden, 1)
        self.shapes = tuple(zip(widths[1:], widths[:-1], strict=True))
        self.parameters = sum(n_out * (n_in + 1) for n_out, n_in in self.shapes)

    def initial(self) -> Float[torch.Tensor, "P"]:
        """Return random parameters, after He et al. 2015; no biases, a last layer near zero."""
        parts = []
        for k, (n_out, n_in) in enumerate(self.shapes):
            gain = (2 / n_in) ** 0.5 if k < len(self.shapes) - 1 else 0.1 * n_in**-0.5
            parts += [gain * torch.randn(n_out * n_in), torch.zeros(n_out)]
        return torch.cat(parts)

    def layers(
        self, theta: Float[torch.Tensor, "N P"]
    ) -> list[tuple[Float[torch.Tensor, "N o i"], Float[torch.Tensor, "N o 1"]]]:
        """Return weights and biases as views of theta."""
        out, at = [], 0
        for n_out, n_in in self.shapes:
            end = at + n_out * n_in
            out.append(
                (theta[:, at:end].reshape(-1, n_out, n_in), theta[:, end : end + n_out, None])
            )
            at = end + n_out
        return out

    def logits(
        self, theta: Float[torch.Tensor, "N P"], inputs: Float[torch.Tensor, "N C S"]
    ) -> Float[torch.Tensor, "N S"]:
        """Return f of S cells for each object."""
        *hidden, last = self.layers(theta)
        x = inputs
        for weight, bias in hidden:
            x = F.leaky_relu(torch.baddbmm(bias, weight, x), _SLOPE)
        return torch.baddbmm(last[1], last[0], x)[:, 0]

    def loss(self, theta: Float[torch.Tensor, "N P"], samples: Samples) -> Float[torch.Tensor, "N"]:
        """Return L_s of every object: the weighted mean of its cells' binary cross-entropy."""
        return _cross_entropy(self.logits(theta, samples.inputs), samples)

    def gradient(
        self, theta: Float[torch.Tensor, "N P"], samples: Samples
    ) -> tuple[Float[torch.Tensor, "N P"], Float[torch.Tensor, "N"]]:
        """Return dL_s/dtheta of every object, and L_s."""
        layers = self.layers(theta)
        below, slopes = [samples.inputs], []
        for weight, bias in layers[:-1]:
            z = torch.baddbmm(bias, weight, below[-1])
            slopes.append(_slope(z))
            below.append(z * slopes[-1])
        logits = torch.baddbmm(layers[-1][1], layers[-1][0], below[-1])
        parts: list[torch.Tensor] = []
        error = (samples.weights * (torch.sigmoid(logits[:, 0]) - samples.labels))[
            :, None
        ]  # dL/dz, from the last layer down
        for k in range(len(layers) - 1, -1, -1):
            parts = [torch.bmm(error, below[k].transpose(1, 2)).flatten(1), error.sum(2), *parts]
            if k:
                error = torch.bmm(layers[k][0].transpose(1, 2), error) * slopes[k - 1]
        return torch.cat(parts, 1), _cross_entropy(logits[:, 0], samples)

    def curvature(
        self,
        theta: Float[torch.Tensor, "N P"],
        samples: Samples,
        direction: Float[torch.Tensor, "N P"],
    ) -> Float[torch.Tensor, "N"]:
        """Return d^T G d of every object along a direction d.

        G is the Gauss-Newton matrix of L_s, J^T diag(w p (1-p)) J.
        """
        layers, along = self.layers(theta), self.layers(direction)
        x, dx = samples.inputs, None
        for k, ((weight, bias), (d_weight, d_bias)) in enumerate(zip(layers, along, strict=True)):
            z = torch.baddbmm(bias, weight, x)
            dz = torch.baddbmm(d_bias, d_weight, x)
            if dx is not None:
                dz = dz + torch.bmm(weight, dx)
            if k < len(layers) - 1:
                x, dx = z * _slope(z), dz * _slope(z)
        p = torch.sigmoid(z[:, 0])
        return (samples.weights * p * (1 - p) * dz[:, 0].square()).sum(1)


def _slope(z: Float[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n"]:
    """Return the derivative of the rectifier."""
    return torch.where(z > 0, z.new_ones(()), z.new_full((), _SLOPE))


def _cross_entropy(
    logits: Float[torch.Tensor, "N S"], samples: Samples
) -> Float[torch.Tensor, "N"]:
    return (
        samples.weights
        * F.binary_cross_entropy_with_logits(logits, samples.labels, reduction="none")
    ).sum(1)
