"""The interface between the loop and a task. The loop knows no networks, a task knows no loop."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from vos_ros.training.config import StageConfig

IGNORE = 255
"""Label of pixels that are neither learned from nor counted."""


class Batch(NamedTuple):
    """Hold B clips of Q frames in order."""

    frames: UInt8[torch.Tensor, "B Q 3 H W"]
    """RGB, 0..255."""
    labels: UInt8[torch.Tensor, "B Q H W"]
    """0 background, 1..n objects, 255 ignore.

    Objects are numbered per clip without gaps; n >= 1, and each is visible in the first frame. n
    differs between the clips of a batch.
    """


class Task(Protocol):
    """Bring a network and its loss.

    Everything random uses torch's default generators, which the loop seeds for each step.
    """

    name: str
    """Name on the command line and in configurations."""

    def build(self) -> nn.Module:
        """Return a new model on the CPU with its initial weights."""
        ...

    def parameter_groups(self, model: nn.Module, stage: StageConfig) -> list[dict[str, Any]]:
        """Return what a stage trains: ``[{"name": ..., "params": [...], "lr": ...}]``.

        The groups are those in ``stage.rates``; the loop freezes all other parameters. Each of the
        parameters takes part in every loss.
        Raises ConfigError: a rate for a group that the model doesn't have.
        """
        ...

    def loss(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """Return the scalar loss, the mean over the clips, and scalars to log.

        It is also called in eval mode under no_grad, on held-out clips.
        """
        ...

    def picture(self, model: nn.Module, batch: Batch) -> UInt8[np.ndarray, "H W 3"]:
        """Return a picture of the frames with labels and predictions."""
        ...

    def metadata(self) -> dict[str, str]:
        """Return the header of the exported weights: what it takes to build the network again."""
        ...
