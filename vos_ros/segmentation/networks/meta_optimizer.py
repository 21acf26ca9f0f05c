"""The learned optimizer of paper 000 (sec. 4.2), its baselines, and the weight generator.

Every rule answers the same question for N objects at once: given the gradient of the segmentation
loss at theta (N, P), what is added to theta (eq. 3)? What a rule remembers from one iteration to
the next is its state: tensors by name whose first dimension is the object, so that objects can
come, go and be batched in any order. Tensors in, tensors out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import nn

from vos_ros.segmentation.networks.segmentation_head import Samples, SegmentationHead

State = dict[str, torch.Tensor]
"""State of an optimizer for N objects: every tensor is (N, ...)."""
Theta: TypeAlias = Float[torch.Tensor, "N P"]
Curvature: TypeAlias = Callable[[Theta], Float[torch.Tensor, "N"]]
"""d^T G d of every object along directions d, see ``SegmentationHead``."""
BASELINES = ("adam", "rmsprop", "sgd", "steepest_descent")
OPTIMIZERS = ("lstm", *BASELINES)
RATES = {"lstm": 0.0, "adam": 0.001, "rmsprop": 0.0003, "sgd": 1.0, "steepest_descent": 0.0}
"""Learning rates that were best on held-out clips after some iterations; 0 where there is none.

