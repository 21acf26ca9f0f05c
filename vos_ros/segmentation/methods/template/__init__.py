"""Template: a small method to copy. Each object is a histogram of colours.

Paper: Swain and Ballard, "Color Indexing", IJCV 1991, sec. 3.3, "histogram backprojection".
Written from the paper; Apache-2.0.

Equation: a pixel of colour c belongs to the object with probability M(c) / I(c) (the paper's ratio
histogram), where M counts the object's pixels and I all pixels of its search window. Both are
counted where the object is seeded or corrected, and updated with the method's own masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vos_ros.config import SegmentationConfig, option
from vos_ros.segmentation.registry import register

if TYPE_CHECKING:
    from vos_ros.segmentation.interface import VideoSegmenter


@dataclass(frozen=True)
class TemplateOptions:
    """``segmentation.template.*``."""

    bins: int = option(16, "bins of the histogram per colour channel", low=2, high=64)
    blur_px: int = option(
        5, "side of the square over which probabilities are averaged", unit="px", low=1, high=51
    )
    search_scale: float = option(
        3.0, "side of the search window in sides of the object", low=1.5, high=100.0
    )
    update_every: int = option(2, "frames between updates", unit="frames", low=1, high=1000)
    learning_rate: float = option(
        0.2, "share of a new frame in the histogram of an object", low=0.0, high=1.0
    )
    min_confidence: float = option(
        0.6,
        "a frame is not learned from where the mean foreground probability is less",
        low=0.0,
        high=1.0,
    )


def create(config: SegmentationConfig) -> VideoSegmenter:
    """Make the template's segmenter for one stream."""
    from vos_ros.segmentation.methods.template.segmenter import HistogramSegmenter

    return HistogramSegmenter(config)


register("template", create, TemplateOptions)
