"""What f sees of a cell: by the metric, by place, and which cells are learned from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vos_ros.segmentation.connectivity import connectivity_gate
from vos_ros.segmentation.methods.meta.inputs import (
    EXTRA_INPUTS,
    draw_references,
    head_inputs,
    perturb_masks,
    pseudo_labels,
    sample_cells,
    samples_of_given_masks,
    smooth_logits,
    to_cells,
)


def disk(
    row: float, column: float, radius: float, size: tuple[int, int] = (24, 32)
) -> torch.Tensor:
    y, x = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    return (((y - row) ** 2 + (x - column) ** 2) <= radius**2).float()


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """An embedding in which the object's cells are near (1, 0, 0) and the others near (0, 2, 0);
    and its mask.
    """
    mask = disk(12, 16, 5)
    clean = torch.stack([mask, 2 * (1 - mask), torch.zeros_like(mask)])
    return (clean + 0.1 * torch.randn(clean.shape, generator=drawn()))[None], mask[None]


def test_cells_are_means_over_what_lies_around_them() -> None:
    mask = torch.zeros(1, 33, 33)
    mask[0, :, :16] = 1
    cells = to_cells(mask, 4, aligned=True)
    assert cells.shape == (1, 9, 9)
    assert cells[0, 4].tolist() == pytest.approx(
        [1, 1, 1, 1, 0.4, 0, 0, 0, 0]
    )  # cell 4 is centred on column 16 and five wide
    assert to_cells(torch.ones(2, 3, 32, 32), 4, aligned=False).shape == (2, 3, 8, 8)


def test_references_are_of_the_object_and_of_what_is_not(
    scene: tuple[torch.Tensor, torch.Tensor],
) -> None:
    embedding, mask = scene
    references = draw_references(embedding, mask, torch.ones_like(mask), drawn(), count=16)
    assert references.shape == (1, 2, 16, 3)
    assert bool((references[0, 0, :, 0] > 0.5).all()) and bool((references[0, 1, :, 1] > 1.5).all())
    care = torch.ones_like(mask)
    care[:, :, 16:] = 0
    marked = torch.arange(32.0).expand(1, 1, 24, 32)
    assert bool((draw_references(marked, mask, care, drawn()) < 16).all()), (
        "taken from where nobody cares"
    )


def test_metric_planes_are_equation_1(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    embedding, mask = scene
    references = draw_references(embedding, mask, torch.ones_like(mask), drawn(), count=8)
    out = head_inputs(embedding, references, torch.zeros_like(mask))
    assert out.shape == (1, 3 + EXTRA_INPUTS, 24, 32) and torch.equal(out[:, :3], 4 * embedding)
    cell = embedding[0, :, 12, 18].numpy()
    mine, others = (
        min(float(((cell - r) ** 2).sum()) for r in references[0, k].numpy()) for k in range(2)
    )
    expected = [
        2 / (1 + np.exp(mine)),
        2 / (1 + np.exp(others)),
        (others - mine) / (others + mine + 0.01),
    ]
    assert out[0, 3:6, 12, 18].tolist() == pytest.approx(expected, abs=1e-5)
    assert bool((out[0, 5][mask[0] > 0] > 0).all()) and bool((out[0, 5][mask[0] == 0] < 0).all())
    assert bool((out[0, 7:] == 0).all()), "a prior of nothing says something"


def test_objects_may_have_different_numbers_of_references(
    scene: tuple[torch.Tensor, torch.Tensor],
) -> None:
    embedding, mask = scene
    few, many = (
        draw_references(embedding, mask, torch.ones_like(mask), drawn(), count=n)[0]
        for n in (4, 12)
    )
    prior = torch.cat([mask, mask])
    both = head_inputs(embedding, [few, many], prior)
    for k, references in enumerate((few, many)):
        assert torch.allclose(
            both[k : k + 1], head_inputs(embedding, [references], mask), atol=1e-6
        )


def test_place_is_relative_to_the_prior_in_radii() -> None:
    embedding = torch.zeros(1, 1, 48, 64)
    references = torch.zeros(2, 2, 1, 1)
    small, large = disk(20, 30, 4, (48, 64)), disk(20, 30, 8, (48, 64))
    blurred, wide, bell, u, v = head_inputs(embedding, references, torch.stack([small, large]))[
        :, -5:
    ].unbind(1)
    assert float(bell[0, 20, 30]) == pytest.approx(1.0) and bool((u[:, 20, 30].abs() < 1e-3).all())
    assert float(u[0, 20, 34]) == pytest.approx(float(u[1, 20, 38]), rel=0.1)  # both at the rim
    assert float(v[0, 16, 30]) == pytest.approx(-float(u[0, 20, 34]), rel=1e-3)
    assert float(u.max()) <= 1.0 and float(u.min()) >= -1.0
    assert float(blurred[1, 20, 30]) == pytest.approx(1.0) and 0 < float(wide[0, 20, 30]) < 1


def test_cells_to_learn_from() -> None:
    """A third of each region, which together weigh what the regions measure."""
    mask, care = disk(12, 9, 4)[None], torch.ones(1, 24, 32)
    place = torch.arange(24 * 32.0).reshape(1, 1, 24, 32)
    s = sample_cells(place, mask, care, 6000, drawn())
    at = s.inputs[0, 0].long()
    assert torch.equal(s.labels[0], mask.flatten()[at]) and float(s.labels.mean()) == pytest.approx(
        1 / 3, abs=1e-3
    )
    assert float(s.weights.sum()) == pytest.approx(1.0)
    near = (at % 32 <= 9 + 4 + 8) & (s.labels[0] == 0)
    area = float(mask.sum())
    around = (
        float(
            (head_inputs(torch.zeros(1, 1, 24, 32), torch.zeros(1, 2, 1, 1), mask)[0, -4] > 0).sum()
        )
        - area
    )
    masses = [
        float(s.weights[0][which].sum())
        for which in (s.labels[0] == 1, near, ~near & (s.labels[0] == 0))
    ]
    rest = min(24 * 32 - area - around, 2 * area)
    assert masses == pytest.approx(
        [m / (area + around + rest) for m in (area, around, rest)], abs=0.02
    )
    care[:, :, 9:] = 0
    s = sample_cells(place, mask, care, 600, drawn())
    assert bool((s.inputs[0, 0].long() % 32 < 9)[s.weights[0] > 0].all()), (
        "taken from where nobody cares"
    )
    nothing = sample_cells(place, mask, torch.zeros_like(care), 10, drawn())
    assert bool(torch.isfinite(nothing.inputs).all()) and float(nothing.weights.sum()) == 0
    absent = sample_cells(place, torch.zeros_like(mask), torch.ones_like(care), 50, drawn())
    assert not bool(absent.labels.any()) and float(absent.weights.sum()) == pytest.approx(1.0)


def test_disturbed_masks_are_near_the_truth_but_not_on_it() -> None:
    mask = disk(24, 32, 9, (48, 64)).expand(300, -1, -1)
    out = perturb_masks(mask, drawn())
    overlap = (out * mask).sum((1, 2)) / torch.maximum(out, mask).sum((1, 2))
    assert 0.5 < float(overlap.median()) < 0.95 and float(overlap.std()) > 0.05
    assert float(out.min()) >= 0 and float(out.max()) <= 1
    gone = perturb_masks(mask, drawn(), missing=0.3).sum((1, 2)) == 0
    assert 0.2 < float(gone.float().mean()) < 0.4
    assert torch.equal(perturb_masks(mask, drawn(3)), perturb_masks(mask, drawn(3)))
    assert perturb_masks(torch.zeros(2, 8, 8), drawn()).shape == (2, 8, 8) and perturb_masks(
        torch.zeros(0, 8, 8)
    ).shape == (0, 8, 8)


def test_seeded_samples_come_from_several_priors(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    embedding, mask = scene
    references = draw_references(embedding, mask, torch.ones_like(mask), drawn())
    s = samples_of_given_masks(embedding, references, mask, torch.ones_like(mask), 30, drawn())
    assert s.inputs.shape == (1, 3 + EXTRA_INPUTS, 30) and float(s.weights.sum()) == pytest.approx(
        1.0
    )


def test_own_masks_weigh_what_they_are_sure_of() -> None:
    masks, care = pseudo_labels(torch.tensor([[[0.1, 0.5, 0.9]]]))
    assert masks.tolist() == [[[0.0, 0.0, 1.0]]] and care[0, 0].tolist() == pytest.approx(
        [0.8, 0.0, 0.8]
    )


def test_neighbours_that_look_alike_agree(scene: tuple[torch.Tensor, torch.Tensor]) -> None:
    embedding, mask = scene
    noisy = 4 * mask - 2 + 3 * torch.randn(mask.shape, generator=drawn())
    out = smooth_logits(torch.cat([noisy, -noisy]), embedding)
    assert torch.allclose(out[0], -out[1], atol=1e-5)
    wrong = [int(((x > 0) != (mask > 0)).sum()) for x in (noisy, out[:1])]
    assert wrong[1] < 0.3 * wrong[0]
    # one cell, by hand: sixteen neighbours and itself
    y, x = 12, 21
    total, weight = float(noisy[0, y, x]), 1.0
    for dy, dx in [
        (a * s, b * s) for s in (1, 2) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b
    ]:
        distance = float((embedding[0, :, y, x] - embedding[0, :, y + dy, x + dx]).square().sum())
        alike = 2 / (1 + np.exp(4 * distance))
        total, weight = total + alike * float(noisy[0, y + dy, x + dx]), weight + alike
    assert float(out[0, y, x]) == pytest.approx(total / weight, rel=1e-4)


def test_a_look_alike_far_off_is_not_the_object() -> None:
    before, near, far = disk(12, 8, 4), disk(12, 10, 4), disk(12, 26, 4)
    both = torch.maximum(near, far)
    gates = connectivity_gate(
        torch.stack([both, both, far]) - 0.5,
        torch.stack([before, torch.zeros_like(before), before]),
    )
    assert torch.equal((gates[0] * both), near), "it was followed there"
    assert bool((gates[1:] == 1).all()), (
        "where nothing is known, or nothing left, everything may be it"
    )
