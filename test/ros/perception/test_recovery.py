"""A frame that failed breaks nothing that follows; full memory costs quality, no frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from support import squares

from vos_ros.config import from_flat
from vos_ros.pipeline import Pipeline
from vos_ros.ros.common.logging import ConditionLog
from vos_ros.ros.perception import recovery
from vos_ros.ros.perception.recovery import Recovery
from vos_ros.segmentation.methods.lwl.segmenter import Lwl
from vos_ros.segmentation.out_of_memory import is_out_of_memory
from vos_ros.types import Box, FrameResult, MapUpdate

MAP = MapUpdate(squares.START, "map", 1, True, squares.map_objects())


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    made = Pipeline(from_flat({"segmentation.method": "lwl", "segmentation.device": "cpu"}))
    assert made.update_map(MAP) == ""
    yield made
    made.close()


def step(pipeline: Pipeline, index: int) -> FrameResult:
    return pipeline.step(squares.frame_at(squares.START + index * squares.STEP, index))


def named(result: FrameResult) -> dict[int, int]:
    return {a.map_object_id: a.track_id for a in result.associations if a.track_id}


def no_memory() -> Callable[..., Any]:
    def raise_it(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    return raise_it


@pytest.fixture
def log() -> ConditionLog:
    return ConditionLog(lambda level, text: None)


def texts(log: ConditionLog) -> list[str]:
    return [c.text for c in log.active().values()]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ],
)
def test_full_memory_is_known_by_its_error(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("size mismatch")) and not is_out_of_memory(
        ValueError()
    )


def test_an_allocation_that_fails_here_is_full_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)


def test_tracks_of_the_map_go_on_after_a_frame_that_failed(
    pipeline: Pipeline, log: ConditionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in the middle of a frame leaves segmenter and tracks apart."""
    before = named(step(pipeline, 0))
    (prompted,) = pipeline.add_objects([(Box((4, 4, 10, 10)), 0)])
    seed = Lwl.seed

    def fail_after(self: Lwl, *args: Any) -> Any:
        seed(self, *args)
        raise RuntimeError("half of it is done")

    with monkeypatch.context() as patch:
        patch.setattr(Lwl, "seed", fail_after)
        with pytest.raises(RuntimeError, match="half") as caught:
            step(pipeline, 1)
    assert not Recovery(pipeline, log).after_failure(caught.value), "it is not tried again"
    assert not texts(log), "the worker reports it"
    result = step(pipeline, 2)
    assert named(result) == before and {t.track_id for t in result.tracks} == set(before.values())
    assert prompted not in {t.track_id for t in result.tracks}
    assert len(np.unique(result.labels())) == 4


def test_full_memory_is_answered_by_the_projection_until_there_is_memory_again(
    pipeline: Pipeline, log: ConditionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RETRY_S", 0.0)
    rescue = Recovery(pipeline, log)
    before = named(step(pipeline, 0))
    with monkeypatch.context() as patch:
        patch.setattr(Lwl, "step", no_memory())
        for index in (1, 2):
            rescue.before_frame()
            with pytest.raises(torch.OutOfMemoryError) as caught:
                step(pipeline, index)
            assert rescue.after_failure(caught.value), "the same frame is tried again"
            result = step(pipeline, index)
            rescue.after_frame()
            assert named(result) == before and rescue.without_network
            assert pipeline.stages.segmenter.uses_image is False
            (text,) = texts(log)
            assert "(OutOfMemoryError: CUDA out of memory" in text and "projection alone" in text
            assert "tracking.max_objects" in text
    rescue.before_frame()
    result = step(pipeline, 3)
    rescue.after_frame()
    assert named(result) == before and not texts(log) and not rescue.without_network
    assert isinstance(pipeline.stages.segmenter, Lwl) and pipeline.stages.segmenter.object_ids


def test_the_network_waits_for_its_time(
    pipeline: Pipeline, log: ConditionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    rescue = Recovery(pipeline, log)
    step(pipeline, 0)
    assert rescue.after_failure(torch.OutOfMemoryError("CUDA out of memory"))
    rescue.before_frame()
    step(pipeline, 1)
    rescue.after_frame()
    assert rescue.without_network and texts(log), "for ten seconds"


def test_a_network_that_finds_no_room_even_to_start_waits_on(
    pipeline: Pipeline, log: ConditionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "RETRY_S", 0.0)
    rescue = Recovery(pipeline, log)
    assert rescue.after_failure(torch.OutOfMemoryError("CUDA out of memory"))
    with monkeypatch.context() as patch:
        patch.setattr(Lwl, "__init__", no_memory())
        rescue.before_frame()
    assert rescue.without_network and len(named(step(pipeline, 0))) == 3


def test_prompts_that_wait_are_kept(pipeline: Pipeline, log: ConditionLog) -> None:
    rescue = Recovery(pipeline, log)
    step(pipeline, 0)
    (prompted,) = pipeline.add_objects([(Box((4, 4, 20, 20)), 0)])
    assert rescue.after_failure(torch.OutOfMemoryError("CUDA out of memory"))
    assert prompted in {t.track_id for t in step(pipeline, 1).tracks}
