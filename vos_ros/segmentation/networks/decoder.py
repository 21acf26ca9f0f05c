"""The segmentation decoder D of LWL (paper 003 sec. 3.4).

It makes masks of the mask encodings of many objects and the features of their frames (after
Robinson et al. 2020, arXiv:2003.00908, fig. 2). Parameter names are those of the published
checkpoints.

What depends on the image alone is computed once per frame (``context``) and shared by its objects.
That includes the image's part of each level's first convolution: a convolution of concatenated maps
is the sum of the convolutions of the parts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import nn

from vos_ros.segmentation.networks.batch_norm import conv_bn

STRIDES = (32, 16, 8, 4)  # coarse to fine, the order of work
_EPS = 1e-5
_CUBIC = (
    -0.03515625,
    0.26171875,
    0.87890625,
    -0.10546875,
)  # the cubic's weights of samples at -1.75, -0.75, 0.25, 1.25
_NAMES = {32: "layer4", 16: "layer3", 8: "layer2", 4: "layer1"}


class Context(NamedTuple):
    """The image's part of the decoder's work for S frames."""

    shares: dict[int, Float[torch.Tensor, "S n h w"]]
    """Per stride, the image's share of the first convolution."""
    deepest: Float[torch.Tensor, "S c h w"]
    """Features of the deepest level."""

    def of_frames(self, index: Int[torch.Tensor, "M"]) -> Context:
        """Return the context of frames by position, which may repeat."""
        return Context(
            {s: x.index_select(0, index) for s, x in self.shares.items()},
            self.deepest.index_select(0, index),
        )

    def crop(self, y: tuple[int, int], x: tuple[int, int], more: int) -> Context:
        """Return a window, in units of the coarsest stride.

        Args:
            y: first row and end.
            x: first column and end.
            more: 1 where maps belong to images of 32k+1 px, whose last cell belongs to the window
                too, else 0.
        """
        return Context(
            {s: window(v, y, x, s, more) for s, v in self.shares.items()},
            window(self.deepest, y, x, STRIDES[0], more),
        )


def window(
    maps: Float[torch.Tensor, "... h w"],
    y: tuple[int, int],
    x: tuple[int, int],
    stride: int,
    more: int,
) -> Float[torch.Tensor, "... h2 w2"]:
    """Return the part of a map of a stride for ``Context.crop``, whose arguments these are."""
    f = STRIDES[0] // stride
    return maps[..., y[0] * f : y[1] * f + more, x[0] * f : x[1] * f + more]


class Encoding(nn.Module):
    """TSE: joins the level's features and the mask encoding."""

    def __init__(self, c_in: int, c_out: int, c_scores: int, layers: int) -> None:
        super().__init__()
        self.c_out = c_out
        self.reduce = nn.Sequential(
            nn.Conv2d(c_in, c_out, 1), nn.ReLU(), nn.Conv2d(c_out, c_out, 1)
        )
        width = c_out + c_scores
        convolutions: list[nn.Module] = []
        for i in range(layers):
            c = c_out if i == layers - 1 else width
            convolutions += [nn.Conv2d(width, c, 3, 1, 1), nn.ReLU()]
        self.transform = nn.Sequential(*convolutions)

    def initialise(self) -> None:
        """Give the first convolution's parts for image and mask encoding the same variance."""
        first = self.transform[0]
        assert isinstance(first, nn.Conv2d)
        with torch.no_grad():
            for part in (first.weight[:, : self.c_out], first.weight[:, self.c_out :]):
                part.normal_(0.0, (part.shape[1] * 9) ** -0.5)

    def image_part(
        self, features: Float[torch.Tensor, "S c h w"]
    ) -> tuple[Float[torch.Tensor, "S n h w"], Float[torch.Tensor, "S k h w"]]:
        """Return the image's share of the first convolution, and the reduced features."""
        h = self.reduce(features)
        first = self.transform[0]
        assert isinstance(first, nn.Conv2d)
        return F.conv2d(h, first.weight[:, : self.c_out], first.bias, padding=1), h

    def forward(
        self, share: Float[torch.Tensor, "S n h w"], scores: Float[torch.Tensor, "M d h w"]
    ) -> Float[torch.Tensor, "M k h w"]:
        """Return this level's map from ``scores`` of its size; M = S N, frame after frame."""
        first = self.transform[0]
        assert isinstance(first, nn.Conv2d)
        x = F.conv2d(scores, first.weight[:, self.c_out :], padding=1)
        x = (x.reshape(share.shape[0], -1, *x.shape[1:]) + share[:, None]).flatten(0, 1)
        out: torch.Tensor = self.transform[1:](x)
        return out


