"""Map to image: all objects into one z-buffer, tested against measured depth.

Every object is splatted into its own crop of the image. Its points are scattered with the nearest depth winning and grown to disks
by a minimum filter whose radius follows ``point_radius * f / z``; the outline is then pulled back to where disks of exactly that
radius end. So gaps between samples close, outlines do not swell, and holes wider than the sampling stay open. The crops
then meet in one z-buffer.
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
from vos_ros.geometry.points import known_depth
from vos_ros.geometry.se3 import is_se3
from vos_ros.types import Intrinsics, MapObject, Projection

EMPTY = np.float32(3.0e38)
"""Depth of an empty pixel while rendering; finite, as the filters of OpenCV promise nothing for infinities."""
_AT_ONCE = 32_000
"""Points: what is worked out of them stays in the processor's cache. Of many more, each step would wait for memory."""
_RADII = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Radii of splats, px: an object that reaches from near to far costs one filter per radius that it needs."""


@dataclass(frozen=True, eq=False, slots=True)
class Crop:
    """One object's predicted depth (m, ``EMPTY`` off its silhouette) in its part ``roi`` (x0 y0 x1 y1 px) of the image, the depth of
    the nearest sample about each pixel, with which it competes in the z-buffer, and the share of it outside the image."""

    object_id: int
    roi: tuple[int, int, int, int]
    depth: Float32[np.ndarray, "h w"]
    nearest: Float32[np.ndarray, "h w"]
    truncated: float


def render(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    *,
    depth: Float32[np.ndarray, "H W"] | None = None,
    config: MappingConfig = MappingConfig(),  # noqa: B008 (frozen)
) -> list[Projection]:
    """The view of ``objects`` from a camera, in the order given; an object with no sample on the image has no ``Projection``.

    An object with a ``mesh`` is ray cast, every other one splatted. ``depth`` is measured z in m, 0 (or anything that is no
    positive number) where unknown; with it a predicted pixel counts as hidden where something nearer was measured, as ``free`` where
    something farther was, each beyond the tolerance ``depth_tolerance_m + depth_tolerance_per_m2 * z^2`` of the
    configuration. Unknown depth decides nothing. Points that are not finite are left out.

    Raises ValueError where the pose is no rigid motion or the depth's shape is not the intrinsics'.
    """
    if not is_se3(T_map_camera, tolerance=1e-3):
        raise ValueError(
            f"T_map_camera is not a rigid motion, wanted a finite 4x4 rotation and translation: got {T_map_camera!r}"
        )
    shape = (intrinsics.height, intrinsics.width)
    if depth is not None and depth.shape != shape:
        raise ValueError(
            f"depth is {depth.shape[1]}x{depth.shape[0]}, the intrinsics are of {shape[1]}x{shape[0]}: register the"
            " depth to the colour image"
        )
    crops = list(_crops(objects, T_map_camera, intrinsics, config))
    z_buffer = np.full(shape, EMPTY, np.float32)
    for crop in crops:
        x0, y0, x1, y1 = crop.roi
        np.minimum(z_buffer[y0:y1, x0:x1], crop.nearest, out=z_buffer[y0:y1, x0:x1])
    measured = None if depth is None else known_depth(depth)
    return [_judge(crop, z_buffer, measured, config) for crop in crops]


def _crops(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> Iterator[Crop]:
    splatted = {
        crop.object_id: crop
        for crop in splat([o for o in objects if o.mesh is None], T_map_camera, intrinsics, config)
    }
    meshes = [o for o in objects if o.mesh is not None]
    if meshes:
        from vos_ros.mapping.mesh import cast  # open3d is loaded only where a map has meshes

        splatted.update(
            {crop.object_id: crop for crop in cast(meshes, T_map_camera, intrinsics, config)}
        )
    for o in objects:
        if o.id in splatted:
            yield splatted.pop(o.id)


def _judge(
    crop: Crop,
    z_buffer: Float32[np.ndarray, "H W"],
    measured: Float32[np.ndarray, "H W"] | None,
    config: MappingConfig,
) -> Projection:
    x0, y0, x1, y1 = crop.roi
    silhouette = crop.depth < EMPTY
    mask = silhouette & (crop.nearest <= z_buffer[y0:y1, x0:x1])
    predicted = np.where(silhouette, crop.depth, np.float32(0))
    size = max(int(np.count_nonzero(silhouette)), 1)
    free = 0
    if measured is not None:
        ahead = measured[y0:y1, x0:x1] - predicted
        tolerance = (
            np.float32(config.depth_tolerance_m)
            + np.float32(config.depth_tolerance_per_m2) * predicted * predicted
        )
        known = measured[y0:y1, x0:x1] > 0
        mask &= ~known | (np.abs(ahead) <= tolerance)
        free = int(np.count_nonzero(silhouette & known & (ahead > tolerance)))
    inside = 1.0 - crop.truncated
    visible = inside * int(np.count_nonzero(mask)) / size
    return Projection(
        crop.object_id,
        z_buffer.shape,
        crop.roi,
        mask,
        silhouette,
        predicted,
        visible,
        inside - visible,
        crop.truncated,
        free / size,
    )


def splat(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> Iterator[Crop]:
    """The objects' crops from their points; objects without a sample on the image are left out."""
    some: list[MapObject] = []
    for o in objects:
        if not len(o.points):
            continue
        if some and sum(len(other.points) for other in some) + len(o.points) > _AT_ONCE:
            yield from _splat(some, T_map_camera, intrinsics, config)
            some = []
        some.append(o)
    if some:
        yield from _splat(some, T_map_camera, intrinsics, config)


