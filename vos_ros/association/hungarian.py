"""Evidence for pairs of tracks and map objects, and their one-to-one assignment."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linear_sum_assignment

from vos_ros.association.expectation import AGREES, CORE, MASK, NEAR
from vos_ros.association.interface import Evidence, Match, Verdicts, View
from vos_ros.config import AssociationConfig

_CODES = 16
_BITS = np.array([[bool(code & bit) for bit in (MASK, NEAR, CORE, AGREES)] for code in range(_CODES)], int)


def evidence(view: View, config: AssociationConfig) -> list[Evidence]:
    """Every pair whose masks meet. Work is one pass over each expectation's crop, whatever the number of tracks.

    The tolerant IoU of a mask M and a projection P that may be off by sigma px counts as error only the part of M outside P dilated by
    sigma and the part of P eroded by sigma that M misses: 1 - (|M \\ P+| + |P- \\ M|) / |M u P|, the plain IoU at sigma 0.
    """
    rows = len(view.track_ids) + 1
    if view.measured is None:
        area, with_depth = np.bincount(view.owner.ravel(), minlength=rows), np.zeros(rows, int)
    else:
        unknown_known = np.bincount((2 * view.owner + view.measured).ravel(), minlength=2 * rows).reshape(rows, 2)
        area, with_depth = unknown_known.sum(1), unknown_known[:, 1]
    out = []
    for e in view.expectations:
        x0, y0, x1, y1 = e.roi
        counts = np.bincount((view.owner[y0:y1, x0:x1] * _CODES + e.codes).ravel(), minlength=rows * _CODES).reshape(rows, _CODES)
        both, near, core, agree = (counts @ _BITS).T
        surface = int(agree.sum())
        for row in np.flatnonzero(near[1:]) + 1:
            union = area[row] + e.mask_px - both[row]
            wrong = (area[row] - near[row]) + (e.core_px - core[row])
            tolerant = max(0.0, 1.0 - wrong / union)
            inliers = agree[row] / with_depth[row] if with_depth[row] > 0 else math.nan
            score = tolerant if math.isnan(inliers) else config.iou_weight * tolerant + (1 - config.iou_weight) * inliers
            out.append(Evidence(view.track_ids[row - 1], e.object_id, float(score), float(both[row] / union), float(tolerant),
                                float(inliers), surface, agree[row] / surface if surface else math.nan))
    return out


class HungarianAssociator:
    """One-to-one assignment of greatest total score (Kuhn 1955), gated; a track keeps its object unless another is clearly
    better."""

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config

    def __call__(self, view: View) -> Verdicts:
        config = self._config
        found = evidence(view, config)
        pairs = [e for e in found
                 if e.tolerant_iou >= config.min_iou and not e.depth_inlier_ratio < config.min_depth_inliers]
        by_track: dict[int, list[Evidence]] = {t: [] for t in view.track_ids}
        for e in pairs:
            by_track[e.track_id].append(e)
        chosen: dict[int, Evidence] = {}
        if pairs:
            objects = sorted({e.map_object_id for e in pairs})
            column = {o: i for i, o in enumerate(objects)}
            cost = np.zeros((len(view.track_ids), len(objects)))  # 0: no object
            for row, t in enumerate(view.track_ids):
                for e in by_track[t]:
                    bonus = config.continuity if view.bound.get(t) == e.map_object_id else 0.0
                    cost[row, column[e.map_object_id]] = -e.score - bonus
            table = {(e.track_id, e.map_object_id): e for e in pairs}
            for row, col in np.column_stack(linear_sum_assignment(cost)).tolist():
                if cost[row, col] < 0.0:
                    chosen[view.track_ids[row]] = table[view.track_ids[row], objects[col]]
        out = []
        for t in view.track_ids:
            best = chosen.get(t)
            others = [e for e in by_track[t] if best is None or e.map_object_id != best.map_object_id]
            out.append(Match(t, best, max(others, key=lambda e: e.score, default=None)))
        return Verdicts(tuple(out), tuple(found))


class SeedAssociator:
    """The null twin: a track is the object that it was seeded from, whatever the image says."""

    def __call__(self, view: View) -> Verdicts:
        return Verdicts(tuple(
            Match(t, Evidence(t, view.bound[t], 1.0, math.nan, math.nan, math.nan) if view.bound.get(t) else None, None)
            for t in view.track_ids
        ), ())
