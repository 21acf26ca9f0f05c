"""Do the work of a node in one thread: the most recent frame, and every job. Knows nothing of ROS.

A newer frame replaces one that waits, so that a slow frame never makes a queue. Jobs (map updates,
service requests) are never lost. They are done in order and before the frame that waits, so that a
frame is processed with the most recent map.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_YIELD_S = 0.001
"""Pause of the thread that hands over a frame. Without it that thread would keep the interpreter
until it blocks or is interrupted, 5 ms later."""

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


class Worker(Generic[T]):
    """Process one frame at a time in a thread of its own.

    Args:
        process: gets each frame.
        on_error: gets a frame and what its processing raised; the worker goes on.
        name: name of the thread.
    """

    def __init__(
        self,
        process: Callable[[T], None],
        on_error: Callable[[T, Exception], None],
        name: str = "worker",
    ) -> None:
        self._process = process
        self._on_error = on_error
        self._condition = threading.Condition()
        self._frame: T | None = None
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._busy = False
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
            idle = not self._busy
            self._condition.notify_all()
        if idle:
            time.sleep(_YIELD_S)
        return replaced

    def call(self, job: Callable[[], R]) -> Future[R]:
        """Queue a job and return the future of its result.

        The future is cancelled where the worker stops before the job's turn.
        """
        future: Future[R] = Future()
        with self._condition:
            if self._stopping:
                future.cancel()
                return future
            self._jobs.append((job, future))
            self._condition.notify_all()
        return future

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
                lambda: not self._busy and not self._jobs and self._frame is None,
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
        for _, future in dropped:
            future.cancel()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(
                    lambda: self._stopping or bool(self._jobs) or self._frame is not None
                )
                if self._stopping:
                    return
                self._busy = True
                job = self._jobs.popleft() if self._jobs else None
                frame = None
                if job is None:
                    frame, self._frame = self._frame, None
            if job is not None:
                self._do(*job)
            elif frame is not None:
                self._step(frame)

    def _do(self, job: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(job())
        except Exception as e:
            future.set_exception(e)

    def _step(self, frame: T) -> None:
        try:
            self._process(frame)
        except Exception as e:
            with self._condition:
                self._failed += 1
            self._on_error(frame, e)
        else:
            with self._condition:
                self._processed += 1
