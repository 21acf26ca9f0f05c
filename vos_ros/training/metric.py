"""A metric between pixels (paper 000, sec. 4.1): choice of pixels, contrastive loss, use.

Pixels of a clip are rows (P, d) of features with labels (P,): 0 background, 1..n objects,
``IGNORE`` unknown.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8

from vos_ros.segmentation.networks.embedding import squared_distance
from vos_ros.training.interface import IGNORE

_MIN_SQUARED_DISTANCE = 1e-4  # of a pair in the loss, below which the logarithm would diverge
_CANDIDATES_PER_LOOK_ALIKE = 4  # background pixels that are compared for each that is taken
_CHUNK_PX = 4096  # pixels whose distances to all others are in memory at once


def contrastive(
    features: Float[torch.Tensor, "P d"], labels: Int[torch.Tensor, "P"], background: float = 1.0
) -> Float[torch.Tensor, ""]:
    """Return eq. (2) as a mean over all pairs of different pixels.

    A pair costs -log s where the labels are equal, else -log(1 - s), where s is ``similarity``.
    Pairs within the background have the weight ``background``: the background isn't one object
    whose parts are alike. At 1, the paper's value, the metric learns what salient objects look
    like.
    """
    x = squared_distance(features, features)
    same = labels[:, None] == labels[None, :]
    # with s = 2/(1+e^x): -log s = softplus(x) - log 2,
    # and 1 - s = tanh(x/2), so -log(1-s) = softplus(-x) - log(1 - e^-x)
    apart = x.clamp_min(_MIN_SQUARED_DISTANCE)
    costs = torch.where(
        same,
        F.softplus(x) - F.softplus(torch.zeros_like(x)),
        F.softplus(-apart) - torch.log(-torch.expm1(-apart)),
    )
    weights = torch.where(same & (labels == 0), background, 1.0)
    weights = weights * (1 - torch.eye(len(labels), device=x.device))
    return (weights * costs).sum() / weights.sum().clamp_min(1.0)


def cell_labels(
    labels: UInt8[torch.Tensor, "*n H W"], stride: int, aligned: bool
) -> UInt8[torch.Tensor, "*n h w"]:
    """Return the label at the centre of every cell of a map of the given stride.

    That is the pixel (s i, s j) where ``aligned``, else the one at the middle of s x s px.
    """
    first = 0 if aligned else stride // 2
    return labels[..., first::stride, first::stride]


def sample_pixels(
    labels: UInt8[torch.Tensor, "Q h w"],
    features: Float[torch.Tensor, "Q h w d"],
    count: int,
    *,
    outline: float,
    look_alikes: float,
    reach: int = 2,
) -> Int[torch.Tensor, "K"]:
    """Draw the set K of eq. (2) as indices of the flattened cells of a clip.

    Every visible object and the background get equally many, with repetition where an object is
    small. Torch's default generators are used.

    Args:
        labels: of the cells.
        features: of the cells, as the network is now.
        count: about how many to draw.
        outline: share of the background's that lie within ``reach`` cells of an object.
        look_alikes: share of the background's whose features are nearest to those of an object.
        reach: cells.
    """
    flat = labels.flatten()
    objects = objects_in(flat)
    n = max(1, count // (len(objects) + 1))
    chosen = [_some(torch.nonzero(flat == i)[:, 0], n) for i in objects]
    ground = torch.nonzero(flat == 0)[:, 0]
    if not len(ground) or not objects:
        return torch.cat([*chosen, _some(ground, n)])
    on = ((labels > 0) & (labels != IGNORE)).float()[:, None]
    near = F.max_pool2d(on, 2 * reach + 1, 1, reach).flatten()[ground] > 0
    n_near, n_alike = round(n * outline), round(n * look_alikes)
    candidates = _some(ground, _CANDIDATES_PER_LOOK_ALIKE * n_alike)
    rows = features.reshape(-1, features.shape[-1]).detach()
    distance = squared_distance(rows[candidates], rows[torch.cat(chosen)]).min(1).values
    alike = candidates[distance.topk(n_alike, largest=False).indices]
    around = _some(ground[near] if bool(near.any()) else ground, n_near)
    return torch.cat([*chosen, around, alike, _some(ground, n - n_near - n_alike)])


def objects_in(labels: Int[torch.Tensor, "P"] | UInt8[torch.Tensor, "P"]) -> list[int]:
    """Return the objects that have pixels, ascending."""
    return [
        i for i in torch.bincount(labels.long()).nonzero()[:, 0].tolist() if i not in (0, IGNORE)
    ]


def _some(among: Int[torch.Tensor, "M"], n: int) -> Int[torch.Tensor, "m"]:
    """Draw n of them, each at most once where there are enough; none where there are none."""
    if len(among) >= n:
        return among[torch.randperm(len(among), device=among.device)[:n]]
    return among[torch.randint(len(among), (n,), device=among.device)] if len(among) else among


def nearest_labels(
    known: Float[torch.Tensor, "M d"],
    labels: Int[torch.Tensor, "M"],
    asked: Float[torch.Tensor, "P d"],
) -> Int[torch.Tensor, "P"]:
    """Return the label of the nearest known pixel of each: segmentation by the metric alone.

    Known pixels of label ``IGNORE`` are left out. Raises ValueError: no other is known.
    """
    known, labels = known[labels != IGNORE], labels[labels != IGNORE]
    if not len(known):
        raise ValueError("no pixel with a known label to compare with")
    return torch.cat(
        [labels[squared_distance(part, known).argmin(1)] for part in torch.split(asked, _CHUNK_PX)]
    )
