"""Features that need no training: colour and texture energy at several scales."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn

ORIENTATIONS = 4
SCALES = (1, 2, 4)


class ClassicalFeatures(nn.Module):
    """Computes colours and texture energies at several scales, without any training.

    Per scale: luminance and two opponent colours, and rectified Gabor energies of the luminance
    (Jain and Farrokhnia 1991) at four orientations.
    """

    def __init__(self) -> None:
        super().__init__()
        kernels = []
        yy, xx = torch.meshgrid(torch.arange(-3.0, 4.0), torch.arange(-3.0, 4.0), indexing="ij")
        envelope = torch.exp(-(xx**2 + yy**2) / (2 * 1.6**2))
        for k in range(ORIENTATIONS):
            a = math.pi * k / ORIENTATIONS
            for phase in (torch.cos, torch.sin):
                g = envelope * phase(2 * math.pi * (xx * math.cos(a) + yy * math.sin(a)) / 5.0)
                g = g - envelope * (g.sum() / envelope.sum())
                kernels.append(g / g.norm())
        self.register_buffer("gabor", torch.stack(kernels)[:, None], persistent=False)
        self.gabor: torch.Tensor

    @property
    def channels(self) -> int:
        """Return the number of feature channels."""
        return len(SCALES) * (3 + ORIENTATIONS)

    def forward(
        self, image: Float[torch.Tensor, "B 3 H W"], size: tuple[int, int]
    ) -> Float[torch.Tensor, "B C h w"]:
        """Return the features of an RGB image in -1..1 at (h, w) = ``size``."""
        r, g, b = image.unbind(1)
        planes = torch.stack([(r + g + b) / 3, (r - g) / 2, (r + g - 2 * b) / 4], 1)
        out = []
        for scale in SCALES:
            # odd boxes around pixels 0, s, 2s, ... keep the grid of the image's corners, and so
            # that of the cells
            x = (
                F.avg_pool2d(planes, scale + 1, scale, scale // 2, count_include_pad=False)
                if scale > 1
                else planes
            )
            response = F.conv2d(F.pad(x[:, :1], (3, 3, 3, 3), mode="replicate"), self.gabor)
            energy = (
                response.reshape(len(response), ORIENTATIONS, 2, *response.shape[2:])
                .square()
                .sum(2)
                .add(1e-6)
                .sqrt()
            )
            # a box as wide as a cell around each cell's centre, so that no texture is skipped
            stride = max(1, round((x.shape[-1] - 1) / max(size[1] - 1, 1)))
            maps = F.avg_pool2d(
                torch.cat([x, energy], 1),
                stride // 2 * 2 + 1,
                stride,
                stride // 2,
                count_include_pad=False,
            )
            if maps.shape[-2:] != size:  # an image whose sides are no multiple of the stride plus 1
                maps = F.interpolate(maps, size, mode="bilinear", align_corners=True)
            out.append(maps)
        return torch.cat(out, 1)
