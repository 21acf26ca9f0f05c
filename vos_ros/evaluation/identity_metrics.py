"""How well identities are kept over a sequence: IDF1, HOTA, calibration of scores, time to recognise what returns. Pure functions.

idf1            Ristani et al. 2016 (arXiv:1609.01775): one-to-one assignment of given names to true objects over the whole sequence
hota            Luiten et al. 2021 (arXiv:2009.07736), the mean over its 19 thresholds; with deta (detection) and assa (association)
ece             Naeini et al. 2015: expected calibration error of scores, ten bins of equal width

The first two equal those of the ``trackeval`` package (a test has its numbers), which can't be required: it brings another OpenCV along.
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
    """One frame: the true objects that count, the names given, and the IoU of each pair. Neither repeats."""

    true_ids: Int64[np.ndarray, "G"]
    names: Int64[np.ndarray, "T"]
    iou: Float64[np.ndarray, "G T"]


def sightings(counts: Overlap, names: Mapping[int, int]) -> Sightings:
    """A frame by the rules of ``metrics``: objects count from MIN_PIXELS on; instances that are smaller, lie mostly on ignored pixels or on
    an object too small to count, are left out. ``names``: label value -> object id named, 0 = none: an instance without a name is
    known by its label value. Of several instances of one name the largest has it."""
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
    """IDF1 at MATCH_IOU; 1 where there is nothing to find and nothing was said."""
    truth, given = _places(f.true_ids for f in frames), _places(f.names for f in frames)
    both = np.zeros((len(truth), len(given)))
    for f in frames:
        g, t = np.nonzero(f.iou >= MATCH_IOU)
        both[[truth[int(i)] for i in f.true_ids[g]], [given[int(i)] for i in f.names[t]]] += 1
    n_true, n_given = sum(len(f.true_ids) for f in frames), sum(len(f.names) for f in frames)
    hits = both[linear_sum_assignment(-both)].sum() if both.size else 0.0
    return float(2 * hits / (n_true + n_given)) if n_true + n_given else 1.0


def hota(frames: Sequence[Sightings]) -> dict[str, float]:
    """``hota``, ``deta`` and ``assa``, each the mean over the thresholds."""
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
    """Scores against what they promise, by bin of the score: how many there were, their mean, and the share that was right (NaN where
    none was). ``ece`` is the mean gap between the two, weighted by number; NaN without any score."""

    count: Int64[np.ndarray, "B"]
    score: Float64[np.ndarray, "B"]
    right: Float64[np.ndarray, "B"]
    ece: float


def calibration(scores: Sequence[float], right: Sequence[bool]) -> Calibration:
    """Of claims with scores 0..1 and whether each was right."""
    s, ok = np.asarray(scores, float), np.asarray(right, float)
    place = np.minimum((s * _BINS).astype(int), _BINS - 1)
    count = np.bincount(place, minlength=_BINS)
    with np.errstate(invalid="ignore"):
        mean, share = (np.bincount(place, x, minlength=_BINS) / count for x in (s, ok))
    gap = np.nansum(count * np.abs(mean - share))
    return Calibration(count, mean, share, float(gap / len(s)) if len(s) else float("nan"))


@dataclass(frozen=True, slots=True)
class Return:
    """An object that counted until ``left_s`` and again from ``back_s`` on, and was first named rightly ``wait_s`` after that: infinite
    where it left again, or the sequence ended, before."""

    left_s: float
    back_s: float
    wait_s: float


def returns(
    stamps_s: Sequence[float], seen: Sequence[bool], right: Sequence[bool], away_s: float
) -> list[Return]:
    """Of one object, over the frames of a sequence: each time that it counts again after it didn't for ``away_s`` and more."""
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
    """Every id that occurs -> a row of its own."""
    found = {int(i) for some in ids for i in some}
    return {i: k for k, i in enumerate(sorted(found))}
