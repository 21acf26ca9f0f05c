"""Saying things once: a condition when it begins and when it ends, an event when it is news. Knows nothing of ROS."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Level(IntEnum):
    """Severity; values are those of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


Emit = Callable[[Level, str], None]


def teller(logger: Any) -> Emit:
    """Says texts on a logger of rclpy. It refuses another severity from the same line, so each has its own."""

    def say(level: Level, text: str) -> None:
        if level == Level.ERROR:
            logger.error(text)
        elif level == Level.WARN:
            logger.warning(text)
        else:
            logger.info(text)

    return say


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong now."""

    kind: str
    level: Level
    text: str
    since: float


class ConditionLog:
    """Keeps what is wrong, by key, and says each change once. Safe to use from several threads.

    A condition of a key has a ``kind``: the same kind again only refreshes its text (numbers in it may grow), another kind is a
    change and is said.
    """

    def __init__(self, emit: Emit, clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._lock = threading.Lock()
        self._conditions: dict[str, Condition] = {}

    def begin(self, key: str, kind: str, text: str, level: Level = Level.WARN) -> None:
        """``text`` is wrong about ``key`` from now on."""
        with self._lock:
            before = self._conditions.get(key)
            news = before is None or before.kind != kind
            since = self._clock() if before is None or news else before.since
            self._conditions[key] = Condition(kind, level, text, since)
        if news:
            self._emit(level, f"{key}: {text}")

    def end(self, key: str, text: str = "is back") -> None:
        """Nothing is wrong about ``key`` any more."""
        with self._lock:
            before = self._conditions.pop(key, None)
        if before is not None:
            self._emit(
                Level.OK,
                f"{key} {text} (after {self._clock() - before.since:.1f} s: {before.text})",
            )

    def now(self) -> dict[str, Condition]:
        """What is wrong at this moment, by key."""
        with self._lock:
            return dict(self._conditions)

    def clear(self) -> None:
        """Forgets everything without a word."""
        with self._lock:
            self._conditions.clear()


class EventLog:
    """Says an event at once, then the same event (numbers aside) at most every ``quiet_s``, with how often it happened between."""

    def __init__(
        self, emit: Emit, quiet_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._quiet_s = quiet_s
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, int]] = {}

    def say(self, text: str, level: Level = Level.WARN) -> None:
        """``text`` happened."""
        kind = re.sub(r"[\d.]+", "#", text)
        now = self._clock()
        with self._lock:
            last, held_back = self._said.get(kind, (-float("inf"), 0))
            if now - last < self._quiet_s:
                self._said[kind] = (last, held_back + 1)
                return
            # Kinds are few; what was silent for long is forgotten, so that free text can't fill the memory.
            self._said = {k: v for k, v in self._said.items() if now - v[0] < 100 * self._quiet_s}
            self._said[kind] = (now, 0)
        self._emit(
            level,
            text + (f" ({held_back} more like this since it was last said)" if held_back else ""),
        )
