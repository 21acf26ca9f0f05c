"""Objects given as points, splatted: each into its own crop of the image.

The points are scattered with the nearest depth winning and grown to disks by a minimum filter whose
radius follows ``point_radius * f / z``. The outline is then pulled back to where disks of exactly
that radius end. So gaps between samples close, outlines do not swell, and holes wider than the
sampling stay open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, overload

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from vos_ros.config import MappingConfig
from vos_ros.geometry.camera import pixel_coordinates
from vos_ros.types import Intrinsics, MapObject

EMPTY = np.float32(3.0e38)
"""Depth of an empty pixel while rendering; finite: OpenCV's filters promise nothing of infinities.
"""
_MAX_BATCH_POINTS = 32_000
"""Most points that are projected at once: their arrays then fit the processor's cache. With more,
each step would wait for memory (measured by ``vos-ros bench``)."""
_SPLAT_RADII_PX = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Radii that are used: an object from near to far costs one filter per radius that it needs."""
_MAX_DIRECT_RADIUS_PX = 4
"""Largest disk that one filter draws; a larger one is made of several small ones."""
_COMPOSED_RADIUS_PX = 3
"""Radius of the small disks that a larger one is made of."""
_MAX_ERODED_EXCESS_PX = 4.0
"""Largest excess of a splat over its disk that an erosion takes back; beyond, and where the radii
within an object differ by half a pixel, a distance transform is cheaper or needed."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Crop:
    """One object's predicted depth in the part of the image that it touches."""

    object_id: int
    """Id of the map object."""
    roi: tuple[int, int, int, int]
    """The part of the image: x0 y0 x1 y1 px, exclusive upper corner."""
    depth: Float32[np.ndarray, "h w"]
    """Predicted depth of the surface, m; ``EMPTY`` off the silhouette."""
    nearest: Float32[np.ndarray, "h w"]
    """Depth of the nearest sample around each pixel, m: what competes in the z-buffer."""
    truncated: float
    """Share of the silhouette that lies outside the image."""


