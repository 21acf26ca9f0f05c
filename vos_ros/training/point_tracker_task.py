"""``point_tracker``: the learned tracker of points, from clips whose points are known.

No data has tracks of points. Two things stand in for them: clips made of stills, whose layers move
on known ways and hide each other (``point_motion``), and real clips, in which a point of an object
must stay inside the object's mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import nn

from vos_ros.config import option
from vos_ros.segmentation.checkpoints import POINT_TRACKER_FORMAT, load_weights
from vos_ros.segmentation.networks.point_tracker import (
    GLOBAL_STRIDE,
    NEAR_PX,
    OUTSIDE,
    STRIDES,
    Found,
    Level,
    PointTrackerNet,
    PointTrackerSpec,
)
from vos_ros.training.config import StageConfig, build
from vos_ros.training.groups import backbone_groups, groups_with_rates
from vos_ros.training.interface import IGNORE, Batch
from vos_ros.training.metric import objects_in
from vos_ros.training.point_motion import Layer, Tracks, draw_motion, render
from vos_ros.training.weights_options import check_files, spec_of

_LOST_PX = 24.0
"""Error from which a roll-out goes on from near the true place."""
_TARGET_CELLS = 0.7
"""Standard deviation of a heatmap's target."""
_BLUR = 3  # px over which the edge of a layer is soft
_PRECISION_PX = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class PointTrackerOptions:
    """Options of the training of the learned tracker. ``spec`` replaces fields of the network's."""

    backbone: str = option(
        "",
        "weights of MobileNetV2 under torchvision's names (.safetensors or .pt), of which the"
        " blocks up to stride 8 are taken; empty = random",
    )
    weights: str = option("", "weights of a whole network to start from; empty = none")
    width: int = option(32, "numbers per cell of each level", low=4, high=256)
    frames: int = option(6, "of a made clip", low=2, high=64)
    points: int = option(16, "followed in a clip", low=1, high=1024)
    pace: float = option(5.0, "usual speed of a layer, px per frame", unit="px", low=0.0, high=64.0)
    other_background: float = option(
        0.5, "probability that an object moves before another image", low=0.0, high=1.0
    )
    occluder: float = option(0.5, "probability that something passes in front", low=0.0, high=1.0)
    noise: float = option(4.0, "of the images, of 255", low=0.0, high=64.0)
    global_loss: float = option(0.2, "weight of the search in the whole image", low=0.0, high=100.0)
    mask_loss: float = option(
        0.2, "weight of staying inside the mask of the object in real clips", low=0.0, high=100.0
    )


