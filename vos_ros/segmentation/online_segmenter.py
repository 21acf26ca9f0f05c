"""The stream of a method that learns from its own results, written once for all such methods.

A method keeps a model per object. It computes what depends on the image once per frame, segments
the frame with its models, and keeps samples of the frame to learn from. It learns from them when
the next frame comes, so that results are published first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.fusion import followed_pixels
from vos_ros.segmentation.interface import (
    VideoSegmenter,
    check_known,
    check_new,
    check_shapes,
    check_size,
)
from vos_ros.segmentation.masks import overwrite_masks
from vos_ros.segmentation.network_input import prepare_torch
from vos_ros.segmentation.prompts import check_prompt, separate_clicks, to_mask
from vos_ros.types import Frame, Mask, Points, Seed, Segmentation

Encoded = TypeVar("Encoded")
Sample = TypeVar("Sample")
Masks = Mapping[int, Bool[np.ndarray, "H W"]]
"""Given masks by object."""
Weights = Mapping[int, Float32[np.ndarray, "H W"] | None]
"""Weights of the pixels of given masks by object; None: all weigh 1."""

_NEVER = -(1 << 30)
_ABSENT_SEARCH_INTERVAL = 8
"""Frames from one search to the next for an object that a correction reported out of view."""
_PERIODS_AFTER_CORRECTION = 2
"""Update periods after a correction in which the method's own masks of the object are no samples:
the corrections are better ones, and they come about as often as updates."""


class PendingSamples(Generic[Sample]):
    """Samples of a frame that are learned from when the next frame comes.

    A sample belongs to one or several objects. It comes from a given mask, or from the method's own
    mask. How good an own mask is, is known on the device first: it is read when the samples are
    taken, so that nothing waits for the device before.
    """

    def __init__(self) -> None:
        self._samples: list[tuple[Sample, set[int]]] = []
        self._quality: dict[int, Float[torch.Tensor, "2"]] = {}
        self._marked: set[int] = set()

    def add_given(self, sample: Sample, object_ids: Iterable[int]) -> None:
        """Add a sample of given masks; its objects will be learned."""
        self._samples.append((sample, set(object_ids)))

    def add_own(
        self, sample: Sample, object_ids: Sequence[int], quality: Float[torch.Tensor, "n 2"]
    ) -> None:
        """Add a sample of the method's own masks.

        Args:
            sample: the sample.
            object_ids: the n objects that it belongs to.
            quality: confidence in the mask of each object, 0..1, and error of its model there.
        """
        self._samples.append((sample, set(object_ids)))
        self._quality.update(zip(object_ids, quality, strict=True))

    def mark(self, object_id: int) -> None:
        """Have an object learned that has no sample here: its memory has changed."""
        self._marked.add(object_id)

    def discard(self, object_id: int) -> None:
        """Remove the samples of an object."""
        self._quality.pop(object_id, None)
        for _, ids in self._samples:
            ids.discard(object_id)

    def forget(self, object_id: int) -> None:
        """Remove all of an object: it is followed no longer."""
        self.discard(object_id)
        self._marked.discard(object_id)

    def take(
        self, min_confidence: float, max_error: float
    ) -> tuple[list[tuple[Sample, frozenset[int]]], frozenset[int]]:
        """Remove all samples and return those to remember, and the objects to learn.

        Args:
            min_confidence: own masks of less confidence are dropped.
            max_error: an object whose model has no larger error on its own mask is not learned.

        Returns: each sample with the objects that it is remembered for (at least one), and the
        objects that are learned.
        """
        quality: dict[int, tuple[float, float]] = {}
        if self._quality:
            rows = torch.stack(list(self._quality.values())).tolist()
            quality = {i: (c, e) for i, (c, e) in zip(self._quality, rows, strict=True)}
        rejected = {i for i, (confidence, _) in quality.items() if confidence < min_confidence}
        accepted = [(s, frozenset(ids - rejected)) for s, ids in self._samples]
        learned = set(self._marked)
        for _, ids in accepted:
            learned |= {i for i in ids if i not in quality or quality[i][1] > max_error}
        self._samples, self._quality, self._marked = [], {}, set()
        return [(s, ids) for s, ids in accepted if ids], frozenset(learned)


class OnlineSegmenter(VideoSegmenter, ABC, Generic[Encoded, Sample]):
    """Checks the calls, keeps their results, and calls the method in the right order.

    A method implements ``object_ids`` and the methods below the line; ``Encoded`` is what it
    computes of an image, ``Sample`` what it learns from.
    """

    def __init__(
        self,
        config: SegmentationConfig,
        *,
        update_every: int,
        min_confidence: float,
        max_error: float = -1.0,
    ) -> None:
        """Begin a stream.

        Args:
            config: device and threads.
            update_every: frames from one sample of own masks to the next.
            min_confidence: least confidence of an own mask that is learned from.
            max_error: an object is learned from its own masks where its model's error is larger.
        """
        self.device = prepare_torch(config)
        self.time = 0
        self.pending: PendingSamples[Sample] = PendingSamples()
        self._update_every = update_every
        self._min_confidence, self._max_error = min_confidence, max_error
        self._shape: tuple[int, int] | None = None
        self._encoded: tuple[Frame, Encoded] | None = None
        self._result: tuple[Frame, Segmentation] | None = None
        self._absent: set[int] = set()
        self._corrected: dict[int, int] = {}

    @torch.inference_mode()
    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        check_size(self._shape if self.object_ids else None, frame)
        check_new(self.object_ids, seeds, frame.shape)
        for s in seeds:
            if not isinstance(s.prompt, Mask):
                check_prompt(s.prompt, frame.shape)
        before = self._result_of(frame)
        if any(isinstance(s.prompt, Points) for s in seeds):
            seeds = separate_clicks(seeds, followed_pixels(before))
        masks = {s.object_id: self._mask_of(s, frame) for s in seeds}
        self._shape = frame.shape
        if masks:
            self._add_objects(frame, masks, {s.object_id: s.weight for s in seeds})
        return self._keep(frame, overwrite_masks(self._with_new_objects(frame, before), masks))

    @torch.inference_mode()
    def step(self, frame: Frame) -> Segmentation:
        check_size(self._shape if self.object_ids else None, frame)
        self._shape = frame.shape
        self.learn_pending()
        self.time += 1
        return self._keep(frame, self._segment(frame, is_next=True))

    @torch.inference_mode()
    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        check_known(self.object_ids, (s.object_id for s in corrections))
        check_shapes(corrections, frame.shape)
        check_size(self._shape, frame)
        masks = {s.object_id: self._mask_of(s, frame) for s in corrections}
        before = self._result_of(frame)
        for i, mask in masks.items():
            self.pending.discard(i)
            self._corrected[i] = self.time
            if mask.any():
                self._absent.discard(i)
            else:
                self._absent.add(i)
        if masks:
            self._correct_objects(frame, masks, {s.object_id: s.weight for s in corrections})
        return self._keep(frame, overwrite_masks(before, masks))

    def drop(self, object_ids: Collection[int]) -> None:
        check_known(self.object_ids, object_ids)
        if not object_ids:
            return
        for i in set(object_ids):
            self.pending.forget(i)
            self._corrected.pop(i, None)
            self._absent.discard(i)
        self._remove_objects(set(object_ids))
        self._result = None

    @torch.inference_mode()
    def learn_pending(self) -> None:
        samples, learned = self.pending.take(self._min_confidence, self._max_error)
        if samples or learned:
            self._learn(samples, learned)

    def features(self, frame: Frame) -> Float[torch.Tensor, "C h w"] | None:
        if self._encoded is None or self._encoded[0] is not frame:
            return None
        return self._features_of(self._encoded[1])

    # -- for the method ----------------------------------------------------------------------------

    def _encoding(self, frame: Frame) -> Encoded:
        """Return what is computed of an image, once however often the frame is used."""
        if self._encoded is None or self._encoded[0] is not frame:
            self._encoded = (frame, self._encode(frame))
        return self._encoded[1]

    def _is_searched(self, object_id: int) -> bool:
        """Return whether an object is searched on this frame.

        An object that a correction reported out of view is searched on one frame in eight, each
        object on another one: a search of the whole image for all of them on every frame would cost
        more than following the others.
        """
        return (
            object_id not in self._absent or (self.time + object_id) % _ABSENT_SEARCH_INTERVAL == 0
        )

    def _is_update_due(self) -> bool:
        """Return whether own masks of this frame are kept as samples."""
        return self.time % self._update_every == 0

    def _may_learn_own_mask(self, object_id: int) -> bool:
        """Return whether an object's own masks are samples: not soon after a correction of it."""
        age = self.time - self._corrected.get(object_id, _NEVER)
        return age > _PERIODS_AFTER_CORRECTION * self._update_every

    def _mark_found(self, object_ids: Sequence[int], probs: Float[torch.Tensor, "n1 H W"]) -> None:
        """End the absence of the objects that have a pixel; ``probs`` as in ``Segmentation``."""
        if self._absent.intersection(object_ids):
            winners = probs.max(0).indices
            self._absent -= {
                i
                for row, i in enumerate(object_ids, start=1)
                if i in self._absent and bool((winners == row).any())
            }

    def _result_of(self, frame: Frame) -> Segmentation:
        """Return the frame's last result, or compute it where there is none."""
        if self._result is None or self._result[0] is not frame:
            self._result = (frame, self._segment(frame, is_next=False))
        return self._result[1]

    def _keep(self, frame: Frame, result: Segmentation) -> Segmentation:
        self._result = (frame, result)
        return result

    def _background(self, frame: Frame) -> Segmentation:
        """Return all background: no objects are followed."""
        return Segmentation((), torch.ones((1, *frame.shape), device=self.device))

    # -- by the method -----------------------------------------------------------------------------

    @abstractmethod
    def _encode(self, frame: Frame) -> Encoded:
        """Compute what depends on the image alone."""

    @abstractmethod
    def _segment(self, frame: Frame, *, is_next: bool) -> Segmentation:
        """Segment a frame with the models as they are.

        ``is_next``: the stream has moved on to this frame. What is tracked from frame to frame
        moves too, and where an update is due the own masks are kept as samples.
        """

    @abstractmethod
    def _add_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        """Start models of new objects, and learn them."""

    @abstractmethod
    def _correct_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        """Keep given masks of followed objects as samples; they are learned with the next frame."""

    @abstractmethod
    def _remove_objects(self, object_ids: Collection[int]) -> None:
        """Remove the models and the memory of some objects."""

    @abstractmethod
    def _learn(
        self, samples: Sequence[tuple[Sample, frozenset[int]]], object_ids: Collection[int]
    ) -> None:
        """Remember samples, each for its objects, and update the models of some objects."""

    def _mask_of(self, seed: Seed, frame: Frame) -> Bool[np.ndarray, "H W"]:
        """Return the pixels that a prompt means."""
        return to_mask(seed.prompt, frame)

    def _with_new_objects(self, frame: Frame, before: Segmentation) -> Segmentation:
        """Return a frame's segmentation with rows for objects that were just added.

        ``before`` is the segmentation without them; their masks are written over the result.
        """
        new = len(self.object_ids) - len(before.object_ids)
        probs = torch.cat([before.probs, before.probs.new_zeros((new, *frame.shape))])
        return replace(before, object_ids=self.object_ids, probs=probs)

    def _features_of(self, encoded: Encoded) -> Float[torch.Tensor, "C h w"] | None:
        """Return the deep features of the whole image, None where there are none."""
        return None
