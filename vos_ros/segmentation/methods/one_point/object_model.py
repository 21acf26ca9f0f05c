"""What the method ``one_point`` knows of an object: its key points, and where it was last."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

from vos_ros.segmentation.methods.one_point.model import Pixels
from vos_ros.segmentation.point_trackers.interface import Track

_RING_CELLS = 8
"""Width of the ring around a mask, cells, from which the background's key points come."""


@dataclass(frozen=True, eq=False, slots=True)
class Keys:
    """Embeddings of key points of one object."""

    positive: Float[torch.Tensor, "P D"]
    """Of the object."""
    negative: Float[torch.Tensor, "M D"]
    """Of the background next to it."""

    @classmethod
    def joined(cls, some: Sequence[Keys]) -> Keys:
        """Return all key points of some, in order."""
        return cls(torch.cat([k.positive for k in some]), torch.cat([k.negative for k in some]))

    @classmethod
    def of_shares(
        cls,
        embedding: Float[torch.Tensor, "D h w"],
        shares: Float[torch.Tensor, "h w"],
        sure: float,
        count: int,
        usable: Bool[torch.Tensor, "h w"] | None = None,
    ) -> Keys:
        """Return key points of an object and of the background next to it.

        Args:
            embedding: of the image.
            shares: how much of each cell is the object, or how probable that is, 0..1.
            sure: share from which a cell is the object; it is background up to 1 - ``sure``.
            count: largest number of key points of each kind.
            usable: cells that may be key points; None: all.
        """
        positive = shares >= sure
        negative = (shares <= 1 - sure) & _around(shares[None])[0]
        if usable is not None:
            positive, negative = positive & usable, negative & usable
        rows = embedding.flatten(1).t()
        return cls(
            *(rows[_evenly(m.flatten().nonzero()[:, 0], count)] for m in (positive, negative))
        )


@dataclass(eq=False, slots=True, kw_only=True)
class ObjectModel:
    """One object: its key points, the tracked one, and where it was last."""

    given: list[Keys]
    """Of the seed and of the last correction."""
    own: deque[Keys]
    """Of own masks, the most recent ones."""
    key: Float[torch.Tensor, "D"]
    """Embedding of the tracked point where it was given."""
    point: Pixels
    """(1, 2): the tracked point, px of the image."""
    visible: bool
    """Whether the point was found on the last frame."""
    track: Track | None
    """Of the point, where the tracker is a network of its own."""
    prior: Float[torch.Tensor, "h w"]
    """Mask on the previous frame, 0..1, per cell."""
    window: Float[torch.Tensor, "3"]
    """Search window."""


def _evenly(cells: Int[torch.Tensor, "K"], count: int) -> Int[torch.Tensor, "k"]:
    """Return at most ``count`` of some cells, evenly over their order."""
    if len(cells) <= count:
        return cells
    return cells[torch.linspace(0, len(cells) - 1, count, device=cells.device).round().long()]


def _around(priors: Float[torch.Tensor, "N h w"]) -> Bool[torch.Tensor, "N h w"]:
    """Return the cells of objects and those next to them."""
    wide = F.max_pool2d(priors[None], 2 * _RING_CELLS + 1, 1, _RING_CELLS)[0]
    return wide > 0.5
