"""Measure how well identities are kept over a sequence. Pure functions.

idf1  Ristani et al. 2016 (arXiv:1609.01775): one-to-one assignment of given names to true objects
      over the whole sequence
hota  Luiten et al. 2021 (arXiv:2009.07736), the mean over its 19 thresholds; with deta (detection)
      and assa (association)
ece   Naeini et al. 2015: expected calibration error of scores, ten bins of equal width

IDF1 and HOTA equal those of the ``trackeval`` package (a test has its numbers). That package can't
be required, because it installs another OpenCV.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import linear_sum_assignment

from vos_ros.evaluation.metrics import MATCH_IOU, MIN_PIXELS, Overlap

_ALPHAS = np.arange(0.05, 0.99, 0.05)
_EPS = np.finfo(float).eps
_BINS = 10
_UNNAMED = -1  # names of instances that name no object: below every object id, one per label value


@dataclass(frozen=True, eq=False, slots=True)
class Sightings:
    """True objects and named instances of one frame."""

    true_ids: Int64[np.ndarray, "G"]
    """Ids of the true objects that count. No id repeats."""
    names: Int64[np.ndarray, "T"]
    """Object ids that the instances were named as; negative for an instance without a name. None
    repeats.
    """
    iou: Float64[np.ndarray, "G T"]
    """IoU of each true object with each instance."""


def sightings(counts: Overlap, names: Mapping[int, int]) -> Sightings:
    """Collect one frame by the rules of ``metrics``.

    Objects count from ``MIN_PIXELS`` on. Instances are left out that are smaller, lie mostly on
    ignored pixels, or lie mostly on an object too small to count. ``names`` maps a label value to
    the object id, 0 = none; an instance without a name is known by its label value. Where several
    instances have one name, the largest keeps it.
    """
    counted = [
        c
        for c, (i, area) in enumerate(zip(counts.ids, counts.id_area, strict=True))
        if i and area >= MIN_PIXELS
    ]
    small = [
        c
        for c, (i, area) in enumerate(zip(counts.ids, counts.id_area, strict=True))
        if i and area < MIN_PIXELS
    ]
    kept: dict[int, int] = {}
    for r in np.argsort(-counts.value_area, kind="stable").tolist():
        value, area = int(counts.values[r]), int(counts.value_area[r])
        if (
            value not in names
            or area < MIN_PIXELS
            or 2 * area <= counts.total[r]
            or (small and 2 * counts.both[r, small].max() > area)
        ):
            continue
        kept.setdefault(names[value] or _UNNAMED - value, r)
    rows = list(kept.values())
    return Sightings(
        counts.ids[counted], np.array(list(kept), np.int64), counts.iou()[np.ix_(rows, counted)].T
    )


def idf1(frames: Sequence[Sightings]) -> float:
    """Return IDF1 at ``MATCH_IOU``; 1 where there are neither objects nor instances."""
    truth, given = _places(f.true_ids for f in frames), _places(f.names for f in frames)
    both = np.zeros((len(truth), len(given)))
    for f in frames:
        g, t = np.nonzero(f.iou >= MATCH_IOU)
        both[[truth[int(i)] for i in f.true_ids[g]], [given[int(i)] for i in f.names[t]]] += 1
    n_true, n_given = sum(len(f.true_ids) for f in frames), sum(len(f.names) for f in frames)
    hits = both[linear_sum_assignment(-both)].sum() if both.size else 0.0
    return float(2 * hits / (n_true + n_given)) if n_true + n_given else 1.0


def hota(frames: Sequence[Sightings]) -> dict[str, float]:
    """Return ``hota``, ``deta`` and ``assa``, each the mean over the thresholds."""
    truth, given = _places(f.true_ids for f in frames), _places(f.names for f in frames)
    rows = [np.array([truth[int(i)] for i in f.true_ids], int) for f in frames]
    columns = [np.array([given[int(i)] for i in f.names], int) for f in frames]
    together = np.zeros((len(truth), len(given)))
    for f, r, c in zip(frames, rows, columns, strict=True):
        share = f.iou.sum(0)[None, :] + f.iou.sum(1)[:, None] - f.iou
        together[np.ix_(r, c)] += np.where(share > _EPS, f.iou / np.maximum(share, _EPS), 0.0)
    n_truth = np.bincount(np.concatenate([*rows, np.zeros(0, int)]), minlength=len(truth))[:, None]
    n_given = np.bincount(np.concatenate([*columns, np.zeros(0, int)]), minlength=len(given))[
        None, :
    ]
    alignment = together / np.maximum(n_truth + n_given - together, _EPS)
    hits = np.zeros(len(_ALPHAS))
    matched = np.zeros((len(_ALPHAS), len(truth), len(given)))
    for f, r, c in zip(frames, rows, columns, strict=True):
        g, t = linear_sum_assignment(-alignment[np.ix_(r, c)] * f.iou)
        for k, alpha in enumerate(_ALPHAS):
            good = f.iou[g, t] >= alpha - _EPS
            hits[k] += good.sum()
            matched[k, r[g[good]], c[t[good]]] += 1
    total = int(n_truth.sum() + n_given.sum())
    deta = hits / np.maximum(total - hits, 1)
    together_as = matched / np.maximum(n_truth + n_given - matched, 1)
    assa = (matched * together_as).sum((1, 2)) / np.maximum(hits, 1)
    return {
        "hota": float(np.sqrt(deta * assa).mean()),
        "deta": float(deta.mean()),
        "assa": float(assa.mean()),
    }


@dataclass(frozen=True, eq=False, slots=True)
class Calibration:
    """Scores against the share that was right, by bin of the score."""

    count: Int64[np.ndarray, "B"]
    """Number of scores per bin."""
    score: Float64[np.ndarray, "B"]
    """Mean score per bin, NaN where it is empty."""
    right: Float64[np.ndarray, "B"]
    """Share that was right per bin, NaN where it is empty."""
    ece: float
    """Mean gap between the two, weighted by the count; NaN without scores."""


def calibration(scores: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Compare claims' scores (0..1) with whether each claim was right."""
    s, ok = np.asarray(scores, float), np.asarray(right, float)
    place = np.minimum((s * _BINS).astype(int), _BINS - 1)
    count = np.bincount(place, minlength=_BINS)
    with np.errstate(invalid="ignore"):
        mean, share = (np.bincount(place, x, minlength=_BINS) / count for x in (s, ok))
    gap = np.nansum(count * np.abs(mean - share))
    return Calibration(count, mean, share, float(gap / len(s)) if len(s) else float("nan"))


