"""Objects given as a box alone (position and size, no surface), rendered with the measured depth.

Which part of its box an object fills is not known. Where depth is measured, the surface that is
seen inside the box is the object's: the ray of a pixel is in the box from depth a to depth b, and
the pixel may be the object where the measured depth lies in [a, b]. That is the projection's mask,
and its depth there is the measured one. Where none is measured the pixel may be the object, too;
its depth is then the middle of [a, b].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from vos_ros.config import MappingConfig
from vos_ros.geometry.camera import project
from vos_ros.geometry.se3 import inverse
from vos_ros.geometry.uncertainty import depth_tolerance
from vos_ros.types import Intrinsics, MapObject, Projection

_MIN_FILLED = 0.02
"""Least share of a box's pixels, of those that nothing nearer hides, where a surface is seen in it;
with less the box is empty: the object is gone."""
_WIDE_VIEW = 1.0
"""How far beyond each side of the image the share outside it is measured, in its sides."""
_WIDE_RAYS = 48
"""Rays along each side of the view in which that share is measured."""
_SAME_PLACE_M = 0.01
"""Distances from boxes that differ by less are the same."""
_EMPTY = np.float32(np.inf)

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _BoxCrop:
    """Hold one box in the part of the image that it touches."""

    object_id: int
    roi: tuple[int, int, int, int]
    hit: Bool[np.ndarray, "h w"]
    """Pixels whose rays meet the box."""
    first: Float32[np.ndarray, "h w"]
    """Depth where the ray enters the box, m."""
    last: Float32[np.ndarray, "h w"]
    """Depth where it leaves it, m."""
    volume: float
    """Volume of the box, m^3."""
    truncated: float
    """Share of the box's pixels outside the image."""


def box_projections(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    z_buffer: Float32[np.ndarray, "H W"],
    measured: Float32[np.ndarray, "H W"] | None,
    config: MappingConfig,
) -> dict[int, Projection]:
    """Predict how objects that are boxes appear, by object id; those off the image are left out.

    A pixel is one object's at most. A known surface that agrees with the depth has it first, then
    the box that the measured point is in or nearest to, of several the smallest one. Without
    depth it is the nearest box, unless a surface is nearer.

    Args:
        objects: to render, ``is_box`` all of them.
        T_map_camera: the camera's pose.
        intrinsics: of the camera.
        z_buffer: depth of the objects with a surface, m; huge where there is none.
        measured: depth, m, 0 unknown; None without a depth image.
        config: near and far plane, tolerance of depth.
    """
    crops = sorted(_crops(objects, T_map_camera, intrinsics, config), key=lambda c: c.volume)
    depth = np.zeros_like(z_buffer) if measured is None else measured
    cost = np.full(z_buffer.shape, _EMPTY)
    claims = []
    for rank, crop in enumerate(crops):
        x0, y0, x1, y1 = crop.roi
        seen, surface = depth[y0:y1, x0:x1], z_buffer[y0:y1, x0:x1]
        known = seen > 0
        predicted = np.where(known, seen.clip(crop.first, crop.last), (crop.first + crop.last) / 2)
        tolerance = depth_tolerance(
            predicted, config.depth_tolerance_m, config.depth_tolerance_per_m2
        )
        off = seen - predicted
        agrees = crop.hit & np.where(known, np.abs(off) <= tolerance, surface >= predicted)
        is_surface = known & (np.abs(surface - seen) <= tolerance)
        place = np.floor(np.abs(off) / _SAME_PLACE_M) * len(crops) + rank
        own_cost = np.where(agrees & ~is_surface, np.where(known, place, predicted), _EMPTY)
        np.minimum(cost[y0:y1, x0:x1], own_cost, out=cost[y0:y1, x0:x1])
        hidden = crop.hit & np.where(known, off < -tolerance, surface < predicted)
        beyond = crop.hit & known & (off > tolerance)
        claims.append((crop, predicted.astype(np.float32), own_cost, agrees, hidden, beyond))
    out = {}
    for crop, predicted, own_cost, agrees, hidden, beyond in claims:
        x0, y0, x1, y1 = crop.roi
        mask = (own_cost < _EMPTY) & (own_cost <= cost[y0:y1, x0:x1])
        in_view = int(np.count_nonzero(crop.hit & ~hidden))
        empty = np.count_nonzero(agrees) < _MIN_FILLED * in_view
        # A box is rarely full: what is seen through it is not the object's, unless all of it is.
        silhouette = crop.hit if empty else crop.hit & ~beyond
        mask &= not empty
        size, inside = max(int(np.count_nonzero(silhouette)), 1), 1.0 - crop.truncated
        visible = 0.0 if empty else inside * np.count_nonzero(silhouette & ~hidden) / size
        out[crop.object_id] = Projection(
            object_id=crop.object_id,
            shape=z_buffer.shape,
            roi=crop.roi,
            mask_roi=mask,
            silhouette_roi=silhouette,
            depth_roi=np.where(silhouette, predicted, np.float32(0)),
            visible=visible,
            occluded=inside - visible,
            truncated=crop.truncated,
            free=np.count_nonzero(beyond) / size if empty else 0.0,
        )
    return out