``vos-ros bench meta`` sweeps them."""
_P = 7.0
"""A gradient below e^-7 of the object's first one is small; Andrychowicz et al. have 10, for
gradients of any unit."""
_INPUTS = 4  # two of the preprocessed gradient, the gradient squashed, the parameter
_RATE = 0.02  # the initial length of a step, before anything is learned
_TINY = 1e-12


class Rule(Protocol):
    """An optimizer."""

    def start(self, theta: Float[torch.Tensor, "N P"]) -> State:
        """Return the state before the first iteration."""
        ...

    def update(
        self, gradient: Theta, theta: Theta, state: State, curvature: Curvature
    ) -> tuple[Theta, State]:
        """Return what is added to theta, and the next state.

        ``curvature`` gives d^T G d along directions.
        """
        ...


def preprocess(
    gradient: Float[torch.Tensor, "*n"], p: float = _P
) -> tuple[Float[torch.Tensor, "*n"], Float[torch.Tensor, "*n"]]:
    """Return (log|g| / p, sign g) where |g| >= e^-p, else (-1, e^p g).

    Andrychowicz et al. 2016 (arXiv:1606.04474), appendix A.
    """
    size = gradient.abs()
    large = size >= math.exp(-p)
    log = torch.where(large, size, 1.0).log() / p
    return torch.where(large, log, -1.0), torch.where(
        large, gradient.sign(), math.exp(p) * gradient
    )


class LstmOptimizer(nn.Module):
    """The learned optimizer, eq. (4): an LSTM cell for all coordinates of theta.

    Every coordinate of every object has a hidden state of its own. The input is the gradient in
    units of the object's first one (root mean square over theta): the path of theta is the same
    whatever factor the loss has. A step is a linear function of hidden state and inputs, scaled by
    a learned length per coordinate. Freshly initialised it descends along the squashed gradient.
    """

    def __init__(self, parameters: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(_INPUTS, hidden)
        self.read = nn.Linear(hidden + _INPUTS, 1)
        self.log_rate = nn.Parameter(torch.full((parameters,), math.log(_RATE)))
        with torch.no_grad():
            self.read.weight.mul_(0.1)
            self.read.weight[0, hidden + 2] = -1.0
            self.read.bias.zero_()

    def start(self, theta: Float[torch.Tensor, "N P"]) -> State:
        empty = theta.new_zeros((*theta.shape, self.cell.hidden_size))
        return {"h": empty, "c": empty, "unit": theta.new_zeros(len(theta))}

    def update(
        self, gradient: Theta, theta: Theta, state: State, curvature: Curvature
    ) -> tuple[Theta, State]:
        unit = torch.where(state["unit"] > 0, state["unit"], gradient.square().mean(1).sqrt())
        relative = gradient / unit.clamp_min(_TINY)[:, None]
        inputs = torch.stack([*preprocess(relative), torch.tanh(relative), theta], 2)
        h, c = self.cell(inputs.flatten(0, 1), (state["h"].flatten(0, 1), state["c"].flatten(0, 1)))
        h, c = h.unflatten(0, theta.shape), c.unflatten(0, theta.shape)
        step = self.read(torch.cat([h, inputs], 2))[:, :, 0]
        return self.log_rate.exp() * step, {"h": h, "c": c, "unit": unit}


@dataclass(frozen=True)
class Sgd:
    """theta - rate g."""

    rate: float

    def start(self, theta: Float[torch.Tensor, "N P"]) -> State:
        return {}

    def update(
        self, gradient: Theta, theta: Theta, state: State, curvature: Curvature
    ) -> tuple[Theta, State]:
        return -self.rate * gradient, state


@dataclass(frozen=True)
class RmsProp:
    """Tieleman and Hinton 2012, as in torch: decay 0.99, 1e-8 added to the root."""

    rate: float

    def start(self, theta: Float[torch.Tensor, "N P"]) -> State:
        return {"square": torch.zeros_like(theta)}

    def update(
        self, gradient: Theta, theta: Theta, state: State, curvature: Curvature
    ) -> tuple[Theta, State]:
        square = 0.99 * state["square"] + 0.01 * gradient.square()
        return -self.rate * gradient / (square.sqrt() + 1e-8), {"square": square}


@dataclass(frozen=True)
class Adam:
    """Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1, with its constants."""

    rate: float

    def start(self, theta: Float[torch.Tensor, "N P"]) -> State:
        return {
            "mean": torch.zeros_like(theta),
            "square": torch.zeros_like(theta),
            "count": theta.new_zeros(len(theta)),
        }

    def update(
        self, gradient: Theta, theta: Theta, state: State, curvature: Curvature
    ) -> tuple[Theta, State]:
        count = state["count"] + 1
        mean, square = (
            0.9 * state["mean"] + 0.1 * gradient,
            0.999 * state["square"] + 0.001 * gradient.square(),
        )
        mean_hat = mean / (1 - 0.9**count)[:, None]
        square_hat = square / (1 - 0.999**count)[:, None]
        return -self.rate * mean_hat / (square_hat.sqrt() + 1e-8), {
            "mean": mean,
            "square": square,
            "count": count,
        }


@dataclass(frozen=True)
class SteepestDescent:
    """The learner of paper 003 (sec. 3.3) on this loss.

    Its step along the gradient minimises the Gauss-Newton model of the loss.
    """

    damping: float = 1e-3
    """Curvature added per unit of length: the other vanishes where all cells are nearly certain."""

    def start(self, theta: Float[torch.Tensor, "N P"]) -> State:
        return {}

    def update(
        self, gradient: Theta, theta: Theta, state: State, curvature: Curvature
    ) -> tuple[Theta, State]:
        norm = gradient.square().sum(1)
        length = norm / (curvature(gradient) + self.damping * norm).clamp_min(_TINY)
        return -length[:, None] * gradient, state


def baseline(name: str, rate: float) -> Rule:
    """Return an optimizer that isn't learned; steepest descent ignores the rate.

    Raises ValueError: another name.
    """
    rules: dict[str, Rule] = {
        "adam": Adam(rate),
        "rmsprop": RmsProp(rate),
        "sgd": Sgd(rate),
        "steepest_descent": SteepestDescent(),
    }
    if name not in rules:
        raise ValueError(f"optimizer {name!r}: known are {', '.join(OPTIMIZERS)}")
    return rules[name]


def iterate(
    rule: Rule,
    head: SegmentationHead,
    theta: Float[torch.Tensor, "N P"],
    samples: Samples,
    state: State,
    iterations: int,
    *,
    second_order: bool = False,
    scale: float | torch.Tensor = 1.0,
) -> Iterator[tuple[Float[torch.Tensor, "N P"], State]]:
    """Run eq. (3) ``iterations`` times; yield theta and the state after each.

    Without ``second_order`` a gradient is a number to the meta-gradient, as in Andrychowicz et al.;
    with it, its dependence on theta counts too. ``scale`` (a number, or (N, 1)) multiplies the
    loss. An object whose samples all weigh 0 stays where it is.
    """
    taught = samples.weights.sum(1, keepdim=True) > 0
    for _ in range(iterations):
        with torch.set_grad_enabled(second_order and torch.is_grad_enabled()):
            gradient = scale * head.gradient(theta if second_order else theta.detach(), samples)[0]

        def curvature(direction: torch.Tensor, theta: torch.Tensor = theta) -> torch.Tensor:
            return scale * head.curvature(theta, samples, direction)

        step, state = rule.update(gradient, theta, state, curvature)
        theta = theta + step * taught
        yield theta, state


class WeightGenerator(nn.Module):
    """Predicts the start of theta from the samples (fig. 1 a), as a change of the learned start.

    Its inputs are mean and spread of f's inputs over the object and over the background. Freshly
    initialised it changes nothing.
    """

    def __init__(self, inputs: int, width: int, parameters: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4 * inputs, width), nn.ReLU(), nn.Linear(width, parameters)
        )
        last = self.layers[2]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, samples: Samples) -> Float[torch.Tensor, "N P"]:
        parts = []
        for share in (samples.labels, 1 - samples.labels):
            weight = samples.weights * share
            weight = (weight / weight.sum(1, keepdim=True).clamp_min(_TINY))[:, None]
            mean = (weight * samples.inputs).sum(2)
            spread = (weight * (samples.inputs - mean[:, :, None]).square()).sum(2)
            parts += [mean, (spread + 1e-6).sqrt()]
        out: torch.Tensor = self.layers(torch.cat(parts, 1))
        return out
