"""Depth images as points: vertices, normals, lifting, and statistics that outliers don't move."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, Int64

from vos_ros.types import Intrinsics

MAD_TO_SIGMA = 1.4826
"""A Gaussian's standard deviation over its median absolute deviation."""


def known_depth(depth: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Replace what is no measurement (NaN, infinite, negative) by 0, which means unknown.

    The same array where there is nothing to replace.

    >>> known_depth(np.array([[1.5, np.nan, -2.0, np.inf]], np.float32))
    array([[1.5, 0. , 0. , 0. ]], dtype=float32)
    """
    with np.errstate(invalid="ignore"):
        good = np.isfinite(depth) & (depth > 0)
    return (
        depth if good.all() else np.where(good, depth, np.float32(0)).astype(np.float32, copy=False)
    )


def vertex_map(
    depth: Float32[np.ndarray, "H W"], intrinsics: Intrinsics, *, step: int = 1
) -> Float32[np.ndarray, "h w 3"]:
    """Lift every ``step``-th pixel each way, the first at ``step // 2``, to the camera frame, m.

    0 0 0 where the depth (m) is unknown.

    >>> camera = Intrinsics(100.0, 100.0, 2.0, 2.0, 4, 4)
    >>> vertex_map(np.full((4, 4), 2.0, np.float32), camera, step=2)[1, 0].round(6)
    array([-0.02,  0.02,  2.  ], dtype=float32)
    """
    first = step // 2
    z = known_depth(depth[first::step, first::step])
    x = (
        np.arange(z.shape[1], dtype=np.float32) * step + np.float32(first - intrinsics.cx)
    ) / np.float32(intrinsics.fx)
    y = (
        np.arange(z.shape[0], dtype=np.float32) * step + np.float32(first - intrinsics.cy)
    ) / np.float32(intrinsics.fy)
    out = np.empty((*z.shape, 3), np.float32)
    np.multiply(z, x[None, :], out=out[..., 0])
    np.multiply(z, y[:, None], out=out[..., 1])
    out[..., 2] = z
    return out


def normal_map(
    vertices: Float32[np.ndarray, "h w 3"], *, max_step: float = 6.0
) -> Float32[np.ndarray, "h w 3"]:
    """Compute unit normals that face the camera, from central differences of a vertex map.

    0 0 0 where there is none: at the image's border, next to unknown pixels, and where the range
    changes by more than ``max_step`` times the lateral distance of the neighbours (an edge between
    two surfaces; 6 is a surface seen at 80 degrees).

    >>> camera = Intrinsics(100.0, 100.0, 1.0, 1.0, 3, 3)
    >>> normal_map(vertex_map(np.full((3, 3), 2.0, np.float32), camera))[1, 1] + 0.0
    array([ 0.,  0., -1.], dtype=float32)
    """
    out = np.zeros_like(vertices)
    if vertices.shape[0] < 3 or vertices.shape[1] < 3:
        return out
    z = vertices[..., 2]
    known = z > 0
    left, right = vertices[1:-1, :-2], vertices[1:-1, 2:]
    up, down = vertices[:-2, 1:-1], vertices[2:, 1:-1]
    ax, ay, az = (right[..., i] - left[..., i] for i in range(3))
    bx, by, bz = (down[..., i] - up[..., i] for i in range(3))
    good = (
        known[1:-1, 1:-1] & known[1:-1, :-2] & known[1:-1, 2:] & known[:-2, 1:-1] & known[2:, 1:-1]
    )
    good &= (np.abs(az) <= max_step * np.abs(ax)) & (np.abs(bz) <= max_step * np.abs(by))
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    length = np.sqrt(nx * nx + ny * ny + nz * nz)
    good &= length > 0
    scale = np.where(good, 1.0 / np.where(good, length, 1.0), 0.0).astype(np.float32)
    middle = vertices[1:-1, 1:-1]
    away = nx * middle[..., 0] + ny * middle[..., 1] + nz * middle[..., 2] > 0
    scale = np.where(away, -scale, scale)
    inner = out[1:-1, 1:-1]
    inner[..., 0], inner[..., 1], inner[..., 2] = nx * scale, ny * scale, nz * scale
    return out


def lift_at(
    x: Int64[np.ndarray, "P"],
    y: Int64[np.ndarray, "P"],
    z: Float32[np.ndarray, "P"],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
) -> Float32[np.ndarray, "P 3"]:
    """Lift pixels with measured depth to the map frame.

    Args:
        x: columns, px.
        y: rows, px.
        z: depth, m.
        T_map_camera: the camera's pose.
        intrinsics: of the camera.

    >>> camera = Intrinsics(100.0, 100.0, 32.0, 24.0, 64, 48)
    >>> one = np.array([42]), np.array([24]), np.array([2.0], np.float32)
    >>> lift_at(*one, np.eye(4), camera).round(6)
    array([[0.2, 0. , 2. ]], dtype=float32)
    """
    cam = np.empty((3, len(z)))
    np.multiply((x - intrinsics.cx) / intrinsics.fx, z, out=cam[0])
    np.multiply((y - intrinsics.cy) / intrinsics.fy, z, out=cam[1])
    cam[2] = z
    return np.asarray((T_map_camera[:3, :3] @ cam).T + T_map_camera[:3, 3]).astype(np.float32)
