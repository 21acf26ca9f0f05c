"""One-to-one assignment of map objects to tracks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy.optimize import linear_sum_assignment

from vos_ros.association.candidates import find_candidates, share
from vos_ros.association.interface import (
    Evidence,
    FrameEvidence,
    Match,
    Matching,
    PairEvidence,
)
from vos_ros.association.likelihood import Likelihood, marginals
from vos_ros.association.registry import Term, registered
from vos_ros.config import AssociationConfig

_NO_CANDIDATE = 1e6  # cost of a pair that the gate refused: above any sum of log-odds


def collect_evidence(frame: FrameEvidence, terms: Sequence[Term]) -> PairEvidence:
    """Return the values of all terms for every candidate pair of a frame."""
    pairs = find_candidates(frame)
    return PairEvidence(
        track_ids=pairs.track_ids,
        object_ids=pairs.object_ids,
        terms={term.name: term.values(pairs) for term in terms},
        surface_px=pairs.surface_px,
        surface_covered=share(pairs.shared_surface_px, pairs.surface_px),
    )


class HungarianAssociator:
    """Assign the pairs of the greatest total log-odds (Kuhn 1955); a track may stay without object.

    Only pairs that pass the gate take part: their masks or their surfaces overlap. A track keeps
    its current match unless another object is clearly better. Scores are the probabilities of
    ``likelihood``.
    """

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config
        self._terms = [term(config.terms[term.name]) for term in registered()]
        self._likelihood = Likelihood(config)

    def __call__(self, evidence: FrameEvidence) -> Matching:
        pairs = collect_evidence(evidence, self._terms)
        gated = pairs.select(self._gate(pairs))
        log_odds = self._likelihood.log_odds(gated)
        preferences = self._likelihood.preferences(
            gated, log_odds, evidence.current_match, evidence.consistency
        )
        tracks = len(evidence.track_ids)
        row_of = {t: row for row, t in enumerate(evidence.track_ids)}
        rows = np.array([row_of[t] for t in gated.track_ids.tolist()], int)
        object_ids, columns = np.unique(gated.object_ids, return_inverse=True)
        odds = np.zeros((tracks, len(object_ids)))
        odds[rows, columns] = [math.exp(s) for s in log_odds.tolist()]
        scores = marginals(odds)[rows, columns].tolist()
        # a column per object, and one per track for "none", which costs nothing
        cost = np.full((tracks, len(object_ids) + tracks), _NO_CANDIDATE)
        cost[:, len(object_ids) :] = 0.0
        cost[rows, columns] = -preferences
        chosen = linear_sum_assignment(cost)[1]
        best: list[int | None] = [None] * tracks
        others: list[list[int]] = [[] for _ in range(tracks)]
        for k, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            if column == chosen[row]:
                best[row] = k
            else:
                others[row].append(k)
        second = [max(some, key=scores.__getitem__, default=None) for some in others]

        def pair(k: int | None) -> Evidence | None:
            return None if k is None else gated.pair(k, scores[k])

        matches = zip(evidence.track_ids, best, second, strict=True)
        return Matching(tuple(Match(t, pair(a), pair(b)) for t, a, b in matches), pairs)

    def _gate(self, pairs: PairEvidence) -> Bool[np.ndarray, "n"]:
        """Return which pairs overlap enough, in the image at an agreeing depth, or in space."""
        config = self._config
        in_image = pairs.values("tolerant_iou") >= config.min_iou
        in_image &= ~(pairs.values("depth_inliers") < config.min_depth_inliers)  # NaN passes
        return np.asarray(in_image | (pairs.values("overlap_3d") >= config.min_overlap_3d))


class SeedAssociator:
    """Match each track to the object that it was seeded from: the null twin, ignores the image."""

    def __call__(self, evidence: FrameEvidence) -> Matching:
        seeded = [(t, evidence.current_match.get(t, 0)) for t in evidence.track_ids]
        matches = tuple(Match(t, Evidence(t, o, 1.0) if o else None, None) for t, o in seeded)
        return Matching(matches, PairEvidence.none())
