"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, Table 2) as a feature pyramid.

Parameter names are those of torchvision. Written from the paper's table. Batch norm's epsilon is
1e-3, that of the TensorFlow models whose weights are in circulation under torchvision's names;
input x/127.5 - 1, RGB. Where height and width are 32k+1, TensorFlow's "SAME" padding and the
symmetric padding used here agree, and cell (i, j) of the stride-s map is centred on pixel (s i, s
j).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import nn

from vos_ros.segmentation.networks.batch_norm import conv_bn

# expansion t, channels c, repeats n, stride s: Table 2 of the paper
_TABLE = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# last block of each stride: index into ``features``
LAST_BLOCK = {2: 1, 4: 3, 8: 6, 16: 13, 32: 17}
CHANNELS = {2: 16, 4: 24, 8: 32, 16: 96, 32: 320}
_BN_EPS = 1e-3


class ConvNormReLU6(nn.Sequential):
    """A convolution, its batch norm, and the activation."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        padding = kernel // 2 * dilation
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, groups, bias=False),
            nn.BatchNorm2d(c_out, eps=_BN_EPS),
            nn.ReLU6(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self[0]
        assert isinstance(conv, nn.Conv2d)
        out: torch.Tensor = self[2](conv_bn(x, conv, self[1]))
        return out


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, linear bottleneck (paper fig. 4d)."""

    def __init__(
        self, c_in: int, c_out: int, stride: int, expansion: int, dilation: int = 1
    ) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.residual = stride == 1 and c_in == c_out
        expand = [ConvNormReLU6(c_in, hidden, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            ConvNormReLU6(hidden, hidden, 3, stride, hidden, dilation),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out, eps=_BN_EPS),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bottleneck = self.conv[-2]
        assert isinstance(bottleneck, nn.Conv2d)
        y: torch.Tensor = x
        for i in range(len(self.conv) - 2):
            y = self.conv[i](y)
        y = conv_bn(y, bottleneck, self.conv[-1])
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Blocks 0..17 of the paper's table (all but the 1280-channel head), down to ``max_stride``.

    Args:
        max_stride: the blocks end with those that have this stride in the paper's table.
        output_stride: stride below which no map gets: later blocks dilate their convolutions
            in place of it, so that weights of one serve the other (Chen et al. 2017,
            arXiv:1706.05587, sec. 3.1).
    """

    def __init__(self, max_stride: int = 32, output_stride: int = 32) -> None:
        super().__init__()
        blocks: list[nn.Module] = [ConvNormReLU6(3, 32, 3, 2)]
        c_in, reached, dilation = 32, 2, 1
        for t, c, n, s in _TABLE:
            for i in range(n):
                stride, next_dilation = s if i == 0 else 1, dilation
                if reached * stride > output_stride:
                    stride, next_dilation = 1, dilation * stride
                blocks.append(InvertedResidual(c_in, c, stride, t, dilation))
                c_in, reached, dilation = c, reached * stride, next_dilation
        self.features = nn.Sequential(*blocks[: LAST_BLOCK[max_stride] + 1])
        self.max_stride = max_stride

    def forward(self, image: Float[torch.Tensor, "B 3 H W"]) -> dict[int, torch.Tensor]:
        """Return features by stride of an image in -1..1: {stride: (B, c, H/stride, W/stride)}.

        With an ``output_stride`` the keys stay those of the paper's table, the maps are larger.
        """
        out: dict[int, torch.Tensor] = {}
        ends = {index: stride for stride, index in LAST_BLOCK.items()}
        x = image
        for i, block in enumerate(self.features):
            x = block(x)
            if i in ends:
                out[ends[i]] = x
        return out
