"""Measure how often messages arrive and how long frames take. Knows nothing of ROS."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np


class RateMonitor:
    """Count arrivals: how many, how often, how long ago. One thread writes, any may read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, window: int = 50) -> None:
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=window)
        self.count = 0
        self.waiting_since = clock()

    def arrived(self) -> float:
        """Note an arrival and return its time, s on the clock."""
        now = self._clock()
        self._recent.append(now)
        self.count += 1
        return now

    def expect(self) -> None:
        """Expect arrivals from now on; silence before doesn't count."""
        self.waiting_since = self._clock()

    @property
    def silent_s(self) -> float:
        """Time since the last arrival, or since arrivals are expected, s."""
        last = self._recent[-1] if self._recent else -float("inf")
        return self._clock() - max(last, self.waiting_since)

    @property
    def age_s(self) -> float | None:
        """Time since the last arrival, s; None where nothing ever arrived."""
        return self._clock() - self._recent[-1] if self._recent else None

    @property
    def rate_hz(self) -> float:
        """Arrivals per second over the recent ones; 0 with fewer than two, or after a silence."""
        times = list(self._recent)
        if len(times) < 2:
            return 0.0
        mean = (times[-1] - times[0]) / (len(times) - 1)
        silence = self._clock() - times[-1]
        return 0.0 if silence > 10 * mean + 1.0 or mean <= 0 else 1.0 / mean


class RollingPercentiles:
    """Keep the most recent values of a figure for percentiles. Safe to use from several threads."""

    def __init__(self, window: int = 200) -> None:
        self._lock = threading.Lock()
        self._values: deque[float] = deque(maxlen=window)

    def add(self, value: float) -> None:
        """Note a value."""
        with self._lock:
            self._values.append(value)

    def percentile(self, q: float) -> float:
        """Return the q-th percentile, NaN while there is no value."""
        with self._lock:
            values = list(self._values)
        return float(np.percentile(values, q)) if values else float("nan")
