"""Image to map: a mask and measured depth to points, robust at depth edges."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from vos_ros.config import MappingConfig
from vos_ros.geometry.points import MAD_TO_SIGMA, known_depth, lift_at
from vos_ros.types import Intrinsics

_MAX_SLOPE = 6.0
"""Range may change by so many times the lateral distance of neighbouring pixels: a surface seen at 80 degrees."""
_OUTLIER_SIGMAS = 4.0


def lift(
    mask: Bool[np.ndarray, "H W"],
    depth: Float32[np.ndarray, "H W"],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig = MappingConfig(),  # noqa: B008 (frozen)
    *,
    liftable: Bool[np.ndarray, "H W"] | None = None,
) -> Float32[np.ndarray, "P 3"]:
    """Map-frame points (m) of the mask's pixels, at most ``lift_max_points``, evenly taken; none where there is no depth.

    Left out: pixels within ``edge_px`` of the mask's border (of a mask too thin for that, as many as leave something), pixels beside a
    jump of depth, where sensors mix the two sides, and ranges more than 4 robust standard deviations off the median, which belong to
    something before or behind. All arrays may be crops, with the crop's intrinsics; the edge of the arrays counts as border.
    ``liftable`` is ``liftable_pixels`` of the depth, where a caller with many masks has it already.

    Raises ValueError where the shapes differ.
    """
    if mask.shape != depth.shape or mask.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(f"mask {mask.shape}, depth {depth.shape} and intrinsics ({intrinsics.height}, {intrinsics.width}) differ in size:"
                         " wanted three of one image or crop")
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(ys) == 0:
        return np.zeros((0, 3), np.float32)
    # One pixel around the mask is enough for its borders and the depth's slopes.
    y0, y1, x0, x1 = max(int(ys[0]) - 1, 0), int(ys[-1]) + 2, max(int(xs[0]) - 1, 0), int(xs[-1]) + 2
    mask, z = mask[y0:y1, x0:x1], depth[y0:y1, x0:x1]
    crop = Intrinsics(intrinsics.fx, intrinsics.fy, intrinsics.cx - x0, intrinsics.cy - y0, z.shape[1], z.shape[0])
    good = liftable_pixels(z, crop, config) if liftable is None else liftable[y0:y1, x0:x1]
    flat = np.flatnonzero(_without_border(mask & good, mask, config.edge_px))
    if len(flat) == 0:
        return np.zeros((0, 3), np.float32)
    count = min(len(flat), config.lift_max_points)
    if count < len(flat):
        flat = flat[np.arange(count) * len(flat) // count]
    rows, columns = np.divmod(flat, z.shape[1])
    ranges = z[rows, columns]
    median = np.partition(ranges, count // 2)[count // 2]
    deviation = np.abs(ranges - median)
    # A surface that faces the camera has no spread of its own: the sensor's tolerance is the least that counts.
    limit = max(_OUTLIER_SIGMAS * MAD_TO_SIGMA * float(np.partition(deviation, count // 2)[count // 2]),
                config.depth_tolerance_m + config.depth_tolerance_per_m2 * float(median) ** 2)
    near = deviation <= limit
    return lift_at(columns[near], rows[near], ranges[near], T_map_camera, crop)


def liftable_pixels(
    depth: Float32[np.ndarray, "H W"], intrinsics: Intrinsics, config: MappingConfig = MappingConfig()  # noqa: B008 (frozen)
) -> Bool[np.ndarray, "H W"]:
    """Pixels with a measurement that aren't beside a jump of depth."""
    z = known_depth(depth)
    return np.asarray((z > 0) & ~_beside_jump(z, intrinsics, config))


def _beside_jump(z: Float32[np.ndarray, "h w"], intrinsics: Intrinsics, config: MappingConfig) -> Bool[np.ndarray, "h w"]:
    """Pixels next to a known pixel whose depth differs by more than a steep surface and the sensor's noise explain."""
    jump = np.zeros(z.shape, bool)
    for axis, focal in ((0, intrinsics.fy), (1, intrinsics.fx)):
        a = z[:-1] if axis == 0 else z[:, :-1]
        b = z[1:] if axis == 0 else z[:, 1:]
        nearer = np.minimum(a, b)
        allowed = np.float32(_MAX_SLOPE / focal) * nearer + np.float32(config.depth_tolerance_per_m2) * nearer * nearer
        cut = (nearer > 0) & (np.abs(a - b) > allowed)
        if axis == 0:
            jump[:-1] |= cut
            jump[1:] |= cut
        else:
            jump[:, :-1] |= cut
            jump[:, 1:] |= cut
    return jump


def _without_border(inner: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], edge_px: int) -> Bool[np.ndarray, "h w"]:
    """``inner`` without the pixels within ``edge_px`` of the mask's border, or within as many px as leave some."""
    if edge_px == 0:
        return inner
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    deep = inner & (cv2.erode(padded, _disk(edge_px))[1:-1, 1:-1] > 0)
    if deep.any():
        return np.asarray(deep)
    distance = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5))[1:-1, 1:-1]
    return np.asarray(inner & (distance > 0.5 * float(distance[inner].max(initial=0.0))))


@lru_cache(maxsize=16)
def _disk(radius: int) -> UInt8[np.ndarray, "d d"]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray((x * x + y * y <= radius * radius).astype(np.uint8))
