"""StageTimer: milliseconds by stage."""

from __future__ import annotations

import time

import pytest

from vos_ros.pipeline.timing import StageTimer


def test_blocks_of_one_stage_add_up() -> None:
    timer = StageTimer()
    for _ in range(2):
        with timer("a"):
            time.sleep(0.004)
    with timer("b"):
        pass
    times = timer.done()
    assert list(times) == ["a", "b", "total"]
    assert 8.0 <= times["a"] < 40.0 and 0.0 <= times["b"] < 4.0
    assert times["total"] >= times["a"] + times["b"]


def test_the_total_counts_what_no_stage_does() -> None:
    timer = StageTimer()
    time.sleep(0.003)
    assert timer.stages_ms == {} and timer.done()["total"] >= 3.0


def test_times_of_another_thread_are_added() -> None:
    timer = StageTimer()
    with timer("a"):
        pass
    timer.add({"a": 100.0, "c": 5.0})
    times = timer.done()
    assert 100.0 <= times["a"] < 110.0 and times["c"] == 5.0 and times["total"] < 100.0


def test_a_stage_that_fails_is_measured() -> None:
    timer = StageTimer()
    with pytest.raises(ZeroDivisionError), timer("a"):
        _ = 1 / 0
    assert set(timer.stages_ms) == {"a"}


def test_the_times_so_far_are_a_copy() -> None:
    timer = StageTimer()
    timer.stages_ms["a"] = 1.0
    assert timer.stages_ms == {}
