"""Rules of the published LWL program that its paper does not give, as pure functions.

They are how it cuts windows from images, weights its memory and merges objects, found from its
inputs and outputs. Offsets of half a pixel are kept: they change the numbers. Positions and sizes
are (row, column) in px. Sizes that are truncated to whole px are computed in fp32, as there: a side
that fits exactly is sometimes a pixel smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

Pair = tuple[float, float]
OUTSIDE = 100.0
"""Logit of given pixels, and, negative, of pixels outside the window."""
_MIN_AREA = 100.0
"""px: the position of an object of less probability mass is not measured."""
_SCALE_CHANGE = (0.95, 1.1)
"""Smallest and largest change of an object's scale per frame."""
_SIDES_PER_STD = 4.0
"""Side of an object in standard deviations of its pixels."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Corners of a window as the program computes them, in px of the image."""

    top_left: Pair
    """First corner."""
    bottom_right: Pair
    """Opposite corner."""


def sample_patch(
    image: Float[torch.Tensor, "1 C H W"],
    centre: Pair,
    size: Pair,
    out: tuple[int, int],
    *,
    inside: bool,
    mask: bool = False,
) -> tuple[Float[torch.Tensor, "1 C h w"], Patch]:
    """Cut a window around ``centre`` and scale it to ``out``.

    With ``inside`` it is shrunk until one of its sides fits the image, and moved into it; else it
    may hang over. Images repeat their border outside and are interpolated; masks are 0 there and
    keep their values.
    """
    whole = (image.shape[-2], image.shape[-1])
    if inside:
        sides = [np.float32(s) for s in size]
        shrink = max(
            np.float32(1), min(s / np.float32(n) for s, n in zip(sides, whole, strict=True))
        )
        size = (float(int(sides[0] / shrink)), float(int(sides[1] / shrink)))
    at = [int(c) for c in centre]
    step = max(int(min(s / o for s, o in zip(size, out, strict=True)) - 0.1), 1)
    if step > 1:  # pixels are left out before anything is interpolated
        offset = [c % step for c in at]
        at = [(c - o) // step for c, o in zip(at, offset, strict=True)]
        image = image[..., offset[0] :: step, offset[1] :: step]
    extent = (image.shape[-2], image.shape[-1])
    low, high = [], []
    for c, s, n in zip(at, size, extent, strict=True):
        side = max(round(s / step), 2)
        a, b = c - (side - 1) / 2, c + side / 2 + 1  # half a pixel too much where the side is even
        if inside:
            move = max(-a, 0.0) - max(b - n, 0.0)
            a, b = a + move, b + move
            overhang = (max(-a, 0.0) + max(b - n, 0.0)) // 2
            if overhang > 0:
                a, b = -overhang, b - a - overhang
        low.append(a)
        high.append(b)
    pads = (-int(low[1]), int(high[1]) - extent[1], -int(low[0]), int(high[0]) - extent[0])
    patch = F.pad(image, pads) if mask else F.pad(image, pads, mode="replicate")
    corners = Patch((low[0] * step, low[1] * step), (high[0] * step, high[1] * step))
    if patch.shape[-2:] == out:
        return patch, corners
    return (
        F.interpolate(patch, out, mode="nearest")
        if mask
        else F.interpolate(patch, out, mode="bilinear")
    ), corners


def first_patch(
    image: Float[torch.Tensor, "1 C H W"],
    centre: Pair,
    scale: float,
    out: tuple[int, int],
    *,
    mask: bool = False,
) -> Float[torch.Tensor, "1 C h w"]:
    """Cut the window of an object's first frame.

    It is cut with twice the sides, then around its centre, moved towards the image by whole px of
    the window.

    Args:
        image: the image, or a mask.
        centre: of the object.
        scale: px of the image per px of the window, see ``first_scale``.
        out: (h, w) of the window.
        mask: whether it is a mask: 0 outside the image, and not interpolated.
    """
    at = (float(round(centre[0])), float(round(centre[1])))
    twice, _ = sample_patch(
        image,
        at,
        (2 * scale * out[0], 2 * scale * out[1]),
        (2 * out[0], 2 * out[1]),
        inside=False,
        mask=mask,
    )
    begin = []
    for c, o, n in zip(centre, out, (image.shape[-2], image.shape[-1]), strict=True):
        side = scale * o
        over = max(-(c - (side - 1) / 2), 0.0) - max(c + side / 2 + 1 - n, 0.0)
        begin.append(o // 2 + int(over / scale))
    pads = (-begin[1], begin[1] + out[1] - 2 * out[1], -begin[0], begin[0] + out[0] - 2 * out[0])
    return F.pad(twice, pads) if mask else F.pad(twice, pads, mode="replicate")


def first_scale(
    target: Pair, factor: float, out: tuple[int, int], whole: tuple[int, int]
) -> tuple[float, float]:
    """Return px of the image per px of an object's first window: as wanted, and so that it fits.

    Args:
        target: sides of the object.
        factor: sides of the window in sides of the object.
        out: (h, w) of the window, px of its own.
        whole: (H, W) of the image; the second value is reduced until one side fits.
    """
    area = np.float32(target[0] * factor) * np.float32(target[1] * factor)
    scale = np.float32(math.sqrt(area)) * (
        1 / np.sqrt(np.float32(out[0] * out[1]))
    )  # the reciprocal first, rounded
    shrink = max(
        np.float32(1),
        min(scale * np.float32(o) / np.float32(n) for o, n in zip(out, whole, strict=True)),
    )
    return float(scale), float(scale / shrink)


def centred(
    centre: Pair, scale: float, out: tuple[int, int], cells: tuple[int, int], kernel: int
) -> Pair:
    """Return the centre of the window for an object at ``centre``.

    It is half a cell off where one of the number of cells and the kernel's side is even, one odd.

    Args:
        centre: of the object.
        scale: px of the image per px of the window.
        out: (h, w) of the window.
        cells: (h, w) of its feature map.
        kernel: side of the target model's filters.
    """
    y, x = (
        c + (n + kernel) % 2 * scale * o / (2 * n)
        for c, o, n in zip(centre, out, cells, strict=True)
    )
    return y, x


def measure(probs: Float[torch.Tensor, "H W"]) -> tuple[Pair, Pair] | None:
    """Return the centre of mass and the sides, four standard deviations; None if too small."""
    total = float(probs.sum())
    if total < _MIN_AREA:
        return None
    centre, sides = [], []
    for sums in (probs.sum(1), probs.sum(0)):
        at = torch.arange(len(sums), dtype=sums.dtype, device=sums.device)
        mean = float((sums * at).sum()) / total
        centre.append(mean)
        sides.append(_SIDES_PER_STD * math.sqrt(float((sums * (at - mean).square()).sum()) / total))
    return (centre[0], centre[1]), (sides[0], sides[1])


def new_scale(sides: Pair, base: Pair, before: float) -> float:
    """Return the scale of an object of the measured sides, which has ``base`` sides at scale 1.

    The scale changes by little from ``before``.
    """
    scale = np.float32(math.sqrt(sides[0] * sides[1] / (base[0] * base[1])))
    low, high = (np.float32(change) * np.float32(before) for change in _SCALE_CHANGE)
    return float(min(max(scale, low), high))


def paste(
    logits: Float[torch.Tensor, "1 1 h w"], patch: Patch, size: tuple[int, int]
) -> Float[torch.Tensor, "H W"]:
    """Scale a window's logits into an image of ``size``; far below zero outside.

    One factor serves for both sides, whatever the window's aspect ratio.
    """
    (y0, x0), (y1, x1) = patch.top_left, patch.bottom_right
    scale = math.sqrt((y1 - y0) / logits.shape[-2] * (x1 - x0) / logits.shape[-1])
    scaled = F.interpolate(logits, scale_factor=scale, mode="bilinear")[0, 0]
    out = logits.new_full(size, -OUTSIDE)
    corner = [
        int(0.5 * (a + b - 1) - 0.5 * n)
        for a, b, n in ((y0, y1, scaled.shape[0]), (x0, x1, scaled.shape[1]))
    ]
    to, cut = [], []
    for c, n, whole in zip(corner, scaled.shape, size, strict=True):
        a, b = max(c, 0), min(c + n, whole)
        to.append(slice(a, max(a, b)))
        cut.append(slice(a - c, max(a, b) - c))
    out[to[0], to[1]] = scaled[cut[0], cut[1]]
    return out


def merge(scores: Float[torch.Tensor, "N H W"]) -> Float[torch.Tensor, "N1 H W"]:
    """Merge logits by soft aggregation; row 0 is the background."""
    background = (1 - torch.sigmoid(scores)).prod(0, keepdim=True).clamp(1e-7, 1 - 1e-7)
    return torch.softmax(torch.cat([torch.logit(background), scores]), 0)


@dataclass(frozen=True, slots=True)
class WeightRule:
    """Weights of the samples of an object's memory."""

    rate: float = 0.1
    """Weight of a new sample."""
    min_first: float = 0.25
    """Least weight of the first sample; 0: it is replaced like any other."""
    even_start: bool = False
    """Whether the second sample weighs as much as the first."""

    def slot(self, weights: list[float], stored: int) -> int:
        """Return the position of the next sample: the next free one, else that of least weight."""
        if stored < len(weights):
            return stored
        first = 1 if self.min_first > 0 else 0
        return min(range(first, len(weights)), key=lambda i: weights[i])

    def update(self, weights: list[float], slot: int, previous: int | None) -> list[float]:
        """Return the weights with a new sample at ``slot``.

        ``previous`` is the position of the sample before it, None for the first after the start.
        The sum is above 1 once ``min_first`` applies, as in the program.
        """
        w = list(weights)
        if previous is None:
            if self.even_start:
                w[slot] = 1.0
            else:
                w = [v / (1 - self.rate) for v in w]
                w[slot] = self.rate
        else:
            w[slot] = w[previous] / (1 - self.rate)
        total = sum(w)
        w = [v / total for v in w]
        if self.min_first > 0 and w[0] < self.min_first:
            rest = self.min_first + sum(w[1:])
            w = [self.min_first, *(v / rest for v in w[1:])]
        return w


def box_mask(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> Float[torch.Tensor, "H W"]:
    """Return a box x y w h, truncated to whole px, as a mask.

    A negative corner counts from the opposite side, as an index does.
    """
    x, y, w, h = (int(v) for v in box)
    out = torch.zeros(size)
    out[y : y + h, x : x + w] = 1.0
    return out
