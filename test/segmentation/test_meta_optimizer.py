"""The learned optimizer and its baselines, each against its equations written a second time."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from vos_ros.segmentation.networks.meta import MetaNet, MetaSpec
from vos_ros.segmentation.networks.meta_optimizer import (
    BASELINES,
    OPTIMIZERS,
    LstmOptimizer,
    SteepestDescent,
    WeightGenerator,
    baseline,
    iterate,
    preprocess,
)
from vos_ros.segmentation.networks.segmentation_head import Samples, SegmentationHead

HEAD = SegmentationHead(3, (4, 3))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def samples(n: int = 2, s: int = 12, channels: int = 3) -> Samples:
    weights = torch.rand(n, s, dtype=torch.float64)
    weights /= weights.sum(1)[:, None]
    return Samples(
        torch.randn(n, channels, s, dtype=torch.float64),
        torch.rand(n, s, dtype=torch.float64),
        weights,
    )


def thetas(n: int = 2) -> torch.Tensor:
    return torch.stack([HEAD.initial() for _ in range(n)]).double() + 0.1 * torch.randn(
        n, HEAD.parameters, dtype=torch.float64
    )


def test_the_head_is_a_perceptron_and_its_loss_cross_entropy() -> None:
    theta, s = thetas(), samples()
    for n in range(2):
        t = theta[n].numpy()
        w1, b1, w2, b2, w3, b3 = np.split(t, np.cumsum([12, 4, 12, 3, 3]))
        x = s.inputs[n].numpy()
        for w, b, size in ((w1, b1, 4), (w2, b2, 3)):
            z = w.reshape(size, -1) @ x + b[:, None]
            x = np.where(z > 0, z, 0.1 * z)
        p = 1 / (1 + np.exp(-(w3 @ x + b3)))
        y, weight = s.labels[n].numpy(), s.weights[n].numpy()
        expected = -(weight * (y * np.log(p) + (1 - y) * np.log(1 - p))).sum()
        assert float(HEAD.loss(theta, s)[n]) == pytest.approx(expected, rel=1e-10)


def test_the_written_gradient_is_that_of_the_loss() -> None:
    theta, s = thetas().requires_grad_(), samples()
    (expected,) = torch.autograd.grad(HEAD.loss(theta, s).sum(), theta)
    gradient, value = HEAD.gradient(theta.detach(), s)
    assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-14) and torch.allclose(
        value, HEAD.loss(theta, s)
    )
    assert torch.autograd.gradcheck(
        lambda t: HEAD.gradient(t, s)[0], (theta,)
    )  # the second derivative too


def test_curvature_is_gauss_newton() -> None:
    theta, s, d = thetas(1), samples(1), torch.randn(1, HEAD.parameters, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda t: HEAD.logits(t, s.inputs)[0], theta)[
        :, 0
    ]
    p = torch.sigmoid(HEAD.logits(theta, s.inputs)[0])
    expected = (s.weights[0] * p * (1 - p) * (jacobian @ d[0]).square()).sum()
    assert float(HEAD.curvature(theta, s, d)) == pytest.approx(float(expected), rel=1e-10)


def test_preprocessing() -> None:
    g = np.array([0.0, 1e-5, -1e-5, 1e-3, -0.5, 1.0, -30.0])
    p = 7.0
    log = np.where(np.abs(g) >= np.exp(-p), np.log(np.abs(g) + 1e-300) / p, -1)
    sign = np.where(np.abs(g) >= np.exp(-p), np.sign(g), np.exp(p) * g)
    ours = preprocess(torch.from_numpy(g), p)
    assert np.allclose(ours[0], log) and np.allclose(ours[1], sign)


def test_equation_4() -> None:
    """[g, h'] = LSTM(gradient, h, theta), twice, against the cell's equations."""
    rule = LstmOptimizer(5, 6).double()
    with torch.no_grad():
        rule.log_rate.add_(torch.randn(5))
    theta, state = (
        torch.randn(2, 5, dtype=torch.float64),
        rule.start(torch.zeros(2, 5, dtype=torch.float64)),
    )
    w_x, w_h, b_x, b_h = (p.detach().numpy() for p in rule.cell.parameters())
    h, c, unit = np.zeros((2, 5, 6)), np.zeros((2, 5, 6)), None
    for scale in (0.3, 0.04):
        gradient = scale * torch.randn(2, 5, dtype=torch.float64)
        step, state = rule.update(gradient, theta, state, lambda d: d.sum(1))
        unit = np.sqrt((gradient.numpy() ** 2).mean(1)) if unit is None else unit
        relative = gradient.numpy() / unit[:, None]
        log, sign = preprocess(torch.from_numpy(relative))
        x = np.stack([log.numpy(), sign.numpy(), np.tanh(relative), theta.numpy()], 2)
        i, f, g, o = np.split(x @ w_x.T + b_x + h @ w_h.T + b_h, 4, 2)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        read = (
            np.concatenate([h, x], 2) @ rule.read.weight.detach().numpy()[0] + rule.read.bias.item()
        )
        assert np.allclose(step.detach(), np.exp(rule.log_rate.detach().numpy()) * read, rtol=1e-10)
        assert np.allclose(state["h"].detach(), h) and np.allclose(state["c"].detach(), c)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, 0.3)),
        ("adam", lambda p: torch.optim.Adam(p, 0.02)),
        ("rmsprop", lambda p: torch.optim.RMSprop(p, 0.02)),
    ],
)
def test_baselines_are_those_of_torch(name: str, make: Callable) -> None:
    s, theta = samples(), thetas()
    theirs = theta.clone().requires_grad_()
    optimizer = make([theirs])
    rule = baseline(name, optimizer.defaults["lr"])
    for ours, _ in iterate(rule, HEAD, theta, s, rule.start(theta), 6):
        optimizer.zero_grad()
        HEAD.loss(theirs, s).sum().backward()
        optimizer.step()
        assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-8)


def test_steepest_descent_goes_to_the_minimum_of_its_model() -> None:
    s, theta = samples(), thetas()
    rule = SteepestDescent(damping=0.0)
    gradient = HEAD.gradient(theta, s)[0]
    step, _ = rule.update(gradient, theta, {}, lambda d: HEAD.curvature(theta, s, d))
    for n in range(2):  # the model's slope along the gradient vanishes there: g.g = alpha g^T G g
        alpha = -float(step[n] @ gradient[n]) / float(gradient[n] @ gradient[n])
        assert float(gradient[n] @ gradient[n]) == pytest.approx(
            alpha * float(HEAD.curvature(theta, s, gradient)[n]), rel=1e-9
        )
    losses = [HEAD.loss(t, s) for t, _ in iterate(SteepestDescent(), HEAD, theta, s, {}, 10)]
    assert bool((losses[-1] < HEAD.loss(theta, s)).all())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_objects_in_one_batch_are_as_if_alone(name: str) -> None:
    s, theta = samples(3), thetas(3)
    rule = LstmOptimizer(HEAD.parameters, 5).double() if name == "lstm" else baseline(name, 0.05)
    together, state = list(iterate(rule, HEAD, theta, s, rule.start(theta), 4))[-1]
    for n in range(3):
        own = Samples(*(t[n : n + 1] for t in s))
        alone, own_state = list(
            iterate(rule, HEAD, theta[n : n + 1], own, rule.start(theta[n : n + 1]), 4)
        )[-1]
        assert torch.allclose(together[n], alone[0], rtol=1e-10, atol=1e-12)
        assert all(
            torch.allclose(v[n], own_state[k][0], rtol=1e-10, atol=1e-12) for k, v in state.items()
        )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_object_that_nothing_weighs_for_stays(name: str) -> None:
    s, theta = samples(2), thetas(2)
    s.weights[1] = 0
    rule = LstmOptimizer(HEAD.parameters, 5).double() if name == "lstm" else baseline(name, 0.05)
    learned, state = list(iterate(rule, HEAD, theta, s, rule.start(theta), 3))[-1]
    assert torch.equal(learned[1], theta[1]) and not torch.equal(learned[0], theta[0])
    assert all(bool(torch.isfinite(v).all()) for v in state.values())


def test_the_scale_of_the_loss_does_not_matter_to_the_learned_optimizer() -> None:
    s, theta = samples(), thetas()
    rule = LstmOptimizer(HEAD.parameters, 5).double()
    paths = [
        [t for t, _ in iterate(rule, HEAD, theta, s, rule.start(theta), 5, scale=scale)]
        for scale in (1.0, 10.0, 1e-3)
    ]
    for a, b, c in zip(*paths, strict=True):
        assert torch.allclose(a, b, rtol=1e-9) and torch.allclose(a, c, rtol=1e-9)
    sgd = baseline("sgd", 0.1)
    ends = [list(iterate(sgd, HEAD, theta, s, {}, 5, scale=scale))[-1][0] for scale in (1.0, 10.0)]
    assert not torch.allclose(*ends, rtol=1e-3)


def test_freshly_initialised_it_descends() -> None:
    s, theta = samples(), thetas()
    rule = LstmOptimizer(HEAD.parameters, 20).double()
    losses = [HEAD.loss(t, s) for t, _ in iterate(rule, HEAD, theta, s, rule.start(theta), 10)]
    assert bool((losses[-1] < HEAD.loss(theta, s)).all())


def test_the_meta_gradient_is_that_of_finite_differences() -> None:
    """Eq. (5) over four iterations and three frames, with the second-order terms."""
    s, queries = samples(), [samples() for _ in range(3)]
    rule = LstmOptimizer(HEAD.parameters, 4).double()
    generator = WeightGenerator(3, 5, HEAD.parameters).double()
    with torch.no_grad():
        for p in generator.parameters():
            p.add_(0.05 * torch.randn_like(p))
    initial = thetas(1)[0].requires_grad_()
    learned = [initial, *rule.parameters(), *generator.parameters()]

    def value(second_order: bool = True) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for theta, _ in iterate(
            rule,
            HEAD,
            initial + generator(s),
            s,
            rule.start(thetas()),
            4,
            second_order=second_order,
        ):
            total = total + sum(HEAD.loss(theta, q).sum() for q in queries)
        return total

    exact, first_order = (torch.autograd.grad(value(second), learned) for second in (True, False))
    for p, gradient in zip(learned, exact, strict=True):
        for k in np.random.default_rng(0).choice(p.numel(), min(6, p.numel()), replace=False):
            ends = []
            for sign in (1, -1):
                with torch.no_grad():
                    p.view(-1)[k] += sign * 1e-6
                    ends.append(float(value()))
                    p.view(-1)[k] -= sign * 1e-6
            assert float(gradient.flatten()[k]) == pytest.approx(
                (ends[0] - ends[1]) / 2e-6, rel=2e-4, abs=1e-6
            )
    assert any(
        not torch.allclose(a, b, rtol=1e-3) for a, b in zip(exact, first_order, strict=True)
    ), "second-order terms are nothing"


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'adm'.*steepest_descent"):
        baseline("adm", 0.1)
    assert set(BASELINES) < set(OPTIMIZERS)


def test_the_start_is_shared_and_the_generator_adds_to_it() -> None:
    net = MetaNet(MetaSpec())
    s = Samples(*(t.float() for t in samples(2, channels=net.head.inputs)))
    assert torch.equal(net.start(s, True), net.start(s, False)), (
        "a fresh generator changes something"
    )
    with torch.no_grad():
        net.generator.layers[2].bias.fill_(0.5)
    mixed = net.start(s, torch.tensor([[1.0], [0.0]]))
    assert torch.allclose(mixed[0], net.initial + 0.5) and torch.equal(mixed[1], net.initial)


def test_specs() -> None:
    spec = MetaSpec(hidden=(16, 8))
    assert MetaSpec.from_json(spec.to_json()) == spec
    assert MetaSpec().head().parameters <= 5000 and math.isclose(
        spec.head().parameters, 41 * 16 + 16 + 16 * 8 + 8 + 9
    )
    with pytest.raises(ValueError, match="at most 5000"):
        MetaSpec(hidden=(64, 64))
    with pytest.raises(ValueError, match="meta method"):
        MetaSpec.from_json('{"hiden": [3, 4]}')
