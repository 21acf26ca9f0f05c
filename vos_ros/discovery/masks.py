"""Clusters of the grid drawn in full resolution."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.clusters import Cluster
from vos_ros.discovery.grid import Grid, plane_tolerance
from vos_ros.discovery.planes import Flat
from vos_ros.geometry.camera import crop_intrinsics
from vos_ros.geometry.points import vertex_map
from vos_ros.types import Intrinsics

_BAND_INSIDE_PX, _BAND_OUTSIDE_PX = 2, 3
"""Width of the ignored band inside and outside a mask's outline: the edges of depth cameras are
several pixels wide."""
_MAX_BAND_PX = 24
"""Largest width of the band outside, where planes may have cut off the foot of an object."""
_CLOSED_PX = 5
"""Side of the square with which gaps in a mask are closed."""


def full_mask(
    cluster: Cluster,
    grid: Grid,
    planes: Sequence[Flat],
    depth: Float32[np.ndarray, "H W"],
    intrinsics: Intrinsics,
    taken: Bool[np.ndarray, "H W"],
    config: ProposalsConfig,
) -> tuple[Bool[np.ndarray, "H W"], Float32[np.ndarray, "H W"]]:
    """Draw a cluster in full resolution; returns the mask and its weight per pixel.

    The weight is 0 in a band along the outline and 1 elsewhere. Outside, the band is as wide as the
    planes' tolerance may have cut off the foot of the object.

    Args:
        cluster: to draw.
        grid: in which it was found.
        planes: in view; what lies on them is not in the mask.
        depth: measured z, m, 0 where unknown.
        intrinsics: of the camera.
        taken: pixels of other objects, which are not in the mask.
        config: tolerance of the planes.
    """
    step = grid.step
    rows, columns = np.flatnonzero(cluster.cells.any(1)), np.flatnonzero(cluster.cells.any(0))
    near = slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)
    h, w = depth.shape
    y0, x0 = near[0].start * step, near[1].start * step
    y1, x1 = min(near[0].stop * step, h), min(near[1].stop * step, w)
    cells = cluster.cells[near]
    z_cells = grid.vertices[near][..., 2]
    kernel = np.ones((3, 3), np.uint8)
    low = np.asarray(cv2.erode(np.where(cells, z_cells, np.float32(np.inf)), kernel))
    high = np.asarray(cv2.dilate(np.where(cells, z_cells, np.float32(0)), kernel))

    def enlarged(image: np.ndarray) -> np.ndarray:
        """Repeat each cell for its pixels."""
        return np.repeat(np.repeat(image, step, 0), step, 1)[: y1 - y0, : x1 - x0]

    vertices = vertex_map(depth[y0:y1, x0:x1], crop_intrinsics(intrinsics, (x0, y0, x1, y1)))
    z = vertices[..., 2]
    tolerance = plane_tolerance(z, config)
    mask = (z > 0) & (z >= enlarged(low) - tolerance) & (z <= enlarged(high) + tolerance)
    for plane in (f.plane for f in planes if f.cells[near].any()):
        normal, offset = plane[:3].astype(np.float32), np.float32(plane[3])
        mask &= np.abs(vertices @ normal + offset) > tolerance
    free = ~taken[y0:y1, x0:x1]
    mask = _closed(mask & free, z)
    out, weight = np.zeros((h, w), bool), np.ones((h, w), np.float32)
    out[y0:y1, x0:x1] = mask & free
    z_median = np.median(cluster.points[:, 2])
    cut_off_px = round(float(plane_tolerance(z_median, config) / z_median) * intrinsics.fy)
    margin = min(_BAND_OUTSIDE_PX + cut_off_px, _MAX_BAND_PX)
    around = slice(max(y0 - margin, 0), y1 + margin), slice(max(x0 - margin, 0), x1 + margin)
    weight[around] = _weight(out[around], margin)
    return out, weight


def _closed(
    mask: Bool[np.ndarray, "h w"], z: Float32[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """Close small gaps and fill holes of the measurement; holes of the object stay."""
    kernel = np.ones((_CLOSED_PX, _CLOSED_PX), np.uint8)
    closed = np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.asarray(cv2.drawContours(np.zeros_like(closed), contours, -1, 1, cv2.FILLED))
    return np.asarray((closed > 0) | ((filled > 0) & (z == 0)))


def _weight(mask: Bool[np.ndarray, "h w"], outside_px: int) -> Float32[np.ndarray, "h w"]:
    """Make the weight 0 in a band along the outline, else 1.

    A mask too thin for the band keeps its own pixels.
    """
    pixels = mask.astype(np.uint8)
    core = cv2.erode(pixels, _ellipse(_BAND_INSIDE_PX), borderType=cv2.BORDER_REPLICATE) > 0
    band = (cv2.dilate(pixels, _ellipse(outside_px)) > 0) & ~(core if core.any() else mask)
    return np.where(band, np.float32(0), np.float32(1))


def _ellipse(radius: int) -> UInt8[np.ndarray, "d d"]:
    size = (2 * radius + 1, 2 * radius + 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size))