@dataclass(frozen=True, slots=True)
class Return:
    """A return of an object that had stopped counting."""

    left_s: float
    """When it last counted."""
    back_s: float
    """When it counted again."""
    wait_s: float
    """Time from then to its first right name; infinite where it left again, or the sequence ended,
    before.
    """


def returns(
    stamps_s: Sequence[float], seen: Sequence[bool], right: Sequence[bool], away_s: float
) -> list[Return]:
    """List the returns of one object over a sequence.

    Args:
        stamps_s: time of each frame.
        seen: whether the object counts in it.
        right: whether it is rightly named in it.
        away_s: shortest time without counting that makes a return.
    """
    out: list[Return] = []
    last: float | None = None
    waiting: tuple[float, float] | None = None
    for t, here, ok in zip(stamps_s, seen, right, strict=True):
        if not here:
            continue
        if last is not None and t - last >= away_s:
            if waiting is not None:
                out.append(Return(*waiting, float("inf")))
            waiting = last, t
        if waiting is not None and ok:
            out.append(Return(*waiting, t - waiting[1]))
            waiting = None
        last = t
    return out if waiting is None else [*out, Return(*waiting, float("inf"))]


def _places(ids: Iterable[Int64[np.ndarray, "n"]]) -> dict[int, int]:
    """Number the ids that occur, in ascending order."""
    found = {int(i) for some in ids for i in some}
    return {i: k for k, i in enumerate(sorted(found))}
