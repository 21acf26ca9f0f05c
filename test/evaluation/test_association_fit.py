from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.association import pair_evidence

from vos_ros.association.candidates import CandidatePairs
from vos_ros.association.likelihood import design_matrix, fitted_columns
from vos_ros.association.registry import Term, register, unregister
from vos_ros.evaluation.association_fit import Case, fit

W = {
    "bias.weight": -3.0,
    "tolerant_iou.weight": 4.0,
    "mask_iou.weight": 1.0,
    "depth_inliers.weight": 3.0,
    "depth_inliers.weight_unknown": 1.5,
    "overlap_3d.weight": 2.0,
    "similarity.weight": 1.0,
    "similarity.weight_unknown": 0.5,
}


def x_of(*values: dict[str, float]) -> np.ndarray:
    """Evidence of one track's candidates as the fit sees it."""
    return design_matrix(pair_evidence(*((1, k, v) for k, v in enumerate(values, start=1))))


def by_key(weights: np.ndarray) -> dict[str, float]:
    return dict(zip([c.key for c in fitted_columns()], weights.tolist(), strict=True))


def draw(rng: np.random.Generator, weights: dict[str, float]) -> Case:
    """A track whose true object is drawn by the model."""
    values = []
    for _ in range(int(rng.integers(1, 4))):
        iou = rng.uniform()
        candidate = {
            "tolerant_iou": iou,
            "mask_iou": float(np.clip(iou + rng.normal(0, 0.3), 0, 1)),
        }
        if rng.uniform() < 0.7:
            candidate |= {"depth_inliers": rng.uniform(), "overlap_3d": rng.uniform()}
        if rng.uniform() < 0.7:
            candidate["similarity"] = rng.uniform()
        values.append(candidate)
    x = x_of(*values)
    odds = np.append(np.exp(x @ [weights.get(c.key, 0.0) for c in fitted_columns()]), 1.0)
    choice = int(rng.choice(len(odds), p=odds / odds.sum()))
    return Case(x, choice if choice < len(values) else -1)


def test_the_weights_that_made_the_cases_are_found_again() -> None:
    rng = np.random.default_rng(0)
    found = by_key(fit([draw(rng, W) for _ in range(6000)]))
    assert {key: found[key] for key in W} == pytest.approx(W, abs=0.6)


class Hint(Term):
    """A term that somebody adds."""

    name = "hint"
    meaning = "1 where there is a hint"
    weight = 1.0
    weight_unknown = 0.0

    def values(self, pairs: CandidatePairs) -> np.ndarray:
        return np.zeros(len(pairs))


@pytest.fixture
def hint() -> Iterator[None]:
    register(Hint)
    yield
    unregister(Hint)


@pytest.mark.usefixtures("hint")
def test_a_new_term_is_fitted() -> None:
    """Of two like candidates the one with the hint is right, 9 times in 10."""
    place = {"tolerant_iou": 0.5, "mask_iou": 0.5, "overlap_3d": 0.5, "depth_inliers": 0.5}
    x = x_of({**place, "hint": 1.0}, {**place, "hint": 0.0})
    found = by_key(fit([Case(x, 0)] * 90 + [Case(x, 1)] * 10))
    assert found["hint.weight"] == pytest.approx(np.log(9), abs=0.1)


GOOD = x_of(
    {"tolerant_iou": 0.9, "mask_iou": 0.9, "depth_inliers": 0.9, "overlap_3d": 0.9}
    | {"similarity": 0.9}
)
BAD = x_of(
    {"tolerant_iou": 0.2, "mask_iou": 0.2, "depth_inliers": 0.1, "overlap_3d": 0.1}
    | {"similarity": 0.3}
)


def test_cases_that_separate_without_error_have_finite_weights() -> None:
    w = fit([Case(GOOD, 0), Case(BAD, -1)] * 50)
    assert np.isfinite(w).all() and float((GOOD @ w)[0]) > 2 and float((BAD @ w)[0]) < -2


def test_misleading_evidence_counts_nothing_and_never_against_a_pair() -> None:
    """The right ones have fewer depth inliers, by chance or by a flaw of the data."""
    right, wrong = (
        x_of({"tolerant_iou": iou, "mask_iou": iou, "depth_inliers": d, "similarity": 0.5})
        for iou, d in ((0.8, 0.1), (0.3, 0.9))
    )
    w = by_key(fit([Case(right, 0), Case(wrong, -1)] * 50))
    assert w["depth_inliers.weight"] == 0.0 and w["mask_iou.weight"] > 0


def test_unknown_evidence_may_count_against_a_pair() -> None:
    known = x_of({"mask_iou": 0.5, "similarity": 0.0})
    unknown = x_of({"mask_iou": 0.5})
    w = by_key(fit([Case(known, 0), Case(unknown, -1)] * 50))
    assert w["similarity.weight_unknown"] < -1 and w["bias.weight"] != 0


def test_tracks_of_one_candidate_and_of_many_are_fitted_together() -> None:
    """A case of three candidates must not count the places that others leave empty."""
    both = Case(np.concatenate([BAD, BAD, GOOD]), 2)
    w = fit([both, Case(GOOD, 0), Case(BAD, -1)] * 30)
    s = both.x @ w
    assert s[2] > 2 and (s[:2] < -2).all()


def test_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="nothing to fit"):
        fit([])
