"""What stands in a depth image: the pieces that remain when the large planes and all that is known are taken out.

Everything works on a decimated grid of cells, one reading each; only the mask of a chosen piece is drawn in full resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from scipy.ndimage import find_objects
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.planes import Flat, Plane, find_planes, smooth_normals
from vos_ros.geometry.camera import crop_intrinsics
from vos_ros.geometry.points import vertex_map
from vos_ros.geometry.uncertainty import depth_step_limit, depth_tolerance
from vos_ros.types import Intrinsics

_COLUMNS = 160
"""The depth is read on a grid of about this many columns."""
_MAX_SLOPE = 3.0
"""Neighbouring cells are one surface where the range changes by at most so many times their lateral distance (70 degrees)."""
_FULL, _EMPTY = 0.5, 0.1
"""A line of cells is the border of the measured area where so large a share of it is measured, and less than so small a share of
every line beyond."""
_MIN_CELLS = 6
_MIN_OPEN = 0.2
"""Least share of a piece's outline that must be beside something that lies behind it or that it stands on. Black and shiny surfaces, of
which nothing is measured, may take the rest."""
_MAX_HIDDEN, _MAX_TOUCHING, _MAX_CUT = 0.4, 0.1, 0.1
"""Largest shares of a piece's outline that may run along something nearer (the rest of it is hidden), along a known object (it is a part of
that), and along the border of what was measured (the rest of it is outside)."""
_MIN_WIDTH = 1.2
"""Cells: pieces that are thinner on the average are rims left by planes and by the sensor's edges."""
_MIN_BREADTH = 0.2
"""Second extent of a piece in its first: what is longer is an edge or a leg of furniture."""
_MIN_SOLID = 0.5
"""Share of its convex outline that a piece fills: what fills less is what other things leave to be seen of a surface."""
_MIN_RISE = 1.5
"""Tolerances by which a tenth of a piece must rise over every plane; what rises less is the plane's own unevenness."""
_BACK, _FORTH = 1, 3
"""Cells before and behind an edge towards something known, at which the surface's normals are compared: the rim lies between."""
_MAX_CREASE = 0.5
"""Largest share of the edges between a part and its object that may be creases: two things that touch meet in a crease."""
_CREASE = 0.87
"""Cosine of the normals on both sides of a crease: 30 degrees, and hollow."""
_OF_ONE = 0.8
"""Least share of a part's edges towards known things that must be towards its object."""
_WITHIN = 0.7
"""Least share of an object's cells off the planes that must lie in the piece of which a part is to be its own."""
_MIN_PART, _MAX_PART = 0.2, 3.0
"""Least and largest size of a part, in that of what is known of its object there: less is what masks and poses err by, and of more the
known object is rather a part itself."""
_TOLD_APART_M = 0.06
"""Parts are told where the depth separates surfaces that are so far apart: farther away it runs together what only stands close by."""
_MIN_LEFT = 0.7
"""Share of a piece that must be left when the known objects are taken out of it, else it is one of them."""
_BAND_PX = (2, 3)
"""Half-width of the doubtful band inside and outside a mask's outline: the edges of depth cameras are several pixels wide."""
_MAX_BAND_PX = 24


