"""Surfaces that may be objects: a depth image without its large planes and without known objects.

Everything works on a decimated grid (``grid``). ``masks`` draws a chosen cluster in full
resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64
from scipy.ndimage import find_objects

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.grid import Grid, connected_surfaces, sensor_interior, step_limit
from vos_ros.discovery.object_parts import find_parts
from vos_ros.discovery.planes import Flat, Plane, find_planes

_MIN_CELLS = 6
"""Least number of a cluster's cells."""
_MIN_FREE_OUTLINE = 0.2
"""Least share of a cluster's outline next to something behind it or something that it stands on.
Black and shiny surfaces, of which nothing is measured, may take the rest."""
_MAX_HIDDEN_OUTLINE, _MAX_TOUCHING_OUTLINE, _MAX_CUT_OUTLINE = 0.4, 0.1, 0.1
"""Largest shares of a cluster's outline next to something nearer (the rest of it is hidden), next
to a known object (it is a part of that), and at the border of what the sensor measures (the rest of
it is outside)."""
_MIN_WIDTH_CELLS = 1.2
"""Least mean width of a cluster, cells: thinner ones are rims left by planes and depth edges."""
_MIN_ASPECT = 0.2
"""Least second extent of a cluster over its first: what is longer is an edge or a furniture leg."""
_MIN_SOLIDITY = 0.5
"""Least share of its convex hull that a cluster fills: what fills less is the visible rest of a
surface behind other things."""
_MIN_RISE = 1.5
"""Tolerances of a plane above which ``_MIN_RISEN`` of a cluster's points must lie: what rises less
is the plane's own unevenness."""
_MIN_RISEN = 10
"""One of so many points must rise over every plane."""
_MIN_UNKNOWN_SHARE = 0.7
"""Least share of a surface that remains without the known objects: else it is one of them."""
_TRIMMED = 50
"""One of so many points is left out at each end where extents are measured: they are outliers."""


@dataclass(frozen=True, eq=False, slots=True)
class Cluster:
    """Hold a surface that may be an object, or a part of a known object that the map lacks."""

    cells: Bool[np.ndarray, "h w"]
    """Its cells of the grid."""
    points: Float32[np.ndarray, "P 3"]
    """Their points, camera frame, m."""
    part_of: int = 0
    """Id of the known object that it is a part of; 0 for none."""


def planes_of(
    grid: Grid,
    config: ProposalsConfig,
    guesses: Sequence[tuple[Plane, Bool[np.ndarray, "h w"]]] = (),
) -> list[Flat]:
    """Find the large planes in view (camera frame); see ``find_planes``."""
    return find_planes(
        grid.vertices, grid.normals, grid.tolerance, grid.cell_m2, config.plane_min_m2, guesses
    )


def surfaces_off_planes(
    grid: Grid, planes: Sequence[Flat], config: ProposalsConfig
) -> Int32[np.ndarray, "h w"]:
    """Number the connected surfaces off the planes, up to ``far_m``, from 1; 0 elsewhere."""
    z = grid.vertices[..., 2]
    off = (z > 0) & (z <= config.far_m)
    for plane in planes:
        off &= ~plane.cells
    return connected_surfaces(off, grid, config)


def clusters(
    grid: Grid,
    surfaces: Int32[np.ndarray, "h w"],
    planes: Sequence[Flat],
    known: Int32[np.ndarray, "h w"],
    measured: Bool[np.ndarray, "h w"],
    config: ProposalsConfig,
) -> list[Cluster]:
    """Find the surfaces that may be new objects or parts of known objects, the largest first.

    Left out is what is too small, too large, too thin, too flat or too ragged, what is hidden by
    something nearer, what is cut off where the measured depth ends, and what is mostly a known
    object. What lies next to a known object on the same surface is no object: it is a part of that
    object where no crease lies between them.

    Args:
        grid: the depth image.
        surfaces: of ``surfaces_off_planes``.
        planes: in view.
        known: per cell the id of the known object, -1 for a known one without an id, 0 for none.
        measured: cells where the sensor has ever measured anything.
        config: sizes and tolerances.
    """
    sizes = np.bincount(surfaces.ravel())
    labels = surfaces
    if known.any():
        # Masks are not exact to a cell: the next one of the same surface counts as known too.
        rim = np.asarray(
            cv2.dilate(
                np.where(known != 0, surfaces, 0).astype(np.float32), np.ones((3, 3), np.uint8)
            )
        )
        labels = connected_surfaces((surfaces > 0) & (known == 0) & (rim != surfaces), grid, config)
    boxes = find_objects(labels)
    if not boxes:
        return []
    cells = np.bincount(labels.ravel())
    outline = _outline(labels, surfaces, measured, grid, config)
    share = 1.0 / np.maximum(outline.all, 1)
    large = (
        (cells * grid.step**2 >= config.min_px)
        & (cells >= _MIN_CELLS)
        & (2.0 * cells * share >= _MIN_WIDTH_CELLS)
    )
    large[0] = False
    alone = (
        (outline.free * share >= _MIN_FREE_OUTLINE)
        & (outline.hidden * share <= _MAX_HIDDEN_OUTLINE)
        & (outline.touching * share <= _MAX_TOUCHING_OUTLINE)
        & (outline.cut * share <= _MAX_CUT_OUTLINE)
    )
    touching = large & (outline.touching * share > _MAX_TOUCHING_OUTLINE)
    parts = find_parts(touching, labels, surfaces, known, grid, config)
    found = []
    for label in np.flatnonzero(large & alone).tolist() + list(parts):
        box = boxes[label - 1]
        own = labels[box] == label
        points = grid.vertices[box][own]
        length, breadth = _extents(points)
        if not config.min_size_m <= length <= config.max_size_m or not _rises(
            points, grid.tolerance[box][own], planes
        ):
            continue
        if label not in parts:
            rest = cells[label] < _MIN_UNKNOWN_SHARE * sizes[surfaces[box][own][0]]
            if rest or breadth < _MIN_ASPECT * length or not _is_solid(own):
                continue
        mask = np.zeros(labels.shape, bool)
        mask[box] = own
        found.append(Cluster(mask, points, parts.get(label, 0)))
    return sorted(found, key=lambda c: -len(c.points))


