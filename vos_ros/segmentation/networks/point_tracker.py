"""A tracker of points that needs no training for a sequence (ours; compare paper 002, sec. 3.2).

A small pyramid of features, and per level a cost volume around where the point is thought to be:
the correlation with the point's surroundings on the first and on the previous frame. Convolutions
turn it into a heatmap, whose peak is where the next finer level searches, down to stride 2. The
same correlations at the place found tell whether the point is visible. The idea, matching by cost
volumes and then refinement, is that of TAP-Net and TAPIR (Doersch et al. 2022, arXiv:2211.03726;
2023, arXiv:2306.08637). Tensors in, tensors out.

Cell (i, j) of the map of stride s sits on pixel (s i, s j); images have 32k+1 px.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import nn

from vos_ros.segmentation.networks import specs
from vos_ros.segmentation.networks.backbones import (
    check_fits,
    fits,
    image_input,
    keep_statistics,
)
from vos_ros.segmentation.networks.decoder import resize
from vos_ros.segmentation.networks.mobilenet_v2 import CHANNELS, MobileNetV2

STRIDES = (16, 8, 4, 2)
"""Levels, px per cell, in the order in which a point is searched."""
GLOBAL_STRIDE = 8
"""Level on which a lost point is searched in the whole image."""
NEAR_PX = 8.0
"""Distance from the truth, px of the network's input, up to which a place counts as found."""
_BACKBONE_STRIDE = 8
_TEMPLATE = 3  # cells, side of a point's surroundings
_PLANES = 6  # of a cost volume: two templates, centre and whole; in the image; nearness
_PEAK_RADIUS = 1.5  # cells around the maximum over which a heatmap's position is a mean
OUTSIDE = -1e4
"""Logit of cells outside the image."""
_SHARPNESS = 10.0  # factor of the correlations in the heatmap, before the training

Templates = Mapping[int, Float[torch.Tensor, "N D 3 3"]]
"""Features around points by level."""


@dataclass(frozen=True)
class PointTrackerSpec:
    """Architecture of the learned tracker of points."""

    dims: int = 32
    """Numbers per cell of each level."""
    radius: int = 4
    """Reach of a cost volume, cells."""
    width: int = 16
    """Channels of the convolutions on it."""
    hidden: int = 32
    """Units of the layers that tell whether a point is visible."""

    def to_json(self) -> str:
        """Return one line of JSON, which ``from_json`` reads back."""
        return specs.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> PointTrackerSpec:
        """Return the spec of ``to_json``. Raises ValueError: no spec, or one of another version."""
        return specs.from_json(cls, text, "a tracker of points")


class Level(NamedTuple):
    """What one level found, for N points; n is the number of cells of a cost volume."""

    logits: Float[torch.Tensor, "N n"]
    """Of the heatmap; ``OUTSIDE`` for cells outside the image."""
    cells: Float[torch.Tensor, "N n 2"]
    """(x, y) of its cells, px."""


class Found(NamedTuple):
    """Where N points are."""

    points: Float[torch.Tensor, "N 2"]
    """(x, y), px."""
    visible: Float[torch.Tensor, "N"]
    """Logit: the point is seen, not occluded or outside the image."""
    near: Float[torch.Tensor, "N"]
    """Logit: the place is within ``NEAR_PX`` of the true one."""
    levels: tuple[Level, ...]
    """By level, in the order of ``STRIDES``."""


