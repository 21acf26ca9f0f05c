"""Instances from key points (paper 002, sec. 3.4): which object each cell of an embedding is.

A key point is a pixel whose object is known. A cell belongs to the object of the key point whose
embedding is nearest to its own, if that is nearer than gamma; all else is background. An object may
have several key points, and so may the background (*negative* points, which the paper doesn't
have): a cell that is nearer to a negative point than to the object is background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

from vos_ros.geometry.masks import inner_point
from vos_ros.segmentation.networks.decoder import resize
from vos_ros.segmentation.networks.embedding import squared_distance
from vos_ros.segmentation.networks.one_point import OnePointNet

NEGATIVE = -1
"""Owner of key points of the background."""


@dataclass(frozen=True, eq=False, slots=True)
class KeyPoints:
    """Hold embeddings x_k of K pixels whose object is known."""

    embeddings: Float[torch.Tensor, "K D"]
    """The embeddings, see ``embeddings_at``."""
    owners: Int[torch.Tensor, "K"]
    """Row 0..N-1 of the object of each, or ``NEGATIVE``."""


def inner_key_points(
    net: OnePointNet,
    embedding: Float[torch.Tensor, "D h w"],
    masks: Sequence[Bool[np.ndarray, "H W"]],
) -> KeyPoints:
    """Return one key point per object, the ``inner_point`` of its mask.

    The masks have the size of the network's input. Raises ValueError: an empty mask.
    """
    points = torch.tensor([inner_point(m) for m in masks], dtype=torch.float32).reshape(-1, 2)
    device = embedding.device
    return KeyPoints(
        embeddings_at(net, embedding, points.to(device)), torch.arange(len(masks), device=device)
    )


def embeddings_at(
    net: OnePointNet,
    embedding: Float[torch.Tensor, "D h w"],
    points: Float[torch.Tensor, "K 2"],
) -> Float[torch.Tensor, "K D"]:
    """Return the embeddings at (x, y), px of the network's input, between cells bilinear."""
    spec = net.spec
    first = 0.0 if spec.aligned else (spec.stride - 1) / 2  # px of cell (0, 0)
    last = embedding.new_tensor([embedding.shape[2] - 1, embedding.shape[1] - 1])
    at = ((points - first) / spec.stride) / last.clamp_min(1) * 2 - 1
    values = F.grid_sample(
        embedding[None], at[None, None], padding_mode="border", align_corners=True
    )[0, :, 0].t()
    return F.normalize(values, dim=1) if spec.normalize else values


def distances(
    embedding: Float[torch.Tensor, "D h w"], keys: KeyPoints, objects: int
) -> tuple[Float[torch.Tensor, "N h w"], Float[torch.Tensor, "h w"]]:
    """Return each cell's distance to the closest key point of each object, and of the background.

    The least of the former over the objects is D of eq. (3.5). A distance is infinite where there
    is no such key point.
    """
    h, w = embedding.shape[1:]
    rows = embedding.flatten(1).t()
    to_keys = squared_distance(keys.embeddings, rows).clamp_min(1e-12).sqrt()
    nearest = to_keys.new_full((objects + 1, h * w), torch.inf)
    owners = torch.where(keys.owners == NEGATIVE, objects, keys.owners)
    nearest = nearest.scatter_reduce(0, owners[:, None].expand_as(to_keys), to_keys, "amin")
    nearest = nearest.reshape(-1, h, w)
    return nearest[:-1], nearest[-1]


