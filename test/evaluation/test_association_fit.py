from __future__ import annotations

import numpy as np
import pytest

from vos_ros.association.likelihood import fitted_columns
from vos_ros.evaluation.association_fit import Case, fit


def test_the_weights_that_made_the_cases_are_found_again() -> None:
    rng = np.random.default_rng(0)
    w = np.array([-3.0, 4.0, 1.0, 3.0, 2.0, 1.5, 1.0, 0.5])
    cases = []
    for _ in range(6000):
        n = int(rng.integers(1, 4))
        no_depth, no_looks = rng.uniform(size=(2, n)) < 0.3
        iou = rng.uniform(size=n)
        plain = np.clip(iou + rng.normal(0, 0.3, n), 0, 1)
        inliers, overlap = np.where(no_depth, 0, rng.uniform(size=(2, n)))
        x = np.column_stack(
            [
                np.ones(n),
                iou,
                plain,
                inliers,
                overlap,
                no_depth,
                np.where(no_looks, 0, rng.uniform(size=n)),
                no_looks,
            ]
        )
        odds = np.append(np.exp(x @ w), 1.0)
        choice = int(rng.choice(n + 1, p=odds / odds.sum()))
        cases.append(Case(x, choice if choice < n else -1))
    found = fit(cases)
    assert found.shape == (len(fitted_columns()),) and np.abs(found - w).max() < 0.6


def test_what_can_be_told_apart_without_error_has_finite_weights() -> None:
    good, bad = (
        np.array([[1.0, 0.9, 0.9, 0.9, 0.9, 0.0, 0.9, 0.0]]),
        np.array([[1.0, 0.2, 0.2, 0.1, 0.1, 0.0, 0.3, 0.0]]),
    )
    w = fit([Case(good, 0), Case(bad, -1)] * 50)
    assert np.isfinite(w).all() and float((good @ w)[0]) > 2 and float((bad @ w)[0]) < -2


def test_evidence_that_misleads_counts_for_nothing_and_never_against() -> None:
    """The right ones have fewer depth inliers than the wrong ones, by chance or by a flaw of the
    data.
    """
    good, bad = (
        np.array([[1.0, 0.8, 0.8, 0.1, 0.5, 0.0, 0.5, 0.0]]),
        np.array([[1.0, 0.3, 0.3, 0.9, 0.5, 0.0, 0.5, 0.0]]),
    )
    w = dict(
        zip(
            [c.key for c in fitted_columns()],
            fit([Case(good, 0), Case(bad, -1)] * 50),
            strict=True,
        )
    )
    assert w["depth_inliers.weight"] == 0.0 and w["mask_iou.weight"] > 0


def test_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="nothing to fit"):
        fit([])
