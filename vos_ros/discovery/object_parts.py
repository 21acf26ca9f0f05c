"""Surfaces that are a part of a known object which the map lacks.

Convexity as in Stein et al. 2014 (LCCP): where two things touch, the surface has a concave crease.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int32

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.grid import Grid, step_limit

_BEFORE, _BEHIND = 1, 3
"""Cells before and behind an edge to something known at which normals are compared: the rim that is
widened by a cell lies between."""
_MAX_CREASED = 0.5
"""Largest share of the edges between a part and its object that may be creases."""
_MIN_SMOOTH_COSINE = 0.87
"""Cosine of the normals on both sides under which an edge is a crease, if concave: 30 degrees."""
_MIN_OWN_EDGES = 0.8
"""Least share of a part's edges to known objects that must be to its own."""
_MIN_ON_SURFACE = 0.7
"""Least share of an object's cells off the planes that must lie on the surface of its part."""
_MIN_SIZE, _MAX_SIZE = 0.2, 3.0
"""Least and largest size of a part over that of the known rest on the surface: less is within the
errors of masks and poses, and of more the known object is rather a part itself."""
_MAX_STEP_M = 0.06
"""Largest step limit at the depth of a part: farther away, surfaces that only stand close to one
another are connected."""


def find_parts(
    candidates: Bool[np.ndarray, "N"],
    labels: Int32[np.ndarray, "h w"],
    surfaces: Int32[np.ndarray, "h w"],
    known: Int32[np.ndarray, "h w"],
    grid: Grid,
    config: ProposalsConfig,
) -> dict[int, int]:
    """Find the labels that are a part of a known object: the id of the object by label.

    No other object touches them, and no crease lies between.

    Args:
        candidates: by label, which to test.
        labels: connected unknown cells, 0 for none.
        surfaces: connected cells off the planes, known ones included.
        known: per cell the id of the known object, -1 for a known one without an id, 0 for none.
        grid: the depth image.
        config: tolerance of depth.
    """
    if not candidates.any():
        return {}
    label, object_id, creased = _edges(candidates, labels, surfaces, known, grid)
    out = {}
    for part in np.flatnonzero(candidates).tolist():
        own_edges = label == part
        ids, counts = np.unique(object_id[own_edges], return_counts=True)
        if (
            not len(ids)
            or (best := int(ids[counts.argmax()])) <= 0
            or counts.max() < _MIN_OWN_EDGES * counts.sum()
        ):
            continue
        surface = surfaces[labels == part][0]
        own = (known == best) & (surfaces > 0)
        on_surface = int(np.count_nonzero(own & (surfaces == surface)))
        depths = grid.vertices[labels == part][:, 2]
        if (
            on_surface >= _MIN_ON_SURFACE * np.count_nonzero(own)
            and _MIN_SIZE * on_surface <= len(depths) <= _MAX_SIZE * on_surface
            and creased[own_edges].mean() <= _MAX_CREASED
            and step_limit(np.median(depths), grid, config) <= _MAX_STEP_M
        ):
            out[part] = best
    return out


def _edges(
    candidates: Bool[np.ndarray, "N"],
    labels: Int32[np.ndarray, "h w"],
    surfaces: Int32[np.ndarray, "h w"],
    known: Int32[np.ndarray, "h w"],
    grid: Grid,
) -> tuple[Int32[np.ndarray, "E"], Int32[np.ndarray, "E"], Bool[np.ndarray, "E"]]:
    """List the edges of the candidates to known cells of the same surface.

    Returns the label, the id of the known object, and whether there is a crease.
    """
    h, w = labels.shape
    pad = _BEHIND
    images = {
        "labels": labels,
        "known": known,
        "surfaces": surfaces,
        "points": grid.vertices,
        "normals": grid.normals,
    }
    padded = {
        name: np.pad(a, [(pad, pad), (pad, pad)] + [(0, 0)] * (a.ndim - 2))
        for name, a in images.items()
    }

    def at(name: str, dy: int, dx: int) -> np.ndarray:
        """Shift an image: its values ``dy`` rows below and ``dx`` columns right of each cell."""
        return padded[name][pad + dy : pad + dy + h, pad + dx : pad + dx + w]

    label, object_id, creased = [], [], []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        neighbour = np.zeros((h, w), np.int32)
        for k in range(_BEHIND, 0, -1):  # the nearest known cell counts
            there = (at("known", k * dy, k * dx) != 0) & (
                at("surfaces", k * dy, k * dx) == surfaces
            )
            neighbour = np.where(there, at("known", k * dy, k * dx), neighbour)
        edge = (
            candidates[labels]
            & (at("labels", dy, dx) != labels)
            & (at("surfaces", dy, dx) == surfaces)
            & (neighbour != 0)
        )
        before, behind = (-_BEFORE * dy, -_BEFORE * dx), (_BEHIND * dy, _BEHIND * dx)
        n, m = at("normals", *before)[edge], at("normals", *behind)[edge]
        across = at("points", *behind)[edge] - at("points", *before)[edge]
        bent = np.einsum("ki,ki->k", n, m) < _MIN_SMOOTH_COSINE
        concave = np.einsum("ki,ki->k", across, m - n) < 0
        known_normals = n.any(1) & m.any(1) & (at("surfaces", *behind) == surfaces)[edge]
        label.append(labels[edge])
        object_id.append(neighbour[edge])
        creased.append(bent & concave & known_normals)
    return np.concatenate(label), np.concatenate(object_id), np.concatenate(creased)
