"""What an object of the meta method is learned from."""

from __future__ import annotations

import pytest
import torch

from vos_ros.segmentation.methods.meta.memory import Cells, Memory, batch_cells


def frame(name: float, cells: int = 6) -> Cells:
    """Cells that carry the frame's name, and their own number."""
    inputs = torch.stack([torch.full((cells,), name), torch.arange(float(cells))])
    return Cells(inputs, torch.full((cells,), name / 100), torch.full((cells,), 1 / cells))


def shares(memory: Memory) -> dict[float, float]:
    drawn = memory.draw(6000, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn.inputs[0] / 100, drawn.labels), "labels of other cells"
    names, counts = drawn.inputs[0].unique(return_counts=True)
    return dict(zip(names.tolist(), (counts / 6000).tolist(), strict=True))


def test_the_first_and_the_last_given_frame_stay() -> None:
    memory = Memory(2, 0.5)
    for name in (1, 2, 3):
        memory.add_given(frame(name))
    for name in (11, 12, 13):
        memory.add_own(frame(name))
    assert shares(memory) == pytest.approx({1: 0.25, 3: 0.25, 12: 0.25, 13: 0.25}, abs=0.03)


def test_shares_where_one_kind_is_missing() -> None:
    memory = Memory(4, 0.5)
    with pytest.raises(ValueError, match="nothing is remembered"):
        memory.draw(3, torch.Generator())
    memory.add_given(frame(1))
    assert shares(memory) == {1: 1.0}
    own = Memory(4, 0.9)
    own.add_own(frame(2))
    assert shares(own) == {2: 1.0}
    own.add_given(frame(1))
    assert shares(own) == pytest.approx({1: 0.9, 2: 0.1}, abs=0.02)


def test_a_batch_weighs_all_cells_the_same() -> None:
    samples = batch_cells([frame(1), frame(2)])
    assert samples.inputs.shape == (2, 2, 6) and samples.weights.sum(1).tolist() == pytest.approx(
        [1.0, 1.0]
    )
