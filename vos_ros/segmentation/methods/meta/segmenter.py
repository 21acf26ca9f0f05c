"""The streaming method of paper 000 (see the package's docstring).

Every pixel has a learned embedding (sec. 4.1), computed once per frame for all objects. Every
object has a small segmentation model f on it, a vector theta of some thousand numbers, which a
learned optimizer (an LSTM, eq. 3-4) fits to the seeded frame in a few iterations, and goes on
fitting during the stream. theta and the LSTM's state live as long as the object. All objects are
updated in one batch.

Additions to the paper: f also gets where the object was on the previous frame, and the similarity
of a cell to some of the object's and of the background's cells (see ``inputs``); logits of similar
neighbours are averaged; what is not connected to where the object was is not the object; objects
compete for a pixel by soft aggregation; a window follows each object; a frame in which an object
was not found with confidence is no sample.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.connectivity import connectivity_gate
from vos_ros.segmentation.methods.meta.inputs import (
    PRIORS_PER_MASK,
    draw_references,
    head_inputs,
    pseudo_labels,
    sample_cells,
    samples_of_given_masks,
    smooth_logits,
)
from vos_ros.segmentation.methods.meta.memory import Cells, Memory, batch_cells
from vos_ros.segmentation.methods.meta.model import MetaModel
from vos_ros.segmentation.methods.meta.options import MetaOptions
from vos_ros.segmentation.networks.meta_optimizer import RATES, State
from vos_ros.segmentation.networks.segmentation_head import Samples
from vos_ros.segmentation.online_segmenter import Masks, OnlineSegmenter, Weights
from vos_ros.segmentation.search_window import (
    full_image_windows,
    grid_ranges,
    update_windows,
    window_masks,
)
from vos_ros.types import Frame, Segmentation

_MIN_SAMPLE_PX = 0.5
"""px of the object that a frame must show: with less there is nothing to learn of it."""
_LOGIT_OUTSIDE = -20.0
"""Logit of cells that cannot be the object."""
_MIN_WINDOW_CELLS = 8
"""Smallest side of a window, cells."""


@dataclass(eq=False, slots=True, kw_only=True)
class ObjectModel:
    """One object: its model, what it is learned from, and where it was last."""

    start: Float[torch.Tensor, "P"]
    """theta before the first iteration."""
    theta: Float[torch.Tensor, "P"]
    """Parameters of f."""
    state: dict[str, torch.Tensor]
    """State of the optimizer."""
    memory: Memory
    """Cells that it is learned from."""
    references: Float[torch.Tensor, "2 R d"]
    """Reference embeddings of the object and of the background."""
    prior: Float[torch.Tensor, "h w"]
    """Mask on the previous frame, 0..1."""
    window: Float[torch.Tensor, "3"]
    """Search window."""
    is_learned: bool = False
    """Whether theta was learned from any cell."""
    iterations: int = 0
    """Iterations since theta was ``start``."""


@dataclass(frozen=True, eq=False, slots=True)
class EncodedWindows:
    """The inputs of f of one object, on a part of the embedding."""

    inputs: Float[torch.Tensor, "1 C h w"]
    """The inputs."""
    rows: slice
    """Rows of the embedding."""
    columns: slice
    """Columns of the embedding."""


class Meta(OnlineSegmenter[Float[torch.Tensor, "1 d h w"], Cells]):
    """The ``meta`` method."""

    def __init__(self, config: SegmentationConfig) -> None:
        o = self._options = config.methods.of(MetaOptions)
        super().__init__(config, update_every=o.update_every, min_confidence=o.min_confidence)
        self.model = MetaModel(o, self.device)
        self.net = self.model.net
        self.models: dict[int, ObjectModel] = {}
        self._rule = self.net.rule(o.optimizer, o.rate or RATES[o.optimizer])
        self._count = PRIORS_PER_MASK * -(-o.samples // PRIORS_PER_MASK)
        self._generator = torch.Generator(self.device).manual_seed(0)

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.models)

    # -- the frame ---------------------------------------------------------------------------------

    def _encode(self, frame: Frame) -> Float[torch.Tensor, "1 d h w"]:
        return self.model.embed(frame.rgb)

    def _features_of(self, encoded: Float[torch.Tensor, "1 d h w"]) -> Float[torch.Tensor, "d h w"]:
        return encoded[0]

    def _segment(self, frame: Frame, *, is_next: bool) -> Segmentation:
        """Compute inputs of f, logits, and one distribution per pixel."""
        if not self.models:
            return self._background(frame)
        shape, models = frame.shape, list(self.models.values())
        embedding = self._encoding(frame)
        priors = torch.stack([m.prior for m in models])
        windows = torch.stack([m.window for m in models])
        encoded, logits = self._logits(embedding, models, priors, windows)
        logits = smooth_logits(logits, embedding)
        logits.masked_fill_(connectivity_gate(logits, priors) == 0, _LOGIT_OUTSIDE)
        size = self.model.masks_size(shape)
        is_searched = torch.tensor(
            [m.is_learned and self._is_searched(i) for i, m in self.models.items()],
            device=self.device,
        )[:, None, None] & window_masks(windows, size)
        probs = torch.sigmoid(self.model.resize(logits[None], size)[0])
        merged = soft_aggregate(probs * is_searched)
        if is_next:
            self._move(encoded, windows, merged)
        return Segmentation(
            self.object_ids,
            self.model.resize(merged[None], shape)[0],
            self.model.boundary_px(shape),
        )

    def _logits(
        self,
        embedding: Float[torch.Tensor, "1 d h w"],
        models: Sequence[ObjectModel],
        priors: Float[torch.Tensor, "N h w"],
        windows: Float[torch.Tensor, "N 3"],
    ) -> tuple[list[EncodedWindows], Float[torch.Tensor, "N h w"]]:
        """Compute every object's inputs and logits.

        On CPUs each object's in its window alone; on devices that work in batches, on the whole
        image for all.

        Args:
            embedding: of the frame.
            models: the objects.
            priors: their masks on the previous frame.
            windows: their search windows.
        """
        head, (h, w) = self.net.head, embedding.shape[2:]
        if self.device.type != "cpu":
            inputs = head_inputs(embedding, [m.references for m in models], priors)
            theta = torch.stack([m.theta for m in models])
            logits = head.logits(theta, inputs.flatten(2)).reshape(len(models), h, w)
            return [EncodedWindows(x[None], slice(0, h), slice(0, w)) for x in inputs], logits
        out, logits = [], torch.full((len(models), h, w), _LOGIT_OUTSIDE)
        ranges = grid_ranges(windows, (h, w), _MIN_WINDOW_CELLS)
        for k, (model, (rows, columns)) in enumerate(zip(models, ranges, strict=True)):
            ys, xs = slice(*rows), slice(*columns)
            prior = priors[k : k + 1, ys, xs]
            inputs = head_inputs(embedding[:, :, ys, xs], [model.references], prior)
            logits[k, ys, xs] = head.logits(model.theta[None], inputs.flatten(2)).reshape(
                inputs.shape[2:]
            )
            out.append(EncodedWindows(inputs, ys, xs))
        return out, logits

    def _move(
        self,
        encoded: Sequence[EncodedWindows],
        windows: Float[torch.Tensor, "N 3"],
        merged: Float[torch.Tensor, "N1 H W"],
    ) -> None:
        """Move priors and windows to where the objects are; keep own masks where one is due."""
        models, own = list(self.models.values()), merged[1:]
        cells = (int(models[0].prior.shape[0]), int(models[0].prior.shape[1]))
        priors = self.model.resize(own[None], cells)[0]
        moved = update_windows(windows, own, self._options.search_scale)
        for m, prior, window in zip(models, priors, moved, strict=True):
            m.prior, m.window = prior, window
        self._mark_found(self.object_ids, merged)
        if not self._is_update_due() or not self._options.iterations_update:
            return
        rows = [
            k
            for k, (i, m) in enumerate(self.models.items())
            if m.is_learned and self._may_learn_own_mask(i)
        ]
        if not rows:
            return
        masks, weights = pseudo_labels(priors)
        # what lies outside was not segmented: look-alikes there would be learned as background
        weights = weights * window_masks(windows, cells)
        rows_of_merged = torch.arange(1, len(merged), device=self.device)[:, None, None]
        won = merged.max(0).indices == rows_of_merged
        confidence = (own * won).sum((1, 2)) / won.sum((1, 2)).clamp_min(1)
        ids = self.object_ids
        for k in rows:
            part = encoded[k]
            at = (slice(k, k + 1), part.rows, part.columns)
            kept = sample_cells(part.inputs, masks[at], weights[at], self._count, self._generator)
            quality = torch.stack([confidence[k], torch.zeros_like(confidence[k])])
            self.pending.add_own(Cells(*(t[0] for t in kept)), [ids[k]], quality[None])

    # -- learning ----------------------------------------------------------------------------------

    def _at_cells(
        self, frame: Frame, masks: Masks, weights: Weights
    ) -> tuple[Float[torch.Tensor, "n h w"], Float[torch.Tensor, "n h w"], list[bool]]:
        """Return masks and weights over the cells, and whether each object can be learned."""
        planes = torch.from_numpy(np.stack(list(masks.values()))).to(self.device).float()
        cells = self.model.cells(planes)
        if all(weights[i] is None for i in masks):
            shown = planes.sum((1, 2)) >= _MIN_SAMPLE_PX
            return cells, torch.ones_like(cells), shown.tolist()
        ones = np.ones(frame.shape, np.float32)
        pixel_weights = torch.from_numpy(
            np.stack([ones if (w := weights[i]) is None else w for i in masks])
        ).to(self.device)
        shown = (planes * pixel_weights).sum((1, 2)) >= _MIN_SAMPLE_PX
        return cells, self.model.cells(pixel_weights), shown.tolist()

    def _windows_around(self, masks: Float[torch.Tensor, "n h w"]) -> Float[torch.Tensor, "n 3"]:
        """Return search windows around given masks."""
        return update_windows(
            full_image_windows(len(masks), self.device),
            masks,
            self._options.search_scale,
            limit_change=False,
        )

    def _samples_in_windows(
        self,
        embedding: Float[torch.Tensor, "1 d h w"],
        references: Sequence[torch.Tensor] | Float[torch.Tensor, "n 2 R d"],
        masks: Float[torch.Tensor, "n h w"],
        weights: Float[torch.Tensor, "n h w"],
        windows: Float[torch.Tensor, "n 3"],
    ) -> Samples:
        """Draw cells of given masks, in the windows in which the objects will be searched.

        Args:
            embedding: of the frame.
            references: of each object.
            masks: share of each cell that is the object.
            weights: >= 0, weight of each cell.
            windows: of each object.
        """
        parts = []
        grid = (int(masks.shape[1]), int(masks.shape[2]))
        for k, (rows, columns) in enumerate(grid_ranges(windows, grid, _MIN_WINDOW_CELLS)):
            at = (slice(k, k + 1), slice(*rows), slice(*columns))
            parts.append(
                samples_of_given_masks(
                    embedding[:, :, at[1], at[2]],
                    references[k : k + 1],
                    masks[at],
                    weights[at],
                    self._count,
                    self._generator,
                )
            )
        return Samples(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _add_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        """Start theta of new objects (fig. 1), and run T_init iterations of eq. (3)."""
        embedding = self._encoding(frame)
        cells, cell_weights, shown = self._at_cells(frame, masks, weights)
        references = draw_references(
            embedding.expand(len(masks), -1, -1, -1), cells, cell_weights, self._generator
        )
        windows = self._windows_around(cells)
        samples = self._samples_in_windows(embedding, references, cells, cell_weights, windows)
        theta = self.net.start(samples, self._options.one_shot)
        states = self._rule.start(theta)
        for k, (i, window) in enumerate(zip(masks, windows, strict=True)):
            memory = Memory(self._options.memory_size, self._options.seed_sample_ratio)
            if shown[k]:
                memory.add_given(Cells(*(part[k] for part in samples)))
            self.models[i] = ObjectModel(
                start=theta[k],
                theta=theta[k],
                state={name: s[k] for name, s in states.items()},
                memory=memory,
                references=references[k],
                prior=cells[k],
                window=window,
            )
        learned = [i for i, is_shown in zip(masks, shown, strict=True) if is_shown]
        self._iterate(learned, self._options.iterations_init)

    def _correct_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        """Take over given masks: positions, references, and cells to learn from later."""
        embedding = self._encoding(frame)
        cells, cell_weights, shown = self._at_cells(frame, masks, weights)
        latest = draw_references(
            embedding.expand(len(masks), -1, -1, -1), cells, cell_weights, self._generator
        )
        references = [
            torch.cat([self.models[i].references[:, : latest.shape[2]], latest[k]], 1)
            for k, i in enumerate(masks)
        ]
        windows = self._windows_around(cells)
        samples = self._samples_in_windows(embedding, references, cells, cell_weights, windows)
        for k, (i, window) in enumerate(zip(masks, windows, strict=True)):
            model = self.models[i]
            model.prior, model.window = cells[k], window
            if shown[k]:
                model.references = references[k]
                model.memory.add_given(Cells(*(part[k] for part in samples)))
                self.pending.mark(i)

    def _remove_objects(self, object_ids: Collection[int]) -> None:
        for i in object_ids:
            del self.models[i]

    def _learn(
        self, samples: Sequence[tuple[Cells, frozenset[int]]], object_ids: Collection[int]
    ) -> None:
        """Update models, T_update iterations; learn anew those that had too many."""
        for cells, ids in samples:
            for i in ids:
                self.models[i].memory.add_own(cells)
        more, limit = self._options.iterations_update, self._options.max_iterations
        restarted = [
            i
            for i, m in self.models.items()
            if i in object_ids and (not m.is_learned or (more and m.iterations + more > limit))
        ]
        for i in restarted:
            model = self.models[i]
            model.theta, model.iterations = model.start, 0
            states = self._rule.start(model.start[None])
            model.state = {name: s[0] for name, s in states.items()}
        self._iterate(restarted, self._options.iterations_init)
        others = [i for i in self.models if i in object_ids and i not in restarted]
        self._iterate(others, more)

    def _iterate(self, object_ids: Sequence[int], iterations: int) -> None:
        """Run iterations of eq. (3) for some objects at once, on cells drawn from their memory."""
        models = [self.models[i] for i in object_ids]
        if not models:
            return
        samples = batch_cells([m.memory.draw(2 * self._count, self._generator) for m in models])
        state: State = {
            name: torch.stack([m.state[name] for m in models]) for name in models[0].state
        }
        theta, state = self.net.learn(
            self._rule, torch.stack([m.theta for m in models]), samples, state, iterations
        )
        for k, m in enumerate(models):
            m.theta, m.state = theta[k].clone(), {name: s[k].clone() for name, s in state.items()}
            m.iterations, m.is_learned = m.iterations + iterations, True
