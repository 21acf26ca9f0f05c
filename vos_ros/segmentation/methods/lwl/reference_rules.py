"""The rules of the published LWL program that its paper doesn't say, as pure functions: how it cuts windows out of images, weighs its
memory and merges objects. Found out from its inputs and outputs; half-pixel quirks included, they show in the numbers. Positions and
sizes are (row, column) in px. Sizes that are cut to whole px are computed in single precision, as there: a side that fits exactly
comes out a pixel smaller now and then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float

Pair = tuple[float, float]
OUTSIDE = 100.0  # logit of what is given, and of what lies outside the window
_MIN_AREA = 100.0  # px of probability under which an object's place is not measured
_SCALE_CHANGE = (0.95, 1.1)
_SPREAD = 4.0


@dataclass(frozen=True, slots=True)
class Patch:
    """A window of an image: the corners that the program believes it has, in the image's px."""

    top_left: Pair
    bottom_right: Pair


def sample_patch(
    image: Float[torch.Tensor, "1 C H W"],
    centre: Pair,
    size: Pair,
    out: tuple[int, int],
    *,
    inside: bool,
    mask: bool = False,
) -> tuple[Float[torch.Tensor, "1 C h w"], Patch]:
    """A window about ``centre``, scaled to ``out``.

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
        a, b = c - (side - 1) / 2, c + side / 2 + 1  # of an even side this is half a pixel too much
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
    """The window of an object's first frame: cut with twice the sides, then about its centre, moved
    towards the image by whole px of the window. ``scale`` is px of the image per px of the
    window, see ``first_scale``.
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
    """px of the image per px of a window of ``factor`` times the target's sides: as wanted, and
    shrunk until one side fits the image.
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
    """Where the window is put for a target at ``centre``: half a cell on where cells and kernel are
    even and odd.
    """
    y, x = (
        c + (n + kernel) % 2 * scale * o / (2 * n)
        for c, o, n in zip(centre, out, cells, strict=True)
    )
    return y, x


def measure(probs: Float[torch.Tensor, "H W"]) -> tuple[Pair, Pair] | None:
    """Centre of mass, and sides as four standard deviations; None where there is too little."""
    total = float(probs.sum())
    if total < _MIN_AREA:
        return None
    centre, sides = [], []
    for sums in (probs.sum(1), probs.sum(0)):
        at = torch.arange(len(sums), dtype=sums.dtype, device=sums.device)
        mean = float((sums * at).sum()) / total
        centre.append(mean)
        sides.append(_SPREAD * math.sqrt(float((sums * (at - mean).square()).sum()) / total))
    return (centre[0], centre[1]), (sides[0], sides[1])


def new_scale(sides: Pair, base: Pair, before: float) -> float:
    """Scale of a target of the measured sides, for one of ``base`` sides at scale 1; it changes by
    a little at most.
    """
    scale = np.float32(math.sqrt(sides[0] * sides[1] / (base[0] * base[1])))
    low, high = (np.float32(change) * np.float32(before) for change in _SCALE_CHANGE)
    return float(min(max(scale, low), high))


def paste(
    logits: Float[torch.Tensor, "1 1 h w"], patch: Patch, size: tuple[int, int]
) -> Float[torch.Tensor, "H W"]:
    """A window's logits in the image, whatever its aspect ratio by one factor for both sides; far
    below zero outside.
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
    """Soft aggregation of logits; row 0 is the background."""
    background = (1 - torch.sigmoid(scores)).prod(0, keepdim=True).clamp(1e-7, 1 - 1e-7)
    return torch.softmax(torch.cat([torch.logit(background), scores]), 0)


@dataclass(frozen=True, slots=True)
class WeightRule:
    """How the memory's samples are weighted: a new one gets ``rate``, with ``even_start`` the
    second as much as the first; the first keeps at least ``least_first``, and is replaced like
    any other where that is 0.
    """

    rate: float = 0.1
    least_first: float = 0.25
    even_start: bool = False

    def slot(self, weights: list[float], stored: int) -> int:
        """Where the next sample goes: the next free slot, else the one of least weight."""
        if stored < len(weights):
            return stored
        first = 1 if self.least_first > 0 else 0
        return min(range(first, len(weights)), key=lambda i: weights[i])

    def update(self, weights: list[float], slot: int, previous: int | None) -> list[float]:
        """The weights with a sample in ``slot``; ``previous`` is the slot of the one before, None
        for the first after the start. The sum comes out above 1 once the first sample's least
        share is in force, as in the program.
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
        if self.least_first > 0 and w[0] < self.least_first:
            rest = self.least_first + sum(w[1:])
            w = [self.least_first, *(v / rest for v in w[1:])]
        return w


def box_mask(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> Float[torch.Tensor, "H W"]:
    """A box x y w h as a mask, cut to whole px; a negative corner counts from the far side, as an
    index does.
    """
    x, y, w, h = (int(v) for v in box)
    out = torch.zeros(size)
    out[y : y + h, x : x + w] = 1.0
    return out
