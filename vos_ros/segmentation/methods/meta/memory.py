"""What an object of the ``meta`` method is learned from: cells of its first frame, of the last frame on which it was given again, and of
frames on which it was found with confidence."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float

from vos_ros.segmentation.networks.segmentation_head import Samples


class Cells(NamedTuple):
    """S cells of a frame as one object sees them, with labels 0..1 and weights."""

    inputs: Float[torch.Tensor, "C S"]
    labels: Float[torch.Tensor, "S"]
    weights: Float[torch.Tensor, "S"]


class Memory:
    """The frames of one object: the first one and the last given one stay, of its own the latest ``size``. ``seed_sample_ratio`` is the share
    of the given frames in what is drawn."""

    def __init__(self, size: int, seed_sample_ratio: float) -> None:
        self._seed_sample_ratio = seed_sample_ratio
        self._given: list[Cells] = []
        self._own: deque[Cells] = deque(maxlen=size)

    def give(self, cells: Cells) -> None:
        """A frame on which a mask was given; the first stays for good, of later ones the last."""
        self._given = [*self._given[:1], cells]

    def add(self, cells: Cells) -> None:
        """A frame with the method's own mask."""
        self._own.append(cells)

    def draw(self, count: int, generator: torch.Generator) -> Cells:
        """Some of the cells, with repetition: the given frames' share, and of the others the same from each. ValueError: there are none."""
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


def batched(cells: Sequence[Cells]) -> Samples:
    """Equally many cells of each of N objects; their weights sum to 1 per object."""
    inputs, labels, weights = (torch.stack(parts) for parts in zip(*cells, strict=True))
    return Samples(inputs, labels, weights / weights.sum(1, keepdim=True).clamp_min(1e-12))
