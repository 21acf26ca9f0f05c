"""Meta: Clark et al., "Meta-Learning for Instance-Level Data Association", NeurIPS workshops 2018 (paper 000). Written from the paper;
Apache-2.0.

Every pixel has a learned embedding (sec. 4.1), computed once per frame for all objects. Every object has a small segmentation model f on
it, a vector theta of some thousand numbers, which a learned optimizer (an LSTM, eq. 3-4) fits to the seeded frame in a few iterations, and
goes on fitting as the stream goes on; theta and the LSTM's state live as long as the object. All objects are updated in one batch.

Where this goes beyond the paper: f also sees where the object was on the frame before, and how alike a cell is to some of the object's
and of the background's (see ``segmentation.meta.inputs``); neighbours that look alike agree; what isn't connected to where the object was
isn't it; objects compete for a pixel by soft aggregation; a window follows each object; a frame in which an object was not found with
confidence teaches nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.interface import (
    VideoSegmenter,
    check_known,
    check_new,
    check_shapes,
    check_size,
)
from vos_ros.segmentation.methods.meta.inputs import (
    VIEWS,
    choose_references,
    confident,
    hold_together,
    planes,
    sample,
    seeded,
    smoothed,
)
from vos_ros.segmentation.methods.meta.memory import Cells, Memory, batched
from vos_ros.segmentation.methods.meta.model import MetaModel
from vos_ros.segmentation.methods.meta.options import MetaOptions
from vos_ros.segmentation.network_input import prepare_torch
from vos_ros.segmentation.networks.meta_optimizer import RATES, State
from vos_ros.segmentation.networks.segmentation_head import Samples
from vos_ros.segmentation.prompts import to_mask
from vos_ros.segmentation.search_window import (
    full_image_windows,
    inside,
    overwrite_masks,
    spans,
    update_windows,
)
from vos_ros.types import Frame, Seed, Segmentation

_FAR_PAST = -(1 << 30)
_MIN_PX = 0.5  # px of the object that a frame must show to teach anything of it
_SURELY_NOT = -20.0  # logit of what can't be the object
_LEAST = 8  # cells that a window has each way at least
_LOOK_EVERY = (
    8  # frames between looks for an object of which a correction said that it isn't in view
)


@dataclass(eq=False, slots=True)
class _Track:
    """One object: its model, where that started, and the optimizer's state; what it is learned from and known by; where it was last.
    ``taught``: its model has been learned from something, in so many ``iterations``; ``absent``: it was said not to be in view;
    ``corrected``: the time of the last correction."""

    start: Float[torch.Tensor, "P"]
    theta: Float[torch.Tensor, "P"]
    state: dict[str, torch.Tensor]
    memory: Memory
    references: Float[torch.Tensor, "2 R d"]
    prior: Float[torch.Tensor, "h w"]
    view: Float[torch.Tensor, "3"]
    taught: bool = False
    iterations: int = 0
    absent: bool = False
    corrected: int = _FAR_PAST


@dataclass(frozen=True, eq=False, slots=True)
class EncodedWindows:
    """A frame as one object sees it: the inputs of f over some of the embedding's rows and columns."""

    inputs: Float[torch.Tensor, "1 C h w"]
    rows: slice
    columns: slice


