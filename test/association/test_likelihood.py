from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.association import association_config, pair_evidence

from vos_ros.association.likelihood import (
    Likelihood,
    design_matrix,
    fitted_columns,
    marginals,
)
from vos_ros.config import AssociationConfig


def exact(odds: np.ndarray) -> np.ndarray:
    """By listing every assignment."""
    t, o = odds.shape
    out, total = np.zeros_like(odds), 0.0
    for a in product(range(o + 1), repeat=t):  # o: none
        taken = [j for j in a if j < o]
        if len(taken) == len(set(taken)):
            p = math.prod(odds[i, j] for i, j in enumerate(a) if j < o)
            total += p
            for i, j in enumerate(a):
                if j < o:
                    out[i, j] += p
    return out / total


def test_alone_a_track_is_its_candidate_with_the_logistic_of_the_log_odds() -> None:
    assert marginals(np.array([[math.exp(2.0)]]))[0, 0] == pytest.approx(1 / (1 + math.exp(-2.0)))
    assert marginals(np.array([[3.0, 1.0]]))[0] == pytest.approx([3 / 5, 1 / 5])
    assert marginals(np.zeros((2, 0))).shape == (2, 0) and marginals(np.zeros((0, 0))).shape == (
        0,
        0,
    )


def test_an_object_is_one_track_at_most() -> None:
    """Both tracks fit object 0 best, the first one better: the second is object 1 then."""
    odds = np.exp(np.array([[8.0, -2.0], [5.0, 4.0]]))
    p = marginals(odds)
    assert p[0, 0] > 0.9 and p[1, 1] > 0.9 and p[:, 0].sum() <= 1.0 + 1e-6
    assert odds[1, 1] / (1 + odds[1].sum()) < 0.3


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.booleans(), st.integers(0, 10_000))
def test_marginals_are_those_of_all_assignments(t: int, o: int, turned: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    odds = np.where(rng.uniform(size=(t, o)) < 0.7, np.exp(rng.normal(0, 3, (t, o))), 0.0)
    odds = odds.T if turned else odds
    p = marginals(odds)
    assert np.allclose(p, exact(odds), atol=2e-3) and (p[odds == 0] == 0).all()
    assert (p.sum(0) <= 1 + 1e-9).all() and (p.sum(1) <= 1 + 1e-9).all()


def test_a_chain_of_candidates_is_followed_to_its_end() -> None:
    """Track i fits objects i and i + 1, the last track its own alone: that decides for all others.

    Without a cycle propagation is exact, once it has reached the other end.
    """
    odds = 30.0 * (np.eye(5) + np.eye(5, k=1))
    for chain in (odds, odds.T):
        p = marginals(chain)
        assert np.allclose(p, exact(chain), atol=1e-3)
    assert marginals(odds).diagonal().min() > 0.75


def test_groups_are_counted_apart() -> None:
    """Two groups with a cycle each, mixed, and a track without candidates: as each alone."""
    rng = np.random.default_rng(3)
    one, two = np.exp(rng.normal(0, 3, (3, 2))), np.exp(rng.normal(0, 3, (2, 3)))
    odds = np.zeros((6, 5))
    first, second = np.ix_([0, 3, 5], [1, 4]), np.ix_([1, 4], [0, 2, 3])
    odds[first], odds[second] = one, two
    p = marginals(odds)
    assert (
        np.allclose(p[first], exact(one)) and np.allclose(p[second], exact(two)) and not p[2].any()
    )


def test_in_large_groups_propagation_is_near_the_exact_marginals() -> None:
    """All pairs are candidates; propagation alone must tell the probable ones from the others."""
    rng = np.random.default_rng(0)
    odds = np.exp(rng.normal(-2, 1, (6, 6)) + 6 * np.eye(6))
    counted = marginals(odds)
    propagated = marginals(odds, max_counted=5)
    assert np.abs(counted - propagated).max() < 0.05 and not np.allclose(
        counted, propagated, atol=1e-6
    )
    assert np.isfinite(marginals(np.exp(rng.normal(0, 8, (50, 60))))).all()


def test_log_odds_are_weighted_values_and_unknown_ones_have_weights_of_their_own() -> None:
    config = association_config(
        terms__bias__weight=-1.0,
        terms__tolerant_iou__weight=2.0,
        terms__mask_iou__weight=3.0,
        terms__depth_inliers__weight=4.0,
        terms__depth_inliers__weight_unknown=0.5,
        terms__overlap_3d__weight=5.0,
        terms__similarity__weight=2.5,
        terms__similarity__weight_unknown=0.25,
        terms__class_conflict__weight=-6.0,
    )
    masks = {"mask_iou": 0.5, "tolerant_iou": 0.6}
    pairs = pair_evidence(
        (1, 7, {**masks, "depth_inliers": 0.9, "overlap_3d": 0.4, "similarity": 0.8}),
        (1, 8, masks),
        (1, 9, {**masks, "similarity": 0.0, "class_conflict": 1.0}),
        (1, 6, {**masks, "similarity": 0.0, "class_conflict": 0.0}),
    )
    of_masks = -1 + 1.2 + 1.5
    assert Likelihood(config).log_odds(pairs) == pytest.approx(
        [
            of_masks + 3.6 + 2.0 + 2.0,
            of_masks + 0.5 + 0.25,
            of_masks + 0.5 - 6.0,
            of_masks + 0.5,
        ]
    )
    assert design_matrix(pairs).shape == (4, len(fitted_columns()))
    assert design_matrix(pair_evidence()).shape == (0, len(fitted_columns()))


def test_log_odds_stay_where_probabilities_can_be_computed() -> None:
    config = association_config(terms__bias__weight=0.0, terms__mask_iou__weight=100.0)
    pairs = pair_evidence((1, 7, {"mask_iou": 1.0}), (1, 8, {"mask_iou": -1.0}))
    assert Likelihood(config).log_odds(pairs).tolist() == [30.0, -30.0]


def test_appearance_never_makes_a_track_another_object() -> None:
    """Object 8 looks like the track, its match 7 does not: where both fit alike, 7 stays."""
    likelihood = Likelihood(
        association_config(
            current_match_bonus=0.5,
            terms__similarity__weight=9.0,
            terms__similarity__weight_unknown=2.0,
        )
    )
    place = {"mask_iou": 0.5, "tolerant_iou": 0.5, "depth_inliers": 0.5}
    other = (1, 8, {**place, "similarity": 0.9})
    for current in ((1, 7, {**place, "similarity": 0.1}), (1, 7, place)):
        pairs = pair_evidence(current, other)
        odds = likelihood.log_odds(pairs)
        assert odds[1] > odds[0]
        preferred = likelihood.preferences(pairs, odds, {1: 7}, {})
        assert preferred[0] == pytest.approx(preferred[1] + 0.5), "only the bonus is between them"
        assert preferred[0] == pytest.approx(odds[0] + 0.5)
        free = likelihood.preferences(pairs, odds, {}, {})
        assert free == pytest.approx(odds), "without a current match all evidence counts"


def test_a_better_place_makes_a_track_another_object() -> None:
    likelihood = Likelihood(association_config(current_match_bonus=0.5))
    pairs = pair_evidence(
        (1, 7, {"mask_iou": 0.5, "tolerant_iou": 0.5, "similarity": 0.3}),
        (1, 8, {"mask_iou": 0.9, "tolerant_iou": 0.9, "similarity": 0.1}),
    )
    odds = likelihood.log_odds(pairs)
    preferred = likelihood.preferences(pairs, odds, {1: 7}, {})
    assert preferred[1] > preferred[0]
    assert preferred[1] == pytest.approx(odds[1]), "a less similar object is not punished twice"


def test_a_track_that_jumped_gets_no_bonus_for_its_current_match() -> None:
    config = AssociationConfig()
    likelihood = Likelihood(config)
    pairs = pair_evidence((1, 7, {"mask_iou": 0.5}), (2, 7, {"mask_iou": 0.4}))
    odds = likelihood.log_odds(pairs)

    def bonus(consistency: dict[int, float]) -> list[float]:
        preferred = likelihood.preferences(pairs, odds, {1: 7}, consistency)
        return [float(x) for x in preferred - odds]

    assert bonus({1: 0.0}) == [0.0, 0.0]
    assert bonus({1: 0.25}) == pytest.approx([0.25 * config.current_match_bonus, 0.0])
    assert bonus({}) == pytest.approx([config.current_match_bonus, 0.0])


def test_the_shipped_weights_agree_with_common_sense() -> None:
    def p(tolerant: float, iou: float, inliers: float, overlap: float, similarity: float) -> float:
        values = {
            "tolerant_iou": tolerant,
            "mask_iou": iou,
            "depth_inliers": inliers,
            "overlap_3d": overlap,
            "similarity": similarity,
        }
        odds = np.exp(Likelihood(AssociationConfig()).log_odds(pair_evidence((1, 7, values))))
        return float(marginals(odds[None])[0, 0])

    assert p(0.95, 0.9, 0.95, 1.0, 0.9) > 0.98 and p(0.9, 0.9, math.nan, math.nan, math.nan) > 0.8
    assert p(0.25, 0.25, 0.3, 0.3, 0.2) < 0.5 and p(0.2, 0.1, math.nan, math.nan, math.nan) < 0.5
    assert p(0.3, 0.2, 0.9, 1.0, 0.9) < 0.9, "a sliver at the right place is no sure match"
    by_similarity = [p(0.8, 0.7, 0.8, 0.8, s) for s in (0.0, 0.5, 1.0)]
    assert 0.5 < by_similarity[0] < by_similarity[1] < by_similarity[2], (
        "appearance helps; it does not decide where the place is right"
    )
    assert p(0.1, 0.0, 0.0, 0.0, 1.0) < 0.05, "nor where it is wrong"
