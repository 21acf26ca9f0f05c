"""LWL without trained networks: Bhat et al., "Learning What to Learn for Video Object Segmentation", ECCV 2020 (paper 003), Table 1
"baseline". Written from the paper; Apache-2.0. The whole of it is ``methods/lwl.py``.

A linear target model per object, T_tau(x) = x * tau (K x K filter on deep features, sec. 3.3), is learned from the seed by
steepest descent on eq. (3) with the mask itself as the label (E = identity, D = 1) and a balancing of object and background as
the weight W. Scores are upsampled to the image and merged by soft aggregation (sec. 3.5).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from vos_ros.config import ConfigError, SegmentationConfig
from vos_ros.geometry.boxes import boxes_of
from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.interface import (
    VideoSegmenter,
    check_known,
    check_new,
    check_shapes,
    check_size,
)
from vos_ros.segmentation.methods.lwl.features import FeatureExtractor
from vos_ros.segmentation.methods.lwl.options import FeaturesOptions, LwlOptions
from vos_ros.segmentation.network_input import prepare_torch
from vos_ros.segmentation.networks.learner import Samples, apply_filters, steepest_descent
from vos_ros.segmentation.prompts import to_mask
from vos_ros.types import Frame, Seed, Segmentation

_GAIN = (
    8.0  # slope of the score-to-probability sigmoid: scores regress to 0 and 1, 0.5 lies between
)
_WINDOW = 5.0  # search window, as a multiple of the target's last size (sec. 3.5)
_MIN_WINDOW = 64.0  # px, least side of a search window
_MIN_CELLS = 0.05  # cells of object in a frame under which it teaches nothing
_FAR_PAST = 1 << 30
_BALANCE = 0.5  # share of a sample's weight that the object's cells have, whatever its size


@dataclass(eq=False, slots=True)
class _Memory:
    """One frame of the training set: its features, and for each object that learns from it a label and a weight per cell."""

    time: int
    features: Float[torch.Tensor, "C h w"]
    targets: dict[int, Float[torch.Tensor, "h w"]] = field(default_factory=dict)
    weights: dict[int, Float[torch.Tensor, "h w"]] = field(default_factory=dict)
    anchors: set[int] = field(default_factory=set)

    def forget(self, object_id: int) -> None:
        self.targets.pop(object_id, None)
        self.weights.pop(object_id, None)
        self.anchors.discard(object_id)


class PlainLwl(VideoSegmenter):
    """``segmentation.lwl.model: plain``. All objects share one feature pass per frame; their target models are one batch of filters."""

    def __init__(self, config: SegmentationConfig) -> None:
        self._config = config.methods.of(LwlOptions)
        if self._config.kernel_size % 2 == 0:
            raise ConfigError(
                f"segmentation.lwl.kernel_size: got {self._config.kernel_size}, wanted an odd number"
            )
        self._device = prepare_torch(config)
        self._extract = FeatureExtractor(config.methods.of(FeaturesOptions), self._device)
        self._filters: dict[int, Float[torch.Tensor, "C K K"]] = {}
        self._memory: list[_Memory] = []
        self._window: dict[int, tuple[int, int, int, int] | None] = {}
        self._time = 0
        self._shape: tuple[int, int] | None = None
        self._current: tuple[Frame, Float[torch.Tensor, "C h w"]] | None = None
        self._pending: _Memory | None = None
        self._last: tuple[Frame, Segmentation] | None = None
        self._merged: Float[torch.Tensor, "N1 h w"] = torch.empty(0)
        self._taught: dict[int, int] = {}

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self._filters)

    @torch.inference_mode()
    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        check_size(self._shape if self._filters else None, frame)
        check_new(self._filters, seeds, frame.shape)
        masks = {s.object_id: to_mask(s.prompt, frame) for s in seeds}
        self._shape = frame.shape
        features = self._features(frame)
        memory = _Memory(self._time, features)
        self._note(memory, masks, {s.object_id: s.weight for s in seeds}, anchor=True)
        if memory.targets:
            self._memory.append(memory)
        for i, mask in masks.items():
            self._filters[i] = torch.zeros(
                (features.shape[0], self._config.kernel_size, self._config.kernel_size),
                device=self._device,
            )
            self._window[i] = _box(mask)
        self._learn(list(masks), self._config.iterations_init)
        return self._impose(self._segment(frame, features), masks)

    @torch.inference_mode()
    def step(self, frame: Frame) -> Segmentation:
        check_size(self._shape if self._filters else None, frame)
        self._shape = frame.shape
        self._flush()
        self._time += 1
        if not self._filters:
            self._current = None
            return self._nothing(frame)
        features = self._features(frame)
        result = self._segment(frame, features)
        self._watch(frame.shape)
        if self._time % self._config.update_every == 0:
            self._pending = self._self_annotate(features)
        return result

    @torch.inference_mode()
    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        check_known(self._filters, (s.object_id for s in corrections))
        check_shapes(corrections, frame.shape)
        check_size(self._shape, frame)
        masks = {s.object_id: to_mask(s.prompt, frame) for s in corrections}
        features = self._features(frame)
        if self._pending is None:
            self._pending = _Memory(self._time, features)
        for i in masks:
            self._pending.forget(i)
        self._note(self._pending, masks, {s.object_id: s.weight for s in corrections}, anchor=False)
        for i, mask in masks.items():
            self._window[i] = _box(mask)
            self._taught[i] = self._time
        return self._impose(self._result(frame, features), masks)

    def drop(self, object_ids: Collection[int]) -> None:
        check_known(self._filters, object_ids)
        for i in set(object_ids):
            del self._filters[i], self._window[i]
            self._taught.pop(i, None)
            for m in self._memory if self._pending is None else [*self._memory, self._pending]:
                m.forget(i)
        self._memory = [m for m in self._memory if m.targets]
        self._last = None if object_ids else self._last

    @torch.inference_mode()
    def learn_pending(self) -> None:
        self._flush()

    def features(self, frame: Frame) -> Float[torch.Tensor, "C h w"] | None:
        return self._current[1] if self._current is not None and self._current[0] is frame else None

    # -- the frame -------------------------------------------------------------------------------------------------------------

    def _features(self, frame: Frame) -> Float[torch.Tensor, "C h w"]:
        """Features of a frame, computed once however often it is stepped, seeded and updated."""
        if self._current is None or self._current[0] is not frame:
            self._current = (frame, self._extract(frame.rgb))
        return self._current[1]

    def _segment(self, frame: Frame, features: Float[torch.Tensor, "C h w"]) -> Segmentation:
        """Target models -> scores -> probabilities; merged at the cells, where it costs least, then interpolated."""
        if not self._filters:
            return self._nothing(frame)
        scores = apply_filters(features[None], torch.stack(list(self._filters.values()))[:, None])[
            0, :, 0
        ]
        found = torch.sigmoid(_GAIN * (scores - 0.5)) * self._windows(features, frame.shape)
        self._merged = soft_aggregate(found)
        boundary_px = frame.shape[1] / features.shape[2]  # a cell: the filters see 3x3 of them
        self._last = (
            frame,
            Segmentation(self.object_ids, self._decode(self._merged, frame.shape), boundary_px),
        )
        return self._last[1]

    def _result(self, frame: Frame, features: Float[torch.Tensor, "C h w"]) -> Segmentation:
        """The frame's segmentation as last computed, or computed now where objects have changed since."""
        return (
            self._last[1]
            if self._last is not None and self._last[0] is frame
            else self._segment(frame, features)
        )

    def _nothing(self, frame: Frame) -> Segmentation:
        """All background: no objects are followed."""
        return Segmentation((), torch.ones((1, *frame.shape), device=self._device))

    def _decode(
        self, merged: Float[torch.Tensor, "N1 h w"], shape: tuple[int, int]
    ) -> Float[torch.Tensor, "N1 H W"]:
        """Cells to pixels; interpolation is linear, so the rows still sum to 1."""
        return self._extract.to_pixels(merged, shape)

    def _windows(
        self, features: Float[torch.Tensor, "C h w"], shape: tuple[int, int]
    ) -> Float[torch.Tensor, "N h w"]:
        """1 inside each object's search window, 0 outside; everywhere 1 for an object that was not found."""
        h, w = features.shape[1:]
        sy, sx = h / shape[0], w / shape[1]
        out = np.ones((len(self._filters), h, w), np.float32)
        for row, i in enumerate(self._filters):
            box = self._window[i]
            if box is None:
                continue
            x0, y0, x1, y1 = box
            dx, dy = (max(_WINDOW * n, _MIN_WINDOW) / 2 for n in (x1 - x0, y1 - y0))
            cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
            inside = (
                slice(max(0, round((cy - dy) * sy)), round((cy + dy) * sy) + 1),
                slice(max(0, round((cx - dx) * sx)), round((cx + dx) * sx) + 1),
            )
            out[row] = 0
            out[row][inside] = 1
        return torch.from_numpy(out).to(self._device)

    def _impose(
        self, result: Segmentation, masks: Mapping[int, Bool[np.ndarray, "H W"]]
    ) -> Segmentation:
        """The segmentation with the given objects exactly as given; where given masks overlap the last one has the pixel."""
        owner = np.zeros(result.probs.shape[1:], np.int64)
        row_of = {i: row for row, i in enumerate(result.object_ids, start=1)}
        for i, mask in masks.items():
            owner[mask] = row_of[i]
        given = torch.from_numpy(owner).to(self._device)
        probs = result.probs * (given == 0)
        for i in masks:
            probs[row_of[i]] = (given == row_of[i]).to(probs)
        probs[0] += 1 - probs.sum(0)
        return replace(result, probs=probs)

    def _watch(self, shape: tuple[int, int]) -> None:
        """Moves the search windows to where the objects were found; an object not found is searched everywhere."""
        labels = self._merged.max(0).indices.cpu().numpy()
        boxes = boxes_of(labels, len(self._filters))
        sy, sx = shape[0] / labels.shape[0], shape[1] / labels.shape[1]
        for row, i in enumerate(self._filters, start=1):
            box = boxes.get(row)
            self._window[i] = (
                None
                if box is None
                else (int(box[0] * sx), int(box[1] * sy), round(box[2] * sx), round(box[3] * sy))
            )

    # -- learning --------------------------------------------------------------------------------------------------------------

    def _self_annotate(self, features: Float[torch.Tensor, "C h w"]) -> _Memory:
        """The frame with its own probabilities as the label (sec. 3.5), for the objects found with confidence that nobody else
        corrects."""
        memory = _Memory(self._time, features)
        best, labels = self._merged.max(0)
        labels_np, best_np = labels.cpu().numpy().ravel(), best.cpu().numpy().ravel()
        area = np.bincount(labels_np, minlength=len(self._filters) + 1)
        confidence = np.bincount(labels_np, best_np, minlength=len(area)) / np.maximum(area, 1)
        for row, i in enumerate(self._filters, start=1):
            taught_ago = self._time - self._taught.get(i, -_FAR_PAST)
            if (
                confidence[row] < self._config.min_confidence
                or taught_ago <= 2 * self._config.update_every
            ):
                continue
            memory.targets[i], memory.weights[i] = self._balanced(self._merged[row], None)
        return memory

    def _note(
        self,
        memory: _Memory,
        masks: Mapping[int, Bool[np.ndarray, "H W"]],
        weights: Mapping[int, np.ndarray | None],
        *,
        anchor: bool,
    ) -> None:
        """Adds the objects' labels and weights on a frame to its entry of the training set."""
        planes: dict[int, Float[torch.Tensor, "h w"]] = {}
        for i, mask in masks.items():
            weight = weights.get(i)
            cells = None
            if weight is not None:
                if id(weight) not in planes:  # objects often share one weight plane
                    planes[id(weight)] = self._extract.to_cells(weight)
                cells = planes[id(weight)]
            target, importance = self._labels_and_weights(mask, cells)
            if float(importance.sum()) == 0.0:
                continue
            memory.targets[i], memory.weights[i] = target, importance
            if anchor:
                memory.anchors.add(i)

    def _labels_and_weights(
        self, mask: Bool[np.ndarray, "H W"], weight: Float[torch.Tensor, "h w"] | None
    ) -> tuple[Float[torch.Tensor, "h w"], Float[torch.Tensor, "h w"]]:
        """E(y) and W(y)^2 of eq. (3): the share of each cell that the object covers, and the balanced weights."""
        return self._balanced(self._extract.to_cells(mask.view(np.uint8)), weight)

    @staticmethod
    def _balanced(
        target: Float[torch.Tensor, "h w"], weight: Float[torch.Tensor, "h w"] | None
    ) -> tuple[Float[torch.Tensor, "h w"], Float[torch.Tensor, "h w"]]:
        """Weights that give the object's cells half of the sample's total of 1; all zero where nothing of it is left to learn from."""
        w = torch.ones_like(target) if weight is None else weight
        inside, outside = w * target, w * (1 - target)
        total_in, total_out = float(inside.sum()), float(outside.sum())
        if total_in < _MIN_CELLS:
            return target, torch.zeros_like(target)
        return target, _BALANCE * inside / total_in + (1 - _BALANCE) * outside / max(
            total_out, 1e-3
        )

    def _flush(self) -> None:
        """Learns from the frame before, if it was kept; not done with that frame, so that results leave first."""
        pending, self._pending = self._pending, None
        if pending is None or not pending.targets:
            return
        self._memory.append(pending)
        self._trim(pending.targets)
        self._learn(list(pending.targets), self._config.iterations_update)

    def _trim(self, object_ids: Collection[int]) -> None:
        """At most K_max samples per object, the oldest go first, the seed never (sec. 3.5)."""
        for i in list(object_ids):  # may be the keys of a sample that loses some
            having = [m for m in self._memory if i in m.targets]
            spare = [m for m in having if i not in m.anchors]
            for m in spare[: max(0, len(having) - self._config.memory_size)]:
                m.forget(i)
        self._memory = [m for m in self._memory if m.targets]

    def _learn(self, object_ids: list[int], iterations: int) -> None:
        """Eq. (4) for some objects at once, on all that is remembered of them; frame weights as in sec. 3.5, summing to one."""
        if not object_ids or not iterations:
            return
        row_of = {i: row for row, i in enumerate(object_ids)}
        ages = {
            i: [
                (m, self._config.decay ** (self._time - m.time))
                for m in self._memory
                if i in m.targets
            ]
            for i in object_ids
        }
        total = {i: sum(a for _, a in pairs) for i, pairs in ages.items()}
        importance = {(id(m), i): a / total[i] for i, pairs in ages.items() for m, a in pairs}
        samples = []
        for m in self._memory:
            ids = [i for i in object_ids if i in m.targets]
            if ids:
                share = torch.tensor([importance[id(m), i] for i in ids], device=self._device)
                weights = torch.stack([m.weights[i] for i in ids]) * share[:, None, None]
                samples.append(
                    Samples(
                        m.features[None],
                        torch.tensor([row_of[i] for i in ids], device=self._device),
                        torch.stack([m.targets[i] for i in ids])[None, :, None],
                        weights[None, :, None],
                    )
                )
        filters = torch.stack([self._filters[i] for i in object_ids])[:, None]
        for i, f in zip(
            object_ids,
            steepest_descent(filters, samples, self._config.regularization, iterations),
            strict=True,
        ):
            self._filters[i] = f[0]


def _box(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int, int, int] | None:
    """x0 y0 x1 y1 of a mask's pixels, None where it has none."""
    ys = np.flatnonzero(mask.any(1))
    if not len(ys):
        return None
    xs = np.flatnonzero(mask[ys[0] : ys[-1] + 1].any(0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
