from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vos_ros.training.losses import lovasz


def jaccard_loss(found: torch.Tensor, truth: torch.Tensor) -> float:
    either = (found | truth).sum()
    return 1.0 - float((found & truth).sum() / either) if either else 0.0


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_on_hard_masks_it_is_the_jaccard_loss(seed: int, pixels: int) -> None:
    """The Lovasz extension equals 1 - IoU at the cube's corners (Berman et al. 2018, sec. 2)."""
    draw = torch.Generator().manual_seed(seed)
    found, truth = (torch.rand(pixels, generator=draw) < 0.5 for _ in range(2))
    truth[0] = True
    assert float(lovasz(found.float(), truth)) == pytest.approx(
        jaccard_loss(found, truth), abs=1e-6
    )


def test_a_better_mask_costs_less_and_the_gradient_points_there() -> None:
    truth = torch.arange(100) < 30
    probs = torch.full((100,), 0.5).requires_grad_()
    value = lovasz(probs, truth)
    value.backward()
    assert (
        probs.grad is not None
        and bool((probs.grad[truth] <= 0).all())
        and bool((probs.grad[~truth] >= 0).all())
    )
    better = torch.where(truth, 0.8, 0.2)
    assert float(lovasz(better, truth)) < value.item()


def test_without_foreground_it_is_the_largest_error() -> None:
    probs = torch.tensor([0.1, 0.7, 0.3])
    assert float(lovasz(probs, torch.zeros(3, dtype=torch.bool))) == pytest.approx(0.7)


def test_no_pixels_cost_nothing() -> None:
    probs = torch.empty(0, requires_grad=True)
    value = lovasz(probs, torch.empty(0, dtype=torch.bool))
    value.backward()
    assert value.item() == 0.0