class Refinement(nn.Module):
    """RRB: residual refinement."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(c, c, 1)
        self.bblock = nn.Sequential(
            nn.Conv2d(c, c, 3, 1, 1),
            nn.BatchNorm2d(c),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, 1, 1, bias=False),
        )

    def forward(self, x: Float[torch.Tensor, "M c h w"]) -> Float[torch.Tensor, "M c h w"]:
        h = self.conv1x1(x)
        first, norm, activation, second = self.bblock
        assert isinstance(first, nn.Conv2d)
        return torch.relu(h + second(activation(conv_bn(h, first, norm))))


class ChannelAttention(nn.Module):
    """CAB: the deeper level weights the channels of the shallower one, and is added to it."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.convreluconv = nn.Sequential(nn.Conv2d(2 * c, c, 1), nn.ReLU(), nn.Conv2d(c, c, 1))

    def forward(
        self,
        deeper: Float[torch.Tensor, "M c h2 w2"],
        shallower: Float[torch.Tensor, "M c h w"],
        align_corners: bool,
    ) -> Float[torch.Tensor, "M c h w"]:
        pooled = torch.cat(
            [shallower.mean((2, 3), keepdim=True), deeper.mean((2, 3), keepdim=True)], 1
        )
        gate = torch.sigmoid(self.convreluconv(pooled))
        if deeper.shape[-2:] == (1, 1):
            return shallower * gate + deeper
        return shallower * gate + resize(deeper, shallower.shape[-2:], align_corners)


