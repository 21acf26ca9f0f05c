"""The template's segmenter (see the package's docstring)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.methods.template import TemplateOptions
from vos_ros.segmentation.online_segmenter import Masks, OnlineSegmenter, Weights
from vos_ros.segmentation.search_window import full_image_windows, update_windows, window_masks
from vos_ros.types import Frame, Segmentation

_MIN_COUNT = 1.0
"""Pixels added to I(c), so that a colour that was never counted is background."""

Histograms = Float[torch.Tensor, "2 B"]
"""Weighted pixels per colour: M of the object, and I of its search window."""


@dataclass(eq=False, slots=True)
class ColorModel:
    """What is known of one object."""

    histograms: Histograms
    """Its colours; zeros until it is learned."""
    window: Float[torch.Tensor, "3"]
    """Its search window."""


class HistogramSegmenter(OnlineSegmenter[Int[torch.Tensor, "H W"], Histograms]):
    """Follows objects by their colours. The encoding of a frame is the bin of every pixel."""

    def __init__(self, config: SegmentationConfig) -> None:
        o = self._options = config.methods.of(TemplateOptions)
        super().__init__(config, update_every=o.update_every, min_confidence=o.min_confidence)
        self.models: dict[int, ColorModel] = {}
        self.colors = o.bins**3  # number of different bins that _encode gives

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.models)

    def _encode(self, frame: Frame) -> Int[torch.Tensor, "H W"]:
        n = self._options.bins
        channel = (frame.rgb.astype(np.int64) * n) // 256
        return torch.from_numpy(channel @ np.array([n * n, n, 1])).to(self.device)

    def _segment(self, frame: Frame, *, is_next: bool) -> Segmentation:
        if not self.models:
            return self._background(frame)
        bins, models = self._encoding(frame), list(self.models.values())
        windows = torch.stack([m.window for m in models])
        of_object, of_window = torch.stack([m.histograms for m in models], 1)  # M, I: (N, B)
        ratio = of_object / (of_window + _MIN_COUNT)
        probs = self._blurred(ratio[:, bins])
        searched = torch.tensor([self._is_searched(i) for i in self.models], device=self.device)
        in_window = window_masks(windows, frame.shape) & searched[:, None, None]
        merged = soft_aggregate(probs * in_window)
        self._mark_found(self.object_ids, merged)
        if is_next:
            moved = update_windows(windows, merged[1:], self._options.search_scale)
            for model, window in zip(models, moved, strict=True):
                model.window = window
            if self._is_update_due():
                self._keep_own_masks(bins, merged)
        return Segmentation(self.object_ids, merged, boundary_px=self._options.blur_px / 2)

    def _blurred(self, probs: Float[torch.Tensor, "N H W"]) -> Float[torch.Tensor, "N H W"]:
        """Average probabilities over squares: single pixels of a colour are noise."""
        side = self._options.blur_px // 2 * 2 + 1
        return F.avg_pool2d(probs, side, 1, side // 2, count_include_pad=False)

    def _keep_own_masks(
        self, bins: Int[torch.Tensor, "H W"], merged: Float[torch.Tensor, "N1 H W"]
    ) -> None:
        """Keep the histograms of the method's own masks, with the confidence in them."""
        winners = merged.max(0).indices
        for row, (i, model) in enumerate(self.models.items(), start=1):
            mask = winners == row
            if not self._may_learn_own_mask(i) or not bool(mask.any()):
                continue
            quality = torch.stack([merged[row][mask].mean(), merged.new_zeros(())])
            weight = torch.ones_like(merged[row])
            sample = self._count(bins, mask, weight, model.window)
            self.pending.add_own(sample, [i], quality[None])

    def _add_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        for i, sample in self._take_over(frame, masks, weights).items():
            self.models[i].histograms = sample

    def _correct_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        for i, sample in self._take_over(frame, masks, weights).items():
            if bool(sample[0].any()):  # an empty mask shows none of the object's colours
                self.pending.add_given(sample, [i])

    def _remove_objects(self, object_ids: Collection[int]) -> None:
        for i in object_ids:
            del self.models[i]

    def _learn(
        self, samples: Sequence[tuple[Histograms, frozenset[int]]], object_ids: Collection[int]
    ) -> None:
        for sample, ids in samples:
            for i in ids:
                model, rate = self.models[i], self._options.learning_rate
                is_known = bool(model.histograms.any())
                model.histograms = torch.lerp(model.histograms, sample, rate if is_known else 1.0)

    def _take_over(self, frame: Frame, masks: Masks, weights: Weights) -> dict[int, Histograms]:
        """Move the windows of objects to given masks, and count the colours there."""
        bins = self._encoding(frame)
        out = {}
        for i, array in masks.items():
            mask = torch.tensor(array, device=self.device)
            window = update_windows(
                full_image_windows(1, self.device),
                mask[None].float(),
                self._options.search_scale,
                limit_change=False,
            )[0]
            given = weights[i]
            weight = (
                torch.ones(frame.shape, device=self.device)
                if given is None
                else torch.tensor(given, device=self.device)
            )
            out[i] = self._count(bins, mask, weight, window)
            if i not in self.models:
                self.models[i] = ColorModel(torch.zeros_like(out[i]), window)
            self.models[i].window = window
        return out

    def _count(
        self,
        bins: Int[torch.Tensor, "H W"],
        mask: torch.Tensor,
        weight: Float[torch.Tensor, "H W"],
        window: Float[torch.Tensor, "3"],
    ) -> Histograms:
        """Count colours.

        Args:
            bins: bin of every pixel.
            mask: bool (H, W), the object.
            weight: >= 0, weight of every pixel.
            window: search window.
        """
        in_window = window_masks(window[None], (bins.shape[0], bins.shape[1]))[0]
        return torch.stack(
            [
                torch.bincount(bins.flatten(), (weight * part).flatten(), self.colors)
                for part in (mask, in_window | mask)
            ]
        ).float()
