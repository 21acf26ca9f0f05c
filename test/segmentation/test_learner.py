"""The learner against what eq. (3) and (4) of paper 003 say, computed without it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from vos_ros.segmentation.networks.learner import (
    Samples,
    apply_filters,
    correlate,
    loss,
    steepest_descent,
)

C, D, K, H, W = 3, 2, 3, 6, 7
LAMBDA = 0.05


def block(seed: int, rows: Sequence[int] = (0,), frames: int = 1) -> Samples:
    rng = np.random.default_rng(seed)
    shape = (frames, len(rows), D, H, W)
    return Samples(
        torch.from_numpy(rng.normal(size=(frames, C, H, W))),
        torch.tensor(rows),
        torch.from_numpy(rng.uniform(size=shape)),
        torch.from_numpy(rng.uniform(0.1, 2.0, shape)),
    )


def zeros(n: int = 1) -> torch.Tensor:
    return torch.zeros((n, D, C, K, K), dtype=torch.float64)


def some(n: int = 1, kernel: int = K) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(9).normal(size=(n, D, C, kernel, kernel)))


def patches(features: torch.Tensor, kernel: int = K) -> np.ndarray:
    """(H W, C K K): row p holds what a filter sees at cell p, zero outside the map."""
    x = np.pad(features.numpy(), ((0, 0), (kernel // 2, kernel // 2), (kernel // 2, kernel // 2)))
    return np.stack(
        [x[:, i : i + kernel, j : j + kernel].ravel() for i in range(H) for j in range(W)]
    )


def flat(
    blocks: Sequence[Samples], channel: int, row: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, y and W^2 of eq. (3) as one linear least-squares problem for one filter of one object."""
    parts = [
        (
            patches(b.features[s]),
            b.labels[s, k, channel].numpy().ravel(),
            b.weights[s, k, channel].numpy().ravel(),
        )
        for b in blocks
        for s in range(len(b.features))
        for k, r in enumerate(b.rows.tolist())
        if r == row
    ]
    return (
        np.concatenate([a for a, _, _ in parts]),
        np.concatenate([y for _, y, _ in parts]),
        np.concatenate([w for _, _, w in parts]),
    )


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_filter_is_a_correlation_with_zero_padding(kernel: int) -> None:
    b, tau = block(0, frames=2), some(2, kernel)
    out = apply_filters(b.features, tau).numpy()
    assert out.shape == (2, 2, D, H, W)
    for s in range(2):
        expected = (
            patches(b.features[s], kernel) @ tau.flatten(2).numpy().reshape(2 * D, -1).T
        ).T.reshape(2, D, H, W)
        assert np.allclose(out[s], expected)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_correlation_is_the_transpose_of_the_filters_application(kernel: int) -> None:
    b, tau = block(0, (0, 1), frames=2), some(2, kernel)
    left = (apply_filters(b.features, tau) * b.labels).sum()
    right = (tau * correlate(b.features, b.labels, kernel)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-12)


def test_the_loss_is_eq_3() -> None:
    blocks, tau = [block(0), block(1, frames=2)], some()
    expected = 0.5 * LAMBDA * float(tau.square().sum())
    for channel in range(D):
        a, y, w = flat(blocks, channel)
        expected += 0.5 * float((w * (a @ tau[0, channel].flatten().numpy() - y) ** 2).sum())
    assert float(loss(tau, blocks, LAMBDA)) == pytest.approx(expected)


def test_iterations_are_those_of_eq_4() -> None:
    """One step length for all channels of an object."""
    blocks = [block(0), block(1, frames=2)]
    problems = [flat(blocks, channel) for channel in range(D)]
    tau = np.zeros((D, C * K * K))
    for n in range(1, 6):
        g = np.stack(
            [
                a.T @ (w * (a @ t - y)) + LAMBDA * t
                for (a, y, w), t in zip(problems, tau, strict=True)
            ]
        )
        curvature = sum(
            float((w * (a @ v) ** 2).sum()) for (a, _, w), v in zip(problems, g, strict=True)
        ) + LAMBDA * float((g**2).sum())
        tau = tau - float((g**2).sum()) / curvature * g
        assert np.allclose(
            steepest_descent(zeros(), blocks, LAMBDA, n)[0].flatten(1).numpy(), tau, atol=1e-10
        )


def test_many_iterations_reach_the_closed_form_of_ridge_regression() -> None:
    blocks = [block(0), block(1, frames=2)]
    learned = steepest_descent(zeros(), blocks, LAMBDA, 600)[0].flatten(1).numpy()
    for channel in range(D):
        a, y, w = flat(blocks, channel)
        exact = np.linalg.solve(a.T @ (w[:, None] * a) + LAMBDA * np.eye(a.shape[1]), a.T @ (w * y))
        assert np.allclose(learned[channel], exact, atol=1e-8)


def test_the_gradient_is_that_of_the_loss_and_the_step_is_exact() -> None:
    blocks, tau = [block(0)], some()
    after = steepest_descent(tau, blocks, LAMBDA, 1)
    free = tau.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(free, blocks, LAMBDA).sum(), free)
    step = (tau - after).flatten()
    alpha = float(step @ gradient.flatten() / gradient.square().sum())
    assert torch.allclose(step, alpha * gradient.flatten())
    # the loss along the gradient is least there
    end = after.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(end, blocks, LAMBDA).sum(), end)
    assert abs(float((slope * gradient).sum())) < 1e-9 * float(gradient.square().sum())