def splat(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> Iterator[Crop]:
    """Render objects from their points; objects without a sample on the image are left out.

    Args:
        objects: to render; their meshes are not used.
        T_map_camera: the camera's pose.
        intrinsics: of the camera.
        config: near and far plane, largest splat.
    """
    batch: list[MapObject] = []
    for o in objects:
        if not len(o.points):
            continue
        if batch and sum(len(other.points) for other in batch) + len(o.points) > _MAX_BATCH_POINTS:
            yield from _splat_batch(batch, T_map_camera, intrinsics, config)
            batch = []
        batch.append(o)
    if batch:
        yield from _splat_batch(batch, T_map_camera, intrinsics, config)


def _splat_batch(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> Iterator[Crop]:
    counts = np.array([len(o.points) for o in objects])
    # Relative to the camera before float32 arithmetic: maps may lie kilometres from their origin.
    points = np.concatenate([o.points for o in objects]) - T_map_camera[:3, 3].astype(np.float32)
    camera = cv2.transform(points[None], np.ascontiguousarray(T_map_camera[:3, :3].T))[0]
    x, y, z = (np.ascontiguousarray(camera[:, i]) for i in range(3))
    w, h, reach = intrinsics.width, intrinsics.height, config.max_splat_px
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.float32(1) / z
        u, v = pixel_coordinates(x * inverse, y * inverse, intrinsics)
        near = (z > config.near_m) & (z < config.far_m)
        near &= (
            (u > -0.5 - reach) & (u < w - 0.5 + reach) & (v > -0.5 - reach) & (v < h - 0.5 + reach)
        )
        inside = near & (u > -0.5) & (u < w - 0.5) & (v > -0.5) & (v < h - 0.5)
        # A sample's share of the silhouette is its solid angle: defined behind the camera too.
        solid_angle = np.float32(1) / (x * x + y * y + z * z)
    solid_angle[~np.isfinite(solid_angle)] = 0
    firsts = np.cumsum(counts) - counts
    total = np.add.reduceat(solid_angle, firsts, dtype=np.float64)
    on_image = np.add.reduceat(
        np.where(inside, solid_angle, np.float32(0)), firsts, dtype=np.float64
    )
    index = np.flatnonzero(near)
    column, row, z = (
        np.rint(u[index]).astype(np.int32),
        np.rint(v[index]).astype(np.int32),
        z[index],
    )
    focal = 0.5 * (intrinsics.fx + intrinsics.fy)
    bounds = np.searchsorted(index, np.append(firsts, len(points)))
    for k, o in enumerate(objects):
        if on_image[k] <= 0:
            continue
        part = slice(bounds[k], bounds[k + 1])
        x0, y0, nearest, surface = _draw_disks(
            column[part], row[part], z[part], max(o.point_radius, 0.0) * focal, reach
        )
        roi = (max(x0, 0), max(y0, 0), min(x0 + surface.shape[1], w), min(y0 + surface.shape[0], h))
        crop = np.s_[roi[1] - y0 : roi[3] - y0, roi[0] - x0 : roi[2] - x0]
        yield Crop(
            object_id=o.id,
            roi=roi,
            depth=surface[crop],
            nearest=nearest[crop],
            truncated=float(np.clip(1.0 - on_image[k] / total[k], 0.0, 1.0)),
        )


def _draw_disks(
    column: Int64[np.ndarray, "P"],
    row: Int64[np.ndarray, "P"],
    z: Float32[np.ndarray, "P"],
    radius_px_m: float,
    reach: int,
) -> tuple[int, int, Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Draw disks of radius ``radius_px_m / z`` px around pixels.

    Returns the crop's first column and row, and its depths as ``_spread``.

    Args:
        column: of each sample, px.
        row: of each sample, px.
        z: depth of each sample, m.
        radius_px_m: radius of the disks at 1 m, px.
        reach: largest radius, px.
    """
    splats = _splat_radii(reach)
    widest, narrowest = (min(radius_px_m / float(end), float(reach)) for end in (z.min(), z.max()))
    largest, smallest = int(splats[_needed(widest, reach)]), int(splats[_needed(narrowest, reach)])
    x0, y0 = int(column.min()) - largest - 1, int(row.min()) - largest - 1
    width, height = int(column.max()) + largest + 2 - x0, int(row.max()) + largest + 2 - y0
    flat = (row - y0) * width + (column - x0)
    samples = np.full((height, width), EMPTY)
    np.minimum.at(samples.reshape(-1), flat, z)
    if largest == smallest:
        nearest, surface = _spread(samples, largest)
    else:
        nearest, surface = np.full((height, width), EMPTY), np.full((height, width), EMPTY)
        radius = splats[_needed(np.float32(radius_px_m) / z, reach)]
        for r in np.flatnonzero(np.bincount(radius)):
            layer = np.full((height, width), EMPTY)
            np.minimum.at(layer.reshape(-1), flat[radius == r], z[radius == r])
            for whole, part in zip((nearest, surface), _spread(layer, int(r)), strict=True):
                np.minimum(whole, part, out=whole)
    # Back to the disks' own outline. The pixel of a sample itself always stays: thin objects and
    # objects of a single pixel are objects.
    solid = (nearest < EMPTY).astype(np.uint8)
    excess = largest - 0.5 * (widest + narrowest)
    if largest == smallest and widest - narrowest < 0.5 and excess < _MAX_ERODED_EXCESS_PX:
        inner = cv2.erode(solid, _disk_within(excess + 1.0)) > 0
    else:
        wanted = np.minimum(np.float32(radius_px_m) / nearest, np.float32(reach))
        # The distance is 1 on the outermost pixels.
        inner = cv2.distanceTransform(solid, cv2.DIST_L2, cv2.DIST_MASK_5) >= splats[
            _needed(wanted, reach)
        ] - wanted + np.float32(0.999)
    outside = ~inner & (samples == EMPTY)
    nearest[outside] = surface[outside] = EMPTY
    return x0, y0, nearest, surface


@overload
def _needed(radius_px: float, reach: int) -> int: ...
@overload
def _needed(radius_px: Float32[np.ndarray, "*S"], reach: int) -> Int64[np.ndarray, "*S"]: ...
def _needed(radius_px, reach):  # type: ignore[no-untyped-def]
    """Compute the radius to splat a disk with, whole px.

    It is half a pixel more than the disk's, as samples move to the centre of a pixel.
    """
    return np.minimum(np.ceil(radius_px + np.float32(0.5)), reach).astype(np.int64)


@lru_cache(maxsize=8)
def _splat_radii(reach: int) -> Int64[np.ndarray, "R"]:
    """Choose the radius to splat with for each radius needed, 0..reach px."""
    ladder = np.array(_SPLAT_RADII_PX)
    return np.asarray(np.minimum(ladder[np.searchsorted(ladder, np.arange(reach + 1))], reach))


@lru_cache(maxsize=16)
def _disk(radius: int) -> UInt8[np.ndarray, "d d"]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray((x * x + y * y <= radius * (radius + 1)).astype(np.uint8))


def _disk_within(distance: float) -> UInt8[np.ndarray, "d d"]:
    """Make the kernel of the pixels nearer to the middle than ``distance``.

    An erosion with it keeps what lies at least so far from the outside.
    """
    return _disk_of_square(int(np.ceil(distance * distance - 1e-3)))


@lru_cache(maxsize=256)
def _disk_of_square(square: int) -> UInt8[np.ndarray, "d d"]:
    reach = int(np.sqrt(square))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray((x * x + y * y < square).astype(np.uint8))


def _spread(
    samples: Float32[np.ndarray, "h w"], radius: int
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Spread every sample's depth over a disk; ``EMPTY`` elsewhere.

    Returns the nearest depth at each pixel, and the depth of the surface there. The minimum pulls
    slanted surfaces towards the camera by what they rise within a disk, and near edges over far
    ones: the maximum over the same disks takes both back.
    """
    nearest = _filter(cv2.erode, samples, radius)
    empty = nearest == EMPTY
    surface = nearest.copy()
    surface[empty] = 0
    surface = _filter(cv2.dilate, surface, radius)
    surface[empty] = EMPTY
    return nearest, surface


def _filter(
    extremum: Callable[..., Any], layer: Float32[np.ndarray, "h w"], radius: int
) -> Float32[np.ndarray, "h w"]:
    """Take the minimum or maximum over disks.

    Large disks are made of small ones: the cost then grows with the radius, not with its square.
    """
    while radius > 0:
        step = radius if radius <= _MAX_DIRECT_RADIUS_PX else _COMPOSED_RADIUS_PX
        layer = np.asarray(extremum(layer, _disk(step)))
        radius -= step
    return layer
