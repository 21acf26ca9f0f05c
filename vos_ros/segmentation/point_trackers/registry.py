"""Make trackers of points by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from vos_ros.config import ConfigError
from vos_ros.segmentation.point_trackers.heatmap import Heatmap, HeatmapOptions
from vos_ros.segmentation.point_trackers.interface import PixelEmbedding, PointTracker
from vos_ros.segmentation.point_trackers.learned import Learned, LearnedOptions
from vos_ros.segmentation.point_trackers.simple import Embedding, FirstFrame, Flow

OPTIONS: Mapping[str, type[Any] | None] = {
    "embedding": None,
    "first_frame": None,
    "flow": None,
    "heatmap": HeatmapOptions,
    "learned": LearnedOptions,
}
"""The names, and the class of the options of each; None = it has none."""


def create(
    name: str,
    device: torch.device,
    *,
    embedding: PixelEmbedding | None = None,
    options: object = None,
) -> PointTracker:
    """Make a tracker.

    Args:
        name: one of ``OPTIONS``.
        device: of its network.
        embedding: for ``embedding`` alone.
        options: of the class in ``OPTIONS``; None = its defaults.

    Raises ConfigError: an unknown name, weights that can't be used, or no embedding.
    """
    if name not in OPTIONS:
        raise ConfigError(f"tracker of points {name!r}: known are {', '.join(OPTIONS)}")
    if name == "embedding":
        if embedding is None:
            raise ConfigError("the tracker embedding needs a network of one_point: got none")
        return Embedding(embedding)
    if name == "heatmap":
        return Heatmap(options if isinstance(options, HeatmapOptions) else HeatmapOptions(), device)
    if name == "learned":
        return Learned(options if isinstance(options, LearnedOptions) else LearnedOptions(), device)
    return Flow() if name == "flow" else FirstFrame()
