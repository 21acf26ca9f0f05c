"""Where a map object should be found in the image, and at which depth it was measured there: all of the evidence that needs no tracks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from vos_ros.types import Projection

MASK, NEAR, CORE, AGREES, FREE = 1, 2, 4, 8, 16
"""Bits of an expectation's codes: in the projection; in it dilated by sigma; in it eroded by sigma; measured depth agrees; in the
silhouette and seen through (then not dilated into)."""


@dataclass(frozen=True, eq=False, slots=True)
class PredictedPixels:
    """One map object in one frame: ``codes`` holds the bits above for the pixels of ``roi`` (x0 y0 x1 y1), outside which none is set;
    areas in px. Measured depth agrees on ``agrees_px``. ``free_px`` were measured to be behind all depths that the object shows within
    reach: it should be there and isn't."""

    object_id: int
    roi: tuple[int, int, int, int]
    codes: UInt8[np.ndarray, "h w"]
    mask_px: int
    core_px: int
    agrees_px: int = 0
    free_px: int = 0


def predict_pixels(
    projection: Projection,
    sigma_px: float,
    depth: Float32[np.ndarray, "H W"] | None,
    tolerance_m: float,
) -> PredictedPixels:
    """The expectation of a projection that may be off by ``sigma_px`` in the image. Measured depth (m, 0 unknown) agrees where it is
    within ``tolerance_m`` of some depth that the object shows within reach of the pixel."""
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
        # outside the crop lies nothing of the object; outside the image it may go on
        core = np.asarray(cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1))
    codes = mask * np.uint8(MASK) + near * np.uint8(NEAR) + core * np.uint8(CORE)
    agrees_px = free_px = 0
    if depth is not None:
        predicted = np.zeros(mask.shape, np.float32)
        predicted[inner] = projection.depth_roi
        farthest, nearest = predicted, np.where(predicted > 0, predicted, np.float32(1e6))
        if reach:
            window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
            farthest, nearest = (
                np.asarray(cv2.dilate(farthest, window)),
                np.asarray(cv2.erode(nearest, window)),
            )
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
        projection.object_id,
        roi,
        codes,
        int(np.count_nonzero(mask)),
        int(np.count_nonzero(core)),
        agrees_px,
        free_px,
    )
