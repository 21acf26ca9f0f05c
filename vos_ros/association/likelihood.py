"""How probable it is that a track is this object of the map, that one, or none of them.

Track i's mask speaks for object j with log-odds s_ij = w . x_ij against its being none of the map's objects; x_ij is the evidence of the
pair, see ``FEATURES``. The weights w are fitted by maximum likelihood on rendered sequences whose truth is known
(``vos-ros eval association --fit``). A track is one object at most and an object one track at most, so that the probability of an
assignment is

    P(a) ~ prod_i exp(s_i,a(i))        over all a that give no object to two tracks, s = 0 for none,

and a score is the marginal P(a(i) = j), by belief propagation. So score and runner-up are probabilities of one model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from vos_ros.association.interface import Evidence
from vos_ros.config import AssociationConfig

FEATURES = ("bias", "tolerant_iou", "mask_iou", "depth_inliers", "no_depth")
"""Columns of x: 1; the evidence's terms; a missing depth term is 0, and 1 in ``no_depth``. The configuration has a weight for each."""
_MOST = 30.0  # |log-odds| beyond this change no probability
_SWEEPS, _SETTLED = 50, 1e-4


def features(pairs: Sequence[Evidence]) -> Float64[np.ndarray, "n F"]:
    """x of every pair."""
    rows = [(1.0, e.tolerant_iou, e.mask_iou, 0.0 if math.isnan(e.depth_inlier_ratio) else e.depth_inlier_ratio,
             float(math.isnan(e.depth_inlier_ratio))) for e in pairs]
    return np.array(rows, np.float64).reshape(-1, len(FEATURES))


def weights(config: AssociationConfig) -> Float64[np.ndarray, "F"]:
    """w."""
    return np.array([getattr(config, f"weight_{name}") for name in FEATURES])


def log_odds(pairs: Sequence[Evidence], config: AssociationConfig) -> Float64[np.ndarray, "n"]:
    """s of every pair."""
    return np.asarray((features(pairs) @ weights(config)).clip(-_MOST, _MOST))


def marginals(odds: Float64[np.ndarray, "T O"]) -> Float64[np.ndarray, "T O"]:
    """P(a(i) = j) from exp(s_ij), 0 where a pair is no candidate: the belief propagation of Williams and Lau 2014 (IEEE TAES 50(4)),
    which always converges, and exactly where no cycle of candidates is closed."""
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
