"""The synthetic world: objects placed in the room, lit, and rendered by Open3D on the CPU.

The world stands still, so light that does not depend on the viewer (lamp, window, ambient
occlusion; soft shadows) is baked per vertex once. A frame then costs one batch of rays, table
lookups, and a second small batch along edges. Map frame: metres, z up, floor at z = 0, the table
around the z axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt16

from vos_ros.synthetic import catalogue, scenes
from vos_ros.synthetic import shapes as sh
from vos_ros.synthetic import textures as tx
from vos_ros.types import Intrinsics

MAX_RANGE_M = 12.0
"""Longest ray that hits anything."""
_LAMP_CENTRE, _LAMP_HALF_M, _LAMP_COLOR = (
    np.array([0.35, -0.25, 2.45]),
    (0.35, 0.35, 0.0),
    np.array([1.0, 0.92, 0.78]) * 1.5,
)
_WINDOW_CENTRE = np.array(catalogue.WINDOW_CENTRE_M) + np.array([0.08, 0.0, 0.0])
_WINDOW_HALF_M, _WINDOW_COLOR = (0.0, 0.75, 0.5), np.array([0.78, 0.89, 1.0]) * 3.2
_AMBIENT = np.array([0.36, 0.35, 0.345])
_AMBIENT_REACH_M = 0.5
"""Longest distance at which a surface hides ambient light from another."""
_SAMPLES = 36
"""Rays per vertex and light: 6 x 6 over the light's area."""
_EDGE_CONTRAST = 0.05
"""Change of tone between neighbouring pixels from which more rays are cast."""


@dataclass(frozen=True, eq=False, slots=True)
class WorldObject:
    """Describe one object of the world."""

    id: int
    """Its id, 1..N."""
    name: str
    """Its name in the catalogue."""
    class_name: str
    """Its class."""
    class_id: int
    """Number of the class, >= 1."""
    alike_group: str
    """Shared by objects of equal appearance; "" for others."""
    T_map_object: Float64[np.ndarray, "4 4"]
    """Its pose."""


@dataclass(frozen=True, eq=False, slots=True)
class View:
    """Hold the image of a perfect camera."""

    color: Float32[np.ndarray, "H W 3"]
    """Colour in linear light."""
    depth: Float32[np.ndarray, "H W"]
    """z, m; 0 where no ray hits."""
    ids: UInt16[np.ndarray, "H W"]
    """Object of each pixel; 0 for the room."""
    cosine: Float32[np.ndarray, "H W"]
    """Cosine of the angle between ray and surface normal."""


