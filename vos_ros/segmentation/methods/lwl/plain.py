"""LWL without trained networks (paper 003, Table 1 "baseline"; ``segmentation.lwl.model: plain``).

A linear target model per object, T_tau(x) = x * tau (a K x K filter on deep features, sec. 3.3), is
learned from the seed by steepest descent on eq. (3), with the mask itself as the label (E =
identity, D = 1) and a balance of object and background as the weight W. Scores are merged by soft
aggregation and upsampled to the image (sec. 3.5).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float

from vos_ros.config import ConfigError, SegmentationConfig
from vos_ros.geometry.boxes import boxes_of
from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.methods.lwl.features import FeatureExtractor
from vos_ros.segmentation.methods.lwl.memory import Memory, Sample
from vos_ros.segmentation.methods.lwl.options import FeaturesOptions, LwlOptions
from vos_ros.segmentation.networks.learner import Samples, apply_filters, steepest_descent
from vos_ros.segmentation.online_segmenter import Masks, OnlineSegmenter, Weights
from vos_ros.types import Frame, Segmentation

_PROBABILITY_SLOPE = 8.0
"""Slope of the sigmoid from scores to probabilities: scores regress to 0 and 1, 0.5 is between."""
_WINDOW_SCALE = 5.0
"""Sides of the search window in sides of the object (sec. 3.5)."""
_MIN_WINDOW_PX = 64.0
"""Smallest side of a search window."""
_MIN_SAMPLE_CELLS = 0.05
"""Cells of the object that a sample must show: with less there is nothing to learn of it."""
_OBJECT_WEIGHT = 0.5
"""Share of a sample's weight that the object's cells have, whatever its size."""
PixelBox = tuple[int, int, int, int]
"""x0 y0 x1 y1, px."""


class PlainLwl(OnlineSegmenter[Float[torch.Tensor, "C h w"], Sample]):
    """The ``lwl`` method without trained networks.

    All objects share one feature pass per frame; their target models are one batch of filters.
    """

    def __init__(self, config: SegmentationConfig) -> None:
        o = self._options = config.methods.of(LwlOptions)
        if o.kernel_size % 2 == 0:
            raise ConfigError(
                f"segmentation.lwl.kernel_size: got {o.kernel_size}, wanted an odd number"
            )
        super().__init__(config, update_every=o.update_every, min_confidence=o.min_confidence)
        self.extract = FeatureExtractor(config.methods.of(FeaturesOptions), self.device)
        self.memory = Memory(
            size=o.memory_size, decay=o.decay, memory_format=torch.contiguous_format
        )
        self.filters: dict[int, Float[torch.Tensor, "C K K"]] = {}
        self._boxes: dict[int, PixelBox | None] = {}
        self._current_sample: Sample | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.filters)

    # -- the frame ---------------------------------------------------------------------------------

    def _encode(self, frame: Frame) -> Float[torch.Tensor, "C h w"]:
        return self.extract(frame.rgb)

    def _features_of(self, encoded: Float[torch.Tensor, "C h w"]) -> Float[torch.Tensor, "C h w"]:
        return encoded

    def _segment(self, frame: Frame, *, is_next: bool) -> Segmentation:
        """Apply the target models, merge at the cells, where it costs least, then interpolate."""
        if not self.filters:
            return self._background(frame)
        features = self._encoding(frame)
        filters = torch.stack(list(self.filters.values()))[:, None]
        scores = apply_filters(features[None], filters)[0, :, 0]
        probs = torch.sigmoid(_PROBABILITY_SLOPE * (scores - 0.5))
        merged = soft_aggregate(probs * self._window_masks(features, frame.shape))
        if is_next:
            self._move_windows(merged, frame.shape)
            if self._is_update_due():
                self._keep_own_masks(features, merged)
        boundary_px = frame.shape[1] / features.shape[2]  # a cell: the filters cover 3x3 of them
        return Segmentation(
            self.object_ids, self.extract.to_pixels(merged, frame.shape), boundary_px
        )

    def _window_masks(
        self, features: Float[torch.Tensor, "C h w"], shape: tuple[int, int]
    ) -> Float[torch.Tensor, "N h w"]:
        """Return 1 in each object's search window, 0 outside; all 1 where it was not found."""
        h, w = features.shape[1:]
        sy, sx = h / shape[0], w / shape[1]
        out = np.ones((len(self.filters), h, w), np.float32)
        for row, i in enumerate(self.filters):
            box = self._boxes[i]
            if box is None:
                continue
            x0, y0, x1, y1 = box
            dx, dy = (max(_WINDOW_SCALE * n, _MIN_WINDOW_PX) / 2 for n in (x1 - x0, y1 - y0))
            cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
            inside = (
                slice(max(0, round((cy - dy) * sy)), round((cy + dy) * sy) + 1),
                slice(max(0, round((cx - dx) * sx)), round((cx + dx) * sx) + 1),
            )
            out[row] = 0
            out[row][inside] = 1
        return torch.from_numpy(out).to(self.device)

    def _move_windows(self, merged: Float[torch.Tensor, "N1 h w"], shape: tuple[int, int]) -> None:
        """Move the search windows to where the objects were found."""
        labels = merged.max(0).indices.cpu().numpy()
        boxes = boxes_of(labels, len(self.filters))
        sy, sx = shape[0] / labels.shape[0], shape[1] / labels.shape[1]
        for row, i in enumerate(self.filters, start=1):
            box = boxes.get(row)
            self._boxes[i] = (
                None
                if box is None
                else (int(box[0] * sx), int(box[1] * sy), round(box[2] * sx), round(box[3] * sy))
            )

    # -- learning ----------------------------------------------------------------------------------

    def _add_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        features = self._encoding(frame)
        sample = Sample(self.time, features)
        sample.first_of.update(self._add_given_masks(sample, masks, weights))
        self.memory.add(sample)
        k = self._options.kernel_size
        for i, mask in masks.items():
            self.filters[i] = torch.zeros((features.shape[0], k, k), device=self.device)
            self._boxes[i] = _box(mask)
        self._descend(list(masks), self._options.iterations_init)

    def _with_new_objects(self, frame: Frame, before: Segmentation) -> Segmentation:
        """Segment anew: the other objects compete with the new ones from the first frame on."""
        return self._segment(frame, is_next=False)

    def _correct_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        sample = self._sample_of_this_frame(self._encoding(frame))
        self.pending.add_given(sample, self._add_given_masks(sample, masks, weights))
        for i, mask in masks.items():
            self._boxes[i] = _box(mask)

    def _remove_objects(self, object_ids: Collection[int]) -> None:
        for i in object_ids:
            del self.filters[i], self._boxes[i]
        self.memory.drop(object_ids)

    def _sample_of_this_frame(self, features: Float[torch.Tensor, "C h w"]) -> Sample:
        """Return the sample that all objects share on this frame."""
        if self._current_sample is None or self._current_sample.time != self.time:
            self._current_sample = Sample(self.time, features)
        return self._current_sample

    def _keep_own_masks(
        self, features: Float[torch.Tensor, "C h w"], merged: Float[torch.Tensor, "N1 h w"]
    ) -> None:
        """Keep the frame with its own probabilities as the labels (sec. 3.5)."""
        best, labels = merged.max(0)
        labels_np, best_np = labels.cpu().numpy().ravel(), best.cpu().numpy().ravel()
        area = np.bincount(labels_np, minlength=len(self.filters) + 1)
        confidence = np.bincount(labels_np, best_np, minlength=len(area)) / np.maximum(area, 1)
        sample = self._sample_of_this_frame(features)
        for row, i in enumerate(self.filters, start=1):
            if confidence[row] >= self._min_confidence and self._may_learn_own_mask(i):
                sample.labels[i], sample.weights[i] = _balanced(merged[row][None], None)
                quality = torch.tensor([[confidence[row], 0.0]], dtype=torch.float64)
                self.pending.add_own(sample, [i], quality)

    def _add_given_masks(self, sample: Sample, masks: Masks, weights: Weights) -> list[int]:
        """Add labels and weights of given masks to a sample; return the objects that it shows."""
        cells_of: dict[int, Float[torch.Tensor, "h w"]] = {}
        shown = []
        for i, mask in masks.items():
            sample.forget(i)
            weight = weights.get(i)
            cells = None
            if weight is not None:
                if id(weight) not in cells_of:  # objects often share one array of weights
                    cells_of[id(weight)] = self.extract.to_cells(weight)
                cells = cells_of[id(weight)]
            label = self.extract.to_cells(mask.view(np.uint8))[None]
            label, importance = _balanced(label, cells)
            if float(importance.sum()) > 0.0:
                sample.labels[i], sample.weights[i] = label, importance
                shown.append(i)
        return shown

    def _learn(
        self, samples: Sequence[tuple[Sample, frozenset[int]]], object_ids: Collection[int]
    ) -> None:
        """Remember the frame's sample, which all entries share, and update its objects."""
        self._current_sample = None
        if samples:
            sample = samples[0][0]
            sample.restrict(object_ids)
            self.memory.add(sample)
            self._descend(list(sample.labels), self._options.iterations_update)

    def _descend(self, object_ids: Sequence[int], iterations: int) -> None:
        """Run iterations of eq. (4) for some objects at once, on their memory.

        Importances are those of sec. 3.5. A frame is a block of its own.
        """
        ids = [i for i in object_ids if self.memory.samples_of(i)]
        if not ids or not iterations:
            return
        importance = {(id(s), i): v for i in ids for s, v in self.memory.importance(i, self.time)}
        blocks = []
        for s in self.memory.samples:
            rows = [row for row, i in enumerate(ids) if i in s.labels]
            if not rows:
                continue
            shares = torch.tensor([importance[id(s), ids[row]] for row in rows], device=self.device)
            blocks.append(
                Samples(
                    features=s.features[None],
                    rows=torch.tensor(rows, device=self.device),
                    labels=torch.stack([s.labels[ids[row]] for row in rows])[None],
                    weights=torch.stack([s.weights[ids[row]] for row in rows])[None]
                    * shares[:, None, None, None],
                )
            )
        filters = torch.stack([self.filters[i] for i in ids])[:, None]
        learned = steepest_descent(filters, blocks, self._options.regularization, iterations)
        self.filters.update((i, f[0]) for i, f in zip(ids, learned, strict=True))


def _balanced(
    label: Float[torch.Tensor, "1 h w"], weight: Float[torch.Tensor, "h w"] | None
) -> tuple[Float[torch.Tensor, "1 h w"], Float[torch.Tensor, "1 h w"]]:
    """Return E(y) and W(y)^2 of eq. (3): the share of each cell that is the object, and weights.

    The object's cells have half of the weights' sum of 1; all are 0 where too little of the object
    is left to learn from.
    """
    w = torch.ones_like(label) if weight is None else weight[None]
    inside, outside = w * label, w * (1 - label)
    total_in, total_out = float(inside.sum()), float(outside.sum())
    if total_in < _MIN_SAMPLE_CELLS:
        return label, torch.zeros_like(label)
    of_object = _OBJECT_WEIGHT * inside / total_in
    return label, of_object + (1 - _OBJECT_WEIGHT) * outside / max(total_out, 1e-3)


def _box(mask: Bool[np.ndarray, "H W"]) -> PixelBox | None:
    """Return the box of a mask's pixels, None where it has none."""
    ys = np.flatnonzero(mask.any(1))
    if not len(ys):
        return None
    xs = np.flatnonzero(mask[ys[0] : ys[-1] + 1].any(0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1