@dataclass(frozen=True, eq=False, slots=True)
class Cells:
    """Hold the cells of an embedding in the form in which many distances to them are quick."""

    extended: torch.Tensor
    """(D + 1, h, w): x, and 1."""
    squares: Float[torch.Tensor, "h w"]
    """||x||^2."""

    @classmethod
    def of(cls, embedding: Float[torch.Tensor, "D h w"], dtype: torch.dtype) -> Cells:
        """Prepare an embedding; ``dtype`` is that of the products.

        Of unit vectors, bf16 gives distances within 0.1 of 0 and within 0.01 from 0.4 on.
        """
        ones = F.pad(embedding, (0, 0, 0, 0, 0, 1), value=1.0)
        return cls(ones.to(dtype), embedding.square().sum(0))

    def part(self, rows: slice, columns: slice) -> Cells:
        """Return some of the cells."""
        return Cells(self.extended[:, rows, columns], self.squares[rows, columns])

    def nearest(
        self, groups: Sequence[Float[torch.Tensor, "K D"]]
    ) -> list[Float[torch.Tensor, "h w"]]:
        """Return each cell's distance to the closest key point of each group; infinite if empty.

        min_k ||x - k||^2 = ||x||^2 - 2 max_k (k x - ||k||^2 / 2): one matrix product for all.
        """
        keys = torch.cat(list(groups))
        shifted = torch.cat([keys, keys.square().sum(1, keepdim=True) / -2], 1)
        product = shifted.to(self.extended.dtype) @ self.extended.flatten(1)
        shape = self.squares.shape
        return [
            (self.squares - 2 * part.amax(0).float().reshape(shape)).clamp_min(1e-12).sqrt()
            if len(part)
            else torch.full_like(self.squares, torch.inf)
            for part in torch.split(product, [len(g) for g in groups])
        ]


def nearest(
    embedding: Float[torch.Tensor, "D h w"], keys: Float[torch.Tensor, "K D"]
) -> Float[torch.Tensor, "h w"]:
    """Return each cell's distance to the closest of some key points; infinite if there are none."""
    return Cells.of(embedding, torch.float32).nearest([keys])[0]


def object_logits(
    net: OnePointNet, to_objects: Float[torch.Tensor, "N h w"], to_background: torch.Tensor
) -> Float[torch.Tensor, "N h w"]:
    """Return the log-odds that a cell is the object, of each object for itself.

    They are 0 at the distance gamma, or at that to the nearest negative point where it is less;
    their sigmoids are what ``soft_aggregate`` takes.
    """
    soft = torch.exp(-net.log_softness)
    return (torch.minimum(net.gamma, to_background) - to_objects) * soft


def labels(logits: Float[torch.Tensor, "N H W"]) -> Int[torch.Tensor, "H W"]:
    """Return M of eq. (3.6): 0 background, n + 1 the object of row n."""
    best, row = logits.max(0)
    return torch.where(best >= 0, row + 1, 0)


def segment(
    net: OnePointNet,
    embedding: Float[torch.Tensor, "D h w"],
    keys: KeyPoints,
    objects: int,
    size: tuple[int, int],
) -> Int[torch.Tensor, "H W"]:
    """Return M of eq. (3.6) for the pixels of an image of (H, W) ``size``.

    The log-odds of cells are interpolated, not the embeddings: D times less to do.
    """
    logits = object_logits(net, *distances(embedding, keys, objects))
    return labels(resize(logits[None], size, net.spec.aligned)[0])


def nearest_in_previous(
    embedding: Float[torch.Tensor, "D h w"],
    previous: Float[torch.Tensor, "D h w"],
    owned: Bool[torch.Tensor, "N h w"],
    radius: int,
) -> Float[torch.Tensor, "N h w"]:
    """Return each cell's distance to the closest key point of the previous frame around it.

    Args:
        embedding: of the present frame.
        previous: of the previous frame.
        owned: the cells of the previous frame that are key points, of each of N owners.
        radius: how far from a cell they may be, in cells, along each axis.

    Returns: the distances; infinite where there is no key point so near.
    """
    h, w = embedding.shape[1:]
    squares, previous_squares = embedding.square().sum(0), previous.square().sum(0)
    closed = torch.zeros_like(owned, dtype=embedding.dtype).masked_fill_(~owned, torch.inf)
    nearest = torch.full_like(closed, torch.inf)
    for dy in range(-min(radius, h - 1), min(radius, h - 1) + 1):
        rows, rows_then = _overlap(h, dy)
        for dx in range(-min(radius, w - 1), min(radius, w - 1) + 1):
            columns, columns_then = _overlap(w, dx)
            now, then = (..., rows, columns), (..., rows_then, columns_then)
            product = torch.einsum("dhw,dhw->hw", embedding[now], previous[then])
            distance = squares[now] + previous_squares[then] - 2 * product
            torch.minimum(nearest[now], distance + closed[then], out=nearest[now])
    return nearest.clamp_min(1e-12).sqrt()


def _overlap(n: int, shift: int) -> tuple[slice, slice]:
    """Return the range of n indices, and that range shifted, where both lie within them."""
    return slice(max(0, -shift), n - max(0, shift)), slice(max(0, shift), n - max(0, -shift))
