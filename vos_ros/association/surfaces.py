"""Overlap in space: the share of a track's measured points that lies on an object's surface."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int
from scipy.spatial import cKDTree

from vos_ros.geometry.se3 import inverse, transform
from vos_ros.types import MapObject

_MAX_OBJECT_POINTS = 2000  # of an object that go into its search tree
_MAX_TRACK_POINTS = 16  # of a track that are searched for
_TREE_OBJECTS = 16  # objects per tree: few trees are searched, few are rebuilt after a change
_SEPARATION_M = 1e6  # between the objects of a tree along a fourth axis: farther than any reach


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """Hold measured points of some tracks, map frame, one track after the other."""

    track_ids: tuple[int, ...]
    """Tracks that have points."""
    points: Float32[np.ndarray, "P 3"]
    """Points of all tracks, m."""
    count: Int[np.ndarray, "T"]
    """Number of points of each track, at least 1."""
    mean: Float64[np.ndarray, "T 3"]
    """Mean of each track's points, m."""
    spread: Float64[np.ndarray, "T"]
    """Root of the sum of their variances along the three axes, m."""

    @classmethod
    def of(
        cls,
        points: Float32[np.ndarray, "P 3"],
        index: Int[np.ndarray, "P"],
        track_ids: Sequence[int],
        min_points: int = 1,
    ) -> Samples:
        """Group points by track.

        Args:
            points: measured points in any order, map frame, m.
            index: 1 + the index into ``track_ids`` of each point's track; 0: no track.
            track_ids: all tracks.
            min_points: tracks with fewer points are left out.
        """
        count = np.bincount(index, minlength=len(track_ids) + 1)
        count[count < min_points] = count[0] = 0
        # small integers are sorted by radix
        order = np.argsort(index.astype(np.min_scalar_type(len(track_ids))), kind="stable")
        points = points[order[count[index[order]] > 0]]
        rows = np.flatnonzero(count)
        count = count[rows]
        exact = points.astype(np.float64)
        first = np.cumsum(count) - count
        mean = np.add.reduceat(exact, first) / count[:, None]
        squares = np.add.reduceat(np.einsum("ij,ij->i", exact, exact), first)
        variance = squares / count - (mean**2).sum(1)
        ids = tuple(track_ids[row - 1] for row in rows.tolist())
        return cls(ids, points, count, mean, np.sqrt(variance.clip(0.0)))


@dataclass(frozen=True, eq=False, slots=True)
class _KdTreeBatch:
    """Hold the points of some objects in one search tree.

    The fourth coordinate of a point is ``_SEPARATION_M`` times its object's place in the batch.
    """

    objects: tuple[MapObject, ...]
    tree: cKDTree
    spacing: Float64[np.ndarray, "n"]
    """Radius of the disk that each point of an object stands for, m."""
    box: Float32[np.ndarray, "2 n 3"]
    """Lowest and highest coordinates of each object, m."""


