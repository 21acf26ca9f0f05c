"""Null: the null twin of every method. It repeats the last mask that it was given of each object.

With it the pipeline's output is the projection of the map alone: the baseline that a method must
beat. Ours; Apache-2.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.registry import register

if TYPE_CHECKING:
    from vos_ros.segmentation.interface import VideoSegmenter


def create(config: SegmentationConfig) -> VideoSegmenter:
    """Make the null segmenter."""
    from vos_ros.segmentation.methods.null.segmenter import NullSegmenter

    return NullSegmenter(config)


register("null", create)
