from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vos_ros.segmentation.methods.lwl.memory import Memory, Sample

C, D, H, W = 8, 2, 3, 4


def sample(time: int, ids: tuple[int, ...], first_of: tuple[int, ...] = ()) -> Sample:
    planes = [{i: torch.full((D, H, W), float(10 * i + time) * k) for i in ids} for k in (1, 2)]
    return Sample(time, torch.full((C, H, W), float(time)), *planes, set(first_of))


def memory(
    size: int = 4,
    max_bytes: float = 1e9,
    decay: float = 0.9,
    first_frame_weight: float = 0.25,
    dtype: torch.dtype = torch.float32,
    min_sample_weight: float = 0.0,
    product_dtype: torch.dtype = torch.float32,
) -> Memory:
    return Memory(
        size=size,
        max_bytes=max_bytes,
        decay=decay,
        first_frame_weight=first_frame_weight,
        dtype=dtype,
        min_sample_weight=min_sample_weight,
        product_dtype=product_dtype,
    )


def filled(m: Memory, times: int, ids: tuple[int, ...] = (5,)) -> Memory:
    for t in range(times):
        m.add(sample(t, ids, ids if t == 0 else ()))
    return m


def test_the_first_sample_stays_and_the_rest_is_the_latest() -> None:
    m = filled(memory(4), 9)
    assert [s.time for s in m.samples_of(5)] == [0, 6, 7, 8]


def test_a_memory_of_one_is_the_first_sample() -> None:
    assert [s.time for s in filled(memory(1), 4).samples_of(5)] == [0]


def test_objects_started_later_have_their_own_first_sample() -> None:
    m = memory(3)
    m.add(sample(0, (5,), (5,)))
    for t in range(1, 8):
        m.add(sample(t, (5, 6) if t >= 3 else (5,), (6,) if t == 3 else ()))
    assert [s.time for s in m.samples_of(5)] == [0, 6, 7]
    assert [s.time for s in m.samples_of(6)] == [3, 6, 7]
    assert [s.time for s in m.samples] == [0, 3, 6, 7]


@pytest.mark.parametrize("ids", [(5,), (5, 6, 7)])
def test_the_bound_in_bytes_holds_for_every_object(ids: tuple[int, ...]) -> None:
    each = 4 * H * W * (C / len(ids) + 2 * D)
    m = filled(memory(100, max_bytes=3.5 * each), 12, ids)
    for i in ids:
        assert [s.time for s in m.samples_of(i)] == [0, 10, 11]
        assert sum(s.bytes_of(i) for s in m.samples_of(i)) <= 3.5 * each
    held = {
        id(t): t.nbytes
        for s in m.samples
        for t in (s.features, *s.labels.values(), *s.weights.values())
    }
    assert sum(held.values()) <= 3.5 * each * len(ids)


def test_the_bound_counts_features_that_fewer_objects_share() -> None:
    """Two objects share every frame; when one leaves, all of the features is the other's to pay."""
    shared = 4 * H * W * (C / 2 + 2 * D)
    m = filled(memory(100, max_bytes=6 * shared), 6, (5, 6))
    assert len(m.samples_of(5)) == 6
    m.drop([6])
    assert sum(s.bytes_of(5) for s in m.samples_of(5)) <= 6 * shared
    assert 1 < len(m.samples_of(5)) < 6 and m.samples_of(5)[0].time == 0


def test_the_first_sample_is_kept_whatever_the_bound() -> None:
    assert [s.time for s in filled(memory(10, max_bytes=1.0), 5).samples_of(5)] == [0]


def test_half_precision_takes_half_and_comes_back_single() -> None:
    full, half = filled(memory(4), 4), filled(memory(4, dtype=torch.float16), 4)
    assert half.samples[0].bytes_of(5) == full.samples[0].bytes_of(5) / 2
    (block,) = half.training_sets([5], 4)
    assert all(t.dtype == torch.float32 for t in (block.features, block.labels, block.weights))