def test_every_iteration_lowers_the_loss() -> None:
    blocks = [block(i) for i in range(3)]
    losses = [
        float(loss(steepest_descent(zeros(), blocks, LAMBDA, n), blocks, LAMBDA)) for n in range(12)
    ]
    assert all(b < a for a, b in pairwise(losses))


def test_going_on_from_filters_is_going_on() -> None:
    blocks = [block(0), block(1)]
    halfway = steepest_descent(zeros(), blocks, LAMBDA, 3)
    assert torch.allclose(
        steepest_descent(halfway, blocks, LAMBDA, 4), steepest_descent(zeros(), blocks, LAMBDA, 7)
    )


def test_objects_learned_together_are_as_if_learned_alone() -> None:
    # object 0 is in both blocks, 1 in the first, 2 in the second
    both = [block(0, (0, 1), frames=2), block(1, (2, 0))]
    together = steepest_descent(zeros(3), both, LAMBDA, 6)
    for row in range(3):
        alone = [
            Samples(b.features, torch.tensor([0]), b.labels[:, k : k + 1], b.weights[:, k : k + 1])
            for b in both
            for k, r in enumerate(b.rows.tolist())
            if r == row
        ]
        assert torch.allclose(together[row : row + 1], steepest_descent(zeros(), alone, LAMBDA, 6))
        assert torch.allclose(
            loss(together, both, LAMBDA)[row], loss(together[row : row + 1], alone, LAMBDA)[0]
        )


def test_frames_of_a_block_are_as_if_in_blocks_of_their_own() -> None:
    b = block(0, (0, 1), frames=3)
    apart = [
        Samples(b.features[s : s + 1], b.rows, b.labels[s : s + 1], b.weights[s : s + 1])
        for s in range(3)
    ]
    assert torch.allclose(
        steepest_descent(zeros(2), [b], LAMBDA, 5), steepest_descent(zeros(2), apart, LAMBDA, 5)
    )


def test_a_sample_with_twice_the_weight_is_there_twice() -> None:
    a, b = block(0), block(1)
    doubled = steepest_descent(zeros(), [a._replace(weights=2 * a.weights), b], LAMBDA, 5)
    assert torch.allclose(doubled, steepest_descent(zeros(), [a, a, b], LAMBDA, 5))


def test_no_gradient_no_motion() -> None:
    b = block(0)
    assert torch.equal(
        steepest_descent(zeros(), [b._replace(labels=torch.zeros_like(b.labels))], LAMBDA, 3),
        zeros(),
    )
    assert torch.equal(
        steepest_descent(zeros(), [b._replace(weights=torch.zeros_like(b.weights))], LAMBDA, 3),
        zeros(),
    )
    assert torch.equal(steepest_descent(zeros(2), [], LAMBDA, 3), zeros(2))
    # one object that stays doesn't hold up another
    moved = steepest_descent(zeros(2), [block(0, (1,))], LAMBDA, 3)
    assert torch.equal(moved[0], zeros()[0]) and bool(moved[1].any())


def test_it_stops_early_when_no_object_has_anything_to_gain() -> None:
    blocks = [block(0, (0, 1), frames=2)]
    far = steepest_descent(zeros(2), blocks, LAMBDA, 400)
    assert torch.equal(steepest_descent(far, blocks, LAMBDA, 5, tolerance=1e-3), far)
    assert not torch.equal(steepest_descent(zeros(2), blocks, LAMBDA, 5, tolerance=1e-3), zeros(2))
    first = float(loss(zeros(2), blocks, LAMBDA).sum())
    at_1_percent = steepest_descent(zeros(2), blocks, LAMBDA, 400, tolerance=0.01)
    assert (
        float(loss(far, blocks, LAMBDA).sum())
        < float(loss(at_1_percent, blocks, LAMBDA).sum())
        < first
    )


def test_an_object_is_learned_on_while_another_one_has_converged() -> None:
    blocks = [block(0, (0, 1), frames=2)]
    far = steepest_descent(zeros(2), blocks, LAMBDA, 400)
    for converged, other in ((0, 1), (1, 0)):
        start = zeros(2)
        start[converged] = far[converged]
        learned = steepest_descent(start, blocks, LAMBDA, 40, tolerance=1e-3)
        before, after = loss(start, blocks, LAMBDA), loss(learned, blocks, LAMBDA)
        least = loss(far, blocks, LAMBDA)
        assert float(after[other] - least[other]) < 0.05 * float(before[other] - least[other])
        assert float(after[converged]) == pytest.approx(float(least[converged]), rel=1e-6)


def test_the_result_is_differentiable_through_two_iterations() -> None:
    b = block(0)
    features, labels, weights = (
        t.clone().requires_grad_(True) for t in (b.features, b.labels, b.weights)
    )
    ridge = torch.tensor([LAMBDA], dtype=torch.float64, requires_grad=True)

    def learned(
        features: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, ridge: torch.Tensor
    ) -> torch.Tensor:
        return steepest_descent(zeros(), [Samples(features, b.rows, labels, weights)], ridge, 2)

    assert torch.autograd.gradcheck(
        learned, (features, labels, weights, ridge), eps=1e-6, atol=1e-6
    )


def test_inference_builds_no_graph() -> None:
    b = block(0)
    features = b.features.requires_grad_(True)
    with torch.no_grad():
        assert steepest_descent(zeros(), [b._replace(features=features)], LAMBDA, 2).grad_fn is None


def test_inputs_are_left_as_they_were() -> None:
    b, tau = block(0), zeros()
    before = [t.clone() for t in (*b, tau)]
    steepest_descent(tau, [b], LAMBDA, 3)
    assert all(torch.equal(x, y) for x, y in zip(before, (*b, tau), strict=True))
