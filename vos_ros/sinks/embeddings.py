"""Shows pixel embeddings as colours."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

_RANGE_PERCENTILES = (1.0, 99.0)
"""Percentiles of a component that become the darkest and the brightest value."""


def principal_colors(
    features: Float32[np.ndarray, "Q h w d"], size: tuple[int, int]
) -> UInt8[np.ndarray, "Q H W 3"]:
    """Colour features by their three principal components (Pearson 1901).

    Components are of all Q frames together, as red, green and blue, each stretched to its own range
    and enlarged to ``size`` (H, W): equal colours in different frames are equal features.

    Raises ValueError: d < 3.
    """
    q, h, w, d = features.shape
    if d < 3:
        raise ValueError(f"features of {d} dimensions: three components need at least 3")
    rows = features.reshape(-1, d).astype(np.float64)
    rows -= rows.mean(0)
    _, vectors = np.linalg.eigh(rows.T @ rows)  # ascending eigenvalues
    vectors = vectors[:, :-4:-1]
    vectors = vectors * np.where(
        vectors.sum(0) < 0, -1.0, 1.0
    )  # the sign is free: always the same one
    planes = rows @ vectors
    low, high = np.percentile(planes, _RANGE_PERCENTILES, axis=0)
    colors = np.clip((planes - low) / np.maximum(high - low, 1e-12), 0.0, 1.0) * 255.0
    frames = colors.round().astype(np.uint8).reshape(q, h, w, 3)
    return np.stack([cv2.resize(f, size[::-1], interpolation=cv2.INTER_NEAREST) for f in frames])
