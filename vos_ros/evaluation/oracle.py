"""The ground-truth twin of segmenters: with true masks, errors are the rest of the pipeline's."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from vos_ros.datasets.masks import VOID
from vos_ros.evaluation.score import STAMP_TOLERANCE_NS, Truth
from vos_ros.segmentation.interface import VideoSegmenter, check_known, check_new, check_shapes
from vos_ros.segmentation.prompts import to_mask
from vos_ros.types import Frame, Seed, Segmentation


class OracleSegmenter(VideoSegmenter):
    """Return the true masks of the objects that were seeded.

    An object is the true one that its seed covers most. One whose seed lies on background
    has no pixels.

    Raises ValueError: a frame has no ground truth.
    """

    def __init__(self, truth: Truth) -> None:
        self._truth, self._stamps = truth, np.array(truth.stamps_ns)
        self._true_id: dict[int, int] = {}

    @property
    def object_ids(self) -> tuple[int, ...]:
        """See ``VideoSegmenter``."""
        return tuple(self._true_id)

    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        """See ``VideoSegmenter``."""
        check_new(self._true_id, seeds, frame.shape)
        mask = self._mask(frame)
        for s in seeds:
            values, counts = np.unique(mask[to_mask(s.prompt, frame)], return_counts=True)
            known = (values != 0) & (values != VOID)
            self._true_id[s.object_id] = (
                int(values[known][counts[known].argmax()]) if known.any() else 0
            )
        return self._result(mask)

    def step(self, frame: Frame) -> Segmentation:
        """See ``VideoSegmenter``."""
        return (
            self._result(self._mask(frame))
            if self._true_id
            else Segmentation((), torch.ones((1, *frame.shape)))
        )

    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        """See ``VideoSegmenter``. The truth needs no correction."""
        check_known(self._true_id, (s.object_id for s in corrections))
        check_shapes(corrections, frame.shape)
        return self._result(self._mask(frame))

    def drop(self, object_ids: Collection[int]) -> None:
        """See ``VideoSegmenter``."""
        check_known(self._true_id, object_ids)
        for i in object_ids:
            self._true_id.pop(i, None)

    def _mask(self, frame: Frame) -> UInt8[np.ndarray, "H W"]:
        """Read the true ids at the frame's stamp."""
        near = int(np.abs(self._stamps - frame.stamp_ns).argmin())
        if abs(int(self._stamps[near]) - frame.stamp_ns) > STAMP_TOLERANCE_NS:
            raise ValueError(
                f"no ground truth for the frame at {frame.stamp_ns / 1e9:.6f} s; the nearest is at"
                f" {self._stamps[near] / 1e9:.6f} s: name the ground truth of this recording"
            )
        mask = self._truth.mask(near)
        if mask.shape != frame.shape:
            raise ValueError(
                f"the ground truth at {frame.stamp_ns / 1e9:.6f} s has shape {mask.shape}, the"
                f" frame {frame.shape}"
            )
        return mask

    def _result(self, mask: UInt8[np.ndarray, "H W"]) -> Segmentation:
        """Return the objects' true masks; tracks of one true object share its pixels.

        Pixels that the truth leaves open are background.
        """
        planes = [mask == i if i else np.zeros(mask.shape, bool) for i in self._true_id.values()]
        background = ~np.logical_or.reduce([np.zeros(mask.shape, bool), *planes])
        probs = torch.from_numpy(np.stack([background, *planes])).float()
        return Segmentation(self.object_ids, probs / probs.sum(0, keepdim=True), boundary_px=0.0)
