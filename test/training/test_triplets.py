"""The triplet loss against eq. (3.4) written out, its gradient, the choice of the triplets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vos_ros.training.interface import IGNORE
from vos_ros.training.triplets import draw_triplets, triplet_loss


def equation_3_4(a: np.ndarray, p: np.ndarray, n: np.ndarray, margin: float) -> float:
    total = 0.0
    for i in range(len(a)):
        near, far = np.sqrt(np.sum((a[i] - p[i]) ** 2)), np.sqrt(np.sum((a[i] - n[i]) ** 2))
        total += max(near - far + margin, 0.0)
    return total


@given(st.integers(0, 10_000), st.integers(0, 9), st.sampled_from([0.0, 0.7, 2.0]))
def test_the_loss_is_equation_3_4(seed: int, count: int, margin: float) -> None:
    a, p, n = np.random.default_rng(seed).normal(size=(3, count, 5))
    got = triplet_loss(*(torch.from_numpy(v) for v in (a, p, n)), margin)
    assert float(got) == pytest.approx(equation_3_4(a, p, n, margin), rel=1e-9, abs=1e-12)


def test_its_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    rows = torch.randn(3, 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: triplet_loss(*x, 0.7), (rows,))


def test_its_gradient_is_finite_where_anchor_and_positive_are_one() -> None:
    a = torch.ones(2, 3, requires_grad=True)
    triplet_loss(a, a, torch.zeros(2, 3), 5.0).backward()
    assert a.grad is not None and bool(torch.isfinite(a.grad).all())


def scene() -> torch.Tensor:
    """Two frames of 10x10 cells: objects 1 and 2, 3 in the second frame alone, unknown cells."""
    labels = torch.zeros(2, 10, 10, dtype=torch.uint8)
    labels[:, 1:4, 1:4], labels[:, 6:9, 5:9], labels[1, 0, 6:] = 1, 2, 3
    labels[:, 5] = IGNORE
    return labels


@pytest.mark.parametrize("every_object", [True, False])
@pytest.mark.parametrize("across", [0.0, 0.5, 1.0])
def test_triplets_lie_where_they_should(every_object: bool, across: float) -> None:
    torch.manual_seed(3)
    labels = scene()
    flat = labels.flatten().long()
    x = torch.randn(2, 10, 10, 4)
    drawn = draw_triplets(x, labels, 0, 101, every_object=every_object, across=across, candidates=1)
    assert drawn.shape == (3, 101)
    anchor, positive, negative = drawn
    own = flat[anchor]
    assert set(own.tolist()) <= {1, 2} and len(own.unique()) == (2 if every_object else 1)
    if every_object:
        assert abs(int((own == 1).sum()) - int((own == 2).sum())) <= 1
    assert torch.equal(flat[positive], own)
    assert bool((flat[negative] != own).all()) and not bool((flat[negative] == IGNORE).any())
    assert bool((anchor < 100).all())  # in frame 0
    other = int(((positive >= 100) | (negative >= 100)).sum())
    assert other == 0 if across == 0.0 else other > 101 * across * 0.4
    assert bool((flat[negative] == 3).any()) <= (across > 0)


def test_hard_negatives_are_nearer_than_drawn_ones() -> None:
    torch.manual_seed(4)
    labels, x = scene(), torch.randn(2, 10, 10, 4)
    rows = x.reshape(-1, 4)

    def gap(candidates: int) -> float:
        a, _, n = draw_triplets(
            x, labels, 0, 200, every_object=True, across=0.0, candidates=candidates
        )
        return float((rows[a] - rows[n]).norm(dim=1).mean())

    assert gap(16) < 0.7 * gap(1)


def test_a_frame_without_object_or_without_anything_else_gives_none() -> None:
    x = torch.zeros(1, 2, 2, 3)
    for value in (0, IGNORE, 1):
        labels = torch.full((1, 2, 2), value, dtype=torch.uint8)
        drawn = draw_triplets(x, labels, 0, 8, every_object=True, across=0.3, candidates=2)
        assert drawn.shape == (3, 0) and float(triplet_loss(*x.reshape(-1, 3)[drawn], 0.7)) == 0.0
