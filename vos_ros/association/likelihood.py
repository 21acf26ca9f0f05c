"""How probable it is that a track is this object of the map, that one, or none of them.

The evidence x_ij for track i and object j has log-odds s_ij = w . x_ij against the track being
none of the map's objects. x_ij are the values of the registered terms (``association.terms``), w
their weights, fitted by maximum likelihood on rendered sequences with known truth (``vos-ros eval
association --fit``). A track is at most one object and an object at most one track, so the
probability of an assignment a is

    P(a) ~ prod_i exp(s_i,a(i))        over all a that give no object to two tracks, s = 0 for none,

and the score of a pair is the marginal P(a(i) = j). Score and runner-up are probabilities of one
model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int

from vos_ros.association.interface import PairEvidence
from vos_ros.association.registry import Term, registered
from vos_ros.config import AssociationConfig

_MAX_LOG_ODDS = 30.0  # beyond it no probability changes in double precision
_MAX_SWEEPS, _MAX_CHANGE = 50, 1e-4  # of belief propagation: sweeps, and the change that ends it
MAX_COUNTED = 6
"""Tracks or objects of a group whose assignments are counted one by one: 2^6 sets, about 0.3 ms."""


@dataclass(frozen=True)
class Column:
    """Name one column of the matrix x: the values of a term, or where they are unknown."""

    term: type[Term]
    """The term."""
    unknown: bool
    """False: the term's values, 0 where unknown. True: 1 where unknown, else 0."""

    @property
    def key(self) -> str:
        """Parameter that holds the weight, below ``association.terms``."""
        return f"{self.term.name}.{'weight_unknown' if self.unknown else 'weight'}"

    def of(self, pairs: PairEvidence) -> Float64[np.ndarray, "n"]:
        """Return the column for some pairs."""
        values = pairs.terms[self.term.name]
        unknown = np.isnan(values)
        return unknown.astype(np.float64) if self.unknown else np.where(unknown, 0.0, values)

    def weight(self, config: AssociationConfig) -> float:
        """Return the configured weight."""
        name = "weight_unknown" if self.unknown else "weight"
        return float(getattr(config.terms[self.term.name], name))


def columns(terms: Iterable[type[Term]]) -> tuple[Column, ...]:
    """Return the columns of terms, in the order in which they are summed."""
    both = [Column(t, False) for t in terms]
    both += [Column(c.term, True) for c in both if c.term.weight_unknown is not None]
    return tuple(sorted(both, key=lambda c: (c.term.order, c.unknown, c.term.name)))


def fitted_columns() -> tuple[Column, ...]:
    """Return the columns whose weights are fitted."""
    return columns(term for term in registered() if term.fitted)


def design_matrix(
    pairs: PairEvidence, wanted: Iterable[Column] | None = None
) -> Float64[np.ndarray, "n F"]:
    """Return x: a row per pair, a column per item of ``wanted`` (default: ``fitted_columns``)."""
    chosen = fitted_columns() if wanted is None else tuple(wanted)
    return np.stack([c.of(pairs) for c in chosen]).T.copy()  # rows lie whole: sums keep their bits


class Likelihood:
    """Weigh the evidence of pairs by the configured weights of the registered terms."""

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config
        self._fitted = fitted_columns()
        self._weights = np.array([c.weight(config) for c in self._fitted])
        self._fixed = self._weighed(t for t in registered() if not t.fitted)
        self._appearance = self._weighed(t for t in registered() if t.appearance)

    def log_odds(self, pairs: PairEvidence) -> Float64[np.ndarray, "n"]:
        """Return s, the log-odds of each pair against the track being none of the map's objects."""
        s = design_matrix(pairs, self._fitted) @ self._weights
        s = s + _sum(self._fixed, pairs)
        return np.asarray(s.clip(-_MAX_LOG_ODDS, _MAX_LOG_ODDS))

    def preferences(
        self,
        pairs: PairEvidence,
        log_odds: Float64[np.ndarray, "n"],
        current_match: Mapping[int, int],
        consistency: Mapping[int, float],
    ) -> Float64[np.ndarray, "n"]:
        """Return what the assignment maximizes: log-odds that favour each track's current match.

        The current match gets ``current_match_bonus``, as far as the track kept its place.
        Appearance may tell that a track is none of the map's objects. It never makes the track
        another object: no candidate gains more by terms of appearance than the current match, so
        that look-alikes are told apart by where they are.

        Args:
            pairs: evidence of the candidates.
            log_odds: s of each pair.
            current_match: track id -> id of the object that it is matched to so far, 0 none.
            consistency: track id -> 0..1, how well it kept its place; 1 where it is not listed.
        """
        appearance = _sum(self._appearance, pairs)
        tracks, objects = pairs.track_ids.tolist(), pairs.object_ids.tolist()
        current = {
            t: k
            for k, (t, o) in enumerate(zip(tracks, objects, strict=True))
            if current_match.get(t) == o
        }
        out = np.array(log_odds)
        for k, track in enumerate(tracks):
            row = current.get(track)
            if row == k:
                out[k] += self._config.current_match_bonus * consistency.get(track, 1.0)
            elif row is not None:
                out[k] -= max(0.0, appearance[k] - appearance[row])
        return out

    def _weighed(self, terms: Iterable[type[Term]]) -> list[tuple[Column, float]]:
        """Return the columns of some terms, each with its weight."""
        return [(c, c.weight(self._config)) for c in columns(terms)]


