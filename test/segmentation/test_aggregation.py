from __future__ import annotations

import numpy as np
import pytest
import torch

from vos_ros.segmentation.aggregation import soft_aggregate


def test_it_is_the_formula_of_the_paper() -> None:
    p = np.random.default_rng(0).uniform(0.02, 0.98, (3, 4, 5))
    background = np.prod(1 - p, 0)
    odds = np.concatenate([[background / (1 - background)], p / (1 - p)])
    got = soft_aggregate(torch.from_numpy(p))
    assert np.allclose(got.numpy(), odds / odds.sum(0), atol=1e-5)


def test_one_object_keeps_its_probability() -> None:
    p = torch.tensor([[[0.1, 0.5, 0.9]]], dtype=torch.float64)
    assert torch.allclose(soft_aggregate(p)[1], p[0], atol=0.1)
    assert soft_aggregate(p)[:, 0, 1].tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("n", [1, 2, 300])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_extremes_stay_a_distribution(n: int, value: float) -> None:
    got = soft_aggregate(torch.full((n, 2, 2), value))
    assert got.shape == (n + 1, 2, 2)
    assert bool(torch.isfinite(got).all())
    assert torch.allclose(got.sum(0), torch.ones(2, 2), atol=1e-4)


def test_no_objects_are_all_background() -> None:
    assert torch.equal(soft_aggregate(torch.zeros((0, 2, 2))), torch.ones((1, 2, 2)))


def test_the_most_certain_object_wins() -> None:
    got = soft_aggregate(torch.tensor([0.9, 0.8, 0.1])[:, None, None])
    assert int(got[:, 0, 0].argmax()) == 1
