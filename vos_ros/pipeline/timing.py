"""Measure the time that each stage of a frame takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class StageTimer:
    """Add up milliseconds by the name of the stage, in ``with timer("fusion"): ...``."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Measure the block and add its time to ``stage``, also where the block raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: 1e3 * (time.perf_counter() - start)})

    def add(self, times_ms: Mapping[str, float]) -> None:
        """Add times (ms) by stage that were measured elsewhere, such as in another thread."""
        for stage, ms in times_ms.items():
            self._ms[stage] = self._ms.get(stage, 0.0) + ms

    @property
    def stages_ms(self) -> dict[str, float]:
        """Times of the stages so far."""
        return dict(self._ms)

    def done(self) -> dict[str, float]:
        """Return the times of the stages, and under ``total`` the time since this timer was made.

        Stages that ran in parallel make the sum of the stages exceed the total.
        """
        return {**self._ms, "total": 1e3 * (time.perf_counter() - self._start)}