class Upsampler(nn.Module):
    """The published tail: bicubic to stride 2, 3x3, bicubic to the image, 3x3."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, c // 2, 3, 1, 1)
        self.conv2 = nn.Conv2d(c // 2, 1, 3, 1, 1)

    def forward(
        self, x: Float[torch.Tensor, "M c h w"], size: tuple[int, int], align_corners: bool
    ) -> Float[torch.Tensor, "M 1 H W"]:
        less = 1 if align_corners else 0  # grids of 32k+1 px have 2n-1 cells at half the stride
        x = _bicubic(x, (2 * x.shape[-2] - less, 2 * x.shape[-1] - less), align_corners)
        x = torch.relu(self.conv1(x))
        # a 3x3 convolution to one channel is the sum of nine shifted 1x1 ones, which can go before
        # the interpolation: 9 planes to interpolate instead of c/2
        taps = F.conv2d(x, self.conv2.weight[0].flatten(1).t()[:, :, None, None])
        planes = F.pad(_bicubic(taps, size, align_corners), (1, 1, 1, 1))
        h, w = size
        shifted = [planes[:, 3 * i + j, i : i + h, j : j + w] for i in range(3) for j in range(3)]
        assert self.conv2.bias is not None
        return torch.stack(shifted).sum(0)[:, None] + self.conv2.bias


def _bicubic(
    x: Float[torch.Tensor, "M c h w"], size: tuple[int, int], align_corners: bool
) -> Float[torch.Tensor, "M c H W"]:
    """Interpolate as torch's bicubic (A = -0.75), whose CPU kernel is several times slower.

    There are twice as many samples each way, a quarter before and a quarter after each old one,
    with repeated borders: each of the four kinds of new pixel is a 5x5 convolution per channel.
    """
    m, c, h, w = x.shape
    if align_corners or size != (2 * h, 2 * w):
        return F.interpolate(x, size, mode="bicubic", align_corners=align_corners)
    before = x.new_tensor((*_CUBIC, 0.0))
    padded = F.pad(x.contiguous(memory_format=torch.channels_last), (2, 2, 2, 2), mode="replicate")
    out = x.new_empty((m, 2 * h, 2 * w, c)).permute(0, 3, 1, 2)
    for i, down in enumerate((before, before.flip(0))):
        for j, across in enumerate((before, before.flip(0))):
            out[:, :, i::2, j::2] = F.conv2d(
                padded, torch.outer(down, across).repeat(c, 1, 1, 1), groups=c
            )
    return out


class LightUpsampler(nn.Module):
    """A cheap tail: 3x3 at stride 4, bilinear to stride 2, 3x3, bilinear to the image.

    Its activation leaks: with few channels, a start in which most pixels are background can
    otherwise switch off for good all that could make a logit positive.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, c // 2, 3, 1, 1)
        self.conv2 = nn.Conv2d(c // 2, 1, 3, 1, 1)

    def forward(
        self, x: Float[torch.Tensor, "M c h w"], size: tuple[int, int], align_corners: bool
    ) -> Float[torch.Tensor, "M 1 H W"]:
        half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
        x = resize(F.leaky_relu(self.conv1(x), 0.1), half, align_corners)
        return resize(self.conv2(x), size, align_corners)


def resize(
    x: Float[torch.Tensor, "M c h w"], size: tuple[int, int] | torch.Size, align_corners: bool
) -> Float[torch.Tensor, "M c H W"]:
    """Interpolate bilinearly, without antialiasing; return a map of the right size as it is."""
    return (
        x
        if x.shape[-2:] == size
        else F.interpolate(x, size, mode="bilinear", align_corners=align_corners)
    )


class Decoder(nn.Module):
    """The decoder D.

    Args:
        c_in: channels of the features by stride.
        c_out: channels of the levels by stride.
        c_scores: channels of a mask encoding.
        layers: convolutions of each TSE.
        refine_first: whether there is a refinement before the attention.
        light: whether the tail is ``LightUpsampler``.
        normalise: whether every map of a frame is scaled to a mean square of 1.
        align_corners: whether interpolation maps corners to corners.
    """

    def __init__(
        self,
        c_in: dict[int, int],
        c_out: dict[int, int],
        c_scores: int,
        *,
        layers: int = 3,
        refine_first: bool = True,
        light: bool = False,
        normalise: bool = False,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.align_corners, self.normalise = align_corners, normalise
        self.TSE = nn.ModuleDict(
            {_NAMES[s]: Encoding(c_in[s], c_out[s], c_scores, layers) for s in STRIDES}
        )
        self.RRB1 = nn.ModuleDict(
            {_NAMES[s]: Refinement(c_out[s]) for s in STRIDES if refine_first}
        )
        self.CAB = nn.ModuleDict({_NAMES[s]: ChannelAttention(c_out[s]) for s in STRIDES})
        self.RRB2 = nn.ModuleDict({_NAMES[s]: Refinement(c_out[s]) for s in STRIDES})
        self.proj = nn.ModuleDict(
            {
                _NAMES[s]: nn.Sequential(nn.Conv2d(c_out[2 * s], c_out[s], 1), nn.ReLU())
                for s in STRIDES[1:]
            }
        )
        self.project: nn.Module = LightUpsampler(c_out[4]) if light else Upsampler(c_out[4])

    def initialise(self) -> None:
        """Initialise the layers, after He et al. 2015 for the convolutions.

        Image and mask encoding have the same variance where they are joined: training does not find
        a mask encoding that the image outweighs. Residual branches start at zero (Goyal et al.
        2017, arXiv:1706.02677, sec. 5.1), and nearly so do the logits.
        """
        for s in STRIDES:
            encoding = self.TSE[_NAMES[s]]
            assert isinstance(encoding, Encoding)
            encoding.initialise()
            for refinements in (self.RRB1, self.RRB2):
                if _NAMES[s] in refinements:
                    nn.init.zeros_(
                        refinements[_NAMES[s]].get_submodule("bblock.3").get_parameter("weight")
                    )
        with torch.no_grad():
            self.project.get_submodule("conv2").get_parameter("weight").mul_(0.1)

    def context(self, features: dict[int, torch.Tensor]) -> Context:
        """Compute the image's part, once per frame, from features (S, c, h, w) by stride."""
        shares = {}
        deepest = None
        for s in STRIDES:
            encoding = self.TSE[_NAMES[s]]
            assert isinstance(encoding, Encoding)
            x = features[s]
            if self.normalise:
                x = x * torch.rsqrt(x.square().mean((1, 2, 3), keepdim=True) + _EPS)
            shares[s], h = encoding.image_part(x)
            if deepest is None:
                deepest = h
        assert deepest is not None
        return Context(shares, deepest)

    def levels(
        self, scores: Float[torch.Tensor, "S N d h w"], context: Context
    ) -> list[Float[torch.Tensor, "SN c h w"]]:
        """Return the output of each level, coarse to fine; the last is at stride 4."""
        n = scores.shape[1]
        flat = scores.flatten(0, 1)
        deeper = context.deepest.mean((2, 3), keepdim=True).repeat_interleave(n, 0)
        out: list[torch.Tensor] = []
        for s in STRIDES:
            name = _NAMES[s]
            share = context.shares[s]
            if out:
                deeper = self.proj[name](out[-1])
            x = self.TSE[name](share, resize(flat, share.shape[-2:], self.align_corners))
            if name in self.RRB1:
                x = self.RRB1[name](x)
            out.append(self.RRB2[name](self.CAB[name](deeper, x, self.align_corners)))
        return out

    def forward(
        self, scores: Float[torch.Tensor, "S N d h w"], context: Context, size: tuple[int, int]
    ) -> Float[torch.Tensor, "S N H W"]:
        """Return logits of N objects in S frames, (H, W) = ``size``, from target models' scores."""
        x: torch.Tensor = self.project(self.levels(scores, context)[-1], size, self.align_corners)
        return x.reshape(*scores.shape[:2], *size)
