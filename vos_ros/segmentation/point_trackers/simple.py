"""Trackers without a network of their own: no motion, optical flow, the most similar embedding."""

from __future__ import annotations

import numpy as np
import torch

from vos_ros.segmentation.point_trackers.interface import (
    PixelEmbedding,
    Pixels,
    Rgb,
    Track,
    Tracked,
    check_points,
    check_size,
)
from vos_ros.segmentation.point_trackers.motion import flow, grey_image, most_similar


class FirstFrame:
    """Leave every point where it was: the paper's baseline (sec. 4.3.1)."""

    def start(self, rgb: Rgb, points: Pixels) -> Track:
        """Begin with points on an image."""
        return _Still(check_points(rgb, points), (rgb.shape[0], rgb.shape[1]))


class _Still:
    def __init__(self, points: Pixels, shape: tuple[int, int]) -> None:
        self._points, self._shape = points, shape

    def step(self, rgb: Rgb) -> Tracked:
        check_size(rgb, self._shape)
        k = len(self._points)
        return Tracked(self._points.copy(), np.ones(k, bool), np.ones(k))


class Flow:
    """Follow points by pyramidal Lucas-Kanade with a forward-backward check.

    A point whose flow didn't hold once is no longer visible: nothing finds it again. Its position
    goes on with the flow, as the best guess.
    """

    def start(self, rgb: Rgb, points: Pixels) -> Track:
        """Begin with points on an image."""
        return _Flowing(rgb, check_points(rgb, points))


class _Flowing:
    def __init__(self, rgb: Rgb, points: Pixels) -> None:
        self._points, self._before = points, grey_image(rgb)
        self._visible = np.ones(len(points), bool)

    def step(self, rgb: Rgb) -> Tracked:
        shape = (self._before.shape[0], self._before.shape[1])
        check_size(rgb, shape)
        now = grey_image(rgb)
        found, held = flow(self._before, now, self._points)
        self._points = np.clip(found, 0, [shape[1] - 1, shape[0] - 1])
        self._visible = self._visible & held
        self._before = now
        return Tracked(self._points.copy(), self._visible.copy(), self._visible.astype(np.float64))


class Embedding:
    """Find the cell most similar to the point in the whole image (sec. 4.3.1, second approach).

    Visible is what is nearer than gamma. The confidence is 1 at distance 0 and 1/2 at gamma.
    """

    def __init__(self, embedding: PixelEmbedding) -> None:
        self.embedding = embedding

    def start(self, rgb: Rgb, points: Pixels) -> Track:
        """Begin with points on an image."""
        points, shape = check_points(rgb, points), (rgb.shape[0], rgb.shape[1])
        with torch.inference_mode():
            keys = self.embedding.at(self.embedding.embed(rgb), points, shape)
        return _Similar(self.embedding, keys, shape)


class _Similar:
    def __init__(
        self, embedding: PixelEmbedding, keys: torch.Tensor, shape: tuple[int, int]
    ) -> None:
        self._embedding, self._keys, self._shape = embedding, keys, shape

    @torch.inference_mode()
    def step(self, rgb: Rgb) -> Tracked:
        check_size(rgb, self._shape)
        now = self._embedding.embed(rgb)
        everywhere = torch.ones(
            (len(self._keys), *now.shape[1:]), dtype=torch.bool, device=now.device
        )
        cells, distance = most_similar(now, self._keys, everywhere)
        gamma = self._embedding.gamma
        return Tracked(
            self._embedding.pixels(cells, self._shape),
            distance <= gamma,
            np.exp2(-distance / gamma).astype(np.float64),
        )
