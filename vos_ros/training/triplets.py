"""The triplet loss between pixels (paper 002, sec. 3.3), and the choice of the triplets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8

from vos_ros.training.interface import IGNORE


def triplet_loss(
    anchors: Float[torch.Tensor, "N D"],
    positives: Float[torch.Tensor, "N D"],
    negatives: Float[torch.Tensor, "N D"],
    margin: float,
) -> Float[torch.Tensor, ""]:
    """Return eq. (3.4): the sum over N triplets of max(|a - p| - |a - n| + margin, 0)."""
    to_positive = torch.linalg.vector_norm(anchors - positives, dim=1)
    to_negative = torch.linalg.vector_norm(anchors - negatives, dim=1)
    return F.relu(to_positive - to_negative + margin).sum()


def draw_triplets(
    embedding: Float[torch.Tensor, "Q h w D"],
    labels: UInt8[torch.Tensor, "Q h w"],
    frame: int,
    count: int,
    *,
    every_object: bool,
    across: float,
    candidates: int,
) -> Int[torch.Tensor, "3 N"]:
    """Draw anchors, positives and negatives for one frame of a clip, as indices of all its cells.

    Torch's default generators are used. N is ``count``, or 0 where the frame has no object or
    nothing else.

    Args:
        embedding: of the cells, as the network is now.
        labels: of the cells.
        frame: position of the anchors' frame in the clip.
        count: triplets.
        every_object: whether the anchors lie on all objects of the frame, or on one of them.
        across: share of the triplets whose positive and negative come from all frames of the clip;
            the others lie within the anchor's frame.
        candidates: negatives drawn per triplet, of which the nearest to its anchor is taken.
    """
    flat = labels.flatten()
    here = torch.zeros_like(flat, dtype=torch.bool).reshape(labels.shape)
    here[frame] = True
    here = here.flatten()
    seen = torch.bincount(labels[frame].flatten().long(), minlength=IGNORE + 1)
    seen[[0, IGNORE]] = 0
    objects = torch.nonzero(seen)[:, 0]
    objects = objects[torch.randperm(len(objects), device=flat.device)]
    if not every_object:
        objects = objects[:1]
    parts = []
    for i, own in enumerate(objects.tolist()):
        n = len(range(i, count, len(objects)))
        n_across = round(n * across)
        for m, scope in ((n - n_across, here), (n_across, torch.ones_like(here))):
            mine = torch.nonzero((flat == own) & scope)[:, 0]
            others = torch.nonzero((flat != own) & (flat != IGNORE) & scope)[:, 0]
            if not m or not len(others):
                continue
            anchor = _draw(torch.nonzero((flat == own) & here)[:, 0], m)
            negative = _draw(others, m * candidates).reshape(m, candidates)
            if candidates > 1:
                rows = embedding.detach().reshape(-1, embedding.shape[-1])
                gaps = (rows[anchor][:, None] - rows[negative]).square().sum(-1)
                negative = negative.gather(1, gaps.argmin(1, keepdim=True))
            parts.append(torch.stack([anchor, _draw(mine, m), negative[:, 0]]))
    if not parts:
        return torch.zeros((3, 0), dtype=torch.long, device=flat.device)
    return torch.cat(parts, 1)


def _draw(among: Int[torch.Tensor, "M"], n: int) -> Int[torch.Tensor, "n"]:
    """Draw n of M >= 1, each draw from all of them."""
    return among[torch.randint(len(among), (n,), device=among.device)]