class PointTrackerNet(nn.Module):
    """Features, and the search for points in them."""

    def __init__(self, spec: PointTrackerSpec) -> None:
        super().__init__()
        self.spec = spec
        self.feature_extractor = MobileNetV2(max_stride=_BACKBONE_STRIDE)
        self.lateral = nn.ModuleDict(
            {
                str(s): nn.Conv2d(CHANNELS[s], spec.dims, 1)
                for s in STRIDES
                if s in CHANNELS and s < 16
            }
        )
        self.heat = nn.ModuleDict({str(s): _heat(spec) for s in STRIDES})
        self.sharpness = nn.Parameter(torch.full((len(STRIDES),), _SHARPNESS))
        self.global_sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        self.judge = nn.Sequential(
            nn.Linear(5 * len(STRIDES) + 1, spec.hidden),
            nn.ReLU(),
            nn.Linear(spec.hidden, spec.hidden),
            nn.ReLU(),
            nn.Linear(spec.hidden, 2),
        )
        self.train(self.training)

    def train(self, mode: bool = True) -> PointTrackerNet:
        super().train(mode)
        keep_statistics(self)
        return self

    def fits(self, height: int, width: int) -> tuple[int, int]:
        """Return the nearest (h, w), px, that the network takes."""
        return fits(height, width, True)

    def features(
        self, rgb: UInt8[torch.Tensor, "S 3 H W"] | Float[torch.Tensor, "S 3 H W"]
    ) -> dict[int, torch.Tensor]:
        """Return the maps (S, D, h, w) by stride of RGB images of 0..255; cells have unit length.

        Raises ValueError: a size that doesn't fit the grid.
        """
        check_fits(rgb, True)
        maps = self.feature_extractor(image_input(rgb, "tensorflow", torch.float32))
        out: dict[int, torch.Tensor] = {}
        above: torch.Tensor | None = None
        for stride in (8, 4, 2):
            here = self.lateral[str(stride)](maps[stride])
            if above is not None:
                here = here + resize(above, here.shape[-2:], True)
            out[stride] = above = here
        out[16] = F.avg_pool2d(out[8], 3, 2, 1, count_include_pad=False)
        return {s: F.normalize(x, dim=1) for s, x in out.items()}

    def describe(
        self, maps: Mapping[int, torch.Tensor], points: Float[torch.Tensor, "S K 2"]
    ) -> dict[int, torch.Tensor]:
        """Return the templates of K points (x, y), px, in each of S images; N = S K."""
        return {s: _patches(maps[s], points, s, _TEMPLATE // 2) for s in STRIDES}

    def everywhere(
        self, maps: Mapping[int, torch.Tensor], first: Templates
    ) -> Float[torch.Tensor, "N h w"]:
        """Return the logits of each point's place among the cells of ``GLOBAL_STRIDE``."""
        x, templates = maps[GLOBAL_STRIDE], first[GLOBAL_STRIDE]
        planes = [
            F.conv2d(m[None], t, padding=_TEMPLATE // 2)[0]
            for m, t in zip(x, torch.chunk(templates, len(x)), strict=True)
        ]
        return self.global_sharpness * torch.cat(planes) / _TEMPLATE**2

    def search(
        self,
        maps: Mapping[int, torch.Tensor],
        first: Templates,
        previous: Templates,
        points: Float[torch.Tensor, "S K 2"],
    ) -> Found:
        """Search K points in each of S images; N = S K.

        Args:
            maps: features of the images.
            first: templates of the points where they were given.
            previous: templates where they were last seen.
            points: where they are thought to be, (x, y), px.
        """
        at, levels, peaks = points, [], []
        for sharpness, stride in zip(self.sharpness, STRIDES, strict=True):
            volume = self._volume(maps[stride], first[stride], previous[stride], at, stride)
            prior = volume[:, 1] + volume[:, 3]
            logits = (self.heat[str(stride)](volume)[:, 0] + sharpness * prior).flatten(1)
            cells = at.reshape(-1, 1, 2) + _offsets(self.spec.radius, stride, at)
            logits = logits.masked_fill(volume[:, 4].flatten(1) < 0.5, OUTSIDE)
            levels.append(Level(logits, cells))
            at = _peak(logits, cells, stride).reshape(points.shape).detach()
            peaks.append(torch.softmax(logits, 1).amax(1))
        found = _peak(levels[-1].logits, levels[-1].cells, STRIDES[-1])
        evidence = [*peaks]
        size = at.new_tensor([maps[2].shape[-1] - 1, maps[2].shape[-2] - 1]) * 2
        evidence.append(((found >= 0) & (found <= size)).all(1).to(found))
        here = self.describe(maps, at)
        for stride in STRIDES:
            for template in (first[stride], previous[stride]):
                alike = (here[stride] * template).sum(1)
                evidence += [alike[:, 1, 1], alike.mean((1, 2))]
        visible, near = self.judge(torch.stack(evidence, 1)).unbind(1)
        return Found(found, visible, near, tuple(levels))

    def _volume(
        self,
        x: Float[torch.Tensor, "S D h w"],
        first: Float[torch.Tensor, "N D 3 3"],
        previous: Float[torch.Tensor, "N D 3 3"],
        points: Float[torch.Tensor, "S K 2"],
        stride: int,
    ) -> Float[torch.Tensor, "N 6 r r"]:
        """Return the cost volumes around points."""
        r = self.spec.radius
        patches = _patches(x, points, stride, r + _TEMPLATE // 2)
        n, d, side, _ = patches.shape
        planes = []
        for template in (first, previous):
            inner = patches[:, :, 1:-1, 1:-1]
            planes.append((inner * template[:, :, 1:2, 1:2]).sum(1))
            whole = F.conv2d(patches.reshape(1, n * d, side, side), template, groups=n)[0]
            planes.append(whole / _TEMPLATE**2)
        planes.append((patches[:, :, 1:-1, 1:-1].square().sum(1) > 0.25).to(x))
        offsets = _offsets(r, 1, points).square().sum(-1)
        planes.append(torch.exp(-offsets / 4).reshape(1, 2 * r + 1, -1).expand(n, -1, -1))
        return torch.stack(planes, 1)


def _heat(spec: PointTrackerSpec) -> nn.Sequential:
    """Return the convolutions from a cost volume to a heatmap; their output is 0 at the start."""
    last = nn.Conv2d(spec.width, 1, 3, padding=1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    return nn.Sequential(
        nn.Conv2d(_PLANES, spec.width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(spec.width, spec.width, 3, padding=1),
        nn.ReLU(),
        last,
    )


def _offsets(radius: int, step: float, like: torch.Tensor) -> Float[torch.Tensor, "n 2"]:
    """Return (x, y) of the cells of a square around 0, row by row."""
    line = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype) * step
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def _patches(
    x: Float[torch.Tensor, "S D h w"],
    points: Float[torch.Tensor, "S K 2"],
    stride: int,
    radius: int,
) -> Float[torch.Tensor, "N D r r"]:
    """Sample squares of features around points, zero outside the image."""
    s, k = points.shape[:2]
    last = points.new_tensor([x.shape[-1] - 1, x.shape[-2] - 1]) * stride
    at = points[:, :, None] + _offsets(radius, stride, points)
    values = F.grid_sample(x, at / last * 2 - 1, align_corners=True)
    side = 2 * radius + 1
    return values.transpose(1, 2).reshape(s * k, x.shape[1], side, side)


def _peak(
    logits: Float[torch.Tensor, "N n"], cells: Float[torch.Tensor, "N n 2"], stride: int
) -> Float[torch.Tensor, "N 2"]:
    """Return the mean position of a heatmap around its maximum."""
    best = cells.gather(1, logits.argmax(1)[:, None, None].expand(-1, 1, 2))
    far = torch.linalg.vector_norm(cells - best, dim=2) > _PEAK_RADIUS * stride
    weight = torch.softmax(logits.masked_fill(far, -torch.inf), 1)
    return (weight[..., None] * cells).sum(1)
