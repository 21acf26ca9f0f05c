from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_ros.association.interface import Evidence
from vos_ros.association.likelihood import FEATURES, features, log_odds, marginals, preferences
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
    """Both tracks look most like object 0, the first one more so; the second is object 1 then, though alone it would not be."""
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


def test_groups_are_counted_apart() -> None:
    """Two groups with a cycle each, tracks and objects mixed, and a track of no candidate: as each alone."""
    rng = np.random.default_rng(3)
    one, two = np.exp(rng.normal(0, 3, (3, 2))), np.exp(rng.normal(0, 3, (2, 3)))
    odds = np.zeros((6, 5))
    first, second = np.ix_([0, 3, 5], [1, 4]), np.ix_([1, 4], [0, 2, 3])
    odds[first], odds[second] = one, two
    p = marginals(odds)
    assert (
        np.allclose(p[first], exact(one)) and np.allclose(p[second], exact(two)) and not p[2].any()
    )


def test_in_a_crowd_the_marginals_are_near_those_of_a_crowd_that_can_be_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything is a candidate for everything; propagation alone must still tell the likely pairs from the others."""
    rng = np.random.default_rng(0)
    odds = np.exp(rng.normal(-2, 1, (6, 6)) + 6 * np.eye(6))
    counted = marginals(odds)
    monkeypatch.setattr("vos_ros.association.likelihood._COUNTED", 0)
    propagated = marginals(odds)
    assert np.abs(counted - propagated).max() < 0.05 and not np.allclose(
        counted, propagated, atol=1e-6
    )
    assert np.isfinite(marginals(np.exp(rng.normal(0, 8, (50, 60))))).all()


def test_log_odds_are_the_weighted_evidence_and_a_missing_depth_has_a_weight_of_its_own() -> None:
    config = AssociationConfig(
        weight_bias=-1.0,
        weight_tolerant_iou=2.0,
        weight_mask_iou=3.0,
        weight_depth_inliers=4.0,
        weight_overlap_3d=5.0,
        weight_no_depth=0.5,
        weight_similarity=2.5,
        weight_no_similarity=0.25,
        class_conflict=6.0,
    )
    pairs = [
        Evidence(1, 7, 0.0, 0.5, 0.6, 0.9, overlap_3d=0.4, similarity=0.8),
        Evidence(1, 8, 0.0, 0.5, 0.6, math.nan),
        Evidence(1, 9, 0.0, 0.5, 0.6, math.nan, similarity=-0.7, conflict=True),
    ]
    assert features(pairs).shape == (3, len(FEATURES)) and features([]).shape == (0, len(FEATURES))
    masks = -1 + 1.2 + 1.5
    assert log_odds(pairs, config) == pytest.approx(
        [masks + 3.6 + 2.0 + 2.0, masks + 0.5 + 0.25, masks + 0.5 - 6.0]
    )
    assert np.isfinite(
        log_odds(pairs, AssociationConfig(weight_bias=100.0, weight_tolerant_iou=100.0))
    ).all()


def test_looks_never_make_a_track_another_object() -> None:
    """Object 8 looks just like the track and object 7, which it was held to be, does not: where both fit alike, 7 stays preferred."""
    config = AssociationConfig(
        current_match_bonus=0.5, weight_similarity=9.0, weight_no_similarity=2.0
    )
    kept, other, unseen = (
        Evidence(1, o, 0.0, 0.5, 0.5, 0.5, similarity=s)
        for o, s in ((7, 0.1), (8, 0.9), (7, math.nan))
    )
    for pairs in ([kept, other], [unseen, other]):
        odds = log_odds(pairs, config)
        assert odds[1] > odds[0]
        said = preferences(pairs, odds, {1: 7}, {}, config)
        assert said[0] == pytest.approx(said[1] + 0.5), "continuity alone is between them"
        assert preferences(pairs, odds, {}, {}, config) == pytest.approx(odds), (
            "who was nothing yet goes by all that there is"
        )
    nearer = [kept, Evidence(1, 8, 0.0, 0.9, 0.9, 0.9, similarity=0.1)]
    said = preferences(nearer, log_odds(nearer, config), {1: 7}, {}, config)
    assert said[1] > said[0], "the place decides"


def test_a_track_that_jumped_has_no_claim_to_its_object() -> None:
    config = AssociationConfig()
    pairs = [Evidence(1, 7, 0.0, 0.5, 0.5, 0.5)]
    odds = log_odds(pairs, config)
    assert preferences(pairs, odds, {1: 7}, {1: 0.0}, config) == pytest.approx(odds)
    assert preferences(pairs, odds, {1: 7}, {1: 1.0}, config) == pytest.approx(
        odds + config.current_match_bonus
    )


def test_the_shipped_weights_say_what_people_would() -> None:
    def p(tolerant: float, iou: float, inliers: float, overlap: float, similarity: float) -> float:
        e = Evidence(1, 7, 0.0, iou, tolerant, inliers, overlap_3d=overlap, similarity=similarity)
        return float(marginals(np.exp(log_odds([e], AssociationConfig()))[None])[0, 0])

    assert p(0.95, 0.9, 0.95, 1.0, 0.9) > 0.98 and p(0.9, 0.9, math.nan, math.nan, math.nan) > 0.8
    assert p(0.25, 0.25, 0.3, 0.3, 0.2) < 0.5 and p(0.2, 0.1, math.nan, math.nan, math.nan) < 0.5
    assert p(0.3, 0.2, 0.9, 1.0, 0.9) < 0.9, "a sliver at the right place is no sure match"
    looks = [p(0.8, 0.7, 0.8, 0.8, s) for s in (0.0, 0.5, 1.0)]
    assert 0.5 < looks[0] < looks[1] < looks[2], (
        "looks help; they don't decide where the place is right"
    )
    assert p(0.1, 0.0, 0.0, 0.0, 1.0) < 0.05, "nor where it is wrong"
