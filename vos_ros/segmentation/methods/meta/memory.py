"""What an object of the ``meta`` method is learned from: cells of some frames.

They are its first frame, the last frame on which its mask was given, and frames on which it was
found with confidence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float

from vos_ros.segmentation.networks.segmentation_head import Samples


class Cells(NamedTuple):
    """S cells of a frame, as training data of one object."""

    inputs: Float[torch.Tensor, "C S"]
    """Inputs of the object's model."""
    labels: Float[torch.Tensor, "S"]
    """Share of the cell that is the object, 0..1."""
    weights: Float[torch.Tensor, "S"]
    """Weight in the loss, >= 0."""


class Memory:
    """The frames of one object."""

    def __init__(self, size: int, seed_sample_ratio: float) -> None:
        """Make an empty memory.

        Args:
            size: largest number of frames with the method's own masks; the latest are kept.
            seed_sample_ratio: share of the frames with given masks in what is drawn, 0..1.
        """
        self._seed_sample_ratio = seed_sample_ratio
        self._given: list[Cells] = []
        self._own: deque[Cells] = deque(maxlen=size)

    @property
    def given(self) -> tuple[Cells, ...]:
        """Frames with given masks: the first, and the last one."""
        return tuple(self._given)

    @property
    def own(self) -> tuple[Cells, ...]:
        """Frames with the method's own masks, oldest first."""
        return tuple(self._own)

    def add_given(self, cells: Cells) -> None:
        """Keep a frame with a given mask in place of the last one; the first is kept for good."""
        self._given = [*self._given[:1], cells]

    def add_own(self, cells: Cells) -> None:
        """Keep a frame with the method's own mask."""
        self._own.append(cells)

    def draw(self, count: int, generator: torch.Generator) -> Cells:
        """Draw cells with repetition: the given frames' share, the same from each other frame.

        Raises ValueError: there are none.
        """
        frames = [*self._given, *self._own]
        if not frames:
            raise ValueError("nothing is remembered of this object")
        share = self._seed_sample_ratio if self._given and self._own else float(bool(self._given))
        shares = [(share, len(self._given)), (1 - share, len(self._own))]
        importance = torch.tensor(
            [s / n for s, n in shares for _ in range(n)], device=frames[0].labels.device
        )
        which = torch.multinomial(importance, count, replacement=True, generator=generator)
        cell = torch.randint(
            frames[0].labels.numel(), (count,), generator=generator, device=which.device
        )
        inputs, labels, weights = (torch.stack(parts) for parts in zip(*frames, strict=True))
        return Cells(inputs[which, :, cell].T, labels[which, cell], weights[which, cell])


def batch_cells(cells: Sequence[Cells]) -> Samples:
    """Stack equally many cells of each of N objects; their weights sum to 1 per object."""
    inputs, labels, weights = (torch.stack(parts) for parts in zip(*cells, strict=True))
    return Samples(inputs, labels, weights / weights.sum(1, keepdim=True).clamp_min(1e-12))
