"""Evidence for pairs of tracks and map objects, and their one-to-one assignment."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypedDict

import numpy as np
from scipy.optimize import linear_sum_assignment

from vos_ros.association.expectation import AGREES, CORE, FREE, MASK, NEAR
from vos_ros.association.interface import Evidence, Match, Verdicts, View
from vos_ros.association.likelihood import log_odds, marginals, preferences
from vos_ros.config import AssociationConfig

_CODES = 32
_NEVER = 1e6  # cost of a pair that isn't a candidate
_BITS = np.array([[bool(code & bit) for bit in (MASK, NEAR, CORE, AGREES, FREE)] for code in range(_CODES)],
                 np.float64)  # products of integers aren't BLAS's


def evidence(view: View) -> list[Evidence]:
    """Every pair whose masks meet, or whose surfaces do in space, not yet scored. Work is one pass over each expectation's crop, whatever
    the number of tracks.

    The tolerant IoU of a mask M and a projection P that may be off by sigma px counts as error only the part of M outside P dilated by
    sigma and the part of P eroded by sigma that M misses: 1 - (|M \\ P+| + |P- \\ M|) / |M u P|, the plain IoU at sigma 0. Where the object
    should be and free space was measured, it is missed in both: else what is left of a removed object's projection, its foot on the table,
    would go on being matched.
    """
    rows = len(view.track_ids) + 1
    if view.measured is None:
        area, with_depth = np.bincount(view.owner.ravel(), minlength=rows), np.zeros(rows, int)
    else:
        unknown_known = np.bincount((2 * view.owner + view.measured).ravel(), minlength=2 * rows).reshape(rows, 2)
        area, with_depth = unknown_known.sum(1), unknown_known[:, 1]
    out = []
    owner = view.owner.astype(np.intp) * _CODES
    for e in view.expectations:
        x0, y0, x1, y1 = e.roi
        counts = np.bincount((owner[y0:y1, x0:x1] + e.codes).ravel(), minlength=rows * _CODES).reshape(rows, _CODES)
        both, near, core, agree, through = (counts @ _BITS).T
        surface = int(agree.sum())
        for row in np.flatnonzero(near[1:]) + 1:
            missing = e.free_px - through[row]
            union = area[row] + e.mask_px - both[row] + missing
            wrong = (area[row] - near[row]) + (e.core_px - core[row]) + missing
            inliers = agree[row] / with_depth[row] if with_depth[row] > 0 else math.nan
            pair = view.track_ids[row - 1], e.object_id
            out.append(Evidence(*pair, 0.0, float(both[row] / union), max(0.0, float(1.0 - wrong / union)), float(inliers), surface,
                                agree[row] / surface if surface else math.nan, **_beyond_masks(view, pair, with_depth[row] > 0)))
    met = {(e.track_id, e.map_object_id) for e in out}
    out.extend(Evidence(*pair, 0.0, 0.0, 0.0, 0.0, **_beyond_masks(view, pair, True)) for pair in view.overlaps if pair not in met)
    return out


class _BeyondMasks(TypedDict):
    overlap_3d: float
    similarity: float
    conflict: bool


def _beyond_masks(view: View, pair: tuple[int, int], measured: bool) -> _BeyondMasks:
    """What is known of a pair besides its masks. Surfaces that aren't named as overlapping don't, where any depth was measured."""
    return {"overlap_3d": view.overlaps.get(pair, 0.0 if measured else math.nan),
            "similarity": view.similarities.get(pair, math.nan), "conflict": pair in view.conflicts}


class HungarianAssociator:
    """One-to-one assignment of the greatest total log-odds (Kuhn 1955), each track free to be none of the map's objects; gated: masks or
    surfaces must overlap. A track keeps its object unless another is clearly better. Scores are the model's probabilities, see
    ``likelihood``."""

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config

    def __call__(self, view: View) -> Verdicts:
        config, found = self._config, evidence(view)
        gated = [e for e in found if (e.tolerant_iou >= config.min_iou and not e.depth_inlier_ratio < config.min_depth_inliers)
                 or e.overlap_3d >= config.min_overlap_3d]
        row = {t: k for k, t in enumerate(view.track_ids)}
        column = {o: k for k, o in enumerate(sorted({e.map_object_id for e in gated}))}
        places = [(row[e.track_id], column[e.map_object_id]) for e in gated]
        odds = np.zeros((len(row), len(column)))
        # a column per object, and a "none" per track that costs nothing
        cost = np.full((len(row), len(column) + len(row)), _NEVER)
        cost[:, len(column) :] = 0.0
        said = log_odds(gated, config)
        preferred = preferences(gated, said, view.bound, view.steadiness, config)
        for at, s, p in zip(places, said.tolist(), preferred.tolist(), strict=True):
            odds[at] = math.exp(s)
            cost[at] = -p
        scores = marginals(odds)
        judged: list[list[tuple[int, Evidence]]] = [[] for _ in row]
        for (i, j), e in zip(places, gated, strict=True):
            judged[i].append((j, replace(e, score=float(scores[i, j]))))
        chosen = np.zeros(len(row), int)
        rows, columns = linear_sum_assignment(cost)
        chosen[rows] = columns
        out = []
        for t, some, place in zip(view.track_ids, judged, chosen.tolist(), strict=True):
            best = next((e for j, e in some if j == place), None)
            out.append(Match(t, best, max((e for j, e in some if j != place), key=lambda e: e.score, default=None)))
        return Verdicts(tuple(out), tuple(found))


class SeedAssociator:
    """The null twin: a track is the object that it was seeded from, whatever the image says."""

    def __call__(self, view: View) -> Verdicts:
        return Verdicts(tuple(
            Match(t, Evidence(t, view.bound[t], 1.0, math.nan, math.nan, math.nan) if view.bound.get(t) else None, None)
            for t in view.track_ids
        ), ())