def test_dropped_objects_leave_nothing_behind() -> None:
    m = filled(memory(4), 6, (5, 6))
    m.drop([5])
    assert m.samples_of(5) == [] and len(m.samples_of(6)) == 4
    assert all(5 not in (*s.labels, *s.weights, *s.first_of) for s in m.samples)
    m.drop([6])
    assert m.samples == []


@given(st.integers(1, 12), st.floats(0.05, 1.0), st.floats(0.0, 1.0))
def test_importances_sum_to_one_and_the_first_keeps_its_share(
    times: int, decay: float, share: float
) -> None:
    found = filled(memory(6, decay=decay, first_frame_weight=share), times).importance(5, times)
    values = [v for _, v in found]
    assert sum(values) == pytest.approx(1.0)
    assert values[0] >= min(share, 1.0) - 1e-9
    young = [v for s, v in found if 5 not in s.first_of]
    assert young == sorted(young)


def test_importances_are_those_of_sec_3_5_where_the_first_keeps_no_share() -> None:
    found = filled(memory(10, decay=0.5, first_frame_weight=0.0), 4).importance(5, 3)
    total = sum(0.5**k for k in range(4))
    assert [v for _, v in found] == pytest.approx([0.5**k / total for k in (3, 2, 1, 0)])


def test_blocks_hold_what_each_object_learns_from() -> None:
    m = memory(4)
    m.add(sample(0, (5,), (5,)))
    m.add(sample(1, (5, 6), (6,)))
    m.add(sample(2, (6, 5)))
    blocks = m.training_sets([6, 5], 2)  # row 0 is object 6
    assert [(b.features[:, 0, 0, 0].tolist(), b.rows.tolist()) for b in blocks] == [
        ([0.0], [1]),
        ([1.0, 2.0], [0, 1]),
    ]
    both = blocks[1]
    assert both.labels.shape == (2, 2, D, H, W)
    assert both.labels[:, :, 0, 0, 0].tolist() == [[61.0, 51.0], [62.0, 52.0]]
    share = {(s.time, i): v for i in (5, 6) for s, v in m.importance(i, 2)}
    assert both.weights[1, 0, 0, 0, 0].item() == pytest.approx(2 * 62.0 * share[2, 6], rel=1e-6)
    assert [b.rows.tolist() for b in m.training_sets([5], 2)] == [[0]] and m.training_sets(
        [9], 2
    ) == []


def test_a_sample_that_teaches_nobody_is_not_kept() -> None:
    m = memory()
    m.add(sample(0, ()))
    assert m.samples == []


def test_the_least_important_are_kept_but_not_learned_from() -> None:
    whole, short = (filled(memory(20, min_sample_weight=n), 20) for n in (0.0, 0.1))
    [everything], [rest] = (m.training_sets([5], 20) for m in (whole, short))
    assert len(short.samples) == len(everything.features) == 20
    times = rest.features[:, 0, 0, 0].tolist()
    assert times[0] == 0 and times[1:] == list(range(20 - len(times) + 1, 20)) and len(times) < 20
    shares = {s.time: v for s, v in whole.importance(5, 20)}
    left = 1 - sum(shares[t] for t in times)
    assert left < 0.1 <= left + shares[times[1]]
    planes = torch.tensor([float(s.weights[5][0, 0, 0]) for s in short.samples if s.time in times])
    assert float((rest.weights[:, 0, 0, 0, 0] / planes).sum()) == pytest.approx(1.0)


def test_features_are_multiplied_in_the_precision_asked_for() -> None:
    [b] = filled(memory(dtype=torch.bfloat16, product_dtype=torch.bfloat16), 3).training_sets(
        [5], 3
    )
    assert b.features.dtype == torch.bfloat16 and b.labels.dtype == b.weights.dtype == torch.float32
    assert b.features.is_contiguous(memory_format=torch.channels_last)
