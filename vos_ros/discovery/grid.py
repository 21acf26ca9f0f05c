"""A depth image on a decimated grid: one measurement per cell, with its normal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.planes import smooth_normals
from vos_ros.geometry.points import vertex_map
from vos_ros.geometry.uncertainty import depth_step_limit, depth_tolerance
from vos_ros.types import Intrinsics

Range = TypeVar("Range", float, Float[np.ndarray, "..."])

_GRID_COLUMNS = 160
"""About how many cells a row has: as many as the alignment with the map uses."""
_MAX_SLOPE = 3.0
"""Largest change of depth between neighbouring cells of one surface, in their lateral distances: a
surface seen at 70 degrees."""
_MIN_INSIDE_SHARE, _MAX_OUTSIDE_SHARE = 0.5, 0.1
"""A line of cells is the border of what the sensor measures where at least the first share of it
was measured, and less than the second share of every line beyond."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Grid:
    """Hold a depth image's cells, the first at pixel ``step // 2`` each way. Camera frame."""

    step: int
    """Distance of neighbouring cells, px."""
    pitch: float
    """Distance of neighbouring cells, m per m of depth."""
    vertices: Float32[np.ndarray, "h w 3"]
    """Measured points, m; 0 0 0 where unknown."""
    normals: Float32[np.ndarray, "h w 3"]
    """Unit normals; 0 0 0 where there is none."""
    tolerance: Float32[np.ndarray, "h w"]
    """Largest distance, m, of a measurement from the plane that it lies on."""
    cell_m2: Float32[np.ndarray, "h w"]
    """Area, m^2, that a cell covers of a surface that faces the camera."""

    def sample(self, image: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "h w"]:
        """Take the pixels of a full-resolution image that are cells."""
        return image[self.step // 2 :: self.step, self.step // 2 :: self.step]


def grid_of(
    depth: Float32[np.ndarray, "H W"], intrinsics: Intrinsics, config: ProposalsConfig
) -> Grid:
    """Decimate a depth image (m; 0, NaN and infinite are unknown) to a grid."""
    step = max(1, round(depth.shape[1] / _GRID_COLUMNS))
    vertices = vertex_map(depth, intrinsics, step=step)
    z = vertices[..., 2]
    z2 = z * z
    return Grid(
        step=step,
        pitch=2.0 * step / (intrinsics.fx + intrinsics.fy),
        vertices=vertices,
        normals=smooth_normals(vertices),
        tolerance=plane_tolerance(z, config),
        cell_m2=z2 * np.float32(step * step / (intrinsics.fx * intrinsics.fy)),
    )


def plane_tolerance(z: Range, config: ProposalsConfig) -> Range:
    """Compute the largest distance (m) of a measurement at depth ``z`` (m) from its plane."""
    return depth_tolerance(z, config.plane_tolerance_m, config.plane_tolerance_per_m2)


def step_limit(z: Range, grid: Grid, config: ProposalsConfig) -> Range:
    """Compute the largest step of depth (m) between neighbouring cells of one surface at ``z``."""
    return depth_step_limit(z, _MAX_SLOPE * grid.pitch, config.plane_tolerance_per_m2)


def connected_surfaces(
    mask: Bool[np.ndarray, "h w"], grid: Grid, config: ProposalsConfig
) -> Int32[np.ndarray, "h w"]:
    """Number the connected surfaces of the mask's cells from 1; 0 off the mask.

    Neighbouring cells are connected where no step of depth separates them.
    """
    z = grid.vertices[..., 2]
    number = np.full(mask.shape, -1)
    count = int(np.count_nonzero(mask))
    number[mask] = np.arange(count)
    edges = []
    for a, b in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        limit = step_limit(np.minimum(z[a], z[b]), grid, config)
        joined = mask[a] & mask[b] & (np.abs(z[a] - z[b]) <= limit)
        edges.append((number[a][joined], number[b][joined]))
    i, j = (np.concatenate(e) for e in zip(*edges, strict=True))
    _, component = connected_components(
        coo_array((np.ones(len(i), np.int8), (i, j)), shape=(count, count)), directed=False
    )
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = component + 1
    return labels


def sensor_interior(measured: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Select the cells that are not on the border of what the sensor measures, or beyond it.

    That area may be smaller than the image. ``measured`` marks the cells where the sensor has ever
    measured anything. Its border is a line of cells most of which were measured, with hardly any
    beyond it.
    """
    out = np.ones(measured.shape, bool)
    for axis, lines in ((1, out), (0, out.T)):
        share = measured.mean(axis)
        first, last = _border_line(share), len(share) - 1 - _border_line(share[::-1])
        lines[: first + 1] = lines[last:] = False
    return out


def _border_line(share: Float64[np.ndarray, "L"]) -> int:
    """Find the border from the start of the lines, by the measured share of each.

    0 where it is the image's.
    """
    full = int((share >= _MIN_INSIDE_SHARE).argmax())
    return full if full and share[:full].max() < _MAX_OUTSIDE_SHARE else 0
