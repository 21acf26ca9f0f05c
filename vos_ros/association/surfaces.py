"""Where tracks are in space: how much of what was measured of a track lies on an object's surface, and whether a track has jumped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64
from scipy.spatial import cKDTree

from vos_ros.types import MapObject

_MOST = 2000  # points of an object that are looked at
_SAMPLES = 16  # of a track's points
_FAINT = 0.05  # m, added to what a track extends: the mean of its points moves by itself as its mask does

Points = Mapping[int, Float32[np.ndarray, "P 3"]]
"""Samples of each track's surface, map frame, m."""


@dataclass(frozen=True, eq=False, slots=True)
class _Surface:
    """An object's points (``tree``), each of which stands for a disk of ``spacing`` m, and the box that holds them."""

    of: MapObject
    tree: cKDTree
    spacing: float
    low: Float32[np.ndarray, "3"]
    high: Float32[np.ndarray, "3"]


class Surfaces:
    """Surfaces of the map's objects, as search trees that are made when an object is new or has changed."""

    def __init__(self) -> None:
        self._known: dict[int, _Surface] = {}

    def overlaps(self, points: Points, objects: Iterable[MapObject], reach_m: Mapping[int, float]) -> dict[tuple[int, int], float]:
        """(track, object) -> share of the track's points within ``reach_m`` of the object's surface (and of the spacing of its points), of
        the pairs where it isn't 0."""
        surfaces = [self._surface(o) for o in objects if len(o.points)]
        self._known = {s.of.id: s for s in surfaces}
        if not points or not surfaces:
            return {}
        samples = [own[:: -(-len(own) // _SAMPLES)] for own in points.values()]
        reach = np.array([reach_m[t] for t in points])[:, None] + np.array([s.spacing for s in surfaces])
        low, high = (np.array([f(own, 0) for own in samples])[:, None] for f in (np.min, np.max))
        meet = ((low <= np.array([s.high for s in surfaces]) + reach[..., None])
                & (high >= np.array([s.low for s in surfaces]) - reach[..., None])).all(2)
        ids = list(points)
        out: dict[tuple[int, int], float] = {}
        for k, j in np.argwhere(meet).tolist():
            distance, _ = surfaces[j].tree.query(samples[k], distance_upper_bound=reach[k, j])
            if near := np.count_nonzero(distance < np.inf):
                out[ids[k], surfaces[j].of.id] = near / len(samples[k])
        return out

    def _surface(self, o: MapObject) -> _Surface:
        kept = self._known.get(o.id)
        if kept is not None and kept.of is o:
            return kept
        some = o.points[:: -(-len(o.points) // _MOST)]
        # points were left out: those that are kept stand for larger disks
        return _Surface(o, cKDTree(some), o.point_radius * float(np.sqrt(len(o.points) / len(some))), some.min(0), some.max(0))


class Places:
    """Where each track was last."""

    def __init__(self) -> None:
        self._last: dict[int, Float64[np.ndarray, "3"]] = {}

    def steadiness(self, points: Points, reach_m: Mapping[int, float]) -> dict[int, float]:
        """Per track 0..1, exp(-d^2 / 2 s^2): d is how far its middle moved since it was last measured, s what it extends plus ``reach_m``.
        1 for a track that is new. Things that stand still make small steps; a mask that has gone over to a look-alike makes a large one."""
        out = {}
        for t, own in points.items():
            middle = own.mean(0, dtype=np.float64)
            spread = float(np.sqrt(own.var(0).sum())) + _FAINT + reach_m[t]
            before = self._last.get(t, middle)
            out[t] = float(np.exp(-0.5 * ((middle - before) ** 2).sum() / spread**2))
            self._last[t] = middle
        return out

    def keep_only(self, track_ids: Iterable[int]) -> None:
        """Forgets tracks that have ended."""
        live = set(track_ids)
        self._last = {t: place for t, place in self._last.items() if t in live}
