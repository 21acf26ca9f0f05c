"""``embedding``: the metric pixel embedding of paper 000 (sec. 4.1).

It is trained by the contrastive loss on the pixels of clips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import nn

from vos_ros.config import ConfigError, option
from vos_ros.segmentation.checkpoints import EMBEDDING_FORMAT, CheckpointError, load, load_weights
from vos_ros.segmentation.networks.embedding import SPECS, EmbeddingNet
from vos_ros.sinks.embeddings import principal_colors
from vos_ros.training.config import StageConfig, build
from vos_ros.training.groups import backbone_groups, groups_with_rates
from vos_ros.training.interface import IGNORE, Batch
from vos_ros.training.losses import iou
from vos_ros.training.metric import (
    cell_labels,
    contrastive,
    nearest_labels,
    objects_in,
    sample_pixels,
)
from vos_ros.training.report import tinted
from vos_ros.training.weights_options import check_files, spec_of

_BACKBONE_PREFIX = "feature_extractor."  # of the keys of a backbone in weights of a whole network


@dataclass(frozen=True)
class EmbeddingOptions:
    """Options of the training of an embedding. ``spec`` replaces fields of the named network's."""

    network: str = option("mobilenet_v2", "network to start from", choices=tuple(SPECS))
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    backbone: str = option(
        "",
        "weights of the backbone: torchvision's names (.safetensors or .pt), or a whole network of"
        " vos_ros that has the same one; empty = random",
    )
    weights: str = option("", "weights of a whole embedding to start from; empty = none")
    pixels: int = option(
        512,
        "size of the set K of eq. (2), per clip: pixels of all its frames that are compared with"
        " each other",
        low=2,
        high=16384,
    )
    background: float = option(
        0.1,
        "weight of pairs of background pixels, which are not one thing (the paper: 1)",
        low=0.0,
        high=1.0,
    )
    outline: float = option(
        0.3,
        "share of the background's pixels that lie close to an object's outline",
        low=0.0,
        high=0.5,
    )
    look_alikes: float = option(
        0.3,
        "share of the background's pixels that look most like an object to the embedding",
        low=0.0,
        high=0.5,
    )


