"""The pixels where a map object is predicted, compared with the measured depth.

This is the part of the evidence that needs no tracks, and so can run in parallel with the
segmenter.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from vos_ros.types import Projection

MASK, NEAR, CORE, AGREES, FREE = 1, 2, 4, 8, 16
"""Bits of a pixel's code.

MASK: in the visible projection. NEAR: in the projection dilated by sigma, but not FREE. CORE: in
the projection eroded by sigma. AGREES: measured depth agrees with the object's surface. FREE: in
the silhouette, but measured depth lies behind the object.
"""

_FAR_M = np.float32(1e6)  # stands for "no predicted depth" where the nearest one is looked for


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PredictedPixels:
    """Hold where one map object is predicted in one frame."""

    object_id: int
    """The object."""
    roi: tuple[int, int, int, int]
    """Box of the image outside which no bit is set: x0 y0 x1 y1, px, upper ends excluded."""
    codes: UInt8[np.ndarray, "h w"]
    """Bits of each pixel of the box."""
    mask_px: int
    """Number of MASK pixels."""
    core_px: int
    """Number of CORE pixels."""
    agrees_px: int = 0
    """Number of AGREES pixels, 0 without depth."""
    free_px: int = 0
    """Number of FREE pixels, 0 without depth."""


def predict_pixels(
    projection: Projection,
    sigma_px: float,
    depth: Float32[np.ndarray, "H W"] | None,
    tolerance_m: float,
) -> PredictedPixels:
    """Return the predicted pixels of a projection that may be off by ``sigma_px`` in the image.

    Measured depth agrees where it is within ``tolerance_m`` of the range of depths that the object
    shows within sigma of the pixel. It is free where it lies behind that range.

    Args:
        projection: the object as it is seen from the camera.
        sigma_px: 1-sigma uncertainty of its place in the image, rounded to whole pixels, px.
        depth: measured depth, m, 0 unknown, or None.
        tolerance_m: largest difference of depths that agree, m.
    """
    height, width = projection.shape
    reach = round(sigma_px)
    x0, y0, x1, y1 = projection.roi
    bx0, by0, bx1, by1 = roi = (
        max(x0 - reach, 0),
        max(y0 - reach, 0),
        min(x1 + reach, width),
        min(y1 + reach, height),
    )
    inner = (slice(y0 - by0, y1 - by0), slice(x0 - bx0, x1 - bx0))
    mask = np.zeros((by1 - by0, bx1 - bx0), np.uint8)
    mask[inner] = projection.mask_roi
    near = core = mask
    if reach:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        near = np.asarray(cv2.dilate(mask, kernel))
        # The box is as wide as the object and sigma, unless the image ends; there it may go on.
        core = np.asarray(cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1))
    codes = mask * np.uint8(MASK) + near * np.uint8(NEAR) + core * np.uint8(CORE)
    agrees_px = free_px = 0
    if depth is not None:
        predicted = np.zeros(mask.shape, np.float32)
        predicted[inner] = projection.depth_roi
        farthest, nearest = predicted, np.where(predicted > 0, predicted, _FAR_M)
        if reach:
            window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
            farthest = np.asarray(cv2.dilate(farthest, window))
            nearest = np.asarray(cv2.erode(nearest, window))
        measured = depth[by0:by1, bx0:bx1]
        agrees = (
            (farthest > 0)
            & (measured > 0)
            & (measured >= nearest - tolerance_m)
            & (measured <= farthest + tolerance_m)
        )
        silhouette = np.zeros(mask.shape, bool)
        silhouette[inner] = projection.silhouette_roi
        free = silhouette & (mask == 0) & (farthest > 0) & (measured > farthest + tolerance_m)
        codes[free] &= ~np.uint8(NEAR)
        codes += agrees * np.uint8(AGREES) + free * np.uint8(FREE)
        agrees_px, free_px = int(np.count_nonzero(agrees)), int(np.count_nonzero(free))
    return PredictedPixels(
        object_id=projection.object_id,
        roi=roi,
        codes=codes,
        mask_px=int(np.count_nonzero(mask)),
        core_px=int(np.count_nonzero(core)),
        agrees_px=agrees_px,
        free_px=free_px,
    )