def _crops(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> Iterator[_BoxCrop]:
    """Cast a ray through each pixel near each box."""
    w, h = intrinsics.width, intrinsics.height
    lows, highs = _bounds(objects, T_map_camera, intrinsics, config)
    in_view = (lows < (w, h)) & (highs > -1) & (lows <= highs)
    for n in np.flatnonzero(in_view.all(1)).tolist():
        o, low, high = objects[n], lows[n], highs[n]
        x0, y0 = np.floor(low.clip(0)).astype(int).tolist()
        x1, y1 = np.ceil(np.minimum(high + 1, (w, h))).astype(int).tolist()
        T_object_camera = inverse(o.T_map_object) @ T_map_camera
        columns, rows = np.arange(x0, x1, dtype=float), np.arange(y0, y1, dtype=float)
        first, last = _slab(columns, rows, T_object_camera, o.size, intrinsics, config)
        hit = first < last
        if not hit.any():
            continue
        wide = [np.linspace(low[i], high[i], _WIDE_RAYS) for i in (0, 1)]
        around = np.less(*_slab(wide[0], wide[1], T_object_camera, o.size, intrinsics, config))
        inside = ((wide[1] >= 0) & (wide[1] < h))[:, None] & ((wide[0] >= 0) & (wide[0] < w))
        total = np.count_nonzero(around)
        yield _BoxCrop(
            object_id=o.id,
            roi=(x0, y0, x1, y1),
            hit=hit,
            first=first,
            last=last,
            volume=float(np.prod(o.size)),
            truncated=np.count_nonzero(around & ~inside) / total if total else 0.0,
        )


def _bounds(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> tuple[Float64[np.ndarray, "N 2"], Float64[np.ndarray, "N 2"]]:
    """Return the lowest and highest pixel (x, y) of each box, at most those of the wide view.

    Of a box behind the camera, the lowest are higher than the highest.
    """
    w, h = intrinsics.width, intrinsics.height
    T = inverse(T_map_camera) @ np.stack([o.T_map_object for o in objects])
    local = _CORNERS * np.stack([o.size for o in objects])[:, None]
    corners = local @ T[:, :3, :3].transpose(0, 2, 1) + T[:, None, :3, 3]
    xy = project(corners.reshape(-1, 3), intrinsics).reshape(len(objects), -1, 2)
    in_front = (corners[..., 2] >= config.near_m)[..., None]
    whole = in_front.all(1)  # else the box reaches behind the camera, and may be seen anywhere
    low, high = np.array([-w, -h]) * _WIDE_VIEW, np.array([w, h]) * (1.0 + _WIDE_VIEW)
    lows = np.where(whole, np.maximum(low, xy.min(1)), low)
    highs = np.where(whole, np.minimum(high, xy.max(1)), high)
    return np.where(in_front.any(1), lows, np.inf), np.where(in_front.any(1), highs, -np.inf)


def _slab(
    columns: Float64[np.ndarray, "w"],
    rows: Float64[np.ndarray, "h"],
    T_object_camera: Float64[np.ndarray, "4 4"],
    size: Float64[np.ndarray, "3"],
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Return the depths (m) between which the rays of pixels are in a box (the slab method).

    The first is not less than the second where a ray misses the box.
    """
    x = (columns - intrinsics.cx) / intrinsics.fx
    y = (rows - intrinsics.cy) / intrinsics.fy
    first = np.full((len(rows), len(columns)), config.near_m, np.float32)
    last = np.full(first.shape, config.far_m, np.float32)
    for axis in range(3):
        r = T_object_camera[axis]
        slope = (r[0] * x)[None] + (r[1] * y)[:, None] + r[2]
        slope = np.where(np.abs(slope) < 1e-9, 1e-9, slope)
        half = 0.5 * size[axis]
        one, other = (-half - r[3]) / slope, (half - r[3]) / slope
        np.maximum(first, np.minimum(one, other), out=first, casting="same_kind")
        np.minimum(last, np.maximum(one, other), out=last, casting="same_kind")
    return first, last