class Meta(VideoSegmenter):
    """The ``meta`` method."""

    def __init__(self, config: SegmentationConfig) -> None:
        c = self._config = config.methods.of(MetaOptions)
        self._device = prepare_torch(config)
        self._model = MetaModel(c, self._device)
        self._net = self._model.net
        self._rule = self._net.rule(c.optimizer, c.rate or RATES[c.optimizer])
        self._count = VIEWS * -(-c.samples // VIEWS)
        self._generator = torch.Generator(self._device).manual_seed(0)
        self._tracks: dict[int, _Track] = {}
        self._time = 0
        self._shape: tuple[int, int] | None = None
        self._current: tuple[Frame, Float[torch.Tensor, "1 d h w"]] | None = None
        self._last: tuple[Frame, Segmentation] | None = None
        self._pending: dict[int, tuple[Cells, Float[torch.Tensor, ""]]] = {}
        self._to_learn: set[int] = set()

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self._tracks)

    @torch.inference_mode()
    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        check_size(self._shape if self._tracks else None, frame)
        check_new(self._tracks, seeds, frame.shape)
        masks = {s.object_id: to_mask(s.prompt, frame) for s in seeds}
        before = self._result(frame)
        self._shape = frame.shape
        if masks:
            self._start(frame, masks, {s.object_id: s.weight for s in seeds})
        rows = before.probs.new_zeros((len(masks), *frame.shape))
        return self._keep(
            frame,
            overwrite_masks(
                replace(before, object_ids=self.object_ids, probs=torch.cat([before.probs, rows])),
                masks,
            ),
        )

    @torch.inference_mode()
    def step(self, frame: Frame) -> Segmentation:
        check_size(self._shape if self._tracks else None, frame)
        self._shape = frame.shape
        self._flush()
        self._time += 1
        return self._segment(frame, moves=True)

    @torch.inference_mode()
    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        check_known(self._tracks, (s.object_id for s in corrections))
        check_shapes(corrections, frame.shape)
        check_size(self._shape, frame)
        masks = {s.object_id: to_mask(s.prompt, frame) for s in corrections}
        before = self._result(frame)
        if masks:
            self._correct(frame, masks, {s.object_id: s.weight for s in corrections})
        return self._keep(frame, overwrite_masks(before, masks))

    def drop(self, object_ids: Collection[int]) -> None:
        check_known(self._tracks, object_ids)
        for i in set(object_ids):
            del self._tracks[i]
            self._pending.pop(i, None)
            self._to_learn.discard(i)
        self._last = None if object_ids else self._last

    @torch.inference_mode()
    def learn_pending(self) -> None:
        self._flush()

    def features(self, frame: Frame) -> Float[torch.Tensor, "C h w"] | None:
        return (
            self._current[1][0] if self._current is not None and self._current[0] is frame else None
        )

    # -- the frame -------------------------------------------------------------------------------------------------------------

    def _segment(self, frame: Frame, *, moves: bool) -> Segmentation:
        """Embedding -> inputs of f -> logits -> one distribution per pixel. Where the stream ``moves`` on, so do priors and windows, and
        the frame may be learned from."""
        shape, tracks = frame.shape, list(self._tracks.values())
        if not tracks:
            return self._keep(frame, Segmentation((), torch.ones((1, *shape), device=self._device)))
        embedding = self._embed(frame)
        priors, views = (
            torch.stack([t.prior for t in tracks]),
            torch.stack([t.view for t in tracks]),
        )
        seen, logits = self._look(embedding, tracks, priors, views)
        logits = smoothed(logits, embedding)
        logits.masked_fill_(hold_together(logits, priors) == 0, _SURELY_NOT)
        size = self._model.masks_size(shape)
        wanted = [
            t.taught and (not t.absent or (self._time + i) % _LOOK_EVERY == 0)
            for i, t in self._tracks.items()
        ]
        looked_for = torch.tensor(wanted, device=self._device)[:, None, None] & inside(views, size)
        merged = soft_aggregate(
            torch.sigmoid(self._model.resized(logits[None], size)[0]) * looked_for
        )
        if moves:
            self._move(seen, views, merged)
        return self._keep(
            frame,
            Segmentation(
                self.object_ids,
                self._model.resized(merged[None], shape)[0],
                self._model.boundary_px(shape),
            ),
        )

    def _look(
        self,
        embedding: Float[torch.Tensor, "1 d h w"],
        tracks: Sequence[_Track],
        priors: Float[torch.Tensor, "N h w"],
        views: Float[torch.Tensor, "N 3"],
    ) -> tuple[list[EncodedWindows], Float[torch.Tensor, "N h w"]]:
        """Every object's inputs and logits: on CPUs in its window alone, where work comes in batches on the whole image for all."""
        head, (h, w) = self._net.head, embedding.shape[2:]
        if self._device.type != "cpu":
            inputs = planes(embedding, [t.references for t in tracks], priors)
            logits = head.logits(torch.stack([t.theta for t in tracks]), inputs.flatten(2)).reshape(
                len(tracks), h, w
            )
            return [EncodedWindows(x[None], slice(0, h), slice(0, w)) for x in inputs], logits
        out, logits = [], torch.full((len(tracks), h, w), _SURELY_NOT)
        for k, (track, (rows, columns)) in enumerate(
            zip(tracks, spans(views, (h, w), _LEAST), strict=True)
        ):
            ys, xs = slice(*rows), slice(*columns)
            inputs = planes(embedding[:, :, ys, xs], [track.references], priors[k : k + 1, ys, xs])
            logits[k, ys, xs] = head.logits(track.theta[None], inputs.flatten(2)).reshape(
                inputs.shape[2:]
            )
            out.append(EncodedWindows(inputs, ys, xs))
        return out, logits

    def _move(
        self,
        seen: Sequence[EncodedWindows],
        views: Float[torch.Tensor, "N 3"],
        merged: Float[torch.Tensor, "N1 H W"],
    ) -> None:
        """Priors and windows go where the objects were found; every now and then the frame is kept to learn from."""
        tracks, own = list(self._tracks.values()), merged[1:]
        cells = (int(tracks[0].prior.shape[0]), int(tracks[0].prior.shape[1]))
        priors = self._model.resized(own[None], cells)[0]
        for t, prior, view in zip(
            tracks, priors, update_windows(views, own, self._config.search_scale), strict=True
        ):
            t.prior, t.view = prior, view
        if any(t.absent for t in tracks):
            winners = merged.max(0).indices
            for row, t in enumerate(tracks, start=1):
                t.absent &= not bool((winners == row).any())
        if self._time % self._config.update_every or not self._config.iterations_update:
            return
        wait = 2 * self._config.update_every
        rows = [k for k, t in enumerate(tracks) if t.taught and self._time - t.corrected > wait]
        if not rows:
            return
        masks, care = confident(priors)
        care = care * inside(
            views, cells
        )  # what lies outside wasn't judged: look-alikes there would unteach the object
        won = (
            merged.max(0).indices
            == torch.arange(1, len(merged), device=self._device)[:, None, None]
        )
        confidence = (own * won).sum((1, 2)) / won.sum((1, 2)).clamp_min(1)
        ids = self.object_ids
        for k in rows:
            at = (slice(k, k + 1), seen[k].rows, seen[k].columns)
            kept = sample(seen[k].inputs, masks[at], care[at], self._count, self._generator)
            self._pending[ids[k]] = (Cells(*(part[0] for part in kept)), confidence[k])

    def _keep(self, frame: Frame, result: Segmentation) -> Segmentation:
        self._last = (frame, result)
        return result

    def _result(self, frame: Frame) -> Segmentation:
        """The frame's segmentation as last given, or computed now where objects have changed since."""
        return (
            self._last[1]
            if self._last is not None and self._last[0] is frame
            else self._segment(frame, moves=False)
        )

    def _embed(self, frame: Frame) -> Float[torch.Tensor, "1 d h w"]:
        """The frame's embedding: once, however often it is stepped, seeded and updated."""
        if self._current is None or self._current[0] is not frame:
            self._current = (frame, self._model.embed(frame.rgb))
        return self._current[1]

    # -- learning --------------------------------------------------------------------------------------------------------------

    def _given(
        self,
        frame: Frame,
        masks: Mapping[int, Bool[np.ndarray, "H W"]],
        weights: Mapping[int, Float32[np.ndarray, "H W"] | None],
    ) -> tuple[Float[torch.Tensor, "n h w"], Float[torch.Tensor, "n h w"], list[bool]]:
        """Masks and their weights over the cells, and whether there is anything to learn of each object."""
        planes = torch.from_numpy(np.stack(list(masks.values()))).to(self._device).float()
        cells = self._model.cells(planes)
        if all(weights[i] is None for i in masks):
            return cells, torch.ones_like(cells), (planes.sum((1, 2)) >= _MIN_PX).tolist()
        ones = np.ones(frame.shape, np.float32)
        care = torch.from_numpy(
            np.stack([ones if (w := weights[i]) is None else w for i in masks])
        ).to(self._device)
        return cells, self._model.cells(care), ((planes * care).sum((1, 2)) >= _MIN_PX).tolist()

    def _window(self, masks: Float[torch.Tensor, "n h w"]) -> Float[torch.Tensor, "n 3"]:
        """Windows around given masks."""
        return update_windows(
            full_image_windows(len(masks), self._device),
            masks,
            self._config.search_scale,
            at_once=True,
        )

    def _seeded(
        self,
        embedding: Float[torch.Tensor, "1 d h w"],
        references: Sequence[torch.Tensor] | Float[torch.Tensor, "n 2 R d"],
        masks: Float[torch.Tensor, "n h w"],
        care: Float[torch.Tensor, "n h w"],
        views: Float[torch.Tensor, "n 3"],
    ) -> Samples:
        """Cells of given masks to learn from, of the windows in which the objects will be looked for."""
        parts = []
        for k, (rows, columns) in enumerate(
            spans(views, (int(masks.shape[1]), int(masks.shape[2])), _LEAST)
        ):
            at = (slice(k, k + 1), slice(*rows), slice(*columns))
            parts.append(
                seeded(
                    embedding[:, :, at[1], at[2]],
                    references[k : k + 1],
                    masks[at],
                    care[at],
                    self._count,
                    self._generator,
                )
            )
        return Samples(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _start(
        self,
        frame: Frame,
        masks: Mapping[int, Bool[np.ndarray, "H W"]],
        weights: Mapping[int, Float32[np.ndarray, "H W"] | None],
    ) -> None:
        """New objects: where theta starts (fig. 1), and T_init iterations of eq. (3)."""
        embedding = self._embed(frame)
        cells, care, shown = self._given(frame, masks, weights)
        references = choose_references(
            embedding.expand(len(masks), -1, -1, -1), cells, care, self._generator
        )
        windows = self._window(cells)
        support = self._seeded(embedding, references, cells, care, windows)
        theta = self._net.start(support, self._config.one_shot)
        states = self._rule.start(theta)
        for k, (i, view) in enumerate(zip(masks, windows, strict=True)):
            memory = Memory(self._config.memory_size, self._config.seed_sample_ratio)
            track = _Track(
                theta[k],
                theta[k],
                {name: s[k] for name, s in states.items()},
                memory,
                references[k],
                cells[k],
                view,
            )
            if shown[k]:
                memory.give(Cells(*(part[k] for part in support)))
            self._tracks[i] = track
        self._learn(
            [i for i, seen in zip(masks, shown, strict=True) if seen], self._config.iterations_init
        )

    def _correct(
        self,
        frame: Frame,
        masks: Mapping[int, Bool[np.ndarray, "H W"]],
        weights: Mapping[int, Float32[np.ndarray, "H W"] | None],
    ) -> None:
        """Masks that others gave of followed objects: where they are, what they look like, and something to learn from later."""
        embedding = self._embed(frame)
        cells, care, shown = self._given(frame, masks, weights)
        latest = choose_references(
            embedding.expand(len(masks), -1, -1, -1), cells, care, self._generator
        )
        references = [
            torch.cat([self._tracks[i].references[:, : latest.shape[2]], latest[k]], 1)
            for k, i in enumerate(masks)
        ]
        windows = self._window(cells)
        support = self._seeded(embedding, references, cells, care, windows)
        for k, (i, view) in enumerate(zip(masks, windows, strict=True)):
            track = self._tracks[i]
            track.prior, track.view, track.corrected, track.absent = (
                cells[k],
                view,
                self._time,
                not masks[i].any(),
            )
            self._pending.pop(i, None)
            if shown[k]:
                track.references = references[k]
                track.memory.give(Cells(*(part[k] for part in support)))
                self._to_learn.add(i)

    def _flush(self) -> None:
        """Learns from the frame before, if it was kept; not done with that frame, so that results leave first."""
        pending, wanted = self._pending, self._to_learn
        self._pending, self._to_learn = {}, set()
        if pending:
            confidence = torch.stack([c for _, c in pending.values()]).tolist()
            for (i, (cells, _)), sure in zip(pending.items(), confidence, strict=True):
                if sure >= self._config.min_confidence:
                    self._tracks[i].memory.add(cells)
                    wanted.add(i)
        more, most = self._config.iterations_update, self._config.max_iterations
        anew = [
            i
            for i, t in self._tracks.items()
            if i in wanted and (not t.taught or (more and t.iterations + more > most))
        ]
        for i in anew:
            track = self._tracks[i]
            track.theta, track.iterations = track.start, 0
            track.state = {name: s[0] for name, s in self._rule.start(track.start[None]).items()}
        self._learn(anew, self._config.iterations_init)
        self._learn([i for i in self._tracks if i in wanted and i not in anew], more)

    def _learn(self, object_ids: Sequence[int], iterations: int) -> None:
        """Eq. (3) for some objects at once, on cells drawn from all that is remembered of them."""
        tracks = [self._tracks[i] for i in object_ids]
        if not tracks:
            return
        samples = batched([t.memory.draw(2 * self._count, self._generator) for t in tracks])
        state: State = {
            name: torch.stack([t.state[name] for t in tracks]) for name in tracks[0].state
        }
        theta, state = self._net.learn(
            self._rule, torch.stack([t.theta for t in tracks]), samples, state, iterations
        )
        for k, t in enumerate(tracks):
            t.theta, t.state = theta[k].clone(), {name: s[k].clone() for name, s in state.items()}
            t.iterations, t.taught = t.iterations + iterations, True
