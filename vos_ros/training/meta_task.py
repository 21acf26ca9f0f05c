"""``meta``: the learned optimizer of paper 000 (sec. 4.2).

The optimizer, its weight generator and the start that all objects share are trained together by the
meta-loss of eq. (5), through the iterations (back-propagation through time).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import nn

from vos_ros.config import ConfigError, option
from vos_ros.segmentation.checkpoints import META_FORMAT, CheckpointError, load, load_weights
from vos_ros.segmentation.methods.meta.inputs import (
    draw_references,
    head_inputs,
    join_samples,
    perturb_masks,
    pseudo_labels,
    sample_cells,
    samples_of_given_masks,
    to_cells,
)
from vos_ros.segmentation.networks.decoder import resize
from vos_ros.segmentation.networks.embedding import SPECS, EmbeddingSpec
from vos_ros.segmentation.networks.meta import MetaNet, MetaSpec
from vos_ros.segmentation.networks.meta_optimizer import Rule, State, iterate
from vos_ros.segmentation.networks.segmentation_head import Samples
from vos_ros.training.config import StageConfig, build
from vos_ros.training.groups import groups_with_rates
from vos_ros.training.interface import Batch
from vos_ros.training.losses import iou
from vos_ros.training.objects import Objects, mean_over_clips
from vos_ros.training.report import tinted
from vos_ros.training.weights_options import check_files


@dataclass(frozen=True)
class MetaOptions:
    """Options of the training of the optimizer.

    ``spec`` replaces fields of the networks' specification, except the embedding's.
    """

    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    embedding: str = option(
        "", "weights of a trained embedding, from vos-ros train embedding; empty = a random one"
    )
    network: str = option(
        "mobilenet_v2", "the embedding's network where no weights are named", choices=tuple(SPECS)
    )
    weights: str = option(
        "",
        "weights of whole networks to start from, also the embedding's where none is named; empty ="
        " none",
    )
    iterations: int = option(10, "T of eq. (5): iterations on the first frame", low=1, high=200)
    refine: int = option(
        2,
        "further iterations after each later frame, on the first frame and the model's own masks of"
        " those; 0 = none",
        low=0,
        high=50,
    )
    truncate: int = option(
        0,
        "iterations after which the graph is cut (back-propagation through time, truncated); 0 ="
        " never",
        low=0,
        high=200,
    )
    second_order: bool = option(
        False, "the gradient's dependence on the parameters counts in the meta-gradient"
    )
    one_shot: float = option(
        0.5,
        "probability that an object starts from the weight generator's prediction",
        low=0.0,
        high=1.0,
    )
    samples: int = option(768, "cells of the first frame that are learned from", low=8, high=65536)
    query: int = option(
        384, "cells of every other frame on which eq. (5) is measured", low=8, high=65536
    )
    missing: float = option(
        0.1,
        "probability that nothing is known of where an object was on the frame before",
        low=0.0,
        high=1.0,
    )


class Episode(NamedTuple):
    """Hold the cells from which M objects are learned, and those that measure the result."""

    objects: Objects
    """The objects of the batch."""
    support: Samples
    """Cells of the first frame, from which the models are learned."""
    queries: Samples
    """Cells of the later frames (M, C, K S), on which the loss is measured."""
    maps: Float[torch.Tensor, "M K C h w"]
    """Inputs of all cells of the later frames."""
    truth: Bool[torch.Tensor, "M K h w"]
    """Whether a cell shows the object."""
    valid: Bool[torch.Tensor, "M K h w"]
    """Whether a cell counts."""


class MetaTask:
    """Train the optimizer: models are learned from first frames and measured on later ones."""

    name = "meta"

    def __init__(self, options: MetaOptions) -> None:
        self.options = options
        try:
            embedding = SPECS[options.network]
            if options.embedding:
                embedding = EmbeddingSpec.from_json(load(options.embedding).header.get("spec", ""))
            fields = {k: v for k, v in json.loads(MetaSpec().to_json()).items() if k != "embedding"}
            if unknown := sorted(set(options.spec) - set(fields)):
                raise ValueError(f"unknown fields {unknown}; known are {sorted(fields)}")
            given = {**fields, **options.spec, "embedding": json.loads(embedding.to_json())}
            self.spec = MetaSpec.from_json(json.dumps(given))
        except CheckpointError as e:
            raise ConfigError(f"options.embedding: {e}") from e
        except (TypeError, ValueError) as e:
            raise ConfigError(f"options.spec: {e}") from e

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """Make the task.

        Raises ConfigError: an unknown option, a wrong type or value, an unusable embedding.
        """
        return cls(build(MetaOptions, options, "options."))

    @classmethod
    def of(cls, net: MetaNet) -> Self:
        """Return the task with its default options for existing networks."""
        task = cls(MetaOptions())
        task.spec = net.spec
        return task

    def build(self) -> MetaNet:
        """Return networks with the weights that the options name.

        Raises ConfigError: a file that can't be used.
        """
        net = MetaNet(self.spec)
        check_files(self.options, "weights", "embedding")
        for module, path in (
            (net, self.options.weights),
            (net.embedding, self.options.embedding),
        ):
            if path:
                load_weights(module, path)
        return net

    def metadata(self) -> dict[str, str]:
        """Return the format and the spec, from which the networks are built again."""
        return {"format": META_FORMAT, "spec": self.spec.to_json()}

    def parameter_groups(self, model: nn.Module, stage: StageConfig) -> list[dict[str, Any]]:
        """Return the stage's groups of parameters.

        Groups are ``embedding``, ``initial`` (where theta starts), ``optimizer`` (the LSTM),
        ``rates`` (its step lengths), ``generator``. Raises ConfigError: a rate for another.
        """
        assert isinstance(model, MetaNet)
        lengths = model.optimizer.log_rate
        return groups_with_rates(
            {
                "embedding": list(model.embedding.parameters()),
                "initial": [model.initial],
                "rates": [lengths],
                "optimizer": [p for p in model.optimizer.parameters() if p is not lengths],
                "generator": list(model.generator.parameters()),
            },
            stage,
        )

    def episode(
        self, net: MetaNet, batch: Batch, generator: torch.Generator | None = None
    ) -> Episode:
        """Draw the cells that the objects of a batch are learned from and measured on.

        The prior, where an object was on the frame before, is the true mask, disturbed.
        """
        objects = Objects.of(batch.labels)
        trained = torch.is_grad_enabled() and any(
            p.requires_grad for p in net.embedding.parameters()
        )
        with torch.set_grad_enabled(trained):
            embedded = net.embedding(batch.frames.flatten(0, 1)).unflatten(
                0, batch.labels.shape[:2]
            )[objects.clip]
        with torch.autocast(embedded.device.type, enabled=False):
            return self._episode(embedded, objects, generator)

    def _episode(
        self,
        embedded: Float[torch.Tensor, "M Q d h w"],
        objects: Objects,
        generator: torch.Generator | None,
    ) -> Episode:
        o = self.options
        stride, aligned = self.spec.embedding.stride, self.spec.embedding.aligned
        masks, care = (
            to_cells(t.to(embedded), stride, aligned) for t in (objects.masks, objects.valid)
        )
        references = draw_references(embedded[:, 0], masks[:, 0], care[:, 0], generator)
        support = samples_of_given_masks(
            embedded[:, 0], references, masks[:, 0], care[:, 0], o.samples, generator
        )
        later, maps = [], []
        for k in range(1, masks.shape[1]):
            prior = perturb_masks(masks[:, k], generator, missing=o.missing)
            maps.append(head_inputs(embedded[:, k], references, prior))
            later.append(sample_cells(maps[-1], masks[:, k], care[:, k], o.query, generator))
        return Episode(
            objects,
            support,
            join_samples(later),
            torch.stack(maps, 1),
            masks[:, 1:] > 0.5,
            care[:, 1:] > 0.5,
        )

    def loss(
        self, model: nn.Module, batch: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        """Return eq. (5): L_s on the K later frames after each of T iterations, summed over both.

        With ``refine``, the iterations after each later frame add L_s on the frames that weren't
        learned from yet. Scalars are L_s before the first and after the T-th iteration (means over
        the frames), and the mean IoU then. In eval mode all objects start from the generator's
        prediction, and every call draws the same cells.
        """
        assert isinstance(model, MetaNet)
        generator = None if model.training else torch.Generator(batch.frames.device).manual_seed(0)
        episode = self.episode(model, batch, generator)
        # A sum over iterations needs single precision.
        with torch.autocast(batch.frames.device.type, enabled=False):
            return self._loss(model, episode, generator)

    def _loss(
        self, net: MetaNet, episode: Episode, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor | float]]:
        o, clip, count = self.options, episode.objects.clip, episode.maps.shape[1]
        chance = torch.rand(len(clip), 1, generator=generator, device=clip.device)
        first = net.start(
            episode.support, (chance < o.one_shot).to(chance) if net.training else True
        )
        rule = net.optimizer
        value, theta, state = self._unrolled(
            net, rule, first, rule.start(first), episode.support, episode.queries, o.iterations
        )
        after = theta.detach()
        for k in range(1, count if o.refine else 1):
            support, rest = (
                self._refined(net, theta.detach(), episode, k, generator),
                later(episode.queries, k, count),
            )
            more, theta, state = self._unrolled(net, rule, theta, state, support, rest, o.refine)
            value = value + more * (count - k) / count
        with torch.no_grad():
            found = evaluate(net, after, episode)
            losses = [
                mean_over_clips(net.head.loss(t, episode.queries), clip) for t in (first, after)
            ]
        return mean_over_clips(count * value, clip), {
            "before": losses[0],
            "after": losses[1],
            "iou": found.mean(),
        }

    def _unrolled(
        self,
        net: MetaNet,
        rule: Rule,
        theta: Float[torch.Tensor, "M P"],
        state: State,
        support: Samples,
        queries: Samples,
        iterations: int,
    ) -> tuple[Float[torch.Tensor, "M"], Float[torch.Tensor, "M P"], State]:
        """Iterate, and sum the mean of L_s over the queries after each iteration.

        Args:
            net: the networks.
            rule: the optimizer.
            theta: models to start from.
            state: the optimizer's state to start from.
            support: cells that are learned from.
            queries: cells that are measured on.
            iterations: how many.

        Returns the sum per object, and theta and state at the end.
        """
        total, cut = theta.new_zeros(len(theta)), self.options.truncate
        for done in range(iterations):
            if cut and done and done % cut == 0:
                theta, state = theta.detach(), {k: v.detach() for k, v in state.items()}
            theta, state = next(
                iterate(
                    rule, net.head, theta, support, state, 1, second_order=self.options.second_order
                )
            )
            total = total + net.head.loss(theta, queries)
        return total, theta, state

    @torch.no_grad()
    def _refined(
        self,
        net: MetaNet,
        theta: Float[torch.Tensor, "M P"],
        episode: Episode,
        k: int,
        generator: torch.Generator | None,
    ) -> Samples:
        """Join half of the first frame's cells with as many of the k later frames.

        The labels of the later frames are the model's own, as when the method is used.

        Args:
            net: the networks.
            theta: the models now.
            episode: the objects and their cells.
            k: number of later frames to learn from.
            generator: draws the cells; None = torch's default.
        """
        maps = episode.maps[:, :k]
        probs = torch.sigmoid(scores(net, theta, maps))
        half = self.options.samples // 2
        own = join_samples(
            [
                sample_cells(maps[:, n], *pseudo_labels(probs[:, n]), -(-half // k), generator)
                for n in range(k)
            ]
        )
        order = torch.randperm(
            episode.support.labels.shape[1], generator=generator, device=theta.device
        )[:half]
        kept = Samples(*(part[..., order] for part in episode.support))
        weights = kept.weights / kept.weights.sum(1, keepdim=True).clamp_min(1e-12)
        return join_samples([kept._replace(weights=weights), own])

    @torch.no_grad()
    def picture(self, model: nn.Module, batch: Batch) -> UInt8[np.ndarray, "H W 3"]:
        """Draw a clip per row: the first frame with its masks, then the predictions.

        Masks are tinted, true outlines are white.
        """
        assert isinstance(model, MetaNet)
        episode = self.episode(model, batch, torch.Generator(batch.frames.device).manual_seed(0))
        theta = model.start(episode.support, True)
        theta, _ = model.learn(
            model.optimizer,
            theta,
            episode.support,
            model.optimizer.start(theta),
            self.options.iterations,
        )
        size = (int(batch.frames.shape[-2]), int(batch.frames.shape[-1]))
        logits = resize(scores(model, theta, episode.maps), size, self.spec.embedding.aligned)
        rows = []
        for b in range(len(batch.frames)):
            own = torch.nonzero(episode.objects.clip == b).flatten()
            truth = episode.objects.masks[own]
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


def later(queries: Samples, k: int, count: int) -> Samples:
    """Return the queries of the ``count`` frames without the first k."""
    start = queries.labels.shape[1] * k // count
    return Samples(
        queries.inputs[:, :, start:],
        queries.labels[:, start:],
        queries.weights[:, start:] * (count / (count - k)),
    )


def scores(
    net: MetaNet, theta: Float[torch.Tensor, "M P"], maps: Float[torch.Tensor, "M K C h w"]
) -> Float[torch.Tensor, "M K h w"]:
    """Return the logits of all cells of K frames."""
    m, k, c, h, w = maps.shape
    return net.head.logits(theta, maps.transpose(1, 2).reshape(m, c, k * h * w)).reshape(m, k, h, w)


def evaluate(
    net: MetaNet, theta: Float[torch.Tensor, "M P"], episode: Episode
) -> Float[torch.Tensor, "M K"]:
    """Return the IoU over the cells of every later frame."""
    return iou(scores(net, theta, episode.maps) > 0, episode.truth, episode.valid)
