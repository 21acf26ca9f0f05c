"""The networks of paper 000, which a weights file of the ``meta`` method holds.

They are the embedding, the start of the segmentation models, the optimizer that learns them, and
the weight generator. Tensors in, tensors out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import nn

from vos_ros.segmentation.networks import specs
from vos_ros.segmentation.networks.embedding import EmbeddingNet, EmbeddingSpec
from vos_ros.segmentation.networks.meta_optimizer import (
    LstmOptimizer,
    Rule,
    State,
    WeightGenerator,
    baseline,
    iterate,
)
from vos_ros.segmentation.networks.segmentation_head import Samples, SegmentationHead

_MAX_PARAMETERS = 5000
"""Maximum size of theta: a learned optimizer does not handle more."""


@dataclass(frozen=True)
class MetaSpec:
    """Architecture of the networks."""

    embedding: EmbeddingSpec = field(default_factory=EmbeddingSpec)
    """The metric embedding."""
    extra: int = 9
    """Inputs of f besides a cell's embedding."""
    hidden: tuple[int, int] = (32, 16)
    """Widths of the hidden layers of f."""
    state: int = 16
    """Size of the LSTM's hidden state."""
    generator: int = 64
    """Width of the weight generator."""

    def __post_init__(self) -> None:
        if (n := self.head().parameters) > _MAX_PARAMETERS:
            raise ValueError(
                f"a segmentation model of {n} parameters (hidden {self.hidden}): wanted at most"
                f" {_MAX_PARAMETERS}"
            )

    def head(self) -> SegmentationHead:
        """Return f."""
        return SegmentationHead(self.embedding.dims + self.extra, self.hidden)

    def to_json(self) -> str:
        """Return one line of JSON, which ``from_json`` reads back."""
        return specs.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> MetaSpec:
        """Return the spec of ``to_json``. Raises ValueError: no spec, or one of another version."""
        return specs.from_json(cls, text, "networks of the meta method")


class MetaNet(nn.Module):
    """The networks of a spec, freshly initialised.

    theta starts at random, the optimizer descends, the generator changes nothing.
    """

    def __init__(self, spec: MetaSpec) -> None:
        super().__init__()
        self.spec, self.head = spec, spec.head()
        self.embedding = EmbeddingNet(spec.embedding)
        self.initial = nn.Parameter(self.head.initial())
        self.optimizer = LstmOptimizer(self.head.parameters, spec.state)
        self.generator = WeightGenerator(self.head.inputs, spec.generator, self.head.parameters)

    def start(
        self, samples: Samples, one_shot: bool | Float[torch.Tensor, "N 1"]
    ) -> Float[torch.Tensor, "N P"]:
        """Return theta before the first iteration.

        It is the learned start, and ``one_shot`` (per object, 0..1) times what the generator adds.
        """
        theta = self.initial.expand(len(samples.inputs), -1)
        return theta if one_shot is False else theta + one_shot * self.generator(samples)

    def rule(self, name: str, rate: float = 0.0) -> Rule:
        """Return an optimizer by name: the LSTM, or one with a learning rate.

        Raises ValueError: another name.
        """
        return self.optimizer if name == "lstm" else baseline(name, rate)

    def learn(
        self,
        rule: Rule,
        theta: Float[torch.Tensor, "N P"],
        samples: Samples,
        state: State,
        iterations: int,
    ) -> tuple[Float[torch.Tensor, "N P"], State]:
        """Return theta and the optimizer's state after some iterations of eq. (3)."""
        learned = (theta, state)
        for learned in iterate(rule, self.head, theta, samples, state, iterations):  # noqa: B007
            pass
        return learned
