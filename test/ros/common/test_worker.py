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
        self.job_errors: list[tuple[str, Exception]] = []
        self.gate = threading.Event()
        self.started = threading.Event()
        self.worker: Worker[object] = Worker(
            self.process,
            lambda frame, e: self.errors.append((frame, e)),
            on_job_error=lambda name, e: self.job_errors.append((name, e)),
            name_of=lambda frame: f"frame {frame}",
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
    futures = [
        recorder.worker.call("job", lambda i=i: recorder.done.append(i) or i) for i in range(20)
    ]
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
        recorder.worker.call("job", lambda: 1 // 0).result(5)
    assert recorder.worker.call("job", lambda: 7).result(5) == 7


def test_what_a_job_raises_that_nobody_waits_for_is_reported(recorder):
    recorder.gate.set()
    recorder.worker.post("a map", lambda: 1 // 0)
    recorder.worker.offer("next")
    assert recorder.worker.wait_idle(5)
    assert [(name, type(e)) for name, e in recorder.job_errors] == [("a map", ZeroDivisionError)]
    assert recorder.done == ["next"]


def test_a_report_that_fails_does_not_end_the_worker(capsys):
    def broken(what, error):
        raise RuntimeError("no log")

    worker = Worker(lambda frame: 1 // 0, broken, on_job_error=broken)
    worker.offer("frame")
    worker.post("job", lambda: 1 // 0)
    assert worker.wait_idle(5) and worker.call("after", lambda: 7).result(5) == 7
    assert worker.stop(5)
    assert capsys.readouterr().err.count("RuntimeError: no log") == 2


def test_many_jobs_do_not_hold_up_a_frame(recorder):
    recorder.worker.offer("first")
    assert recorder.started.wait(5)
    for i in range(20):
        recorder.worker.post("slow", lambda i=i: (time.sleep(0.03), recorder.done.append(i)))
    recorder.worker.offer("second")
    recorder.gate.set()
    assert recorder.worker.wait_idle(5)
    order = recorder.done
    assert 1 <= order.index("second") - 1 <= 5, "after 0.1 s of jobs"
    assert [o for o in order if isinstance(o, int)] == list(range(20)), "none is lost"


def test_it_tells_with_what_it_is_busy_and_for_how_long(recorder):
    assert recorder.worker.busy is None
    recorder.worker.offer("long")
    assert recorder.started.wait(5)
    time.sleep(0.05)
    name, seconds = recorder.worker.busy
    assert name == "frame long" and 0.04 < seconds < 5
    held = threading.Event()
    recorder.gate.set()
    recorder.worker.post("a map of revision 3", held.wait)
    assert _until(lambda: (recorder.worker.busy or ("",))[0] == "a map of revision 3")
    held.set()
    assert recorder.worker.wait_idle(5) and recorder.worker.busy is None


def _until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


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
    waiting = recorder.worker.call("job", lambda: 1)
    begun = time.monotonic()
    assert not recorder.worker.stop(0.2)
    assert time.monotonic() - begun < 2
    assert recorder.worker.stopping
    with pytest.raises(CancelledError):
        waiting.result(1)
    assert recorder.worker.call("job", lambda: 1).cancelled()
    assert recorder.worker.offer("too late") is False
    recorder.gate.set()
    assert recorder.worker.stop(5)
    assert recorder.done == ["long"]
