"""The objects of a batch of clips, each with its masks."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8

from vos_ros.training.interface import IGNORE


class Objects(NamedTuple):
    """Hold the M objects of a batch in one row, clip by clip."""

    clip: Int[torch.Tensor, "M"]
    """Index of the clip of each object."""
    masks: Bool[torch.Tensor, "M Q H W"]
    """The object's pixels in all frames of its clip."""
    valid: Bool[torch.Tensor, "M Q H W"]
    """False on pixels to be ignored."""

    @classmethod
    def of(cls, labels: UInt8[torch.Tensor, "B Q H W"]) -> Objects:
        """Collect the objects of labels. Raises ValueError: a first frame without an object."""
        counts = (
            torch.where(labels[:, 0] == IGNORE, 0, labels[:, 0]).flatten(1).max(1).values.long()
        )
        if not bool((counts > 0).all()):
            raise ValueError(
                f"clips {torch.nonzero(counts == 0).flatten().tolist()} of the batch have no object"
                " in their first frame"
            )
        clip = torch.arange(len(labels), device=labels.device).repeat_interleave(counts)
        number = torch.cat([torch.arange(1, int(n) + 1, device=labels.device) for n in counts])
        own = labels[clip]
        return cls(clip, own == number[:, None, None, None], own != IGNORE)


def mean_over_clips(
    values: Float[torch.Tensor, "M"], clip: Int[torch.Tensor, "M"]
) -> Float[torch.Tensor, ""]:
    """Return the mean over clips of the mean over the objects of each."""
    counts = torch.bincount(clip)
    return (values / counts[clip]).sum() / len(counts)
