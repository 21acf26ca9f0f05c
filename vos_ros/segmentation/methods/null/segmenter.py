"""The null segmenter (see the package's docstring)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from jaxtyping import Bool

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.interface import (
    VideoSegmenter,
    check_known,
    check_new,
    check_shapes,
    check_size,
)
from vos_ros.segmentation.prompts import to_mask
from vos_ros.types import Frame, Seed, Segmentation


class NullSegmenter(VideoSegmenter):
    """Keeps each object's last given mask."""

    uses_image = False

    def __init__(self, config: SegmentationConfig) -> None:
        self._masks: dict[int, Bool[np.ndarray, "H W"]] = {}
        self._shape: tuple[int, int] | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self._masks)

    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        check_size(self._shape if self._masks else None, frame)
        check_new(self._masks, seeds, frame.shape)
        return self._replace_masks(frame, seeds)

    def step(self, frame: Frame) -> Segmentation:
        check_size(self._shape if self._masks else None, frame)
        self._shape = frame.shape
        return self._segmentation(frame)

    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        check_known(self._masks, (s.object_id for s in corrections))
        check_shapes(corrections, frame.shape)
        check_size(self._shape if self._masks else None, frame)
        return self._replace_masks(frame, corrections)

    def drop(self, object_ids: Collection[int]) -> None:
        check_known(self._masks, object_ids)
        for i in object_ids:
            self._masks.pop(i, None)

    def _replace_masks(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        self._masks.update({s.object_id: to_mask(s.prompt, frame) for s in seeds})
        self._shape = frame.shape
        return self._segmentation(frame)

    def _segmentation(self, frame: Frame) -> Segmentation:
        """Return one-hot probabilities; where masks overlap the newest object has the pixel."""
        owner = np.zeros(frame.shape, np.int64)
        for row, mask in enumerate(self._masks.values(), start=1):
            owner[mask] = row
        probs = torch.zeros((len(self._masks) + 1, *frame.shape))
        probs.scatter_(0, torch.from_numpy(owner)[None], 1.0)
        return Segmentation(self.object_ids, probs)
