"""The learner against what eq. (3) and (4) of paper 003 say, computed without it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from vos_ros.segmentation.networks.learner import Sample, apply_filters, loss, steepest_descent

C, K, H, W = 3, 3, 6, 7
LAMBDA = 0.05


def sample(seed: int, rows: Sequence[int] = (0,)) -> Sample:
    rng = np.random.default_rng(seed)
    shape = (len(rows), H, W)
    return Sample(torch.from_numpy(rng.normal(size=(C, H, W))), torch.tensor(rows), torch.from_numpy(rng.uniform(size=shape)),
                  torch.from_numpy(rng.uniform(0.1, 2.0, shape)))


def zeros(n: int = 1) -> torch.Tensor:
    return torch.zeros((n, C, K, K), dtype=torch.float64)


def patches(features: torch.Tensor) -> np.ndarray:
    """(H W, C K K): row p holds what a filter sees at pixel p, zero outside the map."""
    x = np.pad(features.numpy(), ((0, 0), (K // 2, K // 2), (K // 2, K // 2)))
    return np.stack([x[:, i : i + K, j : j + K].ravel() for i in range(H) for j in range(W)])


def flat(samples: Sequence[Sample], row: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, y and W^2 of eq. (3) as one linear least-squares problem."""
    parts = [(patches(s.features), s.target[k].numpy().ravel(), s.weight[k].numpy().ravel())
             for s in samples for k, r in enumerate(s.rows.tolist()) if r == row]
    return np.concatenate([a for a, _, _ in parts]), np.concatenate([y for _, y, _ in parts]), np.concatenate([w for _, _, w in parts])


def test_a_filter_is_a_correlation_with_zero_padding() -> None:
    s, tau = sample(0), torch.from_numpy(np.random.default_rng(9).normal(size=(2, C, K, K)))
    expected = (patches(s.features) @ tau.flatten(1).numpy().T).T.reshape(2, H, W)
    assert np.allclose(apply_filters(s.features, tau).numpy(), expected)


def test_the_loss_is_eq_3() -> None:
    samples, tau = [sample(0), sample(1)], torch.from_numpy(np.random.default_rng(9).normal(size=(1, C, K, K)))
    a, y, w = flat(samples)
    t = tau.flatten().numpy()
    assert float(loss(tau, samples, LAMBDA)) == pytest.approx(0.5 * (w * (a @ t - y) ** 2).sum() + 0.5 * LAMBDA * t @ t)


def test_iterations_are_those_of_eq_4() -> None:
    samples = [sample(0), sample(1)]
    a, y, w = flat(samples)
    tau = np.zeros(C * K * K)
    for n in range(1, 6):
        g = a.T @ (w * (a @ tau - y)) + LAMBDA * tau
        alpha = (g @ g) / ((w * (a @ g) ** 2).sum() + LAMBDA * (g @ g))
        tau = tau - alpha * g
        assert np.allclose(steepest_descent(zeros(), samples, LAMBDA, n).flatten().numpy(), tau, atol=1e-10)


def test_many_iterations_reach_the_closed_form_of_ridge_regression() -> None:
    samples = [sample(0), sample(1)]
    a, y, w = flat(samples)
    exact = np.linalg.solve(a.T @ (w[:, None] * a) + LAMBDA * np.eye(a.shape[1]), a.T @ (w * y))
    assert np.allclose(steepest_descent(zeros(), samples, LAMBDA, 500).flatten().numpy(), exact, atol=1e-8)


def test_the_gradient_is_that_of_the_loss_and_the_step_is_exact() -> None:
    samples = [sample(0)]
    tau = torch.from_numpy(np.random.default_rng(9).normal(size=(1, C, K, K)))
    after = steepest_descent(tau, samples, LAMBDA, 1)
    free = tau.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(free, samples, LAMBDA).sum(), free)
    step = (tau - after).flatten()
    alpha = float(step @ gradient.flatten() / gradient.square().sum())
    assert torch.allclose(step, alpha * gradient.flatten())
    # the loss along the gradient is least there
    end = after.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(end, samples, LAMBDA).sum(), end)
    assert abs(float((slope * gradient).sum())) < 1e-9 * float(gradient.square().sum())


def test_every_iteration_lowers_the_loss() -> None:
    samples = [sample(i) for i in range(3)]
    losses = [float(loss(steepest_descent(zeros(), samples, LAMBDA, n), samples, LAMBDA)) for n in range(12)]
    assert all(b < a for a, b in pairwise(losses))


def test_going_on_from_a_filter_is_going_on() -> None:
    samples = [sample(0), sample(1)]
    halfway = steepest_descent(zeros(), samples, LAMBDA, 3)
    assert torch.allclose(steepest_descent(halfway, samples, LAMBDA, 4), steepest_descent(zeros(), samples, LAMBDA, 7))


def test_objects_learned_together_are_as_if_learned_alone() -> None:
    # object 0 is in both frames, 1 in the first, 2 in the second
    both = [sample(0, (0, 1)), sample(1, (2, 0))]
    together = steepest_descent(zeros(3), both, LAMBDA, 6)
    for row in range(3):
        alone = [Sample(s.features, torch.tensor([0]), s.target[k : k + 1], s.weight[k : k + 1])
                 for s in both for k, r in enumerate(s.rows.tolist()) if r == row]
        assert torch.allclose(together[row : row + 1], steepest_descent(zeros(), alone, LAMBDA, 6))
        assert torch.allclose(loss(together, both, LAMBDA)[row], loss(together[row : row + 1], alone, LAMBDA)[0])


def test_no_gradient_no_motion() -> None:
    s = sample(0)
    nothing = s._replace(target=torch.zeros_like(s.target))
    assert torch.equal(steepest_descent(zeros(), [nothing], LAMBDA, 3), zeros())
    unweighted = s._replace(weight=torch.zeros_like(s.weight))
    assert torch.equal(steepest_descent(zeros(), [unweighted], LAMBDA, 3), zeros())
    assert torch.equal(steepest_descent(zeros(2), [], LAMBDA, 3), zeros(2))
    # one object that stays doesn't hold up another
    moved = steepest_descent(zeros(2), [sample(0, (1,))], LAMBDA, 3)
    assert torch.equal(moved[0], zeros()[0]) and bool(moved[1].any())


def test_the_result_is_differentiable_through_two_iterations() -> None:
    s = sample(0)
    target, weight, features = (t.clone().requires_grad_(True) for t in (s.target, s.weight, s.features))

    def learned(features: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return steepest_descent(zeros(), [Sample(features, s.rows, target, weight)], LAMBDA, 2)

    assert torch.autograd.gradcheck(learned, (features, target, weight), eps=1e-6, atol=1e-6)


def test_inputs_are_left_as_they_were() -> None:
    s, tau = sample(0), zeros()
    before = [t.clone() for t in (*s, tau)]
    steepest_descent(tau, [s], LAMBDA, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, (*s, tau), strict=True))