@dataclass(frozen=True, eq=False, slots=True)
class Grid:
    """A depth image's cells, ``step`` px apart each way, the first at ``step // 2``: points (m, camera frame; 0 0 0 unknown), normals
    (0 0 0 none), and per cell the distance (m) within which a reading lies on a plane and the area (m^2) that it covers face to face.
    ``pitch`` is the distance of neighbouring cells in m per m of range."""

    step: int
    pitch: float
    vertices: Float32[np.ndarray, "h w 3"]
    normals: Float32[np.ndarray, "h w 3"]
    tolerance: Float32[np.ndarray, "h w"]
    cell_m2: Float32[np.ndarray, "h w"]

    def sample(self, image: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "h w"]:
        """A full-resolution image at the cells."""
        return image[self.step // 2 :: self.step, self.step // 2 :: self.step]


@dataclass(frozen=True, eq=False, slots=True)
class Cluster:
    """A piece that stands by itself, or (``part_of`` its id) what a known object has not got of itself: its cells (a mask of the grid) and
    their points (m, camera frame)."""

    cells: Bool[np.ndarray, "h w"]
    points: Float32[np.ndarray, "P 3"]
    part_of: int = 0


def grid_of(
    depth: Float32[np.ndarray, "H W"], intrinsics: Intrinsics, config: ProposalsConfig
) -> Grid:
    """The cells of a depth image (m; 0, NaN and infinite are unknown)."""
    step = max(1, round(depth.shape[1] / _COLUMNS))
    vertices = vertex_map(depth, intrinsics, step=step)
    z = vertices[..., 2]
    z2 = z * z
    return Grid(
        step,
        2.0 * step / (intrinsics.fx + intrinsics.fy),
        vertices,
        smooth_normals(vertices),
        tolerance_at(z, config),
        z2 * np.float32(step * step / (intrinsics.fx * intrinsics.fy)),
    )


def tolerance_at(
    z: Float32[np.ndarray, "*S"], config: ProposalsConfig
) -> Float32[np.ndarray, "*S"]:
    """Distance (m) within which a reading at depth ``z`` (m) lies on a plane."""
    return depth_tolerance(z, config.plane_tolerance_m, config.plane_tolerance_per_m2)


def planes_of(
    grid: Grid,
    config: ProposalsConfig,
    guesses: Sequence[tuple[Plane, Bool[np.ndarray, "h w"]]] = (),
) -> list[Flat]:
    """The large planes in view (camera frame); see ``find_planes``."""
    return find_planes(
        grid.vertices, grid.normals, grid.tolerance, grid.cell_m2, config.plane_min_m2, guesses
    )


def pieces(grid: Grid, planes: Sequence[Flat], config: ProposalsConfig) -> Int32[np.ndarray, "h w"]:
    """All that stands off the planes, nearer than ``far_m``: each connected surface a number from 1, 0 elsewhere. Neighbouring cells
    are connected where no jump of the range separates them."""
    z = grid.vertices[..., 2]
    off = (z > 0) & (z <= config.far_m)
    for plane in planes:
        off &= ~plane.cells
    return _connected(off, grid, config)


def clusters(
    grid: Grid,
    labels: Int32[np.ndarray, "h w"],
    planes: Sequence[Flat],
    known: Int32[np.ndarray, "h w"],
    reach: Bool[np.ndarray, "h w"],
    config: ProposalsConfig,
) -> list[Cluster]:
    """The pieces that may be objects which nobody knows yet, and the parts that known objects have besides, the largest first.

    ``labels`` as of ``pieces``; ``known`` says which known object a cell is: its id, -1 one without an id, 0 none; ``reach`` marks the
    cells where the sensor ever measured anything. Left out is what is too small, too large, too thin, too flat or too ragged, and what is
    hidden by something nearer, cut off where the measured depth ends, or mostly a known object. What lies beside a known object on the
    same surface is a part of that, where no crease lies between them, and no object in any case.
    """
    whole = np.bincount(labels.ravel())
    origin = labels
    if known.any():
        # and a cell around them, of the same piece: masks are not that exact
        rim = np.asarray(
            cv2.dilate(
                np.where(known != 0, labels, 0).astype(np.float32), np.ones((3, 3), np.uint8)
            )
        )
        labels = _connected((labels > 0) & (known == 0) & (rim != labels), grid, config)
    boxes = find_objects(labels)
    if not boxes:
        return []
    cells = np.bincount(labels.ravel())
    outline, open_, hidden, touching, cut = _outline(labels, origin, reach, grid, config)
    share = 1.0 / np.maximum(outline, 1)
    large = (
        (cells * grid.step**2 >= config.min_px)
        & (cells >= _MIN_CELLS)
        & (2.0 * cells * share >= _MIN_WIDTH)
    )
    large[0] = False
    alone = (
        (open_ * share >= _MIN_OPEN)
        & (hidden * share <= _MAX_HIDDEN)
        & (touching * share <= _MAX_TOUCHING)
        & (cut * share <= _MAX_CUT)
    )
    parts = _parts(large & (touching * share > _MAX_TOUCHING), labels, origin, known, grid, config)
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
            rest = cells[label] < _MIN_LEFT * whole[origin[box][own][0]]
            if rest or breadth < _MIN_BREADTH * length or not _solid(own):
                continue
        mask = np.zeros(labels.shape, bool)
        mask[box] = own
        found.append(Cluster(mask, points, parts.get(label, 0)))
    return sorted(found, key=lambda c: -len(c.points))


def _parts(
    candidates: Bool[np.ndarray, "N"],
    labels: Int32[np.ndarray, "h w"],
    origin: Int32[np.ndarray, "h w"],
    known: Int32[np.ndarray, "h w"],
    grid: Grid,
    config: ProposalsConfig,
) -> dict[int, int]:
    """Of the candidates (by label) those that are more of a known object, and its id: nothing else touches them, and no crease is between.

    Convexity as in Stein et al. 2014 (LCCP): where two things touch, the surface is hollow."""
    if not candidates.any():
        return {}
    h, w = labels.shape
    pad = _FORTH
    images = {
        "labels": labels,
        "known": known,
        "origin": origin,
        "points": grid.vertices,
        "normals": grid.normals,
    }
    padded = {
        name: np.pad(a, [(pad, pad), (pad, pad)] + [(0, 0)] * (a.ndim - 2))
        for name, a in images.items()
    }

    def at(name: str, dy: int, dx: int) -> np.ndarray:
        return padded[name][pad + dy : pad + dy + h, pad + dx : pad + dx + w]

    of, whose, crease = [], [], []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        beside = np.zeros((h, w), np.int32)
        for k in range(_FORTH, 0, -1):  # the nearest counts
            there = (at("known", k * dy, k * dx) != 0) & (at("origin", k * dy, k * dx) == origin)
            beside = np.where(there, at("known", k * dy, k * dx), beside)
        edge = (
            candidates[labels]
            & (at("labels", dy, dx) != labels)
            & (at("origin", dy, dx) == origin)
            & (beside != 0)
        )
        back, forth = (-_BACK * dy, -_BACK * dx), (_FORTH * dy, _FORTH * dx)
        n, m = at("normals", *back)[edge], at("normals", *forth)[edge]
        across = at("points", *forth)[edge] - at("points", *back)[edge]
        bent = np.einsum("ki,ki->k", n, m) < _CREASE
        hollow = np.einsum("ki,ki->k", across, m - n) < 0
        of.append(labels[edge])
        whose.append(beside[edge])
        crease.append(bent & hollow & n.any(1) & m.any(1) & (at("origin", *forth) == origin)[edge])
    label, object_id, creased = (np.concatenate(a) for a in (of, whose, crease))
    out = {}
    for part in np.flatnonzero(candidates).tolist():
        mine = label == part
        ids, counts = np.unique(object_id[mine], return_counts=True)
        if (
            not len(ids)
            or (best := int(ids[counts.argmax()])) <= 0
            or counts.max() < _OF_ONE * counts.sum()
        ):
            continue
        piece = origin[labels == part][0]
        own = (known == best) & (origin > 0)
        within = int(np.count_nonzero(own & (origin == piece)))
        ranges = grid.vertices[labels == part][:, 2]
        if (
            within >= _WITHIN * np.count_nonzero(own)
            and _MIN_PART * within <= len(ranges) <= _MAX_PART * within
            and creased[mine].mean() <= _MAX_CREASE
            and _jump(np.median(ranges), grid, config) <= _TOLD_APART_M
        ):
            out[part] = best
    return out


def inside(reach: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The cells off the border of what the sensor sees, which may be smaller than the image: a line of cells most of which were ever
    measured, with hardly any beyond it."""
    out = np.ones(reach.shape, bool)
    for axis, lines in ((1, out), (0, out.T)):
        share = reach.mean(axis)
        first, last = _border(share), len(share) - 1 - _border(share[::-1])
        lines[: first + 1] = lines[last:] = False
    return out


def _border(share: Float64[np.ndarray, "L"]) -> int:
    """The border's line, from the start of the lines, by the share of each that was measured; 0 where it is the image's."""
    full = int((share >= _FULL).argmax())
    return full if full and share[:full].max() < _EMPTY else 0


def full_mask(
    cluster: Cluster,
    grid: Grid,
    planes: Sequence[Flat],
    depth: Float32[np.ndarray, "H W"],
    intrinsics: Intrinsics,
    taken: Bool[np.ndarray, "H W"],
    config: ProposalsConfig,
) -> tuple[Bool[np.ndarray, "H W"], Float32[np.ndarray, "H W"]]:
    """A cluster in full resolution, and how much each pixel of it can be trusted: 0 in a band along the outline, which is as wide outside
    as the planes' tolerance may have cut off the foot of the object, else 1. Pixels ``taken`` by other objects are not in the mask."""
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

    def up(image: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(image, step, 0), step, 1)[: y1 - y0, : x1 - x0]

    z = vertex_map(depth[y0:y1, x0:x1], crop_intrinsics(intrinsics, (x0, y0, x1, y1)))
    tolerance = tolerance_at(z[..., 2], config)
    mask = (
        (z[..., 2] > 0) & (z[..., 2] >= up(low) - tolerance) & (z[..., 2] <= up(high) + tolerance)
    )
    for plane in (f.plane for f in planes if f.cells[near].any()):
        mask &= np.abs(z @ plane[:3].astype(np.float32) + np.float32(plane[3])) > tolerance
    free = ~taken[y0:y1, x0:x1]
    mask = np.asarray(
        cv2.morphologyEx((mask & free).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    )
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.asarray(cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED))
    mask = (mask > 0) | (
        (filled > 0) & (z[..., 2] == 0)
    )  # holes of the measurement, not those of the object
    out, weight = np.zeros((h, w), bool), np.ones((h, w), np.float32)
    out[y0:y1, x0:x1] = mask & free
    range_m = np.median(cluster.points[:, 2])
    margin = min(
        _BAND_PX[1] + round(float(tolerance_at(range_m, config) / range_m) * intrinsics.fy),
        _MAX_BAND_PX,
    )
    around = slice(max(y0 - margin, 0), y1 + margin), slice(max(x0 - margin, 0), x1 + margin)
    weight[around] = _trust(out[around], margin)
    return out, weight


def _jump(
    z: Float32[np.ndarray, "*S"], grid: Grid, config: ProposalsConfig
) -> Float32[np.ndarray, "*S"]:
    """Change of range (m) from one cell to the next at range ``z`` that two surfaces explain better than one."""
    return depth_step_limit(z, _MAX_SLOPE * grid.pitch, config.plane_tolerance_per_m2)


def _connected(
    mask: Bool[np.ndarray, "h w"], grid: Grid, config: ProposalsConfig
) -> Int32[np.ndarray, "h w"]:
    """Numbers the connected surfaces of the mask's cells from 1."""
    z = grid.vertices[..., 2]
    number = np.full(mask.shape, -1)
    count = int(np.count_nonzero(mask))
    number[mask] = np.arange(count)
    edges = []
    for a, b in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        joined = (
            mask[a] & mask[b] & (np.abs(z[a] - z[b]) <= _jump(np.minimum(z[a], z[b]), grid, config))
        )
        edges.append((number[a][joined], number[b][joined]))
    i, j = (np.concatenate(e) for e in zip(*edges, strict=True))
    _, component = connected_components(
        coo_array((np.ones(len(i), np.int8), (i, j)), shape=(count, count)), directed=False
    )
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = component + 1
    return labels


def _outline(
    labels: Int32[np.ndarray, "h w"],
    origin: Int32[np.ndarray, "h w"],
    reach: Bool[np.ndarray, "h w"],
    grid: Grid,
    config: ProposalsConfig,
) -> Int64[np.ndarray, "5 N"]:
    """Per label the edges of its outline: all, those to something measured that isn't nearer, those to something nearer, those to what
    was taken out of the same piece (``origin``); and its cells at the border of the measured area."""
    z = grid.vertices[..., 2]
    size = int(labels.max()) + 1
    out = np.zeros((5, size), np.int64)
    lower, upper, left, right = np.s_[:-1], np.s_[1:], np.s_[:, :-1], np.s_[:, 1:]
    for own, other in ((lower, upper), (upper, lower), (left, right), (right, left)):
        edge = (labels[own] > 0) & (labels[own] != labels[other])
        of = labels[own][edge]
        ahead = z[own][edge] - z[other][edge]  # m by which the neighbour is nearer
        jump = _jump(z[own][edge], grid, config)
        seen, nearer = z[other][edge] > 0, ahead > jump
        taken = (origin[own][edge] == origin[other][edge]) & (np.abs(ahead) <= jump)
        for count, which in zip(
            out, (np.s_[:], seen & ~nearer, seen & nearer, seen & taken), strict=False
        ):
            count += np.bincount(of[which], minlength=size)
    out[4] = np.bincount(labels[~inside(reach)], minlength=size)
    return out


def _extents(points: Float32[np.ndarray, "P 3"]) -> tuple[float, float]:
    """Length and breadth (m): where all but 4 % of the points lie along their first and second principal axis."""
    centred = points - points.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    along = np.sort(centred @ axes[:, :0:-1], axis=0)
    rest = len(along) // 50
    length, breadth = along[-1 - rest] - along[rest]
    return float(length), float(breadth)


def _solid(cells: Bool[np.ndarray, "h w"]) -> bool:
    """The cells fill enough of their convex outline."""
    rows, columns = np.nonzero(cells)
    hull = cv2.convexHull(np.column_stack([columns, rows]).astype(np.int32))
    # the outline of whole cells, half a cell outside that of their middles
    area = cv2.contourArea(hull) + 0.5 * cv2.arcLength(hull, closed=True) + 1.0
    return len(rows) >= _MIN_SOLID * area


def _rises(
    points: Float32[np.ndarray, "P 3"], tolerance: Float32[np.ndarray, "P"], planes: Sequence[Flat]
) -> bool:
    """A tenth of the points lie clearly off every plane."""
    heights = (
        np.abs(points @ f.plane[:3].astype(np.float32) + np.float32(f.plane[3])) for f in planes
    )
    return all(
        10 * np.count_nonzero(height >= _MIN_RISE * tolerance) >= len(points) for height in heights
    )


def _trust(mask: Bool[np.ndarray, "h w"], outside_px: int) -> Float32[np.ndarray, "h w"]:
    """0 in the doubtful band along the outline, else 1. A mask too thin for the band keeps its own pixels."""
    pixels = mask.astype(np.uint8)
    core = cv2.erode(pixels, _ellipse(_BAND_PX[0]), borderType=cv2.BORDER_REPLICATE) > 0
    band = (cv2.dilate(pixels, _ellipse(outside_px)) > 0) & ~(core if core.any() else mask)
    return np.where(band, np.float32(0), np.float32(1))


def _ellipse(radius: int) -> np.ndarray:
    return np.asarray(
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    )