class _Outline(NamedTuple):
    """Edges of the outline of each label, by what lies on the other side."""

    all: Int64[np.ndarray, "N"]
    """All of them."""
    free: Int64[np.ndarray, "N"]
    """Something was measured there that isn't nearer."""
    hidden: Int64[np.ndarray, "N"]
    """Something nearer was measured there."""
    touching: Int64[np.ndarray, "N"]
    """It is a known cell of the same surface."""
    cut: Int64[np.ndarray, "N"]
    """Cells (not edges) at the border of what the sensor measures."""


def _outline(
    labels: Int32[np.ndarray, "h w"],
    surfaces: Int32[np.ndarray, "h w"],
    measured: Bool[np.ndarray, "h w"],
    grid: Grid,
    config: ProposalsConfig,
) -> _Outline:
    """Count the edges of each label's outline by what lies on the other side."""
    z = grid.vertices[..., 2]
    size = int(labels.max()) + 1
    out = np.zeros((5, size), np.int64)
    lower, upper, left, right = np.s_[:-1], np.s_[1:], np.s_[:, :-1], np.s_[:, 1:]
    for own, other in ((lower, upper), (upper, lower), (left, right), (right, left)):
        edge = (labels[own] > 0) & (labels[own] != labels[other])
        label = labels[own][edge]
        nearer_m = z[own][edge] - z[other][edge]  # by so much the neighbour is nearer
        limit = step_limit(z[own][edge], grid, config)
        known_depth, nearer = z[other][edge] > 0, nearer_m > limit
        same = (surfaces[own][edge] == surfaces[other][edge]) & (np.abs(nearer_m) <= limit)
        for count, which in zip(
            out,
            (np.s_[:], known_depth & ~nearer, known_depth & nearer, known_depth & same),
            strict=False,
        ):
            count += np.bincount(label[which], minlength=size)
    out[4] = np.bincount(labels[~sensor_interior(measured)], minlength=size)
    return _Outline(*out)


def _extents(points: Float32[np.ndarray, "P 3"]) -> tuple[float, float]:
    """Measure length and breadth (m): all but 4 % of the points along the two principal axes."""
    centred = points - points.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    along = np.sort(centred @ axes[:, :0:-1], axis=0)
    rest = len(along) // _TRIMMED
    length, breadth = along[-1 - rest] - along[rest]
    return float(length), float(breadth)


def _is_solid(cells: Bool[np.ndarray, "h w"]) -> bool:
    """Test whether the cells fill enough of their convex hull."""
    rows, columns = np.nonzero(cells)
    hull = cv2.convexHull(np.column_stack([columns, rows]).astype(np.int32))
    # The hull of whole cells lies half a cell outside that of their centres.
    area = cv2.contourArea(hull) + 0.5 * cv2.arcLength(hull, closed=True) + 1.0
    return len(rows) >= _MIN_SOLIDITY * area


def _rises(
    points: Float32[np.ndarray, "P 3"], tolerance: Float32[np.ndarray, "P"], planes: Sequence[Flat]
) -> bool:
    """Test whether a tenth of the points lie clearly off every plane."""
    heights = (
        np.abs(points @ f.plane[:3].astype(np.float32) + np.float32(f.plane[3])) for f in planes
    )
    return all(
        _MIN_RISEN * np.count_nonzero(height >= _MIN_RISE * tolerance) >= len(points)
        for height in heights
    )
