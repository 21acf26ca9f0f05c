"""Where tracks are in space: how much of what was measured of a track lies on an object's surface, and whether a track has jumped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int
from scipy.spatial import cKDTree

from vos_ros.types import MapObject

_MOST = 2000  # points of an object that are looked at
_SAMPLES = 16  # of a track's points
_SHELF = 16  # objects in one search tree: as few trees are asked as possible, and a changed object lets few others be sorted anew
_APART = (
    1e6  # m, between the objects of a tree along its fourth axis: farther than anything reaches
)
_FAINT = 0.05  # m, added to what a track extends: the mean of its points moves by itself as its mask does


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """Samples of tracks' surfaces, map frame, m: ``count[k]`` points of ``track_ids[k]``, one at least, track after track. ``middle`` is
    their mean, ``spread`` the root of their variances' sum."""

    track_ids: tuple[int, ...]
    points: Float32[np.ndarray, "P 3"]
    count: Int[np.ndarray, "T"]
    middle: Float64[np.ndarray, "T 3"]
    spread: Float64[np.ndarray, "T"]

    @classmethod
    def of(
        cls,
        points: Float32[np.ndarray, "P 3"],
        row: Int[np.ndarray, "P"],
        track_ids: Sequence[int],
        least: int = 1,
    ) -> Samples:
        """``row`` is 1 + the index into ``track_ids`` of each point's track. Tracks of fewer points than ``least`` are left out."""
        count = np.bincount(row, minlength=len(track_ids) + 1)
        count[count < least] = count[0] = 0
        order = np.argsort(
            row.astype(np.min_scalar_type(len(track_ids))), kind="stable"
        )  # a radix sort, of what is small
        points = points[order[count[row[order]] > 0]]
        rows = np.flatnonzero(count)
        count = count[rows]
        exact = points.astype(np.float64)
        first = np.cumsum(count) - count
        middle = np.add.reduceat(exact, first) / count[:, None]
        variance = np.add.reduceat(np.einsum("ij,ij->i", exact, exact), first) / count - (
            middle**2
        ).sum(1)
        return cls(
            tuple(track_ids[r - 1] for r in rows.tolist()),
            points,
            count,
            middle,
            np.sqrt(variance.clip(0.0)),
        )


@dataclass(frozen=True, eq=False, slots=True)
class _KdTreeBatch:
    """Some objects' points in one search tree; their fourth coordinate is ``_APART`` times the object's place on the shelf. Each point
    stands for a disk of ``spacing`` m. ``box`` are the lowest and the highest point of the boxes that hold the objects."""

    of: tuple[MapObject, ...]
    tree: cKDTree
    spacing: Float64[np.ndarray, "n"]
    box: Float32[np.ndarray, "2 n 3"]


class Surfaces:
    """Surfaces of the map's objects, in search trees that are made when an object is new or has changed."""

    def __init__(self) -> None:
        self._shelves: list[_KdTreeBatch] = []

    def overlaps(
        self, samples: Samples, objects: Iterable[MapObject], reach_m: Float64[np.ndarray, "T"]
    ) -> dict[tuple[int, int], float]:
        """(track, object) -> share of the track's points within ``reach_m`` of the object's surface (and of the spacing of its points), of
        the pairs where it isn't 0."""
        self._arrange([o for o in objects if len(o.points)])
        if not samples.track_ids or not self._shelves:
            return {}
        stride = -(-samples.count // _SAMPLES)
        taken = -(-samples.count // stride)
        points = samples.points[_spans(np.cumsum(samples.count) - samples.count, taken, stride)]
        first = np.cumsum(taken) - taken
        reach = reach_m[:, None] + np.concatenate([s.spacing for s in self._shelves])
        low, high = np.concatenate([s.box for s in self._shelves], 1)
        meet = (
            (np.minimum.reduceat(points, first)[:, None] <= high + reach[..., None])
            & (np.maximum.reduceat(points, first)[:, None] >= low - reach[..., None])
        ).all(2)
        track, column = meet.nonzero()
        pair = np.repeat(np.arange(len(track)), taken[track])
        asked = points[_spans(first[track], taken[track], np.ones_like(track))]
        shelf, place = column[pair] // _SHELF, column[pair] % _SHELF
        asked = np.column_stack([asked, place * _APART])
        distance = np.empty(len(asked))
        for k in np.unique(shelf).tolist():
            distance[shelf == k] = self._shelves[k].tree.query(
                asked[shelf == k], distance_upper_bound=reach.max()
            )[0]
        near = np.bincount(pair[distance < reach[track, column][pair]], minlength=len(track))
        share = (near / taken[track]).tolist()
        ids = [o.id for s in self._shelves for o in s.of]
        return {
            (samples.track_ids[t], ids[c]): s
            for t, c, s in zip(track.tolist(), column.tolist(), share, strict=True)
            if s
        }

    def _arrange(self, objects: Sequence[MapObject]) -> None:
        known, self._shelves = self._shelves, []
        for k, start in enumerate(range(0, len(objects), _SHELF)):
            of = tuple(objects[start : start + _SHELF])
            same = (
                k < len(known)
                and len(known[k].of) == len(of)
                and all(a is b for a, b in zip(known[k].of, of, strict=True))
            )
            self._shelves.append(known[k] if same else _shelf(of))


def _shelf(of: tuple[MapObject, ...]) -> _KdTreeBatch:
    some = [o.points[:: -(-len(o.points) // _MOST)] for o in of]
    places = np.repeat(np.arange(len(of)), [len(s) for s in some])
    # points were left out: those that are kept stand for larger disks
    spacing = np.array(
        [o.point_radius * np.sqrt(len(o.points) / len(s)) for o, s in zip(of, some, strict=True)]
    )
    # a balanced tree takes longer to make than it saves, and compact nodes cost each query more than they save
    tree = cKDTree(
        np.column_stack([np.concatenate(some), places * _APART]),
        balanced_tree=False,
        compact_nodes=False,
    )
    return _KdTreeBatch(
        of, tree, spacing, np.array([[s.min(0) for s in some], [s.max(0) for s in some]])
    )


def _spans(
    first: Int[np.ndarray, "n"], count: Int[np.ndarray, "n"], stride: Int[np.ndarray, "n"]
) -> Int[np.ndarray, "m"]:
    """first, first + stride, ..: ``count`` numbers of each span, span after span."""
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.asarray(np.repeat(first, count) + within * np.repeat(stride, count))


class MotionModel:
    """Where each track was last."""

    def __init__(self) -> None:
        self._last: dict[int, Float64[np.ndarray, "3"]] = {}

    def consistency(self, samples: Samples, reach_m: Float64[np.ndarray, "T"]) -> dict[int, float]:
        """Per track 0..1, exp(-d^2 / 2 s^2): d is how far its middle moved since it was last measured, s what it extends plus ``reach_m``.
        1 for a track that is new. Things that stand still make small steps; a mask that has gone over to a look-alike makes a large one."""
        now = dict(zip(samples.track_ids, samples.middle, strict=True))
        moved = samples.middle - np.array(
            [self._last.get(t, middle) for t, middle in now.items()]
        ).reshape(-1, 3)
        self._last.update(now)
        steady = np.exp(-0.5 * (moved**2).sum(1) / (samples.spread + _FAINT + reach_m) ** 2)
        return dict(zip(samples.track_ids, steady.tolist(), strict=True))

    def keep_only(self, track_ids: Iterable[int]) -> None:
        """Forgets tracks that have ended."""
        live = set(track_ids)
        self._last = {t: place for t, place in self._last.items() if t in live}
