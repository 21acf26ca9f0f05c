"""Image to map: the pixels of a mask with measured depth become points, robust at depth edges."""

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
"""Largest change of depth, in lateral distances of neighbouring pixels: 80 degrees of slant."""
_OUTLIER_SIGMAS = 4.0
"""Depths farther from the median, in robust standard deviations, are of another surface."""
_MEDIAN_SAMPLES = 400
"""About how many depths the median is computed from."""
_MIDDLE_SHARE = 0.5
"""Of a mask that is thin everywhere, the pixels are lifted that are deeper inside it than this
share of the deepest."""

Labels = UInt8[np.ndarray, "H W"] | UInt16[np.ndarray, "H W"] | Int16[np.ndarray, "H W"]
"""The label of each pixel; 0 is none."""


def lift(
    mask: Bool[np.ndarray, "H W"],
    depth: Float32[np.ndarray, "H W"],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig = MappingConfig(),  # noqa: B008 (frozen)
    *,
    liftable: Bool[np.ndarray, "H W"] | None = None,
) -> Float32[np.ndarray, "P 3"]:
    """Lift the mask's pixels to the map frame (m): at most ``lift_max_points``, evenly taken.

    Left out are pixels within ``edge_px`` of the mask's border (of a thin mask, as many as leave
    something), pixels next to a step of depth, where sensors mix the two sides, and depths more
    than 4 robust standard deviations from the median, which are of something in front or behind.
    There are no points where there is no depth.

    Args:
        mask: pixels to lift.
        depth: measured z, m, 0 where unknown.
        T_map_camera: the camera's pose.
        intrinsics: of the camera. All arrays may be crops, with the crop's intrinsics; the edge of
            the arrays counts as border.
        config: what is left out, and how many points are returned.
        liftable: ``liftable_pixels`` of the depth, where the caller has it already.

    Raises ValueError: the shapes differ.
    """
    if mask.shape != depth.shape or mask.shape != (intrinsics.height, intrinsics.width):
        raise ValueError(
            f"mask {mask.shape}, depth {depth.shape} and intrinsics"
            f" ({intrinsics.height}, {intrinsics.width}) differ in size: wanted three of one image"
            " or crop"
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
    """Lift the pixels of many labels, as ``lift`` does for a mask, in one pass.

    Returns the points of each label that has any.

    Args:
        labels: the label of each pixel.
        boxes: by label to lift, the box around all of its pixels (x0 y0 x1 y1 px, exclusive upper
            corner).
        depth: measured z, m, 0 where unknown.
        T_map_camera: the camera's pose.
        intrinsics: of the camera.
        config: what is left out, and how many points are returned.
        liftable: ``liftable_pixels`` of the depth, where the caller has it already.
    """
    if not boxes:
        return {}
    # One more line above and below is enough for the masks' borders and the steps of depth.
    top, bottom = (
        max(min(y0 for _, y0, _, _ in boxes.values()) - 1, 0),
        max(y1 for _, _, _, y1 in boxes.values()) + 1,
    )
    labels, z = labels[top:bottom], depth[top:bottom]
    crop = crop_intrinsics(intrinsics, (0, top, intrinsics.width, top + len(z)))
    good = liftable_pixels(z, crop, config) if liftable is None else liftable[top:bottom]
    inner, measured = (_inner_labels(labels, config.edge_px) * good).ravel(), z.ravel()
    places, ranges, counts = [], [], {}
    for value, (x0, y0, x1, y1) in boxes.items():
        first, last = (y0 - top) * crop.width, (y1 - top) * crop.width
        flat = np.flatnonzero(inner[first:last] == value) + first
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
        depths = measured.take(flat)
        near = _near_median(depths, config)
        if not near.all():
            flat, depths = flat[near], depths[near]
        places.append(flat)
        ranges.append(depths)
        counts[value] = len(flat)
    if not counts:
        return {}
    rows, columns = np.divmod(np.concatenate(places), crop.width)
    points = lift_at(columns, rows, np.concatenate(ranges), T_map_camera, crop)
    return dict(zip(counts, np.split(points, np.cumsum(list(counts.values()))[:-1]), strict=True))


def _near_median(ranges: Float32[np.ndarray, "P"], config: MappingConfig) -> Bool[np.ndarray, "P"]:
    """Test which depths (m) are of the surface that most of them are of; one at least."""
    some = ranges[:: max(1, len(ranges) // _MEDIAN_SAMPLES)]
    half = len(some) // 2
    median = np.partition(some, half)[half]
    spread = float(np.partition(np.abs(some - median), half)[half])
    # A surface that faces the camera has no spread of its own, but the sensor has a tolerance.
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
    """Select the pixels with a measurement that are not next to a step of depth.

    ``depth`` is z in m; anything that is no positive number is unknown.
    """
    z = known_depth(depth)
    return np.asarray((z > 0) & ~_next_to_step(z, intrinsics, config))


def _next_to_step(
    z: Float32[np.ndarray, "h w"], intrinsics: Intrinsics, config: MappingConfig
) -> Bool[np.ndarray, "h w"]:
    """Select pixels next to a known one at a depth that a steep surface and noise don't explain."""
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


def _inner_labels(labels: Labels, edge_px: int) -> Labels:
    """Clear the pixels within ``edge_px`` of another label or of the array's edge."""
    if edge_px == 0:
        return labels
    least = cv2.erode(labels, _disk(edge_px), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    inside = np.equal(least, cv2.dilate(labels, _disk(edge_px)))
    return np.asarray(least * inside)


def _middle(
    mask: Bool[np.ndarray, "h w"], good: Bool[np.ndarray, "h w"], edge_px: int
) -> Bool[np.ndarray, "h w"]:
    """Select the inmost good pixels of a mask that has none ``edge_px`` inside."""
    inner = np.asarray(mask & good)
    if edge_px == 0 or not inner.any():
        return inner
    padded = np.pad(mask.view(np.uint8), 1)
    distance = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5))[1:-1, 1:-1]
    return np.asarray(inner & (distance > _MIDDLE_SHARE * float(distance[inner].max())))


@lru_cache(maxsize=16)
def _disk(radius: int) -> UInt8[np.ndarray, "d d"]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray((x * x + y * y <= radius * radius).astype(np.uint8))
