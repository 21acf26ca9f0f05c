"""Decide which track owns each pixel, and measure its pixels: area, box, mean probability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Integer

from vos_ros.geometry.boxes import boxes_of
from vos_ros.segmentation.fusion import PixelRows, most_probable_rows
from vos_ros.types import Segmentation


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class InstanceMasks:
    """Hold the masks of a frame's tracks. Row 0 is the background, row n the n-th track."""

    track_ids: tuple[int, ...]
    """Tracks in the order of their rows, the first under row 1."""
    instance_index: Integer[np.ndarray, "H W"]
    """Row that owns each pixel."""
    prob: Float32[np.ndarray, "H W"]
    """Probability of that row."""
    areas_px: Int64[np.ndarray, "N1"]
    """Number of pixels by row."""
    scores: Float64[np.ndarray, "N1"]
    """Mean probability of a row's pixels, 0 where it has none."""
    boxes: Mapping[int, tuple[int, int, int, int]]
    """Box around a row's pixels (x0 y0 x1 y1 px, exclusive upper corner), of rows that have any."""

    @classmethod
    def from_segmentation(
        cls, segmentation: Segmentation, rows: PixelRows | None = None
    ) -> InstanceMasks:
        """Give each pixel to its row in ``rows``; None: to the most probable of the image alone."""
        row, probability = most_probable_rows(segmentation) if rows is None else rows
        count = len(segmentation.object_ids) + 1
        index, prob = row.cpu().numpy(), probability.float().cpu().numpy()
        boxes = boxes_of(index, count - 1)
        areas, means = np.zeros(count, np.int64), np.zeros(count)
        for n, (x0, y0, x1, y1) in boxes.items():
            own = (index[y0:y1, x0:x1] == n).view(np.uint8)
            areas[n], means[n] = cv2.countNonZero(own), cv2.mean(prob[y0:y1, x0:x1], own)[0]
        areas[0] = index.size - areas.sum()
        means[0] = (cv2.sumElems(prob)[0] - means @ areas) / max(areas[0], 1)
        return cls(
            track_ids=segmentation.object_ids,
            instance_index=index,
            prob=prob,
            areas_px=areas,
            scores=means,
            boxes=boxes,
        )

    def mask(self, track_id: int) -> Bool[np.ndarray, "H W"]:
        """Return the pixels of a track. Raises ValueError: the track has no row."""
        return np.asarray(self.instance_index == self.track_ids.index(track_id) + 1)
