"""Triangle meshes of the synthetic world, each vertex with normal and texture coordinates.

Pure functions. Shapes stand on z = 0 of their own frame, centred on its z axis, in metres. Faces
are cut into cells of about ``cell_m``, fine enough for light that is baked per vertex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float32, Float64, Int32


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """Hold a triangle mesh."""

    vertices: Float64[np.ndarray, "V 3"]
    """Corners, m."""
    normals: Float64[np.ndarray, "V 3"]
    """Unit normals."""
    uv: Float64[np.ndarray, "V 2"]
    """Texture coordinates; the texture repeats beyond 0..1."""
    triangles: Int32[np.ndarray, "F 3"]
    """Rows of ``vertices``, three per triangle."""
    texture: Int32[np.ndarray, "V"]
    """Number of each vertex's texture in the caller's list."""
    repeat_m: Float32[np.ndarray, "V"]
    """Length on the surface that one repeat of the texture covers, m."""


def merge(shapes: Sequence[Shape]) -> Shape:
    """Join shapes to one."""
    offsets = np.cumsum([0, *(len(s.vertices) for s in shapes[:-1])])
    return Shape(
        np.concatenate([s.vertices for s in shapes]),
        np.concatenate([s.normals for s in shapes]),
        np.concatenate([s.uv for s in shapes]),
        np.concatenate([s.triangles + o for s, o in zip(shapes, offsets, strict=True)]).astype(
            np.int32
        ),
        np.concatenate([s.texture for s in shapes]),
        np.concatenate([s.repeat_m for s in shapes]),
    )


def move(shape: Shape, T: Float64[np.ndarray, "4 4"]) -> Shape:
    """Move a shape of frame b to frame a by the rigid motion ``T_a_b``."""
    return Shape(
        shape.vertices @ T[:3, :3].T + T[:3, 3],
        shape.normals @ T[:3, :3].T,
        shape.uv,
        shape.triangles,
        shape.texture,
        shape.repeat_m,
    )


def pose(
    x: float, y: float, z: float, yaw: float = 0.0, tilt: float = 0.0
) -> Float64[np.ndarray, "4 4"]:
    """Make the motion to a position (m), turned by ``yaw`` about z after ``tilt`` about x (rad)."""
    c, s, ct, st = np.cos(yaw), np.sin(yaw), np.cos(tilt), np.sin(tilt)
    T = np.eye(4)
    T[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, ct, -st], [0, st, ct]]
    )
    T[:3, 3] = x, y, z
    return T


def _grid(
    points: Float64[np.ndarray, "A B 3"],
    normals: Float64[np.ndarray, "A B 3"],
    uv: Float64[np.ndarray, "A B 2"],
    texture: int,
    repeat_m: float,
) -> Shape:
    rows, columns = points.shape[:2]
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1, 1)
    two = np.concatenate(
        [corner + np.array([0, 1, columns]), corner + np.array([1, columns + 1, columns])]
    )
    count = rows * columns
    return Shape(
        points.reshape(-1, 3),
        normals.reshape(-1, 3),
        uv.reshape(-1, 2),
        two.astype(np.int32),
        np.full(count, texture, np.int32),
        np.full(count, repeat_m, np.float32),
    )


def rectangle(
    width: float, height: float, texture: int, *, cell_m: float, repeat_m: float | None = None
) -> Shape:
    """Make a rectangle in the xy plane around the origin, normal up.

    Without ``repeat_m`` the texture is stretched over it once.
    """
    a, b = (max(2, int(np.ceil(e / cell_m)) + 1) for e in (width, height))
    x, y = np.meshgrid(
        np.linspace(-width / 2, width / 2, a), np.linspace(height / 2, -height / 2, b)
    )
    points = np.stack([x, y, np.zeros_like(x)], -1)
    scale = np.array([width, height]) if repeat_m is None else np.array([repeat_m, repeat_m])
    uv = np.stack([x + width / 2, height / 2 - y], -1) / scale
    return _grid(
        points, np.broadcast_to([0.0, 0.0, 1.0], points.shape), uv, texture, float(scale.max())
    )


def box(
    size: tuple[float, float, float],
    textures: int | Sequence[int],
    *,
    cell_m: float,
    repeat_m: float | None = None,
) -> Shape:
    """Make a box that stands on z = 0, of full extents ``size``.

    Textures: one for all faces, or six: -y +x +y -x top bottom.
    """
    w, d, h = size
    rows = [textures] * 6 if isinstance(textures, int) else list(textures)
    faces = []
    for k, (across, depth) in enumerate(
        ((w, d), (d, w), (w, d), (d, w))
    ):  # the four sides, each turned upright, then about z
        upright = pose(0, -depth / 2, h / 2, 0.0, np.pi / 2)
        face = rectangle(across, h, rows[k], cell_m=cell_m, repeat_m=repeat_m)
        faces.append(move(face, pose(0, 0, 0, k * np.pi / 2) @ upright))
    faces.append(move(rectangle(w, d, rows[4], cell_m=cell_m, repeat_m=repeat_m), pose(0, 0, h)))
    faces.append(
        move(rectangle(w, d, rows[5], cell_m=cell_m, repeat_m=repeat_m), pose(0, 0, 0, 0.0, np.pi))
    )
    return merge(faces)


def revolve(
    profile: Sequence[tuple[float, float]],
    texture: int,
    *,
    cell_m: float,
    repeat_m: float | None = None,
) -> Shape:
    """Make a surface of revolution about z.

    ``profile`` is (radius, z) in m, with the outside on its right; corners sharper than 35 degrees
    stay sharp. Without ``repeat_m`` the texture goes round once, and once along the profile.
    """
    p = np.asarray(profile, float)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))])
    direction = np.diff(p, axis=0) / np.maximum(np.diff(length), 1e-12)[:, None]
    sharp = [
        0,
        *(
            k
            for k in range(1, len(p) - 1)
            if direction[k - 1] @ direction[k] < np.cos(np.radians(35))
        ),
        len(p) - 1,
    ]
    turns = max(24, int(np.ceil(2 * np.pi * p[:, 0].max() / cell_m)))
    angle = np.linspace(0, 2 * np.pi, turns + 1)
    ring = np.stack([np.cos(angle), np.sin(angle)], -1)
    strips = []
    for first, last in pairwise(sharp):
        steps = max(2, int(np.ceil((length[last] - length[first]) / cell_m)) + 1, last - first + 1)
        at = np.linspace(length[first], length[last], steps)
        r, z = (np.interp(at, length, p[:, k]) for k in (0, 1))
        # Normals are averaged at the corners of the profile and interpolated between: a smooth run
        # looks round.
        tangents = np.stack(
            [
                direction[max(k - 1, first)] + direction[min(k, last - 1)]
                for k in range(first, last + 1)
            ]
        )
        t = np.stack([np.interp(at, length[first : last + 1], tangents[:, k]) for k in (0, 1)], -1)
        t /= np.linalg.norm(t, axis=1, keepdims=True)
        points = np.concatenate(
            [r[:, None, None] * ring, np.broadcast_to(z[:, None, None], (steps, turns + 1, 1))], -1
        )
        normals = np.concatenate(
            [
                t[:, 1, None, None] * ring,
                np.broadcast_to(-t[:, 0, None, None], (steps, turns + 1, 1)),
            ],
            -1,
        )
        around = 2 * np.pi * p[:, 0].max()
        scale = (around, length[-1]) if repeat_m is None else (repeat_m, repeat_m)
        u, v = np.meshgrid(angle / (2 * np.pi) * around / scale[0], 1 - at / scale[1])
        strips.append(_grid(points, normals, np.stack([u, v], -1), texture, float(max(scale))))
    return merge(strips)


def torus(
    ring_radius: float,
    tube_radius: float,
    texture: int,
    *,
    cell_m: float,
    arc: tuple[float, float] = (0.0, 2 * np.pi),
    repeats: float = 1.0,
) -> Shape:
    """Make a ring, or an arc of one (from and to in rad), around z, centred on the origin.

    The texture goes round ``repeats`` times.
    """
    a = np.linspace(*arc, max(12, int(np.ceil((arc[1] - arc[0]) * ring_radius / cell_m)) + 1))
    b = np.linspace(0, 2 * np.pi, max(12, int(np.ceil(2 * np.pi * tube_radius / cell_m)) + 1))
    a2, b2 = np.meshgrid(a, b, indexing="ij")
    normals = np.stack([np.cos(b2) * np.cos(a2), np.cos(b2) * np.sin(a2), np.sin(b2)], -1)
    centres = ring_radius * np.stack([np.cos(a2), np.sin(a2), np.zeros_like(a2)], -1)
    uv = np.stack([a2 / (2 * np.pi) * repeats, b2 / (2 * np.pi)], -1)
    return _grid(
        centres + tube_radius * normals, normals, uv, texture, 2 * np.pi * ring_radius / repeats
    )


def arc_profile(
    radius: float, z: float, first: float, last: float, steps: int = 16
) -> list[tuple[float, float]]:
    """List points of a circle around (0, z), for ``revolve``.

    They go from angle ``first`` to ``last`` (rad, 0 = outwards, pi/2 = up).
    """
    angles = np.linspace(first, last, steps)
    return [(max(float(radius * np.cos(a)), 0.0), float(z + radius * np.sin(a))) for a in angles]