def _splat(
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
        u = x * inverse * np.float32(intrinsics.fx) + np.float32(intrinsics.cx)
        v = y * inverse * np.float32(intrinsics.fy) + np.float32(intrinsics.cy)
        near = (z > config.near_m) & (z < config.far_m)
        near &= (
            (u > -0.5 - reach) & (u < w - 0.5 + reach) & (v > -0.5 - reach) & (v < h - 0.5 + reach)
        )
        inside = near & (u > -0.5) & (u < w - 0.5) & (v > -0.5) & (v < h - 0.5)
        # A sample's share of the object's view is its solid angle, which is defined behind the camera too.
        solid_angle = np.float32(1) / (x * x + y * y + z * z)
    solid_angle[~np.isfinite(solid_angle)] = 0
    firsts = np.cumsum(counts) - counts
    total = np.add.reduceat(solid_angle, firsts, dtype=np.float64)
    seen = np.add.reduceat(np.where(inside, solid_angle, np.float32(0)), firsts, dtype=np.float64)
    index = np.flatnonzero(near)
    column, row, z = (
        np.rint(u[index]).astype(np.int32),
        np.rint(v[index]).astype(np.int32),
        z[index],
    )
    focal = 0.5 * (intrinsics.fx + intrinsics.fy)
    bounds = np.searchsorted(index, np.append(firsts, len(points)))
    for k, o in enumerate(objects):
        if seen[k] <= 0:
            continue
        part = slice(bounds[k], bounds[k + 1])
        x0, y0, nearest, surface = _grow(
            column[part], row[part], z[part], max(o.point_radius, 0.0) * focal, reach
        )
        roi = (max(x0, 0), max(y0, 0), min(x0 + surface.shape[1], w), min(y0 + surface.shape[0], h))
        view = np.s_[roi[1] - y0 : roi[3] - y0, roi[0] - x0 : roi[2] - x0]
        yield Crop(
            o.id,
            roi,
            surface[view],
            nearest[view],
            float(np.clip(1.0 - seen[k] / total[k], 0.0, 1.0)),
        )


def _grow(
    column: Int64[np.ndarray, "P"],
    row: Int64[np.ndarray, "P"],
    z: Float32[np.ndarray, "P"],
    radius_px_m: float,
    reach: int,
) -> tuple[int, int, Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Disks of radius ``radius_px_m / z`` px around pixels: the crop's first column and row, and as ``_disks``."""
    splats = _splat_radii(reach)
    widest, narrowest = (min(radius_px_m / float(end), float(reach)) for end in (z.min(), z.max()))
    largest, smallest = int(splats[_needed(widest, reach)]), int(splats[_needed(narrowest, reach)])
    x0, y0 = int(column.min()) - largest - 1, int(row.min()) - largest - 1
    width, height = int(column.max()) + largest + 2 - x0, int(row.max()) + largest + 2 - y0
    flat = (row - y0) * width + (column - x0)
    samples = np.full((height, width), EMPTY)
    np.minimum.at(samples.reshape(-1), flat, z)
    if largest == smallest:
        nearest, surface = _disks(samples, largest)
    else:
        nearest, surface = np.full((height, width), EMPTY), np.full((height, width), EMPTY)
        radius = splats[_needed(np.float32(radius_px_m) / z, reach)]
        for r in np.flatnonzero(np.bincount(radius)):
            layer = np.full((height, width), EMPTY)
            np.minimum.at(layer.reshape(-1), flat[radius == r], z[radius == r])
            for whole, part in zip((nearest, surface), _disks(layer, int(r)), strict=True):
                np.minimum(whole, part, out=whole)
    # Back to the disks' own outline. The pixel of a sample itself always stays: thin and single-pixel objects are objects.
    solid = (nearest < EMPTY).astype(np.uint8)
    excess = largest - 0.5 * (widest + narrowest)
    if largest == smallest and widest - narrowest < 0.5 and excess < 4.0:
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
    """Pixels that a disk has to be splatted with: half a pixel more than its radius, as samples move to the centre of a pixel."""
    return np.minimum(np.ceil(radius_px + np.float32(0.5)), reach).astype(np.int64)


@lru_cache(maxsize=8)
def _splat_radii(reach: int) -> Int64[np.ndarray, "R"]:
    """Radius to splat with per radius needed, 0..reach px."""
    ladder = np.array(_RADII)
    return np.asarray(np.minimum(ladder[np.searchsorted(ladder, np.arange(reach + 1))], reach))


@lru_cache(maxsize=16)
def _disk(radius: int) -> UInt8[np.ndarray, "d d"]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray((x * x + y * y <= radius * (radius + 1)).astype(np.uint8))


def _disk_within(distance: float) -> UInt8[np.ndarray, "d d"]:
    """The pixels nearer to the middle than ``distance``; an erosion with it keeps what lies at least so far from the outside."""
    return _disk_of_square(int(np.ceil(distance * distance - 1e-3)))


@lru_cache(maxsize=256)
def _disk_of_square(square: int) -> UInt8[np.ndarray, "d d"]:
    reach = int(np.sqrt(square))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray((x * x + y * y < square).astype(np.uint8))


def _disks(
    samples: Float32[np.ndarray, "h w"], radius: int
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Every sample's depth spread over a disk: the nearest at each pixel, and the depth of the surface there; ``EMPTY`` elsewhere.

    The minimum pulls slanted surfaces towards the camera by what they rise within a disk, and near edges over far ones: the
    maximum over the same disks takes both back.
    """
    nearest = _filter(cv2.erode, samples, radius)
    empty = nearest == EMPTY
    surface = nearest.copy()
    surface[empty] = 0
    surface = _filter(cv2.dilate, surface, radius)
    surface[empty] = EMPTY
    return nearest, surface


def _filter(
    of: Callable[..., Any], layer: Float32[np.ndarray, "h w"], radius: int
) -> Float32[np.ndarray, "h w"]:
    """A minimum or maximum over disks. Large disks are made of small ones: the cost then grows with the radius, not its square."""
    while radius > 0:
        step = radius if radius <= 4 else 3
        layer = np.asarray(of(layer, _disk(step)))
        radius -= step
    return layer
