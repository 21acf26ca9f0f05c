"""One point: an object is what lies close to its key points in a learned embedding.

Paper 002: Montes, "One Point to Instance Object Segmentation on Videos", ETH Zurich, 2018.
Written from the paper; Apache-2.0.

Equations: the embedding is eq. (3.2) (``networks.one_point``), the instance from a key point are
eq. (3.5) and (3.6) (``key_points``). The key point is tracked as in sec. 4.3.1
(``segmenter``, ``point_tracking``), and the mask is that of the tracked point (sec. 4.3.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.methods.one_point.options import OnePointOptions
from vos_ros.segmentation.registry import register

if TYPE_CHECKING:
    from vos_ros.segmentation.interface import VideoSegmenter


def create(config: SegmentationConfig) -> VideoSegmenter:
    """Make the segmenter that is configured. Raises ConfigError: weights that can't be used."""
    from vos_ros.segmentation.methods.one_point.segmenter import OnePoint

    return OnePoint(config)


register("one_point", create, OnePointOptions)