class EmbeddingTask:
    """Train the embedding: pixels of one object are alike in all frames, others aren't."""

    name = "embedding"

    def __init__(self, options: EmbeddingOptions) -> None:
        self.options = options
        self.spec = spec_of(SPECS[options.network], options.spec, "an embedding")

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """Make the task. Raises ConfigError: an unknown option, a wrong type or value."""
        return cls(build(EmbeddingOptions, options, "options."))

    def build(self) -> EmbeddingNet:
        """Return a network with the weights that the options name.

        Raises ConfigError: a file that can't be used.
        """
        net = EmbeddingNet(self.spec)
        check_files(self.options, "backbone", "weights")
        if self.options.backbone:
            load_backbone(net.feature_extractor, self.options.backbone)
        if self.options.weights:
            load_weights(net, self.options.weights)
        return net

    def metadata(self) -> dict[str, str]:
        """Return the format and the spec, from which the network is built again."""
        return {"format": EMBEDDING_FORMAT, "spec": self.spec.to_json()}

    def parameter_groups(self, model: nn.Module, stage: StageConfig) -> list[dict[str, Any]]:
        """Return the stage's groups of parameters.

        Groups are ``stem`` (the backbone up to stride 4), ``backbone`` (its rest), ``pyramid``.
        Raises ConfigError: a rate for another.
        """
        assert isinstance(model, EmbeddingNet)
        pyramid = [
            p for part in (model.lateral, model.smooth, model.project) for p in part.parameters()
        ]
        return groups_with_rates(
            {**backbone_groups(model.feature_extractor), "pyramid": pyramid}, stage
        )

    def embed(
        self, net: EmbeddingNet, batch: Batch
    ) -> tuple[Float[torch.Tensor, "B Q h w d"], UInt8[torch.Tensor, "B Q h w"]]:
        """Return the embedding of every cell of the clips, and the cells' labels."""
        maps: torch.Tensor = net(batch.frames.flatten(0, 1))
        x = maps.permute(0, 2, 3, 1)
        return x.reshape(*batch.labels.shape[:2], *x.shape[1:]), cell_labels(
            batch.labels, self.spec.stride, self.spec.aligned
        )

    def loss(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """Return eq. (2), and the spread of the features: their mean standard deviation.

        In eval mode also ``iou``: what following objects by the metric alone reaches, see
        ``follow``.
        """
        assert isinstance(model, EmbeddingNet)
        o = self.options
        features, labels = self.embed(model, batch)
        values = []
        with torch.autocast(features.device.type, enabled=False):
            for x, y in zip(features.float(), labels, strict=True):
                k = sample_pixels(y, x, o.pixels, outline=o.outline, look_alikes=o.look_alikes)
                values.append(
                    contrastive(x.reshape(-1, x.shape[-1])[k], y.flatten()[k].long(), o.background)
                )
            value = torch.stack(values).mean()
            scalars: dict[str, torch.Tensor | float] = {
                "spread": features.detach().flatten(0, 3).std(0).mean()
            }
            if not model.training:
                scalars["iou"] = torch.stack(
                    [follow(x, y) for x, y in zip(features.float(), labels, strict=True)]
                ).mean()
        return value, scalars

    @torch.no_grad()
    def picture(self, model: nn.Module, batch: Batch) -> UInt8[np.ndarray, "H W 3"]:
        """Draw two rows per clip: frames with true outlines in white, then their embeddings."""
        assert isinstance(model, EmbeddingNet)
        features = self.embed(model, batch)[0]
        rows = []
        for frames, labels, x in zip(batch.frames, batch.labels, features, strict=True):
            shown = [
                tinted(f, np.zeros((0, *y.shape), bool), _masks(y))
                for f, y in zip(
                    frames.permute(0, 2, 3, 1).cpu().numpy(), labels.cpu().numpy(), strict=True
                )
            ]
            colors = principal_colors(
                x.cpu().numpy(), (int(labels.shape[-2]), int(labels.shape[-1]))
            )
            rows += [np.concatenate(shown, 1), np.concatenate(list(colors), 1)]
        return np.concatenate(rows)


def load_backbone(backbone: nn.Module, path: str) -> None:
    """Load a backbone from a state dict with torchvision's names, or from a whole network of ours.

    Raises ConfigError: a file that can't be used.
    """
    inside = False
    if path.endswith(".safetensors"):
        try:
            inside = any(key.startswith(_BACKBONE_PREFIX) for key in load(path).tensors)
        except CheckpointError as e:
            raise ConfigError(str(e)) from e
    load_weights(
        nn.ModuleDict({_BACKBONE_PREFIX.rstrip("."): backbone}) if inside else backbone, path
    )


def follow(
    features: Float[torch.Tensor, "Q h w d"], labels: UInt8[torch.Tensor, "Q h w"]
) -> Float[torch.Tensor, ""]:
    """Return the mean IoU, over objects and later frames, of following by the metric alone.

    Every cell takes the label of the nearest cell of the first frame; nothing is learned.
    """
    known, later = labels[0].flatten(), labels[1:]
    d = features.shape[-1]
    found = nearest_labels(features[0].reshape(-1, d), known, features[1:].reshape(-1, d)).reshape(
        later.shape
    )
    ids = torch.tensor(objects_in(known), device=labels.device)[:, None, None, None]
    return iou(found == ids, later == ids, (later != IGNORE).expand(len(ids), -1, -1, -1)).mean()


def _masks(labels: UInt8[np.ndarray, "H W"]) -> Bool[np.ndarray, "n H W"]:
    ids = [i for i in np.unique(labels) if i not in (0, IGNORE)]
    return np.stack([labels == i for i in ids]) if ids else np.zeros((0, *labels.shape), bool)
