"""Objects given as triangle meshes, ray cast. open3d is imported only when a mesh is rendered."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vos_ros.config import MappingConfig
from vos_ros.geometry.camera import project
from vos_ros.mapping.splat import EMPTY, Crop, splat
from vos_ros.types import Intrinsics, MapObject

_WIDE_VIEW_SCALE = 3.0
"""The silhouette outside the image is measured in a view this many times as wide and high."""
_MAX_WIDE_RAYS = 192
"""Most rays along each side of the wide view: a share needs no finer grid."""


def cast(
    objects: Sequence[MapObject],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    config: MappingConfig,
) -> Iterator[Crop]:
    """Render objects by ray casting their meshes; objects off the image are left out.

    Where open3d is not installed, objects that have points too are splatted instead, with one
    warning.

    Args:
        objects: to render, all with a mesh.
        T_map_camera: the camera's pose.
        intrinsics: of the camera.
        config: near and far plane.

    Raises ImportError: open3d is missing, and an object has nothing but its mesh.
    """
    try:
        import open3d as o3d
    except ImportError as e:
        bare = [o.id for o in objects if len(o.points) == 0]
        if bare:
            raise ImportError(
                f"map objects {bare} come as meshes without points, and ray casting needs open3d,"
                " which is not installed: pip install open3d-cpu, or let the mapper send surface"
                " points"
            ) from e
        warnings.warn(
            "open3d is not installed: map objects that come as meshes are drawn from their points"
            " (pip install open3d-cpu)",
            RuntimeWarning,
            stacklevel=3,
        )
        yield from splat(objects, T_map_camera, intrinsics, config)
        return
    for o in objects:
        assert o.mesh is not None
        if len(o.mesh.triangles) == 0:
            yield from splat([o], T_map_camera, intrinsics, config)
            continue
        # Relative to the camera before float32 arithmetic: maps may lie far from their origin.
        camera = (o.mesh.vertices.astype(np.float64) - T_map_camera[:3, 3]) @ T_map_camera[:3, :3]
        if float(camera[:, 2].max()) <= config.near_m:
            continue
        scene: Any = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(
            np.ascontiguousarray(camera, np.float32),
            np.ascontiguousarray(o.mesh.triangles, np.uint32),
        )
        roi = _bounds(camera, intrinsics, config)
        if roi is None:
            continue
        depth = _depth(scene, intrinsics, roi, 1, config)
        hit = np.argwhere(depth < EMPTY)
        if len(hit) == 0:
            continue
        (top, left), (bottom, right) = hit.min(axis=0), hit.max(axis=0) + 1
        tight = (roi[0] + int(left), roi[1] + int(top), roi[0] + int(right), roi[1] + int(bottom))
        touches = (
            tight[0] == 0
            or tight[1] == 0
            or tight[2] == intrinsics.width
            or tight[3] == intrinsics.height
        )
        outside = _share_outside(scene, camera, intrinsics, config) if touches else 0.0
        hit_depth = np.ascontiguousarray(depth[top:bottom, left:right])
        yield Crop(object_id=o.id, roi=tight, depth=hit_depth, nearest=hit_depth, truncated=outside)


def _bounds(
    camera: Float64[np.ndarray, "V 3"], intrinsics: Intrinsics, config: MappingConfig
) -> tuple[int, int, int, int] | None:
    """Find the part of the image that the mesh may touch.

    It is all of it where some vertex lies behind the near plane.
    """
    w, h = intrinsics.width, intrinsics.height
    if float(camera[:, 2].min()) <= config.near_m:
        return (0, 0, w, h)
    pixels = project(camera, intrinsics)
    low, high = np.floor(pixels.min(axis=0)), np.ceil(pixels.max(axis=0)) + 1
    x0, y0, x1, y1 = (
        int(v) for v in (max(low[0], 0), max(low[1], 0), min(high[0], w), min(high[1], h))
    )
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _depth(
    scene: Any,
    intrinsics: Intrinsics,
    roi: tuple[int, int, int, int],
    step: int,
    config: MappingConfig,
) -> Float32[np.ndarray, "h w"]:
    """Cast rays through every ``step``-th pixel of the roi: z (m), ``EMPTY`` without a hit."""
    x = (
        np.arange(roi[0], roi[2], step, dtype=np.float32) - np.float32(intrinsics.cx)
    ) / np.float32(intrinsics.fx)
    y = (
        np.arange(roi[1], roi[3], step, dtype=np.float32) - np.float32(intrinsics.cy)
    ) / np.float32(intrinsics.fy)
    rays = np.zeros((len(y), len(x), 6), np.float32)
    rays[..., 3], rays[..., 4], rays[..., 5] = x[None, :], y[:, None], 1.0
    # Directions of z = 1: the distance along the ray, in their lengths, is z.
    z = scene.cast_rays(rays, nthreads=1)["t_hit"].numpy()
    return np.where((z > config.near_m) & (z < config.far_m), z, EMPTY).astype(np.float32)


def _share_outside(
    scene: Any, camera: Float64[np.ndarray, "V 3"], intrinsics: Intrinsics, config: MappingConfig
) -> float:
    """Measure the share of the silhouette outside the image, as far as a wider view shows it."""
    w, h = intrinsics.width, intrinsics.height
    pad_x, pad_y = int(0.5 * (_WIDE_VIEW_SCALE - 1.0) * w), int(0.5 * (_WIDE_VIEW_SCALE - 1.0) * h)
    wide = replace(
        intrinsics,
        cx=intrinsics.cx + pad_x,
        cy=intrinsics.cy + pad_y,
        width=w + 2 * pad_x,
        height=h + 2 * pad_y,
    )
    roi = _bounds(camera, wide, config)
    if roi is None:
        return 0.0
    step = max(1, max(roi[2] - roi[0], roi[3] - roi[1]) // _MAX_WIDE_RAYS)
    hit = _depth(scene, wide, roi, step, config) < EMPTY
    x, y = np.arange(roi[0], roi[2], step) - pad_x, np.arange(roi[1], roi[3], step) - pad_y
    inside = ((x >= 0) & (x < w))[None, :] & ((y >= 0) & (y < h))[:, None]
    total = int(np.count_nonzero(hit))
    return 1.0 - int(np.count_nonzero(hit & inside)) / total if total else 0.0
