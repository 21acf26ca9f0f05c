"""Map to image: all objects into one z-buffer, tested against measured depth.

Every object is splatted into its own crop. Points are scattered with the nearest depth winning, grown to disks by a minimum filter
whose radius follows ``point_radius * f / z``, and the outline is then pulled back so that it stands where the disks of
``point_radius`` end: gaps between samples close and outlines do not swell. The crops then meet in one z-buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from vos_ros.config import MappingConfig
from vos_ros.types import Intrinsics, MapObject, Projection

_FAR = np.float32(3.0e38)
"""Depth of an empty pixel; finite, as the filters of OpenCV promise nothing for infinities."""


def render(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    *,
    depth: Float32[np.ndarray, "H W"] | None = None,
    config: MappingConfig = MappingConfig(),  # noqa: B008 (frozen)
) -> list[Projection]:
    """The view of ``objects`` from a camera, one ``Projection`` per object that touches the image, in the order given."""
    height, width = intrinsics.height, intrinsics.width
    crops = _splat(objects, T_map_camera, intrinsics, config)
    z_buffer = np.full((height, width), _FAR, np.float32)
    for crop in crops:
        x0, y0, x1, y1 = crop.roi
        view = z_buffer[y0:y1, x0:x1]
        np.minimum(view, crop.depth, out=view)
    out = []
    for crop in crops:
        x0, y0, x1, y1 = crop.roi
        silhouette = crop.depth < _FAR
        mask = silhouette & (crop.depth <= z_buffer[y0:y1, x0:x1])
        predicted = np.where(silhouette, crop.depth, np.float32(0))
        n_silhouette = int(np.count_nonzero(silhouette))
        n_free = 0
        if depth is not None:
            measured = depth[y0:y1, x0:x1]
            tolerance = config.depth_tolerance_m + config.depth_tolerance_per_m2 * predicted * predicted
            known = silhouette & (measured > 0)
            free = known & (measured > predicted + tolerance)
            mask &= ~(known & (measured < predicted - tolerance)) & ~free
            n_free = int(np.count_nonzero(free))
        inside = 1.0 - crop.truncated
        visible = inside * np.count_nonzero(mask) / max(n_silhouette, 1)
        out.append(Projection(crop.object_id, (height, width), crop.roi, mask, silhouette, predicted, visible, inside - visible,
                              crop.truncated, n_free / max(n_silhouette, 1)))
    return out


class _Crop:
    """An object's splatted depth in its part of the image; ``_FAR`` off the silhouette."""

    __slots__ = ("depth", "object_id", "roi", "truncated")

    def __init__(self, object_id: int, roi: tuple[int, int, int, int], depth: Float32[np.ndarray, "h w"], truncated: float) -> None:
        self.object_id, self.roi, self.depth, self.truncated = object_id, roi, depth, truncated


@lru_cache(maxsize=64)
def _disk(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius + radius).astype(np.uint8)


def _splat(objects: Sequence[MapObject], T_map_camera: np.ndarray, intrinsics: Intrinsics, config: MappingConfig) -> list[_Crop]:
    kept = [o for o in objects if len(o.points)]
    if not kept:
        return []
    counts = np.array([len(o.points) for o in kept])
    points = np.concatenate([o.points for o in kept]).astype(np.float32, copy=False)
    owner = np.repeat(np.arange(len(kept)), counts)
    R = T_map_camera[:3, :3]
    # Subtracting the camera's position before rotating keeps float32 exact enough far from the map's origin.
    cam = (points - T_map_camera[:3, 3].astype(np.float32)) @ R.astype(np.float32)
    x, y, z = cam[:, 0], cam[:, 1], cam[:, 2]
    ok = (z > config.near_m) & (z < config.far_m)
    inv = 1.0 / np.where(ok, z, 1.0)
    u = np.where(ok, x * inv * intrinsics.fx + intrinsics.cx, -1e6)
    v = np.where(ok, y * inv * intrinsics.fy + intrinsics.cy, -1e6)
    radius_m = np.repeat(np.array([o.point_radius for o in kept], np.float32), counts)
    r_px = radius_m * (0.5 * (intrinsics.fx + intrinsics.fy)) * inv
    w, h = intrinsics.width, intrinsics.height
    inside = ok & (u > -0.5) & (u < w - 0.5) & (v > -0.5) & (v < h - 0.5)
    # Solid angle of a sample: it is defined behind the camera too.
    weight = 1.0 / np.maximum(np.einsum("ij,ij->i", cam, cam), 1e-6)
    weight[~np.isfinite(weight)] = 0.0
    total = np.bincount(owner, weight, len(kept))
    within = np.bincount(owner[inside], weight[inside], len(kept))
    margin = config.max_splat_px
    near = ok & (u > -0.5 - margin) & (u < w - 0.5 + margin) & (v > -0.5 - margin) & (v < h - 0.5 + margin)
    idx = np.flatnonzero(near)
    if idx.size == 0:
        return []
    who = owner[idx]
    ui = np.rint(u[idx]).astype(np.int64)
    vi = np.rint(v[idx]).astype(np.int64)
    zi = z[idx]
    splat = np.minimum(np.ceil(r_px[idx] + 0.5), margin).astype(np.int64)
    starts = np.flatnonzero(np.r_[True, who[1:] != who[:-1]])
    ends = np.r_[starts[1:], len(who)]
    crops = []
    for s, e in zip(starts, ends, strict=True):
        k = int(who[s])
        if within[k] == 0.0:
            continue
        uu, vv, zz, rr = ui[s:e], vi[s:e], zi[s:e], splat[s:e]
        r_max = int(rr.max())
        bx, by = int(uu.min()) - r_max - 1, int(vv.min()) - r_max - 1
        bw, bh = int(uu.max()) + r_max + 2 - bx, int(vv.max()) + r_max + 2 - by
        flat = (vv - by) * bw + (uu - bx)
        grown = np.full((bh, bw), _FAR, np.float32)
        for r in np.unique(rr):
            part = rr == r
            layer = np.full(bh * bw, _FAR, np.float32)
            np.minimum.at(layer, flat[part], zz[part])
            np.minimum(grown, cv2.erode(layer.reshape(bh, bw), _disk(int(r))), out=grown)
        solid = (grown < _FAR).astype(np.uint8)
        distance = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
        focal = 0.5 * (intrinsics.fx + intrinsics.fy)
        local = kept[k].point_radius * focal / grown
        shrink = np.minimum(np.ceil(local + 0.5), margin) + 1.0 - local * _EXTENT
        grown[distance < shrink] = _FAR
        x0, y0, x1, y1 = max(bx, 0), max(by, 0), min(bx + bw, w), min(by + bh, h)
        truncated = float(np.clip(1.0 - within[k] / total[k], 0.0, 1.0))
        crops.append(_Crop(kept[k].id, (x0, y0, x1, y1), grown[y0 - by : y1 - by, x0 - bx : x1 - bx], truncated))
    return crops


_EXTENT = 0.7
