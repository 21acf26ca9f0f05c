"""The metric pixel embedding of paper 000 (sec. 4.1).

A fully convolutional network gives every pixel a d-dimensional vector: pixels of one object are
close together, those of different objects far apart.


A backbone and a feature pyramid (Lin et al. 2017, arXiv:1612.03144, fig. 3): each stride's map
through a 1x1 convolution, added to the coarser level's, from stride 32 down to the embedding's.
Tensors in, tensors out.

Two kinds of grid, as in ``lwl``: ``aligned`` networks take images of 32k+1 px and cell (i, j) sits
on pixel (s i, s j), the others take 32k px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import nn

from vos_ros.segmentation.networks import specs
from vos_ros.segmentation.networks.backbones import (
    build_backbone,
    check_fits,
    check_names,
    fits,
    image_input,
    keep_statistics,
)
from vos_ros.segmentation.networks.decoder import resize

STRIDES = (32, 16, 8, 4)  # coarse to fine, the order of work
BACKBONES = ("mobilenet_v2", "resnet50", "resnet101")
_EPS = 1e-5
_INITIAL_SCALE = 0.05
"""Factor on the last convolution's initial weights: squared distances are about 1 then, where
eq. (1) is neither 0 nor 1."""


@dataclass(frozen=True)
class EmbeddingSpec:
    """Architecture of an embedding network."""

    backbone: str = "mobilenet_v2"
    """One of ``BACKBONES``."""
    stride_in_1x1: bool = False
    """Whether a ResNet's bottlenecks stride in the first 1x1 convolution."""
    convention: str = "tensorflow"
    """Input of the backbone, see ``images.normalise``."""
    aligned: bool = True
    """Kind of grid, see above."""
    dims: int = 32
    """d of the paper."""
    stride: int = 4
    """px of the image per cell of the embedding, 4 or 8."""
    width: int = 64
    """Channels of the pyramid."""

    def __post_init__(self) -> None:
        check_names(self.backbone, BACKBONES, self.convention)
        if self.stride not in (4, 8):
            raise ValueError(f"stride {self.stride} of the embedding: wanted 4 or 8")

    def to_json(self) -> str:
        """Return one line of JSON, which ``from_json`` reads back."""
        return specs.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> EmbeddingSpec:
        """Return the spec of ``to_json``. Raises ValueError: no spec, or one of another version."""
        return specs.from_json(cls, text, "an embedding")


SPECS: Mapping[str, EmbeddingSpec] = {
    "mobilenet_v2": EmbeddingSpec(),
    "resnet50": EmbeddingSpec(
        backbone="resnet50", convention="torchvision", aligned=False, width=128
    ),
    "resnet101": EmbeddingSpec(
        backbone="resnet101", convention="torchvision", aligned=False, width=128
    ),
}


def squared_distance(
    a: Float[torch.Tensor, "*n P d"], b: Float[torch.Tensor, "*n K d"]
) -> Float[torch.Tensor, "*n P K"]:
    """Return ||f_a - f_b||^2 of all pairs, >= 0."""
    squares = a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :]
    return (squares - 2 * a @ b.transpose(-1, -2)).clamp_min(0)


def similarity(distance: Float[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n"]:
    """Return 2 / (1 + exp(x)) of squared distances x, eq. (1): 1 for equal features, else less.

    Eq. (1) of the paper as printed lacks the factor 2, and so would never exceed 0.5: equal
    features would cost log 2 in the loss, eq. (2), which takes it for the probability that two
    pixels belong together (the sentence before eq. (1), which wants 0 there, describes its
    complement). The source that it cites has the 2 (Fathi et al. 2017, arXiv:1703.10277, eq. (1)).
    """
    return 2 * torch.sigmoid(-distance)


class EmbeddingNet(nn.Module):
    """The network of a spec, freshly initialised.

    Batch norms keep their statistics in training too: ``train()`` leaves them in eval mode. Every
    map of the backbone is scaled, pixel by pixel, to a mean square of 1 over its channels before it
    enters the pyramid, so that the strides count alike whatever the backbone.
    """

    def __init__(self, spec: EmbeddingSpec) -> None:
        super().__init__()
        self.spec = spec
        self.feature_extractor, channels = build_backbone(
            spec.backbone, stride_in_1x1=spec.stride_in_1x1
        )
        self.strides = tuple(s for s in STRIDES if s >= spec.stride)
        self.lateral = nn.ModuleDict(
            {f"stride{s}": nn.Conv2d(channels[s], spec.width, 1) for s in self.strides}
        )
        self.smooth = nn.ModuleDict(
            {f"stride{s}": nn.Conv2d(spec.width, spec.width, 3, padding=1) for s in self.strides}
        )
        self.project = nn.Conv2d(spec.width, spec.dims, 1)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_in")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        with torch.no_grad():
            self.project.weight.mul_(_INITIAL_SCALE)
        self.train(self.training)

    def train(self, mode: bool = True) -> EmbeddingNet:
        super().train(mode)
        keep_statistics(self)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Return the precision of the convolutions, set by ``to``; the output is always fp32."""
        return self.project.weight.dtype

    def fits(self, height: int, width: int) -> tuple[int, int]:
        """Return the nearest (h, w), px, that the network takes: 32k, or 32k+1 if aligned."""
        return fits(height, width, self.spec.aligned)

    def cells(self, height: int, width: int) -> tuple[int, int]:
        """Return the (h, w) of the embedding of an image of a size that fits."""
        return -(-height // self.spec.stride), -(-width // self.spec.stride)

    def extract(
        self, rgb: UInt8[torch.Tensor, "S 3 H W"] | Float[torch.Tensor, "S 3 H W"]
    ) -> dict[int, torch.Tensor]:
        """Compute backbone features by stride of RGB images of 0..255.

        Raises ValueError: a size that doesn't fit the grid.
        """
        check_fits(rgb, self.spec.aligned)
        image = image_input(rgb, self.spec.convention, self.dtype)
        maps: dict[int, torch.Tensor] = self.feature_extractor(image)
        return {s: maps[s] for s in self.strides}

    def embed(
        self, maps: Mapping[int, Float[torch.Tensor, "S c h w"]]
    ) -> Float[torch.Tensor, "S d h w"]:
        """Compute the embedding, in fp32, of backbone features by stride: the pyramid alone."""
        x: torch.Tensor | None = None
        for s in self.strides:
            own = self.lateral[f"stride{s}"](
                maps[s] * torch.rsqrt(maps[s].square().mean(1, keepdim=True) + _EPS)
            )
            x = own if x is None else own + resize(x, own.shape[-2:], self.spec.aligned)
            x = torch.relu(self.smooth[f"stride{s}"](x))
        out: torch.Tensor = self.project(x)
        return out.float()

    def forward(
        self, rgb: UInt8[torch.Tensor, "S 3 H W"] | Float[torch.Tensor, "S 3 H W"]
    ) -> Float[torch.Tensor, "S d h w"]:
        """Compute the embeddings of RGB images of 0..255; a cell is ``spec.stride`` px.

        Raises ValueError: a size that doesn't fit the grid.
        """
        return self.embed(self.extract(rgb))
