"""Clips whose points are known: layers cut out of images, moved on paths of their own.

A layer turns, grows, shifts and bends from frame to frame. Its motion maps a pixel of its image to
a pixel of each frame, so that the way of every point, and what hides it, is exact. Everything
random uses torch's default generators.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float

_SOLVE_STEPS = 5
"""Fixed-point steps that invert a bend; each leaves at most a fifth of the error."""
_MAX_SLOPE = 0.2
"""Largest change of a bend per px."""


@dataclass(frozen=True, eq=False, slots=True)
class Motion:
    """Map pixels of a layer's image to T frames: out = center + shift + zoom R (s + w(s) - center).

    The bend is w(s) = amplitude sin(frequency . s + phase).
    """

    center: Float[torch.Tensor, "2"]
    """(x, y), px of the image, about which it turns."""
    shift: Float[torch.Tensor, "T 2"]
    """(x, y), px."""
    angle: Float[torch.Tensor, "T"]
    """rad."""
    zoom: Float[torch.Tensor, "T"]
    """Frame px per image px."""
    amplitude: Float[torch.Tensor, "T 2"]
    """Of the bend, (x, y), px."""
    frequency: Float[torch.Tensor, "2"]
    """Of the bend, rad per px."""
    phase: Float[torch.Tensor, "2"]
    """Of the bend in x and in y, rad."""

    def forward(self, points: Float[torch.Tensor, "K 2"]) -> Float[torch.Tensor, "T K 2"]:
        """Return where pixels of the image are in each frame."""
        bent = points + self._bend(points[None].expand(len(self.shift), -1, -1)) - self.center
        c, s = (f(self.angle)[:, None] for f in (torch.cos, torch.sin))
        turned = torch.stack(
            [c * bent[..., 0] - s * bent[..., 1], s * bent[..., 0] + c * bent[..., 1]], -1
        )
        return self.center + self.shift[:, None] + self.zoom[:, None, None] * turned

    def backward(self, points: Float[torch.Tensor, "T K 2"]) -> Float[torch.Tensor, "T K 2"]:
        """Return which pixels of the image are shown at places of each frame."""
        off = (points - self.center - self.shift[:, None]) / self.zoom[:, None, None]
        c, s = (f(self.angle)[:, None] for f in (torch.cos, torch.sin))
        turned = torch.stack(
            [c * off[..., 0] + s * off[..., 1], c * off[..., 1] - s * off[..., 0]], -1
        )
        target = turned + self.center
        found = target
        for _ in range(_SOLVE_STEPS):
            found = target - self._bend(found)
        return found

    def _bend(self, points: Float[torch.Tensor, "T K 2"]) -> Float[torch.Tensor, "T K 2"]:
        wave = (points * self.frequency).sum(-1, keepdim=True) + self.phase
        return self.amplitude[:, None] * torch.sin(wave)


def draw_motion(frames: int, center: Float[torch.Tensor, "2"], pace: float, size: float) -> Motion:
    """Draw a smooth motion; frame 0 is the image itself.

    Args:
        frames: T.
        center: (x, y), px, about which the layer turns.
        pace: usual speed, px per frame.
        size: of the layer, px.
    """
    speed = pace * math.exp(0.8 * float(torch.randn(()))) * _direction()
    drift = torch.randn(frames - 1, 2) * 0.4 * pace
    steps = speed + drift.cumsum(0) / max(1, frames - 1) ** 0.5
    shift = torch.cat([torch.zeros(1, 2), steps.cumsum(0)])
    vary = min(1.0, pace / 6)
    turn = _walk(frames, math.radians(6.0) * vary)
    grow = _walk(frames, 0.05 * vary)
    frequency = torch.randn(2) * 2 * math.pi / max(16.0, size)
    most = _MAX_SLOPE / max(1e-3, float(frequency.norm()))
    bend = torch.stack([_walk(frames, 0.01 * size * vary) for _ in range(2)], 1)
    return Motion(
        center,
        shift,
        turn,
        torch.exp(grow.clamp(-0.7, 0.7)),
        bend.clamp(-most, most),
        frequency,
        torch.rand(2) * 2 * math.pi,
    )


def _direction() -> Float[torch.Tensor, "2"]:
    """Draw a direction (x, y) of unit length."""
    a = float(torch.rand(())) * 2 * math.pi
    return torch.tensor([math.cos(a), math.sin(a)])


def _walk(frames: int, step: float) -> Float[torch.Tensor, "T"]:
    """Draw a path from 0 with a lasting trend and changes."""
    steps = torch.randn(()) * step * 0.5 + torch.randn(frames - 1) * step * 0.5
    return torch.cat([torch.zeros(1), steps.cumsum(0)])


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """One image of the scene, with what of it is opaque, and its motion."""

    rgb: Float[torch.Tensor, "3 H W"]
    """Colours, 0..255."""
    alpha: Float[torch.Tensor, "H W"]
    """Opacity, 0..1."""
    motion: Motion
    """Its way."""


@dataclass(frozen=True, eq=False, slots=True)
class Tracks:
    """Frames, and the ways of points in them."""

    frames: Float[torch.Tensor, "T 3 H W"]
    """RGB, 0..255."""
    points: Float[torch.Tensor, "T K 2"]
    """(x, y), px."""
    visible: Bool[torch.Tensor, "T K"]
    """Whether a point is in the image, and not hidden."""


def render(layers: Sequence[Layer], count: int, subject: int) -> Tracks:
    """Draw the frames of layers, bottom first, and K = ``count`` points that frame 0 shows.

    Half the points are on the layer ``subject`` where it is seen; the others anywhere.
    """
    height, width = layers[0].alpha.shape
    frames = len(layers[0].motion.shift)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    grid = torch.stack([x, y], -1).reshape(1, -1, 2).float().expand(frames, -1, -1)
    out = torch.zeros(frames, 3, height, width)
    alphas = []
    for n, layer in enumerate(layers):
        at = layer.motion.backward(grid).reshape(frames, height, width, 2)
        planes = torch.cat([layer.rgb, layer.alpha[None]])[None].expand(frames, -1, -1, -1)
        shown = _sample(planes, at, "zeros" if n else "reflection")
        alpha = shown[:, 3:] if n else torch.ones_like(shown[:, 3:])
        out = alpha * shown[:, :3] + (1 - alpha) * out
        alphas.append(alpha)
    owner = torch.zeros(height, width, dtype=torch.long)
    for n, alpha in enumerate(alphas):
        owner = torch.where(alpha[0, 0] > 0.5, n, owner)
    chosen = _draw_places(owner, count, subject)
    starts = torch.stack([chosen % width, chosen // width], 1).float()
    owners = owner.flatten()[chosen]
    points = torch.zeros(frames, count, 2)
    for n, layer in enumerate(layers):
        mine = owners == n
        points[:, mine] = layer.motion.forward(layer.motion.backward(starts[None, mine])[0])
    size = torch.tensor([width - 1, height - 1])
    visible = ((points >= 0) & (points <= size)).all(-1)
    for n, alpha in enumerate(alphas):
        over = _sample(alpha, points[:, :, None], "zeros")[:, 0, :, 0] > 0.5
        visible &= ~(over & (owners < n))
    return Tracks(out, points, visible)


def _draw_places(owner: torch.Tensor, count: int, subject: int) -> torch.Tensor:
    """Return the indices of pixels."""
    own = (owner.flatten() == subject).nonzero()[:, 0]
    half = count // 2 if len(own) else 0
    return torch.cat(
        [
            own[torch.randint(max(1, len(own)), (half,))] if half else own[:0],
            torch.randint(owner.numel(), (count - half,)),
        ]
    )


def _sample(
    planes: Float[torch.Tensor, "T C H W"], at: Float[torch.Tensor, "T h w 2"], padding: str
) -> Float[torch.Tensor, "T C h w"]:
    last = at.new_tensor([planes.shape[-1] - 1, planes.shape[-2] - 1])
    return F.grid_sample(planes, at / last * 2 - 1, padding_mode=padding, align_corners=True)