class World:
    """Build the scene that a seed names, as ``scenes`` places it.

    ``objects`` are in the order of their ids, 1..N; they never move. Those whose ids are in
    ``without`` are invisible; the others keep their ids.

    Raises ImportError: Open3D is missing.
    """

    def __init__(
        self, seed: int, scene: str = "table", without: frozenset[int] = frozenset()
    ) -> None:
        try:
            import open3d
        except ImportError as e:
            raise ImportError(
                "the synthetic world needs Open3D to render, which is not installed:"
                " pip install open3d-cpu"
            ) from e
        rng = np.random.default_rng((seed, 1))
        palette = catalogue.Palette(rng)
        room = sh.merge(catalogue.room(rng, palette))
        items, poses = scenes.arrange(scene, seed, rng, catalogue.items(rng, palette))
        classes = sorted({item.class_name for item in items})
        self.objects = tuple(
            WorldObject(
                n,
                item.name,
                item.class_name,
                classes.index(item.class_name) + 1,
                item.alike_group,
                T,
            )
            for n, (item, T) in enumerate(zip(items, poses, strict=True), start=1)
        )
        shown = [o.id for o in self.objects if o.id not in without]
        parts = [room, *(sh.move(items[i - 1].shape, poses[i - 1]) for i in shown)]
        whole = sh.merge(parts)
        self._atlas = tx.Atlas(palette.images)
        self._triangles = whole.triangles
        self._texture = whole.texture
        self._ids = np.repeat([0, *shown], [len(p.triangles) for p in parts]).astype(np.uint16)
        self._highlight = np.array([0.04, *(item.highlight for item in items)], np.float32)
        self._o3d: Any = open3d
        self._scene = open3d.t.geometry.RaycastingScene()
        self._scene.add_triangles(
            open3d.core.Tensor(whole.vertices.astype(np.float32)),
            open3d.core.Tensor(whole.triangles.astype(np.uint32)),
        )
        light, lamp = self._bake(whole)
        # Per vertex: normal 0-2, uv 3-4, repeat 5, irradiance 6-8, share of the lamp seen 9.
        columns = [whole.normals, whole.uv, whole.repeat_m[:, None], light, lamp[:, None]]
        self._vertex = np.concatenate(columns, 1).astype(np.float32)

    def _occluded(
        self,
        origins: Float64[np.ndarray, "P 3"],
        directions: Float64[np.ndarray, "P 3"],
        far: float,
    ) -> Bool[np.ndarray, "P"]:
        """Test whether anything is hit within ``far`` times the direction's length."""
        rays = self._o3d.core.Tensor(np.concatenate([origins, directions], 1).astype(np.float32))
        return np.asarray(self._scene.test_occlusions(rays, tnear=0.0, tfar=far).numpy())

    def _bake(self, whole: sh.Shape) -> tuple[Float64[np.ndarray, "V 3"], Float64[np.ndarray, "V"]]:
        """Compute irradiance (linear) and the visible share of the lamp, per vertex."""
        rng = np.random.default_rng(7)
        origins = whole.vertices + 2e-3 * whole.normals
        light = np.zeros_like(origins)
        shares = []
        for centre, half, color in (
            (_LAMP_CENTRE, _LAMP_HALF_M, _LAMP_COLOR),
            (_WINDOW_CENTRE, _WINDOW_HALF_M, _WINDOW_COLOR),
        ):
            facing = -np.eye(3)[2] if half[2] == 0 else np.eye(3)[0]
            share, flux = np.zeros(len(origins)), np.zeros(len(origins))
            for k in range(_SAMPLES):
                a, b = ((k % 6 + rng.random()) / 3 - 1, (k // 6 + rng.random()) / 3 - 1)
                point = centre + np.array(half) * np.array(
                    [a, b, 0.0] if half[2] == 0 else [0.0, a, b]
                )
                ray = point - origins
                square = (ray**2).sum(1)
                along = (ray * whole.normals).sum(1) / np.sqrt(square)
                leaving = -(ray @ facing) / np.sqrt(square)
                seen = np.zeros(len(origins), bool)
                lit = np.flatnonzero((along > 0) & (leaving > 0))
                seen[lit] = ~self._occluded(origins[lit], ray[lit], 0.999)
                share += seen / _SAMPLES
                flux += seen * along * leaving / np.maximum(square, 0.3) / _SAMPLES
            light += flux[:, None] * color * 2.0
            shares.append(share)
        free = np.zeros(len(origins))
        for _ in range(_SAMPLES):  # cosine-weighted: normal plus a point of the unit sphere
            sphere = rng.normal(size=origins.shape)
            direction = whole.normals + 0.98 * sphere / np.linalg.norm(
                sphere, axis=1, keepdims=True
            )
            free += ~self._occluded(
                origins,
                direction / np.linalg.norm(direction, axis=1, keepdims=True),
                _AMBIENT_REACH_M,
            )
        return light + _AMBIENT * (0.12 + 0.88 * (free / _SAMPLES))[:, None], shares[0]

    def _shade(
        self,
        origin: Float64[np.ndarray, "3"],
        directions: Float32[np.ndarray, "P 3"],
        pixel_rad: float,
    ) -> tuple[
        Float32[np.ndarray, "P 3"],
        Float32[np.ndarray, "P"],
        UInt16[np.ndarray, "P"],
        Float32[np.ndarray, "P"],
    ]:
        """Cast rays from one origin: colour, ray parameter (0 = no hit), id and cosine of each."""
        start = np.broadcast_to(origin.astype(np.float32), directions.shape)
        hit = self._scene.cast_rays(self._o3d.core.Tensor(np.concatenate([start, directions], 1)))
        t = hit["t_hit"].numpy()
        valid = np.isfinite(t) & (t < MAX_RANGE_M)
        face = np.where(valid, hit["primitive_ids"].numpy(), 0).astype(np.int64)
        b = hit["primitive_uvs"].numpy()
        corners = self._triangles[face]
        v = (
            self._vertex[corners[:, 0]] * (1 - b[:, :1] - b[:, 1:])
            + self._vertex[corners[:, 1]] * b[:, :1]
            + self._vertex[corners[:, 2]] * b[:, 1:]
        )
        length = np.linalg.norm(directions, axis=1)
        eye = -directions / length[:, None]
        normal = v[:, :3] / np.maximum(np.linalg.norm(v[:, :3], axis=1, keepdims=True), 1e-6)
        signed = (normal * eye).sum(1)
        cosine = np.abs(signed)
        footprint = (
            np.where(valid, t * length, 0) * pixel_rad / np.sqrt(np.maximum(cosine, 0.05)) / v[:, 5]
        )
        albedo = self._atlas.sample(self._texture[corners[:, 0]], v[:, 3:5], footprint)
        half = (
            eye
            + (_LAMP_CENTRE - (origin + np.where(valid, t, 0)[:, None] * directions)).astype(
                np.float32
            )
            / 2
        )
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        shine = (
            np.maximum((normal * half).sum(1) * np.sign(signed), 0) ** 60
            * v[:, 9]
            * self._highlight[self._ids[face]]
        )
        color = (albedo * v[:, 6:9] + shine[:, None]) * valid[:, None]
        ids = np.where(valid, self._ids[face], 0)
        return (
            color.astype(np.float32),
            np.where(valid, t, 0).astype(np.float32),
            ids.astype(np.uint16),
            np.where(valid, cosine, 0).astype(np.float32),
        )

    def render(
        self,
        T_map_camera: Float64[np.ndarray, "4 4"],
        intrinsics: Intrinsics,
        *,
        smooth: bool = True,
    ) -> View:
        """Render the view of a rectified pinhole camera.

        ``smooth`` averages five rays per pixel along edges (colour only).
        """
        R, origin = T_map_camera[:3, :3].astype(np.float32), T_map_camera[:3, 3]
        rays = _pixel_rays(
            intrinsics.fx,
            intrinsics.fy,
            intrinsics.cx,
            intrinsics.cy,
            intrinsics.width,
            intrinsics.height,
        )
        size = (intrinsics.height, intrinsics.width)
        pixel_rad = 1.0 / intrinsics.fx
        color, t, ids, cosine = self._shade(origin, rays @ R.T, pixel_rad)
        image = color.reshape(*size, 3)
        if smooth:
            tone = np.sqrt(np.minimum(image, 1.0))
            contrast = sum(
                np.abs(cv2.Sobel(tone, cv2.CV_32F, dx, 1 - dx, ksize=3)).max(-1) / 4
                for dx in (0, 1)
            )
            rows = np.flatnonzero(contrast > _EDGE_CONTRAST)
            step = np.array([1 / intrinsics.fx, 1 / intrinsics.fy, 0], np.float32)
            more = [
                self._shade(
                    origin,
                    (rays[rows] + step * np.array([dx, dy, 0], np.float32)) @ R.T,
                    pixel_rad / 2,
                )[0]
                for dx, dy in ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375))
            ]
            image.reshape(-1, 3)[rows] = (color[rows] + sum(more)) / 5
        return View(
            image, t.reshape(size), ids.reshape(size), cosine.reshape(size)
        )  # rays have z = 1, so t is z


@lru_cache(maxsize=4)
def _pixel_rays(
    fx: float, fy: float, cx: float, cy: float, width: int, height: int
) -> Float32[np.ndarray, "P 3"]:
    """Compute the direction of every pixel in the camera frame, z = 1, row by row."""
    x, y = np.meshgrid((np.arange(width) - cx) / fx, (np.arange(height) - cy) / fy)
    return np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3).astype(np.float32)
