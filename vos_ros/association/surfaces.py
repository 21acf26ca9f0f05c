"""Overlap in space: the share of a track's measured points that lies on an object's surface."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int
from scipy.spatial import cKDTree

from vos_ros.types import MapObject

_MOST = 2000  # points of an object that are looked at
_SAMPLES = 16  # of a track's points
_BATCH_OBJECTS = 16  # objects in one search tree: as few trees are asked as possible, and a changed object lets few others be sorted anew
_APART = (
    1e6  # m, between the objects of a tree along its fourth axis: farther than anything reaches
)


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """Samples of tracks' surfaces, map frame, m: ``count[k]`` points of ``track_ids[k]``, one at least, track after track. ``mean`` is
    their mean, ``spread`` the root of their variances' sum."""

    track_ids: tuple[int, ...]
    points: Float32[np.ndarray, "P 3"]
    count: Int[np.ndarray, "T"]
    mean: Float64[np.ndarray, "T 3"]
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
        mean = np.add.reduceat(exact, first) / count[:, None]
        variance = np.add.reduceat(np.einsum("ij,ij->i", exact, exact), first) / count - (
            mean**2
        ).sum(1)
        return cls(
            tuple(track_ids[r - 1] for r in rows.tolist()),
            points,
            count,
            mean,
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
        self._batches: list[_KdTreeBatch] = []

    def overlaps(
        self, samples: Samples, objects: Iterable[MapObject], reach_m: Float64[np.ndarray, "T"]
    ) -> dict[tuple[int, int], float]:
        """(track, object) -> share of the track's points within ``reach_m`` of the object's surface (and of the spacing of its points), of
        the pairs where it isn't 0."""
        self._arrange([o for o in objects if len(o.points)])
        if not samples.track_ids or not self._batches:
            return {}
        stride = -(-samples.count // _SAMPLES)
        taken = -(-samples.count // stride)
        points = samples.points[_spans(np.cumsum(samples.count) - samples.count, taken, stride)]
        first = np.cumsum(taken) - taken
        reach = reach_m[:, None] + np.concatenate([s.spacing for s in self._batches])
        low, high = np.concatenate([s.box for s in self._batches], 1)
        meet = (
            (np.minimum.reduceat(points, first)[:, None] <= high + reach[..., None])
            & (np.maximum.reduceat(points, first)[:, None] >= low - reach[..., None])
        ).all(2)
        track, column = meet.nonzero()
        pair = np.repeat(np.arange(len(track)), taken[track])
        asked = points[_spans(first[track], taken[track], np.ones_like(track))]
        shelf, place = column[pair] // _BATCH_OBJECTS, column[pair] % _BATCH_OBJECTS
        asked = np.column_stack([asked, place * _APART])
        distance = np.empty(len(asked))
        for k in np.unique(shelf).tolist():
            distance[shelf == k] = self._batches[k].tree.query(
                asked[shelf == k], distance_upper_bound=reach.max()
            )[0]
        near = np.bincount(pair[distance < reach[track, column][pair]], minlength=len(track))
        share = (near / taken[track]).tolist()
        ids = [o.id for s in self._batches for o in s.of]
        return {
            (samples.track_ids[t], ids[c]): s
            for t, c, s in zip(track.tolist(), column.tolist(), share, strict=True)
            if s
        }

    def _arrange(self, objects: Sequence[MapObject]) -> None:
        known, self._batches = self._batches, []
        for k, start in enumerate(range(0, len(objects), _BATCH_OBJECTS)):
            of = tuple(objects[start : start + _BATCH_OBJECTS])
            same = (
                k < len(known)
                and len(known[k].of) == len(of)
                and all(a is b for a, b in zip(known[k].of, of, strict=True))
            )
            self._batches.append(known[k] if same else _batch(of))


def _batch(of: tuple[MapObject, ...]) -> _KdTreeBatch:
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
