"""The contrastive loss against eq. (2) written out, the choice of pixels, label transfer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vos_ros.training.interface import IGNORE
from vos_ros.training.metric import cell_labels, contrastive, nearest_labels, sample_pixels


def equation_2(f: np.ndarray, y: np.ndarray, background: float) -> float:
    total, weights = 0.0, 0.0
    for a, b in ((a, b) for a in range(len(f)) for b in range(len(f)) if a != b):
        s, w = (
            2 / (1 + np.exp(np.sum((f[a] - f[b]) ** 2))),
            background if y[a] == y[b] == 0 else 1.0,
        )
        total, weights = total - w * np.log(s if y[a] == y[b] else 1 - s), weights + w
    return total / max(weights, 1.0)


@given(
    st.integers(0, 10_000),
    st.integers(2, 12),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.3, 1.0, 3.0]),
)
def test_the_loss_is_equation_2(seed: int, pixels: int, background: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    f, y = scale * rng.normal(size=(pixels, 4)), rng.integers(0, 3, pixels)
    got = contrastive(torch.from_numpy(f), torch.from_numpy(y), background)
    assert float(got) == pytest.approx(equation_2(f, y, background), rel=1e-6, abs=1e-9)


def test_its_gradient_is_finite_where_strangers_meet_and_far_away() -> None:
    f = torch.zeros(4, 3)
    f[3] = 1e3
    f.requires_grad_()
    value = contrastive(f, torch.tensor([1, 1, 2, 1]))
    value.backward()
    assert f.grad is not None and bool(torch.isfinite(f.grad).all()) and bool(torch.isfinite(value))


def test_it_draws_an_object_together_and_pushes_objects_apart() -> None:
    torch.manual_seed(0)
    f, y = torch.randn(30, 4).mul_(0.3).requires_grad_(), torch.arange(30) % 3
    for _ in range(200):
        (gradient,) = torch.autograd.grad(contrastive(f, y, background=0.5), f)
        f = (f - 2.0 * gradient).detach().requires_grad_()
    known = torch.arange(30) < 3
    assert torch.equal(nearest_labels(f[known], y[known], f), y)
    assert float(contrastive(f.detach(), y, background=0.5)) < 0.1


def scene() -> torch.Tensor:
    """Two frames of 20x20 cells.

    Object 1 has 6x6 cells, object 2 has 2x2 in the first frame alone; a column is unknown.
    """
    labels = torch.zeros(2, 20, 20, dtype=torch.uint8)
    labels[:, 4:10, 4:10] = 1
    labels[0, 15:17, 15:17] = 2
    labels[:, :, 19] = IGNORE
    return labels


def test_every_object_and_the_background_have_equal_shares() -> None:
    labels = scene()
    torch.manual_seed(0)
    chosen = sample_pixels(labels, torch.randn(2, 20, 20, 4), 90, outline=0.3, look_alikes=0.3)
    assert torch.bincount(labels.flatten()[chosen].long()).tolist() == [30, 30, 30]
    ground = chosen[labels.flatten()[chosen] == 0]
    assert len(ground.unique()) > 20 and set((ground // 400).tolist()) == {0, 1}


def test_a_share_of_the_background_is_near_outlines() -> None:
    labels = scene()
    torch.manual_seed(0)
    near = torch.zeros(2, 20, 20, dtype=torch.bool)
    near[:, 2:12, 2:12] = True
    near[0, 13:19, 13:19] = True

    def share(outline: float) -> float:
        chosen = sample_pixels(
            labels, torch.randn(2, 20, 20, 4), 900, outline=outline, look_alikes=0.0
        )
        ground = chosen[labels.flatten()[chosen] == 0]
        return float(near.flatten()[ground].float().mean())

    assert share(0.0) < 0.3 and share(0.5) > 0.5


def test_a_share_of_the_background_is_what_looks_like_an_object() -> None:
    labels = scene()
    torch.manual_seed(0)
    features, twin = torch.randn(2, 20, 20, 4), torch.zeros(2, 20, 20, dtype=torch.bool)
    twin[1, 14:, :16] = True
    features[(labels == 1) | twin] += 20

    def share(look_alikes: float) -> float:
        chosen = sample_pixels(labels, features, 900, outline=0.0, look_alikes=look_alikes)
        return float(twin.flatten()[chosen[labels.flatten()[chosen] == 0]].float().mean())

    assert share(0.0) < 0.2 and share(0.5) > 0.28


@pytest.mark.parametrize("label", [0, 1])
def test_a_clip_of_background_or_object_alone_has_pixels_too(label: int) -> None:
    labels = torch.full((2, 5, 5), label, dtype=torch.uint8)
    chosen = sample_pixels(labels, torch.randn(2, 5, 5, 4), 20, outline=0.3, look_alikes=0.3)
    assert (
        len(chosen)
        and float(contrastive(torch.randn(50, 4)[chosen], labels.flatten()[chosen].long())) >= 0
    )


def test_labels_of_cells_are_those_at_their_centres() -> None:
    labels = torch.arange(9 * 9).reshape(1, 9, 9).to(torch.uint8)
    assert cell_labels(labels, 4, True)[0].tolist() == [[0, 4, 8], [36, 40, 44], [72, 76, 80]]
    assert cell_labels(labels[:, :8, :8], 4, False)[0].tolist() == [[20, 24], [56, 60]]


def test_labels_go_to_the_nearest_pixels_and_unknown_ones_teach_nothing() -> None:
    known, labels = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([3, IGNORE, 0])
    assert nearest_labels(known, labels, torch.tensor([[-5.0], [0.9], [1.1], [7.0]])).tolist() == [
        3,
        3,
        0,
        0,
    ]
    with pytest.raises(ValueError, match="no pixel with a known label"):
        nearest_labels(known, torch.full((3,), IGNORE), known)
