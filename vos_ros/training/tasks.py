"""The tasks that can be trained.

``lwl`` is the whole of paper 003 (sec. 3.6), ``lwl_box`` its box encoder alone (sec. 3.7).
``embedding`` is the metric of paper 000 (sec. 4.1), ``meta`` its learned optimizer (sec. 4.2).
``one_point`` is the embedding of paper 002 (sec. 3.3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import nn

from vos_ros.config import ConfigError, option
from vos_ros.segmentation.checkpoints import load_weights
from vos_ros.segmentation.networks.decoder import resize
from vos_ros.segmentation.networks.learner import Samples, apply_filters, steepest_descent
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet
from vos_ros.training.config import StageConfig, build
from vos_ros.training.embedding_task import EmbeddingTask
from vos_ros.training.groups import backbone_groups, groups_with_rates
from vos_ros.training.interface import Batch, Task
from vos_ros.training.losses import iou, lovasz
from vos_ros.training.meta_task import MetaTask
from vos_ros.training.objects import Objects, mean_over_clips
from vos_ros.training.one_point_task import OnePointTask
from vos_ros.training.point_tracker_task import PointTrackerTask
from vos_ros.training.report import tinted
from vos_ros.training.weights_options import check_files, spec_of

FORMAT = "vos_ros.lwl"
_BOX_SCALE = 10.0  # of the loss of the box encoder, so that rates are as for the other parts


@dataclass(frozen=True)
class LwlOptions:
    """Options of the training of an LWL network. ``spec`` replaces fields of ``network``'s."""

    network: str = option("resnet50", "network to start from", choices=tuple(SPECS))
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    backbone: str = option(
        "",
        "weights of the backbone (.safetensors or .pt state dict, torchvision's names); empty ="
        " random",
    )
    weights: str = option("", "weights of a whole network to start from; empty = none")
    iterations_init: int = option(
        5, "steepest-descent iterations on the first frame (sec. 3.6)", low=1, high=100
    )
    iterations_update: int = option(
        2, "... after each further frame, where the filters are refined", low=1, high=100
    )
    refine: bool = option(
        False,
        "learn from predicted masks within a clip, as in sec. 3.6; the published training doesn't,"
        " whatever its options say",
    )
    refine_share: float = option(
        0.1,
        "importance of a predicted mask when it is added; that of the others shrinks by as much",
        low=0.0,
        high=1.0,
    )
    regularization: float = option(
        0.01, "the learnt number whose square is lambda, at the start", low=1e-6, high=10.0
    )
    pool: str = option(
        "object", "pixels that are sorted together in the Lovasz loss", choices=("object", "batch")
    )
    scale: float = option(100.0, "factor of the Lovasz loss", low=0.0, high=1e6)
    cross_entropy: float = option(
        0.0, "factor of a cross entropy added to it; the paper has none", low=0.0, high=1e6
    )


