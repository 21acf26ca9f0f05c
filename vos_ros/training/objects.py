"""The objects of a batch of clips, each with its masks: what the losses of the tasks are computed for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8

from vos_ros.training.interface import IGNORE


class Objects(NamedTuple):
    """The M objects of a batch, flat: whose clip, and their masks in all frames. ``valid`` is False on pixels to be ignored."""

    clip: Int[torch.Tensor, "M"]
    masks: Bool[torch.Tensor, "M Q H W"]
    valid: Bool[torch.Tensor, "M Q H W"]

    @classmethod
    def of(cls, labels: UInt8[torch.Tensor, "B Q H W"]) -> Objects:
        """ValueError: a clip without an object in its first frame."""
        counts = (
            torch.where(labels[:, 0] == IGNORE, 0, labels[:, 0]).flatten(1).max(1).values.long()
        )
        if not bool((counts > 0).all()):
            raise ValueError(
                f"clips {torch.nonzero(counts == 0).flatten().tolist()} of the batch have no object in their first frame"
            )
        clip = torch.arange(len(labels), device=labels.device).repeat_interleave(counts)
        number = torch.cat([torch.arange(1, int(n) + 1, device=labels.device) for n in counts])
        own = labels[clip]
        return cls(clip, own == number[:, None, None, None], own != IGNORE)


def mean_over_clips(
    values: Float[torch.Tensor, "M"], clip: Int[torch.Tensor, "M"]
) -> Float[torch.Tensor, ""]:
    """Every clip counts the same, however many objects it has."""
    counts = torch.bincount(clip)
    return (values / counts[clip]).sum() / len(counts)
