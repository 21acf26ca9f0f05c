"""How probable it is that a track is this object of the map, that one, or none of them.

Track i's mask speaks for object j with log-odds s_ij = w . x_ij against its being none of the map's objects; x_ij is the evidence of the
pair, see ``FEATURES``. The weights w are fitted by maximum likelihood on rendered sequences whose truth is known
(``vos-ros eval association --fit``). A track is one object at most and an object one track at most, so that the probability of an
assignment is

    P(a) ~ prod_i exp(s_i,a(i))        over all a that give no object to two tracks, s = 0 for none,

and a score is the marginal P(a(i) = j). So score and runner-up are probabilities of one model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int

from vos_ros.association.interface import Evidence
from vos_ros.config import AssociationConfig

FEATURES = (
    "bias",
    "tolerant_iou",
    "mask_iou",
    "depth_inliers",
    "overlap_3d",
    "no_depth",
    "similarity",
    "no_similarity",
)
"""Columns of x: 1; the evidence's terms; where there is no depth its terms are 0, and ``no_depth`` is 1; so for the looks. The
configuration has a weight for each."""
_MOST = 30.0  # |log-odds| beyond this change no probability
_SWEEPS, _SETTLED = 50, 1e-4
_COUNTED = 6  # 64 sets: some hundred microseconds


def features(pairs: Sequence[Evidence]) -> Float64[np.ndarray, "n F"]:
    """x of every pair."""
    rows = [
        (
            1.0,
            e.tolerant_iou,
            e.mask_iou,
            _or_0(e.depth_inlier_ratio),
            _or_0(e.overlap_3d),
            float(math.isnan(e.depth_inlier_ratio)),
            max(0.0, _or_0(e.similarity)),
            float(math.isnan(e.similarity)),
        )
        for e in pairs
    ]
    return np.array(rows, np.float64).reshape(-1, len(FEATURES))


def weights(config: AssociationConfig) -> Float64[np.ndarray, "F"]:
    """w."""
    return np.array([getattr(config, f"weight_{name}") for name in FEATURES])


def log_odds(pairs: Sequence[Evidence], config: AssociationConfig) -> Float64[np.ndarray, "n"]:
    """s of every pair. Classes that are known to differ speak against it; no fit is needed to know by how much one trusts them."""
    s = features(pairs) @ weights(config) - config.class_conflict * np.array(
        [e.conflict for e in pairs], float
    )
    return np.asarray(s.clip(-_MOST, _MOST))


def preferences(
    pairs: Sequence[Evidence],
    odds: Float64[np.ndarray, "n"],
    bound: Mapping[int, int],
    consistency: Mapping[int, float],
    config: AssociationConfig,
) -> Float64[np.ndarray, "n"]:
    """What the assignment goes by: the log-odds, and for the object that a track was held to be ``current_match_bonus``, as far as the track has
    stayed in its place. Looks may tell that a track is none of the map's objects; they never make it another one: no object gains more
    by its looks than the one that the track was held to be, so that look-alikes are told apart by where they are."""
    looks = [
        config.weight_no_similarity
        if math.isnan(e.similarity)
        else config.weight_similarity * max(0.0, e.similarity)
        for e in pairs
    ]
    own = {e.track_id: k for k, e in enumerate(pairs) if bound.get(e.track_id) == e.map_object_id}
    out = np.array(odds)
    for k, e in enumerate(pairs):
        kept = own.get(e.track_id)
        if kept == k:
            out[k] += config.current_match_bonus * consistency.get(e.track_id, 1.0)
        elif kept is not None:
            out[k] -= max(0.0, looks[k] - looks[kept])
    return out


def _or_0(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def marginals(odds: Float64[np.ndarray, "T O"]) -> Float64[np.ndarray, "T O"]:
    """P(a(i) = j) from exp(s_ij), 0 where a pair is no candidate: the belief propagation of Williams and Lau 2014 (IEEE TAES 50(4)),
    which always converges, and exactly where no cycle of candidates is closed. Where one is, among ``_COUNTED`` tracks or objects at
    most, the assignments are counted; among more, propagation is an approximation."""
    out = _propagated(odds)
    edges = odds > 0
    if odds.size == 0 or not (edges.sum(0) > 1).any() or not (edges.sum(1) > 1).any():
        return out
    i, j = edges.nonzero()
    of_track, of_object = _groups(i, j, odds.shape)
    pairs = np.bincount(of_track[i])
    nodes = np.bincount(np.concatenate([of_track, of_object]))[: len(pairs)]
    for cyclic in np.flatnonzero((pairs > 0) & (pairs >= nodes)):
        at = np.ix_(np.flatnonzero(of_track == cyclic), np.flatnonzero(of_object == cyclic))
        part = odds[at]
        if min(part.shape) <= _COUNTED:
            out[at] = _counted(part) if part.shape[0] >= part.shape[1] else _counted(part.T).T
    return out


def _groups(
    i: Int[np.ndarray, "E"], j: Int[np.ndarray, "E"], shape: tuple[int, int]
) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "O"]]:
    """Which tracks and objects are connected by candidates: each is named by the first track of its group, an object of none by T."""
    tracks, objects = shape
    of_track = np.arange(tracks)
    while True:
        of_object = np.full(objects, tracks)
        np.minimum.at(of_object, j, of_track[i])
        before = of_track.copy()
        np.minimum.at(of_track, i, of_object[j])
        if (before == of_track).all():
            return of_track, of_object


def _propagated(odds: Float64[np.ndarray, "T O"]) -> Float64[np.ndarray, "T O"]:
    """The marginals by belief propagation."""
    to_track = np.ones_like(odds)
    for _ in range(_SWEEPS):
        weighed = odds * to_track
        to_object = odds / (1.0 + weighed.sum(1, keepdims=True) - weighed)
        next_ = 1.0 / (1.0 + to_object.sum(0, keepdims=True) - to_object)
        change = np.abs(next_ - to_track).max(initial=0.0)
        to_track = next_
        if change < _SETTLED:
            break
    weighed = odds * to_track
    return np.asarray(weighed / (1.0 + weighed.sum(1, keepdims=True)))


def _counted(odds: Float64[np.ndarray, "m k"]) -> Float64[np.ndarray, "m k"]:
    """The marginals by summing over all assignments: rows one after the other, forwards and backwards, over the 2^k sets of columns that
    are taken already. Columns should be the fewer."""
    rows, columns = odds.shape
    sets, column = np.arange(1 << columns)[:, None], 1 << np.arange(columns)
    taken = sets & column > 0
    before, after = np.zeros((rows + 1, len(sets))), np.ones((rows + 1, len(sets)))
    before[0, 0] = 1.0
    for i in range(rows):
        before[i + 1] = before[i] + (taken * before[i, sets & ~column]) @ odds[i]
    out = np.zeros_like(odds)
    for i in reversed(range(rows)):
        then = ~taken * after[i + 1, sets | column]
        out[i] = odds[i] * (before[i] @ then)
        after[i] = after[i + 1] + then @ odds[i]
    return np.asarray(out / after[0, 0])
