"""One thread that does the work: the latest frame, and every job. Knows nothing of ROS.

A frame that waits is replaced by a newer one, so a slow frame never makes a queue. Jobs (map updates, service requests) are never
lost: they are done in order, and before the frame that waits, because a frame should be judged by the newest map.
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
"""Who hands over a frame would keep the interpreter until it blocks or is made to give way, 5 ms later: so it steps back that long."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Counts:
    """Frames since the start. ``superseded``: replaced by a newer one before their turn. ``failed``: raised."""

    offered: int = 0
    processed: int = 0
    superseded: int = 0
    failed: int = 0


class Worker(Generic[T]):
    """``process`` gets one frame at a time; ``on_error`` gets what a frame raised, and the worker goes on."""

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
        # A daemon, so that an interpreter that has to end doesn't wait for a frame that hangs.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Counts:
        """A consistent picture of the counters."""
        with self._condition:
            return Counts(self._offered, self._processed, self._superseded, self._failed)

    @property
    def stopping(self) -> bool:
        """True once ``stop`` was called; whoever waits inside a frame gives up then."""
        return self._stopping

    def offer(self, frame: T) -> bool:
        """Leaves a frame for the worker; True where it took the place of one that waited."""
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
        """Queues a job; its result or exception comes in the future, which is cancelled where the worker stops first."""
        future: Future[R] = Future()
        with self._condition:
            if self._stopping:
                future.cancel()
                return future
            self._jobs.append((job, future))
            self._condition.notify_all()
        return future

    def discard(self) -> None:
        """Forgets the frame that waits (counted as superseded)."""
        with self._condition:
            if self._frame is not None:
                self._frame = None
                self._superseded += 1

    def wait_idle(self, timeout_s: float) -> bool:
        """Waits until nothing is being done and nothing waits; False where that takes longer."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            return self._condition.wait_for(
                lambda: not self._busy and not self._jobs and self._frame is None,
                max(0.0, deadline - time.monotonic()),
            )

    def stop(self, timeout_s: float) -> bool:
        """Ends the thread after what it is doing; what waits is dropped, jobs are cancelled. False: still busy after the timeout."""
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
