"""Figures about what comes in and how long it takes. Knows nothing of ROS."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np


class RateMonitor:
    """Arrivals of one input: how many, how often, how long ago. Written by one thread, read by any."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, window: int = 50) -> None:
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=window)
        self.count = 0
        self.waiting_since = clock()

    def arrived(self) -> float:
        """Notes an arrival and returns its time, s on the clock."""
        now = self._clock()
        self._recent.append(now)
        self.count += 1
        return now

    def expect(self) -> None:
        """From now on arrivals are expected; silence before doesn't count."""
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
        """Arrivals per second over the last ones, 0 while there are fewer than two or none of late."""
        times = list(self._recent)
        if len(times) < 2:
            return 0.0
        mean = (times[-1] - times[0]) / (len(times) - 1)
        silence = self._clock() - times[-1]
        return 0.0 if silence > 10 * mean + 1.0 or mean <= 0 else 1.0 / mean


class RollingPercentiles:
    """The last values of a figure; percentiles of them. Safe to use from several threads."""

    def __init__(self, window: int = 200) -> None:
        self._lock = threading.Lock()
        self._values: deque[float] = deque(maxlen=window)

    def add(self, value: float) -> None:
        """Notes a value."""
        with self._lock:
            self._values.append(value)

    def percentile(self, q: float) -> float:
        """The q-th percentile, NaN while there is no value."""
        with self._lock:
            values = list(self._values)
        return float(np.percentile(values, q)) if values else float("nan")