class LwlTask:
    """Train all of an LWL network.

    The filters are learned from the first frame of a clip; the masks of the others are predicted.
    """

    name = "lwl"

    def __init__(self, options: LwlOptions) -> None:
        self.options = options
        self.spec = spec_of(SPECS[options.network], options.spec, "an LWL network")

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """Make the task. Raises ConfigError: an unknown option, a wrong type or value."""
        return cls(build(LwlOptions, options, "options."))

    def build(self) -> LwlNet:
        """Return a network with the weights that the options name.

        Raises ConfigError: a file that can't be used.
        """
        net = LwlNet(self.spec)
        nn.init.constant_(
            net.target_model.filter_optimizer.residual_module.filter_reg,
            self.options.regularization,
        )
        check_files(self.options, "backbone", "weights")
        for module, path in (
            (net.feature_extractor, self.options.backbone),
            (net, self.options.weights),
        ):
            if path:
                load_weights(module, path)
        return net

    def metadata(self) -> dict[str, str]:
        """Return the format and the spec, from which the network is built again."""
        return {"format": FORMAT, "spec": self.spec.to_json()}

    def parameter_groups(self, model: nn.Module, stage: StageConfig) -> list[dict[str, Any]]:
        """Return the stage's groups of parameters.

        Groups are ``stem`` (the backbone up to stride 4), ``backbone`` (its rest),
        ``target_model``, ``regularization``, ``label_encoder``, ``decoder``. Raises ConfigError: a
        rate for another.
        """
        assert isinstance(model, LwlNet)
        return groups_with_rates(self._groups(model), stage)

    def _groups(self, net: LwlNet) -> dict[str, list[nn.Parameter]]:
        return {
            **backbone_groups(net.feature_extractor),
            "target_model": list(net.target_model.feature_extractor.parameters()),
            "regularization": list(net.target_model.filter_optimizer.parameters()),
            "label_encoder": list(net.label_encoder.parameters()),
            "decoder": list(net.decoder.parameters()),
        }

    def predict(
        self, net: LwlNet, batch: Batch, objects: Objects
    ) -> Float[torch.Tensor, "M T H W"]:
        """Return mask logits of every object in the T = Q - 1 later frames (sec. 3.6)."""
        q = batch.frames.shape[1]
        size = (int(batch.frames.shape[-2]), int(batch.frames.shape[-1]))
        maps = net.extract(batch.frames.flatten(0, 1))
        x = _split(net.target_features(maps), q)
        context = net.context({s: _split(m, q)[:, 1:].flatten(0, 1) for s, m in maps.items()})
        learner = _Learner(net, x, objects, self.options)
        if not self.options.refine:
            frames = (
                objects.clip[:, None] * (q - 1) + torch.arange(q - 1, device=x.device)
            ).flatten()
            scores = learner.scores(range(1, q)).flatten(0, 1)[:, None]
            return _split(net.decode(scores, context.of_frames(frames), size)[:, 0], q - 1)
        out: list[torch.Tensor] = []
        for t in range(1, q):
            if t > 1:
                learner.refine(t - 1, torch.sigmoid(out[-1].detach()))
            scores = learner.scores(range(t, t + 1)).flatten(0, 1)[:, None]
            out.append(
                net.decode(scores, context.of_frames(objects.clip * (q - 1) + t - 1), size)[:, 0]
            )
        return torch.stack(out, 1)

    def loss(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """Return eq. (5) with the Lovasz loss, and the mean IoU of objects and predicted frames."""
        assert isinstance(model, LwlNet)
        objects = Objects.of(batch.labels)
        logits = self.predict(model, batch, objects).float()
        truth, valid = objects.masks[:, 1:], objects.valid[:, 1:]
        probs = torch.sigmoid(logits)
        if self.options.pool == "batch":
            value = lovasz(probs[valid], truth[valid])
        else:
            per_object = [lovasz(p[v], y[v]) for p, y, v in zip(probs, truth, valid, strict=True)]
            value = mean_over_clips(torch.stack(per_object), objects.clip)
        scalars: dict[str, torch.Tensor | float] = {
            "lovasz": value.detach(),
            "iou": iou(logits > 0, truth, valid).mean(),
        }
        total = self.options.scale * value
        if self.options.cross_entropy:
            entropy = F.binary_cross_entropy_with_logits(logits[valid], truth[valid].to(logits))
            scalars["cross_entropy"] = entropy.detach()
            total = total + self.options.cross_entropy * entropy
        return total, scalars

    @torch.no_grad()
    def picture(self, model: nn.Module, batch: Batch) -> UInt8[np.ndarray, "H W 3"]:
        """Draw a clip per row: the first frame with its masks, then the predictions.

        Masks are tinted, true outlines are white.
        """
        assert isinstance(model, LwlNet)
        objects = Objects.of(batch.labels)
        logits = self.predict(model, batch, objects).float()
        rows = []
        for b in range(len(batch.frames)):
            own = torch.nonzero(objects.clip == b).flatten()
            truth = objects.masks[own]
            shown = torch.cat([truth[:, :1], logits[own] > 0], 1)
            frames, *masks = (
                t.cpu().numpy()
                for t in (
                    batch.frames[b].permute(0, 2, 3, 1),
                    shown.transpose(0, 1),
                    truth.transpose(0, 1),
                )
            )
            rows.append(
                np.concatenate([tinted(f, s, y) for f, s, y in zip(frames, *masks, strict=True)], 1)
            )
        return np.concatenate(rows)


class _Learner:
    """Hold the filters of a batch's objects, and the samples that they are learned from."""

    def __init__(
        self,
        net: LwlNet,
        x: Float[torch.Tensor, "B Q C h w"],
        objects: Objects,
        options: LwlOptions,
    ) -> None:
        self._net, self._x, self._options = net, x.float(), options
        self._rows = [torch.nonzero(objects.clip == b).flatten() for b in range(len(x))]
        self._frames, self._shares = [0], [1.0]
        self._labels: list[torch.Tensor] = []
        self._weights: list[torch.Tensor] = []
        self._encode(objects.masks[:, 0].to(x), objects.valid[:, 0].to(x))
        d, c, k = net.spec.num_filters, net.spec.target_channels, net.spec.kernel_size
        self._filters = self._descend(
            self._x.new_zeros((len(objects.clip), d, c, k, k)), options.iterations_init
        )

    def _encode(
        self, masks: Float[torch.Tensor, "M H W"], valid: Float[torch.Tensor, "M H W"] | None
    ) -> None:
        labels, weights = (t[:, 0].float() for t in self._net.encode(masks[:, None]))
        squared = weights.square()
        if valid is not None:
            squared = squared * resize(valid[:, None], squared.shape[-2:], self._net.spec.aligned)
        self._labels.append(labels)
        self._weights.append(squared)

    def _descend(self, filters: torch.Tensor, iterations: int) -> torch.Tensor:
        """Minimise eq. (4), in single precision always: sums of squares don't fit half."""
        labels, shares = (
            torch.stack(self._labels),
            torch.tensor(self._shares, device=filters.device),
        )
        weights = torch.stack(self._weights) * shares[:, None, None, None, None]
        with torch.autocast(filters.device.type, enabled=False):
            blocks = [
                Samples(self._x[b, self._frames], rows, labels[:, rows], weights[:, rows])
                for b, rows in enumerate(self._rows)
            ]
            return steepest_descent(filters, blocks, self._net.ridge.float(), iterations)

    def refine(self, frame: int, probs: Float[torch.Tensor, "M H W"]) -> None:
        """Add a frame with its predicted masks, and continue to learn."""
        share = self._options.refine_share
        self._frames.append(frame)
        self._shares = [*((1 - share) * s for s in self._shares), share]
        self._encode(probs.to(self._x), None)
        self._filters = self._descend(self._filters, self._options.iterations_update)

    def scores(self, frames: range) -> Float[torch.Tensor, "M T D h w"]:
        """Return the output of the target models on the given frames of their clips."""
        own = [
            apply_filters(self._x[b, list(frames)], self._filters[rows]).transpose(0, 1)
            for b, rows in enumerate(self._rows)
        ]
        return torch.cat(own)  # the rows of clip 0 come first, and so on


class LwlBoxTask(LwlTask):
    """Train the box encoder of a finished network on first frames (sec. 3.7).

    The boxes around the true masks go in, masks come out.
    """

    name = "lwl_box"

    def __init__(self, options: LwlOptions) -> None:
        super().__init__(options)
        self.spec = dataclasses.replace(self.spec, box_encoder=True)

    def build(self) -> LwlNet:
        """Return the network of the options' ``weights``, with a new box encoder.

        Raises ConfigError: a file that can't be used.
        """
        net = LwlNet(dataclasses.replace(self.spec, box_encoder=False))
        if not Path(self.options.weights).is_file():
            raise ConfigError(
                f"options.weights: {self.options.weights!r} is no file; the box encoder needs a"
                " trained network"
            )
        load_weights(net, self.options.weights)
        whole = LwlNet(self.spec)
        whole.load_state_dict(net.state_dict(), strict=False)
        return whole

    def _groups(self, net: LwlNet) -> dict[str, list[nn.Parameter]]:
        assert net.box_label_encoder is not None
        return {"box_encoder": list(net.box_label_encoder.parameters())}

    def predict(
        self, net: LwlNet, batch: Batch, objects: Objects
    ) -> Float[torch.Tensor, "M 1 H W"]:
        """Return mask logits of every object in its clip's first frame, from its box alone."""
        size = (int(batch.frames.shape[-2]), int(batch.frames.shape[-1]))
        maps = net.extract(batch.frames[:, 0])
        boxes = _boxes(objects.masks[:, 0]).to(maps[16])
        scores = net.encode_boxes(net.target_features(maps)[objects.clip], boxes[:, None])
        return net.decode(scores, net.context(maps).of_frames(objects.clip), size)

    def loss(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """Return the Lovasz loss of all objects together, and the mean IoU."""
        assert isinstance(model, LwlNet)
        objects = Objects.of(batch.labels[:, :1])
        logits = self.predict(model, batch, objects).float()
        value = lovasz(torch.sigmoid(logits)[objects.valid], objects.masks[objects.valid])
        return _BOX_SCALE * value, {
            "lovasz": value.detach(),
            "iou": iou(logits > 0, objects.masks, objects.valid).mean(),
        }

    @torch.no_grad()
    def picture(self, model: nn.Module, batch: Batch) -> UInt8[np.ndarray, "H W 3"]:
        """Draw a clip per row: its first frame, predictions tinted, true outlines white."""
        assert isinstance(model, LwlNet)
        objects = Objects.of(batch.labels[:, :1])
        shown = self.predict(model, batch, objects)[:, 0] > 0
        rows = []
        for b, frame in enumerate(batch.frames[:, 0].permute(0, 2, 3, 1).cpu().numpy()):
            own = torch.nonzero(objects.clip == b).flatten()
            rows.append(
                tinted(frame, shown[own].cpu().numpy(), objects.masks[own, 0].cpu().numpy())
            )
        return np.concatenate(rows)


def _split(x: Float[torch.Tensor, "BQ ..."], q: int) -> Float[torch.Tensor, "B Q ..."]:
    return x.reshape(-1, q, *x.shape[1:])


def _boxes(masks: Bool[torch.Tensor, "M H W"]) -> Bool[torch.Tensor, "M H W"]:
    """Return the boxes around masks, filled."""

    def between(on: torch.Tensor) -> torch.Tensor:
        return (on.cumsum(1) > 0) & (on.flip(1).cumsum(1).flip(1) > 0)

    return between(masks.any(2))[:, :, None] & between(masks.any(1))[:, None, :]


TASKS: Mapping[str, Callable[[Mapping[str, object]], Task]] = {
    t.name: t.from_options
    for t in (LwlTask, LwlBoxTask, EmbeddingTask, MetaTask, OnePointTask, PointTrackerTask)
}


def create(name: str, options: Mapping[str, object]) -> Task:
    """Make a task by name. Raises ConfigError: an unknown task or option."""
    if name not in TASKS:
        raise ConfigError(f"unknown task {name!r}: known are {', '.join(TASKS)}")
    return TASKS[name](options)