class PointTrackerTask:
    """Train the learned tracker of points."""

    name = "point_tracker"

    def __init__(self, options: PointTrackerOptions) -> None:
        self.options = options
        self.spec = spec_of(PointTrackerSpec(), {"dims": options.width}, "a tracker of points")

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """Make the task. Raises ConfigError: an unknown option, a wrong type or value."""
        return cls(build(PointTrackerOptions, options, "options."))

    def build(self) -> PointTrackerNet:
        """Return a network with the weights that the options name.

        Raises ConfigError: a file that can't be used.
        """
        net = PointTrackerNet(self.spec)
        check_files(self.options, "backbone", "weights")
        if self.options.backbone:
            load_weights(net.feature_extractor, self.options.backbone)
        if self.options.weights:
            load_weights(net, self.options.weights)
        return net

    def metadata(self) -> dict[str, str]:
        """Return the format and the spec, from which the network is built again."""
        return {"format": POINT_TRACKER_FORMAT, "spec": self.spec.to_json()}

    def parameter_groups(self, model: nn.Module, stage: StageConfig) -> list[dict[str, Any]]:
        """Return the stage's groups of parameters.

        Groups are ``stem`` (the backbone up to stride 4), ``backbone`` (its rest), ``head``. Raises
        ConfigError: a rate for another.
        """
        assert isinstance(model, PointTrackerNet)
        of_backbone = {id(p) for p in model.feature_extractor.parameters()}
        head = [p for p in model.parameters() if id(p) not in of_backbone]
        return groups_with_rates({**backbone_groups(model.feature_extractor), "head": head}, stage)

    def loss(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """Return the loss on made clips plus that on the real ones.

        In eval mode also ``iou``: the share of visible points that are followed to within 1, 2, 4,
        8 and 16 px (their mean); and how often visibility is right.
        """
        assert isinstance(model, PointTrackerNet)
        made = self.tracks(batch)
        maps = _by_clip(
            model.features(torch.cat([t.frames for t in made]).to(batch.frames.device)), len(made)
        )
        points = torch.stack([t.points for t in made]).to(batch.frames.device)
        visible = torch.stack([t.visible for t in made]).to(batch.frames.device)
        value, scalars = self._known(model, maps, points, visible)
        inside = self._inside(model, batch)
        scalars["inside"] = inside.detach()
        return value + self.options.mask_loss * inside, scalars

    def tracks(self, batch: Batch) -> list[Tracks]:
        """Make a clip with known points of the first frame of every clip."""
        o, n = self.options, len(batch.frames)
        images = batch.frames[:, 0].cpu().float()
        masks = [_an_object(y[0].cpu()) for y in batch.labels]
        made = []
        for b in range(n):
            mask, rgb = masks[b], images[b]
            height, width = mask.shape
            center, size = _center(mask)
            back = draw_motion(o.frames, torch.tensor([width / 2, height / 2]), o.pace / 2, width)
            free = n > 1 and float(torch.rand(())) < o.other_background
            layers = [Layer(images[(b + 1) % n] if free else rgb, torch.ones_like(rgb[0]), back)]
            own = draw_motion(o.frames, center, o.pace, size) if free else back
            layers.append(Layer(rgb, _soft(mask), own))
            if n > 2 and float(torch.rand(())) < o.occluder:
                other = masks[(b + 2) % n]
                at, extent = _center(other)
                way = draw_motion(o.frames, at, 2 * o.pace, extent)
                layers.append(Layer(images[(b + 2) % n], _soft(other), way))
            tracks = render(layers, o.points, 1)
            light = 0.1 * torch.randn(o.frames, 1, 1, 1) + 0.03 * torch.randn(o.frames, 3, 1, 1)
            frames = tracks.frames * torch.exp(light) + 5 * torch.randn(o.frames, 1, 1, 1)
            frames = frames + o.noise * torch.rand(()) * torch.randn_like(frames)
            made.append(Tracks(frames.clamp(0, 255), tracks.points, tracks.visible))
        return made

    def _known(
        self,
        net: PointTrackerNet,
        maps: Mapping[int, Float[torch.Tensor, "B T D h w"]],
        points: Float[torch.Tensor, "B T K 2"],
        visible: Bool[torch.Tensor, "B T K"],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """Follow points whose ways are known, and compare."""
        b, frames, k = visible.shape
        first = previous = net.describe(_frame(maps, 0), points[:, 0])
        at = points[:, 0]
        parts: dict[str, list[torch.Tensor]] = {n: [] for n in ("heat", "px", "seen", "global")}
        errors, right = [], []
        for t in range(1, frames):
            now = _frame(maps, t)
            found = net.search(now, first, previous, at)
            truth, seen = points[:, t].reshape(-1, 2), visible[:, t].flatten()
            error = torch.linalg.vector_norm(found.points - truth, dim=1)
            parts["heat"].append(_heat_loss(found, truth, seen))
            parts["px"].append(_mean(error.clamp_max(2 * NEAR_PX) / NEAR_PX, seen))
            parts["seen"].append(_judgement_loss(found, error.detach(), seen))
            parts["global"].append(_global_loss(net.everywhere(now, first), truth, seen))
            with torch.no_grad():
                errors.append(error[seen])
                right.append(((found.visible > 0) == seen).float())
                lost = error > _LOST_PX
                noisy = truth + torch.randn_like(truth) * NEAR_PX / 2
                moved = torch.where(lost[:, None], noisy, found.points)
                at = torch.where(seen[:, None], moved, at.reshape(-1, 2)).reshape(b, k, 2)
            keep = (seen & ~lost)[:, None, None, None]
            previous = {
                s: torch.where(keep, x, previous[s]) for s, x in net.describe(now, at).items()
            }
        means = {n: torch.stack(v).mean() for n, v in parts.items()}
        value = (
            means["heat"] + means["px"] + means["seen"] + self.options.global_loss * means["global"]
        )
        px = torch.cat(errors)
        scalars: dict[str, torch.Tensor | float] = {n: v.detach() for n, v in means.items()}
        if not net.training:
            scalars["iou"] = torch.stack([(px <= r).float().mean() for r in _PRECISION_PX]).mean()
            scalars["visibility"] = torch.cat(right).mean()
        return value, scalars

    def _inside(self, net: PointTrackerNet, batch: Batch) -> Float[torch.Tensor, ""]:
        """Return the surprise that a heatmap lies in the mask of the point's object."""
        b, q = batch.labels.shape[:2]
        maps = _by_clip(net.features(batch.frames.flatten(0, 1)), b)
        points, ids = _points_of(batch.labels[:, 0], self.options.points)
        first = previous = net.describe(_frame(maps, 0), points)
        at, values = points, []
        for t in range(1, q):
            now = _frame(maps, t)
            found = net.search(now, first, previous, at)
            truth = batch.labels[:, t, None] == ids[..., None, None]
            values.append(_mask_loss(found.levels, truth.flatten(0, 1).float()))
            at = found.points.detach().reshape(at.shape)
            previous = net.describe(now, at)
        return torch.stack(values).mean()

    @torch.no_grad()
    def picture(self, model: nn.Module, batch: Batch) -> UInt8[np.ndarray, "H W 3"]:
        """Draw a made clip per row: true points as rings, found ones as dots, red if hidden."""
        assert isinstance(model, PointTrackerNet)
        rows = []
        for tracks in self.tracks(batch):
            device = batch.frames.device
            maps = _by_clip(model.features(tracks.frames.to(device)), 1)
            first = previous = model.describe(_frame(maps, 0), tracks.points[None, 0].to(device))
            at = tracks.points[None, 0].to(device)
            shown = []
            for t, frame in enumerate(tracks.frames):
                seen = torch.ones(at.shape[1])
                if t:
                    found = model.search(_frame(maps, t), first, previous, at)
                    at, seen = found.points[None], found.visible
                    previous = model.describe(_frame(maps, t), at)
                image = np.ascontiguousarray(frame.permute(1, 2, 0).numpy().astype(np.uint8))
                for p, f, s in zip(tracks.points[t], at[0].cpu(), seen.cpu(), strict=True):
                    cv2.circle(image, p.round().int().tolist(), 4, (255, 255, 255), 1)
                    color = (0, 255, 0) if s > 0 else (255, 0, 0)
                    cv2.circle(image, f.round().int().tolist(), 2, color, -1)
                shown.append(image)
            rows.append(np.concatenate(shown, 1))
        return np.concatenate(rows)


def _by_clip(maps: Mapping[int, torch.Tensor], clips: int) -> dict[int, torch.Tensor]:
    return {s: x.reshape(clips, -1, *x.shape[1:]) for s, x in maps.items()}


def _frame(maps: Mapping[int, torch.Tensor], t: int) -> dict[int, torch.Tensor]:
    return {s: x[:, t] for s, x in maps.items()}


def _mean(values: torch.Tensor, use: torch.Tensor) -> Float[torch.Tensor, ""]:
    """Return the mean of the values in use; 0 where there are none."""
    return (values * use).sum() / use.sum().clamp_min(1)


def _heat_loss(
    found: Found, truth: Float[torch.Tensor, "N 2"], seen: Bool[torch.Tensor, "N"]
) -> Float[torch.Tensor, ""]:
    """Return the cross entropy of the heatmaps whose windows hold the true place."""
    values = []
    for stride, level in zip(STRIDES, found.levels, strict=True):
        far = torch.linalg.vector_norm(level.cells - truth[:, None], dim=2) / stride
        target = torch.exp(-0.5 * (far / _TARGET_CELLS) ** 2) * (level.logits > OUTSIDE)
        use = seen & (far.amin(1) < 1)
        target = target / target.sum(1, keepdim=True).clamp_min(1e-6)
        values.append(_mean(-(target * torch.log_softmax(level.logits, 1)).sum(1), use))
    return torch.stack(values).mean()


def _judgement_loss(
    found: Found, error: Float[torch.Tensor, "N"], seen: Bool[torch.Tensor, "N"]
) -> Float[torch.Tensor, ""]:
    """Return the cross entropy of visibility, and of being near where the point is visible."""
    visible = F.binary_cross_entropy_with_logits(found.visible, seen.float())
    near = F.binary_cross_entropy_with_logits(
        found.near, (error <= NEAR_PX).float(), reduction="none"
    )
    return visible + _mean(near, seen)


def _global_loss(
    logits: Float[torch.Tensor, "N h w"],
    truth: Float[torch.Tensor, "N 2"],
    seen: Bool[torch.Tensor, "N"],
) -> Float[torch.Tensor, ""]:
    """Return the cross entropy of the cell of the true place."""
    cell = (truth / GLOBAL_STRIDE).round().long()
    x, y = (cell[:, n].clamp(0, logits.shape[2 - n] - 1) for n in (0, 1))
    each = F.cross_entropy(logits.flatten(1), y * logits.shape[2] + x, reduction="none")
    return _mean(each, seen)


def _mask_loss(
    levels: tuple[Level, ...], masks: Float[torch.Tensor, "N H W"]
) -> Float[torch.Tensor, ""]:
    """Return the surprise that the heatmaps lie in masks, where a window meets its mask."""
    last = masks.new_tensor([masks.shape[2] - 1, masks.shape[1] - 1])
    values = []
    for level in levels:
        inside = F.grid_sample(
            masks[:, None], level.cells[:, None] / last * 2 - 1, align_corners=True
        )[:, 0, 0]
        mass = (torch.softmax(level.logits, 1) * inside).sum(1)
        values.append(_mean(-torch.log(mass + 1e-3), inside.amax(1) > 0.5))
    return torch.stack(values).mean()


def _an_object(labels: UInt8[torch.Tensor, "H W"]) -> Bool[torch.Tensor, "H W"]:
    """Draw one of the objects of an image."""
    ids = objects_in(labels.flatten())
    return labels == ids[int(torch.randint(len(ids), ()))]


def _center(mask: Bool[torch.Tensor, "H W"]) -> tuple[Float[torch.Tensor, "2"], float]:
    """Return the centre (x, y) of a mask, px, and the side of a square of its area."""
    at = mask.nonzero().float()
    return at.mean(0).flip(0), float(len(at)) ** 0.5


def _soft(mask: Bool[torch.Tensor, "H W"]) -> Float[torch.Tensor, "H W"]:
    return F.avg_pool2d(mask[None, None].float(), _BLUR, 1, _BLUR // 2)[0, 0]


def _points_of(
    labels: UInt8[torch.Tensor, "B H W"], count: int
) -> tuple[Float[torch.Tensor, "B K 2"], torch.Tensor]:
    """Draw pixels of objects, and return their (x, y) and ids."""
    points, ids = [], []
    for y in labels:
        pixels = ((y != 0) & (y != IGNORE)).nonzero()
        chosen = pixels[torch.randint(len(pixels), (count,), device=pixels.device)]
        points.append(chosen.flip(1).float())
        ids.append(y[chosen[:, 0], chosen[:, 1]])
    return torch.stack(points), torch.stack(ids)
