"""Evidence for pairs of tracks and map objects, and their one-to-one assignment."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64
from scipy.optimize import linear_sum_assignment

from vos_ros.association.interface import Evidence, Match, Verdicts, View
from vos_ros.association.likelihood import log_odds, marginals, preferences
from vos_ros.association.overlap_counts import overlap_counts
from vos_ros.association.predicted_pixels import AGREES, CORE, FREE, MASK, NEAR
from vos_ros.config import AssociationConfig

_NEVER = 1e6  # cost of a pair that isn't a candidate


def evidence(view: View) -> list[Evidence]:
    """Every pair whose masks meet, or whose surfaces do in space, not yet scored. Work is one pass over the expectations' crops, whatever
    the number of tracks.

    The tolerant IoU of a mask M and a projection P that may be off by sigma px counts as error only the part of M outside P dilated by
    sigma and the part of P eroded by sigma that M misses: 1 - (|M \\ P+| + |P- \\ M|) / |M u P|, the plain IoU at sigma 0. Where the object
    should be and free space was measured, it is missed in both: else what is left of a removed object's projection, its foot on the table,
    would go on being matched.
    """
    area, with_depth = _areas(view)
    counts = overlap_counts(
        view.owner,
        len(view.track_ids) + 1,
        [(e.roi, e.codes) for e in view.predicted_pixels],
        (MASK, NEAR, CORE, AGREES, FREE),
    )
    column, row = counts[1].nonzero()
    both, near, core, agrees, through = counts[:, column, row]
    expected = np.array(
        [(e.mask_px, e.core_px, e.agrees_px, e.free_px) for e in view.predicted_pixels], np.float64
    ).reshape(-1, 4)
    mask_px, core_px, surface_px, free_px = expected[column].T
    missing = free_px - through
    union = area[row] + mask_px - both + missing
    wrong = (area[row] - near) + (core_px - core) + missing
    numbers = np.stack(
        [
            both / union,
            (1.0 - wrong / union).clip(0.0),
            _share(agrees, with_depth[row]),
            _share(agrees, surface_px),
        ]
    )
    pairs = [
        (view.track_ids[r - 1], view.predicted_pixels[c].object_id)
        for r, c in zip(row.tolist(), column.tolist(), strict=True)
    ]
    out = [
        _judged(view, pair, iou, tolerant, inliers, covered, int(px))
        for pair, (iou, tolerant, inliers, covered), px in zip(
            pairs, numbers.T.tolist(), surface_px.tolist(), strict=True
        )
    ]
    met = set(pairs)
    out.extend(
        _judged(view, pair, 0.0, 0.0, 0.0, math.nan, 0) for pair in view.overlaps if pair not in met
    )
    return out


def _areas(view: View) -> Float64[np.ndarray, "2 rows"]:
    """Pixels of each row of ``owner`` but the background, and those of them with measured depth."""
    out = np.zeros((2, len(view.track_ids) + 1))
    for row, (x0, y0, x1, y1) in view.boxes.items():
        own = view.owner[y0:y1, x0:x1] == row
        out[0, row] = np.count_nonzero(own)
        if view.measured is not None:
            out[1, row] = np.count_nonzero(own & view.measured[y0:y1, x0:x1])
    return out


def _share(
    part: Float64[np.ndarray, "n"], whole: Float64[np.ndarray, "n"]
) -> Float64[np.ndarray, "n"]:
    """NaN of nothing."""
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))


def _judged(
    view: View,
    pair: tuple[int, int],
    iou: float,
    tolerant: float,
    inliers: float,
    covered: float,
    surface_px: int,
) -> Evidence:
    """What masks say of a pair and what is known besides. Surfaces that aren't named as overlapping don't, where any depth was measured."""
    own, other = view.track_classes.get(pair[0], 0), view.object_classes.get(pair[1], 0)
    overlap = view.overlaps.get(pair, math.nan if math.isnan(inliers) else 0.0)
    return Evidence(
        *pair,
        0.0,
        iou,
        tolerant,
        inliers,
        surface_px,
        covered,
        overlap,
        view.similarities.get(pair, math.nan),
        bool(own and other and own != other),
    )


class HungarianAssociator:
    """One-to-one assignment of the greatest total log-odds (Kuhn 1955), each track free to be none of the map's objects; gated: masks or
    surfaces must overlap. A track keeps its object unless another is clearly better. Scores are the model's probabilities, see
    ``likelihood``."""

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config

    def __call__(self, view: View) -> Verdicts:
        config, found = self._config, evidence(view)
        gated = [
            e
            for e in found
            if (
                e.tolerant_iou >= config.min_iou
                and not e.depth_inlier_ratio < config.min_depth_inliers
            )
            or e.overlap_3d >= config.min_overlap_3d
        ]
        row = {t: k for k, t in enumerate(view.track_ids)}
        column = {o: k for k, o in enumerate(sorted({e.map_object_id for e in gated}))}
        places = [(row[e.track_id], column[e.map_object_id]) for e in gated]
        odds = np.zeros((len(row), len(column)))
        # a column per object, and a "none" per track that costs nothing
        cost = np.full((len(row), len(column) + len(row)), _NEVER)
        cost[:, len(column) :] = 0.0
        said = log_odds(gated, config)
        preferred = preferences(gated, said, view.bound, view.consistency, config)
        for at, s, p in zip(places, said.tolist(), preferred.tolist(), strict=True):
            odds[at] = math.exp(s)
            cost[at] = -p
        scores = marginals(odds)
        judged: list[list[tuple[int, Evidence]]] = [[] for _ in row]
        for (i, j), e in zip(places, gated, strict=True):
            judged[i].append((j, e._replace(score=float(scores[i, j]))))
        chosen = np.zeros(len(row), int)
        rows, columns = linear_sum_assignment(cost)
        chosen[rows] = columns
        out = []
        for t, some, place in zip(view.track_ids, judged, chosen.tolist(), strict=True):
            best = next((e for j, e in some if j == place), None)
            out.append(
                Match(
                    t,
                    best,
                    max((e for j, e in some if j != place), key=lambda e: e.score, default=None),
                )
            )
        return Verdicts(tuple(out), tuple(found))


class SeedAssociator:
    """The null twin: a track is the object that it was seeded from, whatever the image says."""

    def __call__(self, view: View) -> Verdicts:
        return Verdicts(
            tuple(
                Match(
                    t,
                    Evidence(t, view.bound[t], 1.0, math.nan, math.nan, math.nan)
                    if view.bound.get(t)
                    else None,
                    None,
                )
                for t in view.track_ids
            ),
            (),
        )
