"""Options of the ``one_point`` method."""

from __future__ import annotations

from dataclasses import dataclass

from vos_ros.config import option


@dataclass(frozen=True)
class OnePointOptions:
    """``segmentation.one_point.*``; symbols are those of paper 002."""

    model: str = option(
        "one_point-mnv2",
        "network: the name of weights that come with the package, or a .safetensors file",
        names_file=True,
    )
    sha256: str = option("", "expected sha256 of the weights file; empty = not checked")
    tracker: str = option(
        "embedding",
        "how the key point of an object is tracked: the most similar cell of the embedding"
        " (sec. 4.3.1); or, where it holds, and the most similar cell else: optical flow (pyramidal"
        " Lucas-Kanade, forward and backward), a heatmap learned on the first frame (sec. 3.2), or"
        " a learned tracker",
        choices=("embedding", "flow", "heatmap", "learned"),
    )
    long_side: int = option(641, "longer side of the network's input", unit="px", low=64, high=2048)
    search_scale: float = option(
        2.5, "side of the search window in sides of the object", low=1.5, high=100.0
    )
    seed_points: int = option(
        256, "key points that a given mask gives its object, and its background", low=1, high=4096
    )
    own_points: int = option(
        8,
        "key points of the object, and of its background, that one of the method's own masks gives",
        low=0,
        high=256,
    )
    own_masks: int = option(
        8, "own masks whose key points are kept, the most recent", low=1, high=64
    )
    motion_cells: int = option(
        3,
        "cells (8 px of the network's input) that an object is expected to move between two frames:"
        " so far around a cell the previous frame is compared with it; 0 = not at all",
        unit="cells",
        low=0,
        high=16,
    )
    update_every: int = option(
        4,
        "frames from one own mask that gives key points to the next",
        unit="frames",
        low=1,
        high=1000,
    )
    min_confidence: float = option(
        0.7,
        "a frame gives no key point where the mean foreground probability is less",
        low=0.0,
        high=1.0,
    )
    precision: str = option(
        "auto",
        "arithmetic of the network: auto (fp16 on GPUs, bf16 on CPUs that have it, else fp32)",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
