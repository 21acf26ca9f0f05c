"""Track points from one image to the next (paper 002, sec. 3.2 and 4.3.1).

Two ways that need no training for a sequence: the cell whose embedding is most similar to that of
the point (the paper's second approach), and optical flow.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from vos_ros.segmentation.networks.embedding import squared_distance

_FLOW_WINDOW_PX = 21
_FLOW_LEVELS = 3
_MAX_ROUND_TRIP_PX = 1.0
"""Largest distance of a point from itself after it was followed forward and backward."""

Grey = UInt8[np.ndarray, "H W"]
Pixels = Float[np.ndarray, "K 2"]


def grey_image(rgb: UInt8[np.ndarray, "H W 3"]) -> Grey:
    """Return the grey values that ``flow`` compares."""
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


def flow(before: Grey, now: Grey, points: Pixels) -> tuple[Pixels, Bool[np.ndarray, "K"]]:
    """Follow (x, y) points, px, by pyramidal Lucas-Kanade.

    Returns: where they are, and whether the flow held: the point found comes back to its origin
    when it is followed backward (forward-backward check, Kalal et al. 2010), and lies in the image.
    """
    if not len(points):
        return points, np.zeros(0, bool)
    start = points.astype(np.float32)[:, None]
    found, there = _lucas_kanade(before, now, start)
    back, and_back = _lucas_kanade(now, before, found)
    held = (there[:, 0] > 0) & (and_back[:, 0] > 0)
    held &= np.linalg.norm(back[:, 0] - start[:, 0], axis=1) <= _MAX_ROUND_TRIP_PX
    size = np.array(now.shape[::-1])
    held &= ((found[:, 0] >= 0) & (found[:, 0] <= size - 1)).all(1)
    return found[:, 0].astype(np.float64), held


def _lucas_kanade(
    before: Grey, now: Grey, points: Float[np.ndarray, "K 1 2"]
) -> tuple[Float[np.ndarray, "K 1 2"], UInt8[np.ndarray, "K 1"]]:
    """Return where points are now, and 1 where they were found."""
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        before,
        now,
        points,
        np.empty_like(points),
        winSize=(_FLOW_WINDOW_PX, _FLOW_WINDOW_PX),
        maxLevel=_FLOW_LEVELS,
    )
    return np.asarray(found), np.asarray(status)


def most_similar(
    embedding: Float[torch.Tensor, "D h w"],
    keys: Float[torch.Tensor, "K D"],
    allowed: Bool[torch.Tensor, "K h w"],
) -> tuple[Pixels, Float[np.ndarray, "K"]]:
    """Find the cell whose embedding is nearest to each key.

    Args:
        embedding: of the image.
        keys: embeddings of the points when they were given.
        allowed: cells in which each is searched.

    Returns: (column, row) of the cells, and their distances to the keys; infinite where no cell is
    allowed.
    """
    rows = embedding.flatten(1).t()
    distance = squared_distance(keys, rows).clamp_min(0).sqrt()
    distance = distance.masked_fill(~allowed.flatten(1), torch.inf)
    best, at = distance.min(1)
    width = embedding.shape[2]
    cells = torch.stack([at % width, at // width], 1)
    return cells.cpu().numpy().astype(np.float64), best.cpu().numpy()