class Surfaces:
    """Hold the surfaces of the map's objects in search trees, rebuilt when an object changes."""

    def __init__(self) -> None:
        self._batches: list[_KdTreeBatch] = []

    def overlaps(
        self, samples: Samples, objects: Iterable[MapObject], reach_m: Float64[np.ndarray, "T"]
    ) -> dict[tuple[int, int], float]:
        """Return (track id, object id) -> share of the track's points on the object's surface.

        Pairs without such a point are left out.

        Args:
            samples: measured points of the tracks.
            objects: the map's objects.
            reach_m: largest distance of each track's points from a surface that they lie on, to
                which the spacing of the object's points is added, m.
        """
        objects = tuple(objects)
        self._update([o for o in objects if len(o.points)])
        in_boxes = _overlaps_of_boxes(samples, [o for o in objects if o.is_box], reach_m)
        if not samples.track_ids or not self._batches:
            return in_boxes
        stride = -(-samples.count // _MAX_TRACK_POINTS)
        taken = -(-samples.count // stride)
        points = samples.points[_spans(np.cumsum(samples.count) - samples.count, taken, stride)]
        first = np.cumsum(taken) - taken
        reach = reach_m[:, None] + np.concatenate([b.spacing for b in self._batches])
        low, high = np.concatenate([b.box for b in self._batches], 1)
        boxes_meet = (
            (np.minimum.reduceat(points, first)[:, None] <= high + reach[..., None])
            & (np.maximum.reduceat(points, first)[:, None] >= low - reach[..., None])
        ).all(2)
        track, column = boxes_meet.nonzero()
        pair = np.repeat(np.arange(len(track)), taken[track])
        queries = points[_spans(first[track], taken[track], np.ones_like(track))]
        batch, place = column[pair] // _TREE_OBJECTS, column[pair] % _TREE_OBJECTS
        queries = np.column_stack([queries, place * _SEPARATION_M])
        distance = np.empty(len(queries))
        for k in np.unique(batch).tolist():
            distance[batch == k] = self._batches[k].tree.query(
                queries[batch == k], distance_upper_bound=reach.max()
            )[0]
        near = np.bincount(pair[distance < reach[track, column][pair]], minlength=len(track))
        share = (near / taken[track]).tolist()
        ids = [o.id for b in self._batches for o in b.objects]
        return in_boxes | {
            (samples.track_ids[t], ids[c]): s
            for t, c, s in zip(track.tolist(), column.tolist(), share, strict=True)
            if s
        }

    def _update(self, objects: Sequence[MapObject]) -> None:
        """Rebuild the trees whose objects are no longer the same."""
        known, self._batches = self._batches, []
        for k, start in enumerate(range(0, len(objects), _TREE_OBJECTS)):
            some = tuple(objects[start : start + _TREE_OBJECTS])
            unchanged = (
                k < len(known)
                and len(known[k].objects) == len(some)
                and all(a is b for a, b in zip(known[k].objects, some, strict=True))
            )
            self._batches.append(known[k] if unchanged else _build(some))


def _overlaps_of_boxes(
    samples: Samples, boxes: Sequence[MapObject], reach_m: Float64[np.ndarray, "T"]
) -> dict[tuple[int, int], float]:
    """Return (track id, object id) -> share of the track's points in an object's box."""
    out: dict[tuple[int, int], float] = {}
    if not samples.track_ids:
        return out
    first, reach = np.cumsum(samples.count) - samples.count, np.repeat(reach_m, samples.count)
    for o in boxes:
        local = np.abs(transform(inverse(o.T_map_object), samples.points.astype(np.float64)))
        inside = (local <= 0.5 * o.size + reach[:, None]).all(1)
        share = np.add.reduceat(inside, first, dtype=np.int64) / samples.count
        out |= {(t, o.id): s for t, s in zip(samples.track_ids, share.tolist(), strict=True) if s}
    return out


def _build(objects: tuple[MapObject, ...]) -> _KdTreeBatch:
    """Return the search tree of some objects."""
    kept = [o.points[:: -(-len(o.points) // _MAX_OBJECT_POINTS)] for o in objects]
    places = np.repeat(np.arange(len(objects)), [len(points) for points in kept])
    # where points were left out, the kept ones stand for larger disks
    spacing = np.array(
        [
            o.point_radius * np.sqrt(len(o.points) / len(points))
            for o, points in zip(objects, kept, strict=True)
        ]
    )
    # Balancing takes longer than it saves; compact nodes make each query slower.
    tree = cKDTree(
        np.column_stack([np.concatenate(kept), places * _SEPARATION_M]),
        balanced_tree=False,
        compact_nodes=False,
    )
    box = np.array([[points.min(0) for points in kept], [points.max(0) for points in kept]])
    return _KdTreeBatch(objects, tree, spacing, box)


def _spans(
    first: Int[np.ndarray, "n"], count: Int[np.ndarray, "n"], stride: Int[np.ndarray, "n"]
) -> Int[np.ndarray, "m"]:
    """Return first, first + stride, ...: ``count`` numbers of each span, span after span."""
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.asarray(np.repeat(first, count) + within * np.repeat(stride, count))
