"""``one_point``: the pixel embedding of paper 002, and the threshold of its key points.

The embedding is learned by the triplet loss, eq. (3.4). The threshold gamma of eq. (3.6), and how
soft it is, are learned with it on the same clips: from the inner point of every object.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import nn

from vos_ros.config import ConfigError, option
from vos_ros.segmentation.checkpoints import ONE_POINT_FORMAT, load_weights
from vos_ros.segmentation.key_points import distances, inner_key_points, object_logits, segment
from vos_ros.segmentation.networks.one_point import SPECS, OnePointNet
from vos_ros.sinks.embeddings import principal_colors
from vos_ros.training.config import StageConfig, build
from vos_ros.training.embedding_task import load_backbone
from vos_ros.training.groups import backbone_groups, groups_with_rates
from vos_ros.training.interface import IGNORE, Batch
from vos_ros.training.losses import lovasz
from vos_ros.training.metric import cell_labels, objects_in
from vos_ros.training.report import tinted
from vos_ros.training.triplets import draw_triplets, triplet_loss
from vos_ros.training.weights_options import check_files, spec_of

_HEAD = ("aspp0", "image_pooling", "concat_projection")


@dataclass(frozen=True)
class OnePointOptions:
    """Options of the training of paper 002. ``spec`` replaces fields of the named network's."""

    network: str = option("mobilenet_v2", "network to start from", choices=tuple(SPECS))
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    backbone: str = option(
        "",
        "weights of the backbone: torchvision's names (.safetensors or .pt), or a whole network of"
        " vos_ros that has the same one; empty = random",
    )
    deeplab: str = option(
        "",
        "weights of a DeepLab for MobileNetV2, of which backbone and head are taken"
        " (features, aspp0, image_pooling, concat_projection); empty = none",
    )
    weights: str = option("", "weights of a whole network to start from; empty = none")
    margin: float = option(0.7, "alpha of eq. (3.4)", low=0.0, high=100.0)
    triplets: int = option(64, "N of eq. (3.4), per image", low=1, high=65536)
    every_object: bool = option(
        False, "anchors lie on all objects of an image; else on one, drawn each time (the paper)"
    )
    across: float = option(
        0.0,
        "share of the triplets whose positive and negative come from any frame of the clip; the"
        " paper has single images",
        low=0.0,
        high=1.0,
    )
    candidates: int = option(
        1,
        "negatives drawn per triplet, of which the nearest to the anchor counts (hard negatives);"
        " 1 = the paper",
        low=1,
        high=256,
    )
    mask_loss: float = option(
        0.0,
        "weight of a loss on the masks that key points give, beside the triplets'; the paper has"
        " none",
        low=0.0,
        high=1e6,
    )


