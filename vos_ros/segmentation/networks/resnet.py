"""ResNet (He et al. 2016, arXiv:1512.03385, Table 1) as a feature pyramid.

Parameter names are those of torchvision, without the classifier.

Written from the paper. The stride of a bottleneck block sits in its 3x3 convolution (torchvision's
weights) or in its first 1x1 (the original MSRA and Caffe weights, and with them Mask R-CNN's).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import nn

from vos_ros.segmentation.networks.batch_norm import conv_bn

# depth: (blocks per stage, bottleneck blocks?)
_TABLE: dict[int, tuple[tuple[int, int, int, int], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}
DEPTHS = tuple(_TABLE)
_STRIDES = (4, 8, 16, 32)


def channels(depth: int) -> dict[int, int]:
    """Return the channels of the map of each stride.

    Raises ValueError: a depth that isn't in ``DEPTHS``.
    """
    if depth not in _TABLE:
        raise ValueError(f"ResNet-{depth}: known depths are {', '.join(map(str, DEPTHS))}")
    expansion = 4 if _TABLE[depth][1] else 1
    return {stride: 64 * 2**i * expansion for i, stride in enumerate(_STRIDES)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (fig. 5, left)."""

    def __init__(self, c_in: int, c_out: int, stride: int, dilation: tuple[int, int]) -> None:
        super().__init__()
        before, after = dilation
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, before, before, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, after, after, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = _shortcut(c_in, c_out, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(conv_bn(x, self.conv1, self.bn1))
        y = conv_bn(y, self.conv2, self.bn2)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 and a shortcut (fig. 5, right)."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        dilation: tuple[int, int],
        stride_in_1x1: bool,
    ) -> None:
        super().__init__()
        width = c_out // 4
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(c_in, width, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        d = dilation[stride_in_1x1]
        self.conv2 = nn.Conv2d(width, width, 3, second, d, d, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = _shortcut(c_in, c_out, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(conv_bn(x, self.conv1, self.bn1))
        y = torch.relu(conv_bn(y, self.conv2, self.bn2))
        y = conv_bn(y, self.conv3, self.bn3)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Shortcut(nn.Sequential):
    """A strided 1x1 convolution and its batch norm."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = self[0]
        assert isinstance(conv, nn.Conv2d)
        return conv_bn(x, conv, self[1])


def _shortcut(c_in: int, c_out: int, stride: int) -> Shortcut | None:
    """A strided 1x1 convolution where shape changes, else nothing."""
    if stride == 1 and c_in == c_out:
        return None
    return Shortcut(c_in, c_out, stride)


class ResNet(nn.Module):
    """The stem and four stages, at strides 4, 8, 16, 32.

    Args:
        depth: one of ``DEPTHS``.
        stride_in_1x1: where the bottlenecks stride, see above.
        output_stride: stride below which no map gets: later stages dilate their convolutions in
            place of it (Chen et al. 2017, arXiv:1706.05587, sec. 3.1).

    Raises ValueError: a depth that isn't in ``DEPTHS``.
    """

    def __init__(
        self, depth: int = 50, *, stride_in_1x1: bool = False, output_stride: int = 32
    ) -> None:
        super().__init__()
        self.channels = channels(depth)
        blocks, bottleneck = _TABLE[depth]
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c_in, dilation = 64, 1
        for i, (count, c_out) in enumerate(zip(blocks, self.channels.values(), strict=True)):
            stage: list[nn.Module] = []
            for k in range(count):
                stride, after = 2 if i > 0 and k == 0 else 1, dilation
                if stride == 2 and _STRIDES[i] > output_stride:
                    stride, after = 1, 2 * dilation
                # dilations before and after the place where the block strides, or would
                both = (dilation, after)
                stage.append(
                    Bottleneck(c_in, c_out, stride, both, stride_in_1x1)
                    if bottleneck
                    else BasicBlock(c_in, c_out, stride, both)
                )
                c_in, dilation = c_out, after
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))

    def forward(self, image: Float[torch.Tensor, "B 3 H W"]) -> dict[int, torch.Tensor]:
        """Return features by stride: {stride: (B, c, ceil(H/stride), ceil(W/stride))}.

        The image is in the convention of the weights. With an ``output_stride`` the keys stay
        those of the paper's table, the maps are larger.
        """
        x = self.maxpool(torch.relu(conv_bn(image, self.conv1, self.bn1)))
        out: dict[int, torch.Tensor] = {}
        for i, stride in enumerate(_STRIDES):
            x = self.get_submodule(f"layer{i + 1}")(x)
            out[stride] = x
        return out
