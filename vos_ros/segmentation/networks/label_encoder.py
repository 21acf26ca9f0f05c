"""Labels of the target model: label generator E, weight predictor W, and box encoder B.

Paper 003 sec. 3.2 and 3.4, for B sec. 3.7. Parameter names are those of the published checkpoints.
Tensors in, tensors out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions without bias and batch norm; a 3x3 shortcut with bias."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.downsample = nn.Conv2d(c_in, c_out, 3, stride, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.downsample(x))


class LabelEncoder(nn.Module):
    """E and W on a shared trunk.

    The input is a mask of the image's size. The outputs, at stride 16, are D channels of labels
    (>= 0) and of weights (of any sign; eq. (3) squares them). W is 1 everywhere at first.
    """

    def __init__(self, dims: tuple[int, int, int], num_filters: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(1, dims[0], 3, 2, 1), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.res1 = ResidualBlock(dims[0], dims[1], 2)
        self.res2 = ResidualBlock(dims[1], dims[2], 2)
        self.label_pred = nn.Sequential(nn.Conv2d(dims[2], num_filters, 3, 1, 1), nn.ReLU())
        self.samp_w_pred = nn.Conv2d(dims[2], num_filters, 3, 1, 1)

    def initialise(self) -> None:
        """Make W 1 for every mask."""
        nn.init.zeros_(self.samp_w_pred.weight)
        assert self.samp_w_pred.bias is not None
        nn.init.ones_(self.samp_w_pred.bias)

    def forward(
        self, mask: Float[torch.Tensor, "M 1 H W"]
    ) -> tuple[Float[torch.Tensor, "M D h w"], Float[torch.Tensor, "M D h w"]]:
        """Return labels and weights of soft masks in 0..1."""
        x = self.res2(self.res1(self.pool(self.conv_block(mask))))
        return self.label_pred(x), self.samp_w_pred(x)


class BoxEncoder(nn.Module):
    """B: encodes the mask of the object in a box, at stride 16, from target features there."""

    def __init__(self, channels: int, num_filters: int, width: int = 64) -> None:
        super().__init__()
        self.res = nn.Sequential(
            ResidualBlock(channels + 1, width, 1), ResidualBlock(width, width, 1)
        )
        self.label_pred = nn.Sequential(nn.Conv2d(width, num_filters, 3, 1, 1), nn.ReLU())

    def forward(
        self,
        features: Float[torch.Tensor, "M C h w"],
        box: Float[torch.Tensor, "M 1 H W"],
        align_corners: bool,
    ) -> Float[torch.Tensor, "M D h w"]:
        """Return the encoding; ``box`` is 1 inside and 0 outside, of the image's size."""
        cells = F.interpolate(
            box, features.shape[-2:], mode="bilinear", align_corners=align_corners
        )
        out: torch.Tensor = self.label_pred(self.res(torch.cat([features, cells], 1)))
        return out
