"""Image to map: a mask and measured depth to points, robust at depth edges."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int16, UInt8, UInt16

from vos_ros.config import MappingConfig
from vos_ros.geometry.boxes import boxes_of
from vos_ros.geometry.camera import crop_intrinsics
from vos_ros.geometry.points import MAD_TO_SIGMA, known_depth, lift_at
from vos_ros.geometry.uncertainty import depth_step_limit, depth_tolerance
from vos_ros.types import Intrinsics

_MAX_SLOPE = 6.0
"""Range may change by so many times the lateral distance of neighbouring pixels: a surface seen at 80 degrees."""
_OUTLIER_SIGMAS = 4.0
_ENOUGH = 400  # ranges, to tell a median by

Labels = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"] | Int16[np.ndarray, "H W"]
"""Whose each pixel is."""


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
        raise ValueError(
            f"mask {mask.shape}, depth {depth.shape} and intrinsics ({intrinsics.height}, {intrinsics.width}) differ in size:"
            " wanted three of one image or crop"
        )
    labels = mask.view(np.uint8)
    points = lift_labels(
        labels, boxes_of(labels, 1), depth, T_map_camera, intrinsics, config, liftable=liftable
    )
    return points.get(1, np.zeros((0, 3), np.float32))


def lift_labels(
    labels: Labels,
    boxes: Mapping[int, tuple[int, int, int, int]],
    depth: Float32[np.ndarray, "H W"],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig = MappingConfig(),  # noqa: B008 (frozen)
    *,
    liftable: Bool[np.ndarray, "H W"] | None = None,
) -> dict[int, Float32[np.ndarray, "P 3"]]:
    """``lift`` of the mask of each label in ``boxes`` (x0 y0 x1 y1 px, exclusive upper corner, around all of its pixels) that leaves a
    point. What can be done for all of them at once is."""
    if not boxes:
        return {}
    # One line around the masks is enough for their borders and the depth's slopes.
    top, bottom = (
        max(min(y0 for _, y0, _, _ in boxes.values()) - 1, 0),
        max(y1 for _, _, _, y1 in boxes.values()) + 1,
    )
    labels, z = labels[top:bottom], depth[top:bottom]
    crop = crop_intrinsics(intrinsics, (0, top, intrinsics.width, top + len(z)))
    good = liftable_pixels(z, crop, config) if liftable is None else liftable[top:bottom]
    deep, measured = (_within(labels, config.edge_px) * good).ravel(), z.ravel()
    places, ranges, found = [], [], {}
    for value, (x0, y0, x1, y1) in boxes.items():
        first, last = (y0 - top) * crop.width, (y1 - top) * crop.width
        flat = np.flatnonzero(deep[first:last] == value) + first
        if not len(flat):  # thin, or without depth
            box = (slice(y0 - top, y1 - top), slice(x0, x1))
            rows, columns = _middle(labels[box] == value, good[box], config.edge_px).nonzero()
            flat = (rows + y0 - top) * crop.width + columns + x0
            if not len(flat):
                continue
        if len(flat) > config.lift_max_points:
            flat = flat.take(
                np.arange(config.lift_max_points) * len(flat) // config.lift_max_points
            )
        here = measured.take(flat)
        near = _near_median(here, config)
        if not near.all():
            flat, here = flat[near], here[near]
        places.append(flat)
        ranges.append(here)
        found[value] = len(flat)
    if not found:
        return {}
    rows, columns = np.divmod(np.concatenate(places), crop.width)
    points = lift_at(columns, rows, np.concatenate(ranges), T_map_camera, crop)
    return dict(zip(found, np.split(points, np.cumsum(list(found.values()))[:-1]), strict=True))


def _near_median(ranges: Float32[np.ndarray, "P"], config: MappingConfig) -> Bool[np.ndarray, "P"]:
    """Which ranges are of the one thing that most of them are of; one at least."""
    some = ranges[:: max(1, len(ranges) // _ENOUGH)]
    half = len(some) // 2
    median = np.partition(some, half)[half]
    spread = float(np.partition(np.abs(some - median), half)[half])
    # A surface that faces the camera has no spread of its own: the sensor's tolerance is the least that counts.
    limit = max(
        _OUTLIER_SIGMAS * MAD_TO_SIGMA * spread,
        depth_tolerance(float(median), config.depth_tolerance_m, config.depth_tolerance_per_m2),
    )
    return np.asarray(np.abs(ranges - median) <= limit)


def liftable_pixels(
    depth: Float32[np.ndarray, "H W"],
    intrinsics: Intrinsics,
    config: MappingConfig = MappingConfig(),  # noqa: B008 (frozen)
) -> Bool[np.ndarray, "H W"]:
    """Pixels with a measurement that aren't beside a jump of depth."""
    z = known_depth(depth)
    return np.asarray((z > 0) & ~_beside_jump(z, intrinsics, config))


def _beside_jump(
    z: Float32[np.ndarray, "h w"], intrinsics: Intrinsics, config: MappingConfig
) -> Bool[np.ndarray, "h w"]:
    """Pixels next to a known pixel whose depth differs by more than a steep surface and the sensor's noise explain."""
    jump = np.zeros(z.shape, bool)
    for axis, focal in ((0, intrinsics.fy), (1, intrinsics.fx)):
        a = z[:-1] if axis == 0 else z[:, :-1]
        b = z[1:] if axis == 0 else z[:, 1:]
        nearer = np.minimum(a, b)
        allowed = depth_step_limit(nearer, _MAX_SLOPE / focal, config.depth_tolerance_per_m2)
        cut = (nearer > 0) & (np.abs(a - b) > allowed)
        if axis == 0:
            jump[:-1] |= cut
            jump[1:] |= cut
        else:
            jump[:, :-1] |= cut
            jump[:, 1:] |= cut
    return jump


def _within(labels: Labels, edge_px: int) -> Labels:
    """The labels without the pixels within ``edge_px`` of another label or of the array's edge."""
    if edge_px == 0:
        return labels
    least = cv2.erode(labels, _disk(edge_px), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    inside = np.equal(least, cv2.dilate(labels, _disk(edge_px)))
    return np.asarray(least * inside)


def _middle(
    mask: Bool[np.ndarray, "h w"], good: Bool[np.ndarray, "h w"], edge_px: int
) -> Bool[np.ndarray, "h w"]:
    """The good pixels of a mask that has none ``edge_px`` inside, farther from its border than half of what any is."""
    inner = np.asarray(mask & good)
    if edge_px == 0 or not inner.any():
        return inner
    padded = np.pad(mask.view(np.uint8), 1)
    distance = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5))[1:-1, 1:-1]
    return np.asarray(inner & (distance > 0.5 * float(distance[inner].max())))


@lru_cache(maxsize=16)
def _disk(radius: int) -> UInt8[np.ndarray, "d d"]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray((x * x + y * y <= radius * radius).astype(np.uint8))
