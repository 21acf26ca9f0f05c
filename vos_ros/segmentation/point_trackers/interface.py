"""What a tracker of points is.

A tracker holds networks and options; what it knows about the points of one sequence is a *track*.
Points are (x, y), px of the image as given; all images of a sequence have one size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

Rgb = UInt8[np.ndarray, "H W 3"]
Pixels = Float[np.ndarray, "K 2"]


@dataclass(frozen=True, eq=False, slots=True)
class Tracked:
    """Where K points are in an image."""

    points: Pixels
    """(x, y), px; the best guess where a point is not visible."""
    visible: Bool[np.ndarray, "K"]
    """Whether the tracker sees the point."""
    confidence: Float[np.ndarray, "K"]
    """That the position is right, 0..1."""


class Track(Protocol):
    """The points of one sequence."""

    def step(self, rgb: Rgb) -> Tracked:
        """Find the points in the next image. Raises ValueError: an image of another size."""
        ...


class PointTracker(Protocol):
    """Follow points from image to image."""

    def start(self, rgb: Rgb, points: Pixels) -> Track:
        """Begin with points on an image.

        Raises ValueError: a point outside the image, or not finite.
        """
        ...


class PixelEmbedding(Protocol):
    """An embedding of pixels, as the method ``one_point`` has it (``OnePointModel``)."""

    @property
    def gamma(self) -> float:
        """Distance up to which two embeddings are of one object, eq. (3.6)."""
        ...

    def embed(self, rgb: Rgb) -> Float[torch.Tensor, "D h w"]:
        """Compute the embedding of an image."""
        ...

    def at(
        self, embedding: Float[torch.Tensor, "D h w"], points: Pixels, shape: tuple[int, int]
    ) -> Float[torch.Tensor, "K D"]:
        """Return the embeddings at pixels of an image of (H, W) ``shape``."""
        ...

    def pixels(self, cells: Float[np.ndarray, "K 2"], shape: tuple[int, int]) -> Pixels:
        """Return where (column, row) of cells lie in an image of (H, W) ``shape``."""
        ...


def check_points(rgb: Rgb, points: Pixels) -> Float[np.ndarray, "K 2"]:
    """Return points as float64. Raises ValueError: not (K, 2), or a point outside the image."""
    made = np.array(points, np.float64)
    if made.ndim != 2 or made.shape[1] != 2:
        raise ValueError(f"points to track: got an array of {made.shape}, wanted (K, 2): x, y, px")
    height, width = rgb.shape[:2]
    inside = ((made >= -0.5) & (made <= [width - 0.5, height - 0.5])).all(1)
    if not inside.all():
        x, y = made[~inside][0]
        raise ValueError(
            f"a point to track at ({x:g}, {y:g}) px: wanted one inside the image of"
            f" {width}x{height} px"
        )
    return made


def check_size(rgb: Rgb, shape: tuple[int, int]) -> None:
    """Raise ValueError where an image has not the (H, W) of the first one."""
    if rgb.shape[:2] != shape:
        raise ValueError(
            f"an image of {rgb.shape[1]}x{rgb.shape[0]} px, but the points were given on one of"
            f" {shape[1]}x{shape[0]} px: start them again"
        )
