"""What a training run gives a task, and what it asks of it. The loop knows no networks, a task knows no loop."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from vos_ros.training.config import StageConfig

IGNORE = 255
"""Label of pixels that neither teach nor count."""


class Batch(NamedTuple):
    """B clips of Q frames in order.

    ``frames`` are RGB, 0..255. ``labels`` are 0 background, 1..n objects (numbered per clip without gaps, n >= 1, each seen in the
    first frame), 255 ignore; n differs between the clips of a batch.
    """

    frames: UInt8[torch.Tensor, "B Q 3 H W"]
    labels: UInt8[torch.Tensor, "B Q H W"]


class Task(Protocol):
    """A network and its loss. Everything random in it uses torch's default generators: the loop seeds them for each step."""

    name: str

    def build(self) -> nn.Module:
        """A fresh model on the CPU with its initial weights."""
        ...

    def parameter_groups(self, model: nn.Module, stage: StageConfig) -> list[dict[str, Any]]:
        """What a stage trains: ``[{"name": ..., "params": [...], "lr": ...}]`` from ``stage.rates``; all else is frozen. Each of these
        parameters takes part in every loss. ConfigError: a rate for a group that the model doesn't have."""
        ...

    def loss(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """Scalar loss, the mean over the clips, and scalars to log. Also called in eval mode under no_grad, on held-out clips."""
        ...

    def picture(self, model: nn.Module, batch: Batch) -> UInt8[np.ndarray, "H W 3"]:
        """Frames with labels and predictions, to look at."""
        ...

    def metadata(self) -> dict[str, str]:
        """Header of the exported weights file: what is needed to build the network again."""
        ...