def _sum(weighed: Iterable[tuple[Column, float]], pairs: PairEvidence) -> Float64[np.ndarray, "n"]:
    """Return the weighted sum of a few columns."""
    out = np.zeros(len(pairs))
    for column, weight in weighed:
        out += weight * column.of(pairs)
    return out


def marginals(
    odds: Float64[np.ndarray, "T O"], max_counted: int = MAX_COUNTED
) -> Float64[np.ndarray, "T O"]:
    """Return P(a(i) = j) for every pair, from odds exp(s_ij), 0 where a pair is no candidate.

    Belief propagation by Williams and Lau 2014 (IEEE TAES 50(4), "Approximate evaluation of
    marginal association probabilities with belief propagation") always converges, and is exact
    where the candidates form no cycle. In a group with a cycle the assignments are counted, if it
    has ``max_counted`` tracks or objects at most; in larger groups propagation is an
    approximation.
    """
    out = _propagate(odds)
    edges = odds > 0
    if odds.size == 0 or not (edges.sum(0) > 1).any() or not (edges.sum(1) > 1).any():
        return out
    i, j = edges.nonzero()
    track_group, object_group = _groups(i, j, odds.shape)
    pairs = np.bincount(track_group[i])
    nodes = np.bincount(np.concatenate([track_group, object_group]))[: len(pairs)]
    # a connected group without a cycle is a tree: one pair fewer than nodes
    for group in np.flatnonzero((pairs > 0) & (pairs >= nodes)):
        at = np.ix_(np.flatnonzero(track_group == group), np.flatnonzero(object_group == group))
        part = odds[at]
        if min(part.shape) <= max_counted:
            out[at] = _count(part) if part.shape[0] >= part.shape[1] else _count(part.T).T
    return out


def _groups(
    i: Int[np.ndarray, "E"], j: Int[np.ndarray, "E"], shape: tuple[int, int]
) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "O"]]:
    """Return the group of each track and object: the first track connected to it by candidates.

    An object without candidates gets the number of tracks.
    """
    tracks, objects = shape
    track_group = np.arange(tracks)
    while True:
        object_group = np.full(objects, tracks)
        np.minimum.at(object_group, j, track_group[i])
        before = track_group.copy()
        np.minimum.at(track_group, i, object_group[j])
        if (before == track_group).all():
            return track_group, object_group


def _propagate(odds: Float64[np.ndarray, "T O"]) -> Float64[np.ndarray, "T O"]:
    """Return the marginals by belief propagation."""
    to_track = np.ones_like(odds)
    for _ in range(_MAX_SWEEPS):
        weighted = odds * to_track
        to_object = odds / (1.0 + weighted.sum(1, keepdims=True) - weighted)
        updated = 1.0 / (1.0 + to_object.sum(0, keepdims=True) - to_object)
        change = np.abs(updated - to_track).max(initial=0.0)
        to_track = updated
        if change < _MAX_CHANGE:
            break
    weighted = odds * to_track
    return np.asarray(weighted / (1.0 + weighted.sum(1, keepdims=True)))


def _count(odds: Float64[np.ndarray, "m k"]) -> Float64[np.ndarray, "m k"]:
    """Return the marginals by summing over all assignments; cheap where there are few columns.

    Rows are processed one after the other, forwards and backwards, over the 2^k sets of columns
    that are taken already.
    """
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
