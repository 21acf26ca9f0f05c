"""The worker: the newest frame replaces others, jobs are never lost, stopping is bounded."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError

import pytest

from vos_ros.ros.common.worker import Worker


class Recorder:
    """A frame function that can be held and made to fail."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.errors: list[tuple[object, Exception]] = []
        self.gate = threading.Event()
        self.started = threading.Event()
        self.worker: Worker[object] = Worker(
            self.process, lambda frame, e: self.errors.append((frame, e))
        )

    def process(self, frame: object) -> None:
        self.started.set()
        assert self.gate.wait(5)
        if frame == "bad":
            raise ValueError("no good")
        self.done.append(frame)


@pytest.fixture
def recorder():
    made = Recorder()
    yield made
    made.gate.set()
    assert made.worker.stop(5)


def test_a_slow_frame_makes_no_queue_and_the_latest_wins(recorder):
    recorder.worker.offer(0)
    assert recorder.started.wait(5)
    replaced = [recorder.worker.offer(i) for i in (1, 2, 3)]
    recorder.gate.set()
    assert recorder.worker.wait_idle(5)
    assert replaced == [False, True, True]
    assert recorder.done == [0, 3]
    counts = recorder.worker.counts
    assert (counts.offered, counts.processed, counts.superseded, counts.failed) == (4, 2, 2, 0)


def test_jobs_are_kept_in_order_and_precede_the_waiting_frame(recorder):
    recorder.worker.offer("first")
    assert recorder.started.wait(5)
    recorder.worker.offer("second")
    futures = [recorder.worker.call(lambda i=i: recorder.done.append(i) or i) for i in range(20)]
    recorder.gate.set()
    assert [f.result(5) for f in futures] == list(range(20))
    assert recorder.worker.wait_idle(5)
    assert recorder.done == ["first", *range(20), "second"]


def test_a_failing_frame_is_reported_and_the_next_one_is_processed(recorder):
    recorder.gate.set()
    recorder.worker.offer("bad")
    assert recorder.worker.wait_idle(5)
    recorder.worker.offer("good")
    assert recorder.worker.wait_idle(5)
    assert recorder.done == ["good"]
    assert [(f, str(e)) for f, e in recorder.errors] == [("bad", "no good")]
    assert recorder.worker.counts.failed == 1


def test_a_failing_job_gives_its_exception_and_the_worker_goes_on(recorder):
    recorder.gate.set()
    with pytest.raises(ZeroDivisionError):
        recorder.worker.call(lambda: 1 // 0).result(5)
    assert recorder.worker.call(lambda: 7).result(5) == 7


def test_discard_forgets_the_waiting_frame_only(recorder):
    recorder.worker.offer("working")
    assert recorder.started.wait(5)
    recorder.worker.offer("waiting")
    recorder.worker.discard()
    recorder.gate.set()
    assert recorder.worker.wait_idle(5)
    assert recorder.done == ["working"]


def test_stop_is_bounded_and_cancels_what_waits(recorder):
    recorder.worker.offer("long")
    assert recorder.started.wait(5)
    waiting = recorder.worker.call(lambda: 1)
    begun = time.monotonic()
    assert not recorder.worker.stop(0.2)
    assert time.monotonic() - begun < 2
    assert recorder.worker.stopping
    with pytest.raises(CancelledError):
        waiting.result(1)
    assert recorder.worker.call(lambda: 1).cancelled()
    assert recorder.worker.offer("too late") is False
    recorder.gate.set()
    assert recorder.worker.stop(5)
    assert recorder.done == ["long"]
