"""Score an object map: each annotated object once, in its place and of its size; and what else is
in it.

A map object *claims* an annotated one where their boxes overlap by at least ``MIN_IOU``, or where
most of its surface lies on that object's surface. An annotated object is found where some box
overlaps its own by that much. Boxes are paired one-to-one so that the sum of their IoUs is largest.
Claims beyond the first of each object are duplicates, whatever the IoU: a map that has a box in
three pieces has two duplicates. Map objects without a claim are others: things that are not
annotated, or nothing.
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
"""Smallest IoU of the boxes of a map object and the annotated object that it matches."""
MIN_SIDE_M = 0.01
"""Smallest side of a box, m: a sheet of paper has no volume."""
NEAR_M = 0.03
"""Largest distance of a point from the annotated object that it lies on, m."""
_MIN_PIECE_SHARE = 0.5
"""Smallest share of its points on an annotated object that makes a map object a piece of it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What one map object claims."""

    object_id: int
    """The map object."""
    truth_id: int
    """The annotated object that it claims, 0 = none."""
    iou: float
    """IoU of their boxes; with the nearest box where it claims none."""
    share: float
    """Share of its surface that lies on it."""


@dataclass(frozen=True, eq=False, slots=True)
class MapScore:
    """Score of a map."""

    claims: tuple[Claim, ...]
    """One claim per map object."""
    found: Mapping[int, int]
    """Annotated object -> the map object that matches it."""
    best: Mapping[int, float]
    """Annotated object -> the largest IoU of its box with any map object's."""

    def rivals(self, truth_id: int) -> tuple[int, ...]:
        """Return the map objects that claim an annotated object besides the one that matches it."""
        claims = sorted((c for c in self.claims if c.truth_id == truth_id), key=lambda c: -c.iou)
        first = self.found.get(truth_id, claims[0].object_id if claims else 0)
        return tuple(c.object_id for c in claims if c.object_id != first)

    def figures(self) -> dict[str, int | float]:
        """Return counts of objects, and the mean IoU of the boxes of found ones (NaN without any).

        ``found_once``: found without duplicates. ``duplicates_by_box``: only those whose boxes
        overlap the object's by ``MIN_IOU``.
        """
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
    """Return the box of an object's points; without points the upright box of its ``size``."""
    if len(o.points):
        return extent_of(o.points)
    half = np.abs(o.T_map_object[:3, :3]) @ o.size / 2
    return np.stack([o.T_map_object[:3, 3] - half, o.T_map_object[:3, 3] + half])


def score_map(objects: Sequence[MapObject], truth: Sequence[MapObject]) -> MapScore:
    """Compare a map with annotated objects of the same frame.

    Raises ValueError: no object is annotated.
    """
    if not truth:
        raise ValueError("got no annotated objects, wanted some to compare the map with")
    ious = [box_iou_3d(box_of(o), box_of(t), least_m=MIN_SIDE_M) for o in objects for t in truth]
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
        if row[column] < MIN_IOU and share.max() >= _MIN_PIECE_SHARE:
            column = int(share.argmax())
        claimed = row[column] >= MIN_IOU or share[column] >= _MIN_PIECE_SHARE
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
    """Return, per map object, the share of its points that lie on each annotated object."""
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