class OnePointTask:
    """Train the embedding of paper 002, and the threshold that turns a key point into a mask."""

    name = "one_point"

    def __init__(self, options: OnePointOptions) -> None:
        self.options = options
        self.spec = spec_of(SPECS[options.network], options.spec, "an embedding of one_point")

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """Make the task. Raises ConfigError: an unknown option, a wrong type or value."""
        return cls(build(OnePointOptions, options, "options."))

    def build(self) -> OnePointNet:
        """Return a network with the weights that the options name.

        Raises ConfigError: a file that can't be used.
        """
        net, o = OnePointNet(self.spec), self.options
        check_files(o, "backbone", "deeplab", "weights")
        if o.backbone:
            load_backbone(net.feature_extractor, o.backbone)
        if o.deeplab:
            if self.spec.backbone != "mobilenet_v2":
                raise ConfigError(
                    f"options.deeplab: the network has the backbone {self.spec.backbone}, wanted"
                    " mobilenet_v2; options.backbone takes weights of others"
                )
            parts = {name: net.get_submodule(name) for name in _HEAD}
            parts["features"] = net.get_submodule("feature_extractor.features")
            load_weights(nn.ModuleDict(parts), o.deeplab)
        if o.weights:
            load_weights(net, o.weights)
        return net

    def metadata(self) -> dict[str, str]:
        """Return the format and the spec, from which the network is built again, and the margin."""
        return {
            "format": ONE_POINT_FORMAT,
            "spec": self.spec.to_json(),
            "margin": str(self.options.margin),
        }

    def parameter_groups(self, model: nn.Module, stage: StageConfig) -> list[dict[str, Any]]:
        """Return the stage's groups of parameters.

        Groups are ``stem`` (the backbone up to stride 4), ``backbone`` (its rest), ``head``,
        ``threshold`` (gamma and its softness). Raises ConfigError: a rate for another.
        """
        assert isinstance(model, OnePointNet)
        head = [p for name in (*_HEAD, "project") for p in model.get_submodule(name).parameters()]
        return groups_with_rates(
            {
                **backbone_groups(model.feature_extractor),
                "head": head,
                "threshold": [model.gamma, model.log_softness],
            },
            stage,
        )

    def loss(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """Return eq. (3.4) as a mean over the images, plus the loss on masks.

        The latter teaches the threshold; the embedding learns from it as much as ``mask_loss``
        says. In eval mode also ``iou``, of objects from their inner points in the first frame, and
        ``iou_later``, of the later frames by the first frame's points (paper, table 4.6).
        """
        assert isinstance(model, OnePointNet)
        maps: torch.Tensor = model(batch.frames.flatten(0, 1))
        maps = maps.reshape(*batch.labels.shape[:2], *maps.shape[1:])
        # small distances are differences of large products: half precision loses them
        with torch.autocast(maps.device.type, enabled=False):
            if not model.training:
                return self._validate(model, maps, batch.labels)
            return self._train(model, maps, batch.labels)

    def _train(
        self,
        net: OnePointNet,
        maps: Float[torch.Tensor, "B Q D h w"],
        truth: UInt8[torch.Tensor, "B Q H W"],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        o = self.options
        triplet: list[torch.Tensor] = []
        masks: list[torch.Tensor] = []
        cells = cell_labels(truth, self.spec.stride, self.spec.aligned)
        for x, y, full in zip(maps, cells, truth, strict=True):
            rows = x.permute(0, 2, 3, 1)
            for t in range(len(y)):
                drawn = draw_triplets(
                    rows,
                    y,
                    t,
                    o.triplets,
                    every_object=o.every_object,
                    across=o.across,
                    candidates=o.candidates,
                )
                a, p, n = rows.reshape(-1, rows.shape[-1])[drawn]
                triplet.append(triplet_loss(a, p, n, o.margin))
                masks.append(self._mask_loss(net, x[t], full[t], y[t]))
        value, on_masks = torch.stack(triplet).mean(), torch.stack(masks).mean()
        return value + on_masks, {
            "triplet": value.detach() / o.triplets,
            "masks": on_masks.detach(),
            "gamma": net.gamma.detach(),
            "softness": net.log_softness.detach().exp(),
        }

    def _mask_loss(
        self,
        net: OnePointNet,
        embedding: Float[torch.Tensor, "D h w"],
        truth: UInt8[torch.Tensor, "H W"],
        cells: UInt8[torch.Tensor, "h w"],
    ) -> Float[torch.Tensor, ""]:
        """Return Lovasz loss and cross entropy of one image's objects, each from its inner point.

        gamma and softness get its gradient, the embedding ``mask_loss`` of it.
        """
        ids = objects_in(cells.flatten())
        if not ids:
            return embedding.sum() * 0 + net.gamma * 0 + net.log_softness * 0
        to_objects, to_background = distances(
            embedding, inner_key_points(net, embedding, _masks(truth, ids)), len(ids)
        )
        still = to_objects.detach()
        logits = object_logits(
            net, still + self.options.mask_loss * (to_objects - still), to_background
        )
        valid = cells != IGNORE
        losses = []
        for row, i in zip(logits, ids, strict=True):
            found, wanted = row[valid], cells[valid] == i
            losses.append(
                lovasz(torch.sigmoid(found), wanted)
                + F.binary_cross_entropy_with_logits(found, wanted.to(found))
            )
        return torch.stack(losses).mean()

    def _validate(
        self,
        net: OnePointNet,
        maps: Float[torch.Tensor, "B Q D h w"],
        truth: UInt8[torch.Tensor, "B Q H W"],
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        first: list[torch.Tensor] = []
        later: list[torch.Tensor] = []
        for x, y in zip(maps, truth, strict=True):
            ids = objects_in(y[0].flatten())
            keys = inner_key_points(net, x[0], _masks(y[0], ids))
            for t in range(len(y)):
                found = segment(net, x[t], keys, len(ids), (int(y.shape[1]), int(y.shape[2])))
                values = torch.stack(
                    [_iou(found == n, y[t] == i, y[t] != IGNORE) for n, i in enumerate(ids, 1)]
                )
                (later if t else first).append(values.mean())
        own, others = torch.stack(first).mean(), torch.stack(later).mean()
        return 1 - own, {"iou": own, "iou_later": others, "gamma": net.gamma}

    @torch.no_grad()
    def picture(self, model: nn.Module, batch: Batch) -> UInt8[np.ndarray, "H W 3"]:
        """Draw two rows per clip: frames with the masks of the first frame's key points and true
        outlines in white, then their embeddings in colours.
        """
        assert isinstance(model, OnePointNet)
        rows = []
        for frames, y in zip(batch.frames, batch.labels, strict=True):
            x = model(frames)
            size = (int(y.shape[1]), int(y.shape[2]))
            ids = objects_in(y[0].flatten())
            keys = inner_key_points(model, x[0], _masks(y[0], ids))
            shown = []
            for frame, embedding, truth in zip(frames, x, y, strict=True):
                found = segment(model, embedding, keys, len(ids), size)
                masks = torch.stack([found == n for n in range(1, len(ids) + 1)])
                outlines = torch.stack([truth == i for i in ids])
                shown.append(
                    tinted(
                        frame.permute(1, 2, 0).cpu().numpy(),
                        masks.cpu().numpy(),
                        outlines.cpu().numpy(),
                    )
                )
            colors = principal_colors(x.permute(0, 2, 3, 1).cpu().numpy(), size)
            rows += [np.concatenate(shown, 1), np.concatenate(list(colors), 1)]
        return np.concatenate(rows)


def _masks(truth: UInt8[torch.Tensor, "H W"], ids: list[int]) -> list[Bool[np.ndarray, "H W"]]:
    array = truth.cpu().numpy()
    return [array == i for i in ids]


def _iou(
    found: Bool[torch.Tensor, "H W"],
    truth: Bool[torch.Tensor, "H W"],
    valid: Bool[torch.Tensor, "H W"],
) -> Float[torch.Tensor, ""]:
    both, either = (found & truth & valid).sum(), ((found | truth) & valid).sum()
    return both / either if bool(either) else torch.ones((), device=found.device)
