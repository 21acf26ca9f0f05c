"""Do the work of a node in one thread: the most recent frame, and every job. Knows nothing of ROS.

A newer frame replaces one that waits, so that a slow frame never makes a queue. Jobs (map updates,
service requests) are never lost. They are done in order and before the frame that waits, so that a
frame is processed with the most recent map; but many jobs don't hold up frames: after ``_JOBS_S``
of them a frame has its turn.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_YIELD_S = 0.001
"""Pause of the thread that hands over a frame. Without it that thread would keep the interpreter
until it blocks or is interrupted, 5 ms later."""

_JOBS_S = 0.1
"""Time for jobs after which a waiting frame has its turn, s."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Count the frames since the start."""

    offered: int = 0
    """Frames that were handed over."""
    processed: int = 0
    """Frames that were processed to the end."""
    superseded: int = 0
    """Frames that a newer one replaced before their turn."""
    failed: int = 0
    """Frames whose processing raised an exception."""


@dataclass(frozen=True, slots=True)
class _Job:
    """Something to do between two frames."""

    name: str
    """Name of the message that it works on."""
    do: Callable[[], Any]
    """The work."""
    future: Future[Any] | None
    """Gets the result; None: nobody waits for it."""


class Worker(Generic[T]):
    """Process one frame at a time in a thread of its own.

    Args:
        process: gets each frame.
        on_error: gets a frame and what its processing raised; the worker goes on.
        on_job_error: gets the name of a job that nobody waits for, and what it raised.
        name_of: gives a frame's name, for ``busy``.
        name: name of the thread.
    """

    def __init__(
        self,
        process: Callable[[T], None],
        on_error: Callable[[T, Exception], None],
        *,
        on_job_error: Callable[[str, Exception], None],
        name_of: Callable[[T], str] = lambda frame: "a frame",
        name: str = "worker",
    ) -> None:
        self._process = process
        self._on_error, self._on_job_error, self._name_of = on_error, on_job_error, name_of
        self._condition = threading.Condition()
        self._frame: T | None = None
        self._jobs: deque[_Job] = deque()
        self._present: tuple[str, float] | None = None  # name and start of what is being done
        self._jobs_s = 0.0  # time for jobs since the last frame
        self._stopping = False
        self._offered = self._processed = self._superseded = self._failed = 0
        # A daemon, so that the end of the interpreter doesn't wait for a frame that hangs.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Counts:
        """The counters, read together."""
        with self._condition:
            return Counts(
                offered=self._offered,
                processed=self._processed,
                superseded=self._superseded,
                failed=self._failed,
            )

    @property
    def stopping(self) -> bool:
        """True after a call of ``stop``; code that waits inside a frame gives up then."""
        return self._stopping

    def offer(self, frame: T) -> bool:
        """Hand over a frame; True where it replaced one that waited."""
        with self._condition:
            if self._stopping:
                return False
            replaced = self._frame is not None
            self._frame = frame
            self._offered += 1
            self._superseded += replaced
            idle = self._present is None
            self._condition.notify_all()
        if idle:
            time.sleep(_YIELD_S)
        return replaced

    def call(self, name: str, job: Callable[[], R]) -> Future[R]:
        """Queue a job and return the future of its result.

        The future is cancelled where the worker stops before the job's turn.
        """
        future: Future[R] = Future()
        if not self._queue(_Job(name, job, future)):
            future.cancel()
        return future

    def post(self, name: str, job: Callable[[], Any]) -> None:
        """Queue a job whose result nobody waits for; what it raises goes to ``on_job_error``."""
        self._queue(_Job(name, job, None))

    def _queue(self, job: _Job) -> bool:
        """Queue a job; False where the worker is stopping."""
        with self._condition:
            if not self._stopping:
                self._jobs.append(job)
                self._condition.notify_all()
            return not self._stopping

    @property
    def busy(self) -> tuple[str, float] | None:
        """Name of what is being done, and for how long, s; None while nothing is."""
        present = self._present
        return None if present is None else (present[0], time.monotonic() - present[1])

    def discard(self) -> None:
        """Drop the frame that waits; it counts as superseded."""
        with self._condition:
            if self._frame is not None:
                self._frame = None
                self._superseded += 1

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is being done and nothing waits; False after the timeout."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            return self._condition.wait_for(
                lambda: self._present is None and not self._jobs and self._frame is None,
                max(0.0, deadline - time.monotonic()),
            )

    def stop(self, timeout_s: float) -> bool:
        """End the thread after its present frame or job; False: still busy after the timeout.

        The frame that waits is dropped, the jobs that wait are cancelled.
        """
        with self._condition:
            self._stopping = True
            self._frame = None
            dropped = list(self._jobs)
            self._jobs.clear()
            self._condition.notify_all()
        for job in dropped:
            if job.future is not None:
                job.future.cancel()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._present = None
                self._condition.notify_all()
                self._condition.wait_for(
                    lambda: self._stopping or bool(self._jobs) or self._frame is not None
                )
                if self._stopping:
                    return
                job, frame = self._next()
                name = job.name if job is not None else "the waiting frame"
                began = time.monotonic()
                self._present = (name, began)
            if job is not None:
                self._do(job)
                self._jobs_s += time.monotonic() - began
            elif frame is not None:
                self._present = (self._name_of(frame), began)
                self._step(frame)
                self._jobs_s = 0.0

    def _next(self) -> tuple[_Job | None, T | None]:
        """Take the job or the frame whose turn it is. Called under the lock."""
        if self._jobs and (self._frame is None or self._jobs_s < _JOBS_S):
            return self._jobs.popleft(), None
        frame, self._frame = self._frame, None
        return None, frame

    def _do(self, job: _Job) -> None:
        if job.future is None:
            try:
                job.do()
            except Exception as e:
                _tell(self._on_job_error, job.name, e)
        elif job.future.set_running_or_notify_cancel():
            try:
                job.future.set_result(job.do())
            except Exception as e:
                job.future.set_exception(e)

    def _step(self, frame: T) -> None:
        try:
            self._process(frame)
        except Exception as e:
            with self._condition:
                self._failed += 1
            _tell(self._on_error, frame, e)
        else:
            with self._condition:
                self._processed += 1


def _tell(on_error: Callable[[Any, Exception], None], what: Any, error: Exception) -> None:
    """Hand on an error; where that fails too, print both, so that the thread goes on."""
    try:
        on_error(what, error)
    except Exception:
        traceback.print_exc()
