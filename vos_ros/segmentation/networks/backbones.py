"""What networks of ours on a backbone share: the backbone itself, its input, its grid.

Two kinds of grid: ``aligned`` networks take images of 32k+1 px and cell (i, j) of a map of stride s
sits on pixel (s i, s j); the others take 32k px. Batch norms keep their statistics in training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import nn

from vos_ros.segmentation.networks import mobilenet_v2, resnet
from vos_ros.segmentation.networks.images import CONVENTIONS, normalise

GRID = 32
"""px of the image per cell of the deepest map."""


def check_names(backbone: str, backbones: Sequence[str], convention: str) -> None:
    """Check the names in a spec. Raises ValueError: one that is not known."""
    for what, name, known in (
        ("backbone", backbone, backbones),
        ("input convention", convention, CONVENTIONS),
    ):
        if name not in known:
            raise ValueError(f"{what} {name!r}: known are {', '.join(known)}")


def build_backbone(
    name: str, *, stride_in_1x1: bool = False, output_stride: int = GRID
) -> tuple[nn.Module, dict[int, int]]:
    """Return a backbone, freshly initialised, and the channels of its map of each stride.

    Args:
        name: mobilenet_v2, or resnet and its depth.
        stride_in_1x1: whether a ResNet's bottlenecks stride in the first 1x1 convolution.
        output_stride: stride below which no map gets; the keys of the maps stay as they are.

    Raises ValueError: a ResNet of another depth.
    """
    if name == "mobilenet_v2":
        return mobilenet_v2.MobileNetV2(output_stride=output_stride), dict(mobilenet_v2.CHANNELS)
    depth = int(name.removeprefix("resnet"))
    return (
        resnet.ResNet(depth, stride_in_1x1=stride_in_1x1, output_stride=output_stride),
        resnet.channels(depth),
    )


def keep_statistics(module: nn.Module) -> None:
    """Put the batch norms of a module into eval mode."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()


def fits(height: int, width: int, aligned: bool) -> tuple[int, int]:
    """Return the nearest (h, w), px, of an image on the grid: 32k, or 32k+1 if aligned."""
    more = 1 if aligned else 0
    h, w = (max(1, round((n - more) / GRID)) * GRID + more for n in (height, width))
    return h, w


def check_fits(rgb: torch.Tensor, aligned: bool) -> None:
    """Raise ValueError where images (..., H, W) don't fit the grid; it names the size that does."""
    size = (int(rgb.shape[-2]), int(rgb.shape[-1]))
    if size != fits(*size, aligned):
        h, w = fits(*size, aligned)
        raise ValueError(
            f"an image of {size[1]}x{size[0]} px doesn't fit the network's grid: resize it to"
            f" {w}x{h}"
        )


def image_input(
    rgb: UInt8[torch.Tensor, "S 3 H W"] | Float[torch.Tensor, "S 3 H W"],
    convention: str,
    dtype: torch.dtype,
) -> Float[torch.Tensor, "S 3 H W"]:
    """Convert RGB images of 0..255 to a backbone's input, see ``images.normalise``."""
    return normalise(rgb, convention).to(dtype, memory_format=torch.channels_last)
