"""How well an object map is one: each annotated object once, in its place and of its size, and what else is in it.

A map object *claims* an annotated one where their boxes overlap by ``MIN_IOU`` at least, or where most of its surface lies on that
object's. An annotated object is found where some box overlaps its own so much; boxes are paired one-to-one, so that their IoUs add up to
most. Claims beyond the first of each object are duplicates, whatever the IoU: a map that has a box in three pieces has two duplicates. Map
objects without a claim are others: things that nobody annotated, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from vos_ros.geometry.extents import Extent, box_iou_3d, extent_of
from vos_ros.types import MapObject

MIN_IOU = 0.3
"""Least IoU of the boxes of a map object and the annotated object that it is."""
LEAST_M = 0.01
"""Sides of boxes count as this long at least: a sheet of paper has no volume."""
NEAR_M = 0.03
"""A point lies on the annotated object whose nearest point is the nearest of all, where that is nearer than this."""
_MOST = 0.5
"""Share of its points that lie on an annotated object, from which a map object is a piece of that."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A map object: the annotated object that it claims (0 = none), the IoU of their boxes (of the nearest box, where it claims none),
    and the share of its surface that lies on it."""

    object_id: int
    truth_id: int
    iou: float
    share: float


@dataclass(frozen=True, eq=False, slots=True)
class MapScore:
    """``claims`` by map object; ``found``: annotated object -> the map object that it is; ``best``: annotated object -> the IoU of the map
    object that comes nearest to it."""

    claims: tuple[Claim, ...]
    found: Mapping[int, int]
    best: Mapping[int, float]

    def rivals(self, truth_id: int) -> tuple[int, ...]:
        """The map objects that claim an annotated object besides the one that it is (besides the best of them where it is none)."""
        claims = sorted((c for c in self.claims if c.truth_id == truth_id), key=lambda c: -c.iou)
        first = self.found.get(truth_id, claims[0].object_id if claims else 0)
        return tuple(c.object_id for c in claims if c.object_id != first)

    def figures(self) -> dict[str, int | float]:
        """Counts of objects, and the mean IoU of the boxes of those found (NaN where none is). ``found_once``: without duplicates.
        ``duplicates_by_box``: only those whose boxes overlap the object's by ``MIN_IOU`` themselves."""
        rivals = {t: self.rivals(t) for t in self.best}
        iou = {c.object_id: c.iou for c in self.claims}
        ious = [iou[o] for o in self.found.values()]
        return {
            "objects": len(self.claims),
            "annotated": len(self.best),
            "found": len(self.found),
            "found_once": sum(not rivals[t] for t in self.found),
            "duplicates": sum(len(r) for r in rivals.values()),
            "duplicates_by_box": sum(iou[o] >= MIN_IOU for r in rivals.values() for o in r),
            "others": sum(not c.truth_id for c in self.claims),
            "mean_iou": float(np.mean(ious)) if ious else float("nan"),
        }


def box_of(o: MapObject) -> Extent:
    """The box of an object's points; of an object without points the box that it states, upright."""
    if len(o.points):
        return extent_of(o.points)
    half = np.abs(o.T_map_object[:3, :3]) @ o.size / 2
    return np.stack([o.T_map_object[:3, 3] - half, o.T_map_object[:3, 3] + half])


def score_map(objects: Sequence[MapObject], truth: Sequence[MapObject]) -> MapScore:
    """Compares a map with annotated objects of the same frame. ValueError where nothing is annotated."""
    if not truth:
        raise ValueError("got no annotated objects, wanted some to compare the map with")
    ious = [box_iou_3d(box_of(o), box_of(t), least_m=LEAST_M) for o in objects for t in truth]
    table = np.array(ious, float).reshape(len(objects), len(truth))
    pairs = zip(
        *linear_sum_assignment(np.where(table >= MIN_IOU, table, 0.0), maximize=True), strict=True
    )
    found = {truth[int(c)].id: objects[int(r)].id for r, c in pairs if table[r, c] >= MIN_IOU}
    is_of = {o: t for t, o in found.items()}
    places = {t.id: column for column, t in enumerate(truth)}
    shares = _shares(objects, truth)
    claims = []
    for o, row, share in zip(objects, table, shares, strict=True):
        column = places.get(is_of.get(o.id, 0), int(row.argmax()))
        if row[column] < MIN_IOU and share.max() >= _MOST:
            column = int(share.argmax())
        claimed = row[column] >= MIN_IOU or share[column] >= _MOST
        claims.append(
            Claim(
                o.id, truth[column].id if claimed else 0, float(row[column]), float(share[column])
            )
        )
    best = table.max(axis=0) if len(objects) else np.zeros(len(truth))
    return MapScore(
        tuple(claims), found, {t.id: float(b) for t, b in zip(truth, best, strict=True)}
    )


def _shares(objects: Sequence[MapObject], truth: Sequence[MapObject]) -> list[np.ndarray]:
    """Per map object: the share of its points that lie on each annotated object."""
    owner = np.repeat(np.arange(len(truth)), [len(t.points) for t in truth])
    surfaces = np.concatenate([t.points for t in truth])
    tree = cKDTree(surfaces) if len(surfaces) else None
    out = []
    for o in objects:
        if tree is None or not len(o.points):
            out.append(np.zeros(len(truth)))
            continue
        distance, nearest = tree.query(o.points, distance_upper_bound=NEAR_M)
        on = owner[np.asarray(nearest)[np.isfinite(distance)]]
        out.append(np.bincount(on, minlength=len(truth)) / len(o.points))
    return out
