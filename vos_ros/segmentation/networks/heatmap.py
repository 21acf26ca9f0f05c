"""Heatmaps of points (paper 002, sec. 3.2): their equation, and the head that regresses them.

The head is a pyramid pooling module (PSPNet, Zhao et al. 2017, arXiv:1612.01105, fig. 3): means
over grids of 1, 2, 3 and 6 cells each way, each through a 1x1 convolution, are joined with the map,
and a 3x3 convolution reduces them. One head has a channel per point and sigma. Tensors in, tensors
out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

_BINS = (1, 2, 3, 6)


def heatmap(
    points: Float[torch.Tensor, "... 2"],
    sigmas: Sequence[float],
    cells: Float[torch.Tensor, "h w 2"],
) -> Float[torch.Tensor, "... S h w"]:
    """Return eq. (3.1) at places: H = exp(-4 log 2 |cell - point|^2 / sigma^2).

    sigma is the full width at half maximum.

    Args:
        points: (x, y), px.
        sigmas: S widths, px.
        cells: (x, y), px, of the places.
    """
    squared = (cells - points[..., None, None, :]).square().sum(-1)
    widths = torch.as_tensor(sigmas, dtype=cells.dtype, device=cells.device)[:, None, None]
    return torch.exp(-4 * math.log(2) * squared[..., None, :, :] / widths.square())


class HeatmapHead(nn.Module):
    """The pyramid pooling module: (B, c, h, w) to (B, K, S, h, w).

    Args:
        c_in: channels of the backbone's map.
        points: K.
        sigmas: S.
        width: channels inside.
    """

    def __init__(self, c_in: int, points: int, sigmas: int, width: int) -> None:
        super().__init__()
        self.shape = (points, sigmas)
        self.reduce = nn.Conv2d(c_in, width, 1)
        self.pools = nn.ModuleList(nn.Conv2d(width, width // len(_BINS), 1) for _ in _BINS)
        self.join = nn.Conv2d(width + width // len(_BINS) * len(_BINS), width, 3, padding=1)
        self.out = nn.Conv2d(width, points * sigmas, 1)
        for m in (self.reduce, *self.pools, self.join):
            assert isinstance(m, nn.Conv2d) and m.bias is not None
            nn.init.kaiming_normal_(m.weight, mode="fan_in")
            nn.init.zeros_(m.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[torch.Tensor, "B c h w"]) -> Float[torch.Tensor, "B K S h w"]:
        """Compute the heatmaps."""
        x = torch.relu(self.reduce(x))
        parts = [x]
        for bins, conv in zip(_BINS, self.pools, strict=True):
            pooled = torch.relu(conv(F.adaptive_avg_pool2d(x, bins)))
            parts.append(F.interpolate(pooled, x.shape[-2:], mode="bilinear", align_corners=True))
        out: torch.Tensor = self.out(torch.relu(self.join(torch.cat(parts, 1))))
        return out.reshape(len(x), *self.shape, *x.shape[-2:])


def heatmap_loss(
    found: Float[torch.Tensor, "B K S h w"], wanted: Float[torch.Tensor, "B K S h w"]
) -> Float[torch.Tensor, ""]:
    """Return the squared error, summed over cells and channels, as a mean over the images.

    The paper's rate of 1e-6 fits a sum; with a mean it would learn nothing.
    """
    return (found - wanted).square().sum() / len(found)
