"""The pixel embedding of paper 002 (sec. 3.1, 3.3): pixels of one instance lie close together.

A backbone whose last stages dilate their convolutions in place of striding (DeepLab, Chen et al.
2018, arXiv:1606.00915), so that its deepest map has a cell per 8 px, and a convolutional head that
reduces it to D numbers per cell. The head joins every cell with the mean of the whole image, as
DeepLab for MobileNetV2 does, and takes its weights (names ``aspp0``, ``image_pooling``,
``concat_projection``). Tensors in, tensors out.

Two kinds of grid, as in ``lwl``: ``aligned`` networks take images of 32k+1 px and cell (i, j) sits
on pixel (s i, s j), the others take 32k px.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import nn

from vos_ros.segmentation.networks import specs
from vos_ros.segmentation.networks.backbones import (
    GRID,
    build_backbone,
    check_fits,
    check_names,
    fits,
    image_input,
    keep_statistics,
)

BACKBONES = ("mobilenet_v2", "resnet50", "resnet101")
_GAMMA, _SOFTNESS = 0.5, 0.1  # before the training; 0.5 is the paper's threshold (sec. 4.3.2)

_FREE_SCALE = 0.1
"""Factor on the last convolution's initial weights without unit length: distances are then near 1,
as with it."""


@dataclass(frozen=True)
class OnePointSpec:
    """Architecture of an embedding network of paper 002."""

    backbone: str = "mobilenet_v2"
    """One of ``BACKBONES``."""
    stride_in_1x1: bool = False
    """Whether a ResNet's bottlenecks stride in the first 1x1 convolution."""
    convention: str = "tensorflow"
    """Input of the backbone, see ``images.normalise``."""
    aligned: bool = True
    """Kind of grid, see above."""
    stride: int = 8
    """px of the image per cell of the embedding, 8 or 16."""
    width: int = 256
    """Channels of the head."""
    dims: int = 128
    """D of the paper."""
    normalize: bool = True
    """Whether embeddings have unit length: distances are then 0..2."""

    def __post_init__(self) -> None:
        check_names(self.backbone, BACKBONES, self.convention)
        if self.stride not in (8, 16):
            raise ValueError(f"stride {self.stride} of the embedding: wanted 8 or 16")

    def to_json(self) -> str:
        """Return one line of JSON, which ``from_json`` reads back."""
        return specs.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> OnePointSpec:
        """Return the spec of ``to_json``. Raises ValueError: no spec, or one of another version."""
        return specs.from_json(cls, text, "an embedding of one_point")


SPECS: Mapping[str, OnePointSpec] = {
    "mobilenet_v2": OnePointSpec(),
    "resnet50": OnePointSpec(backbone="resnet50", convention="torchvision", aligned=False),
    "resnet101": OnePointSpec(backbone="resnet101", convention="torchvision", aligned=False),
}


class OnePointNet(nn.Module):
    """The network of a spec, freshly initialised.

    Batch norms keep their statistics in training too: ``train()`` leaves them in eval mode.
    ``gamma`` and ``log_softness`` belong to the embedding: a threshold on distances makes sense for
    the network alone that it was found with.
    """

    def __init__(self, spec: OnePointSpec) -> None:
        super().__init__()
        self.spec = spec
        self.feature_extractor, channels = build_backbone(
            spec.backbone, stride_in_1x1=spec.stride_in_1x1, output_stride=spec.stride
        )
        deepest = channels[GRID]
        self.aspp0 = nn.Conv2d(deepest, spec.width, 1)
        self.image_pooling = nn.Conv2d(deepest, spec.width, 1)
        self.concat_projection = nn.Conv2d(2 * spec.width, spec.width, 1)
        self.project = nn.Conv2d(spec.width, spec.dims, 1)
        self.gamma = nn.Parameter(torch.tensor(_GAMMA))
        self.log_softness = nn.Parameter(torch.tensor(math.log(_SOFTNESS)))
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_in")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        if not spec.normalize:
            with torch.no_grad():
                self.project.weight.mul_(_FREE_SCALE)
        self.train(self.training)

    def train(self, mode: bool = True) -> OnePointNet:
        super().train(mode)
        keep_statistics(self)
        return self

    def cast(self, dtype: torch.dtype) -> OnePointNet:
        """Convert the convolutions to another precision, for inference; the threshold stays fp32.

        Batch norms may have been folded before, see ``batch_norm.fold``.
        """
        for part in (
            self.feature_extractor,
            self.aspp0,
            self.image_pooling,
            self.concat_projection,
            self.project,
        ):
            part.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Return the precision of the convolutions, set by ``cast``; the output is always fp32."""
        return self.project.weight.dtype

    def fits(self, height: int, width: int) -> tuple[int, int]:
        """Return the nearest (h, w), px, that the network takes: 32k, or 32k+1 if aligned."""
        return fits(height, width, self.spec.aligned)

    def cells(self, height: int, width: int) -> tuple[int, int]:
        """Return the (h, w) of the embedding of an image of a size that fits."""
        return -(-height // self.spec.stride), -(-width // self.spec.stride)

    def forward(
        self, rgb: UInt8[torch.Tensor, "S 3 H W"] | Float[torch.Tensor, "S 3 H W"]
    ) -> Float[torch.Tensor, "S D h w"]:
        """Compute the embeddings of RGB images of 0..255, eq. (3.2), in fp32.

        Raises ValueError: a size that doesn't fit the grid.
        """
        check_fits(rgb, self.spec.aligned)
        image = image_input(rgb, self.spec.convention, self.dtype)
        deepest = self.feature_extractor(image)[GRID]
        cells = torch.relu(self.aspp0(deepest))
        whole = torch.relu(self.image_pooling(deepest.mean((2, 3), keepdim=True)))
        # the image's part of the projection is the same for all cells: computed once
        n, weight = self.spec.width, self.concat_projection.weight
        x = F.conv2d(cells, weight[:, n:]) + F.conv2d(
            whole, weight[:, :n], self.concat_projection.bias
        )
        out: torch.Tensor = self.project(torch.relu(x)).float()
        return F.normalize(out, dim=1) if self.spec.normalize else out
