"""Report each condition and each event once, not with every frame. Knows nothing of ROS."""

from __future__ import annotations

import re
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from vos_ros.ros.common.text import plain

_NUMBERS = re.compile(r"[\d.]+")
_MAX_KINDS = 1000
"""Events of different kinds that are remembered."""


class Level(IntEnum):
    """Name the severities; the values are those of diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


Emit = Callable[[Level, str], None]
"""Writes a text of some severity to a log."""
_MAX_REPORTS, _WINDOW_S = 6, 10.0
"""Changes of one condition that are logged within a window, s: one that comes and goes with every
message must not fill the log."""


def log_to(logger: Any) -> Emit:
    """Return a function that writes to a logger of rclpy, on one line and without control
    characters.

    rclpy refuses a call whose severity differs from that of an earlier call from the same line, so
    each severity has its own line.
    """

    def emit(level: Level, text: str) -> None:
        text = plain(text)
        if level == Level.ERROR:
            logger.error(text)
        elif level == Level.WARN:
            logger.warning(text)
        else:
            logger.info(text)

    return emit


def describe_error(error: BaseException) -> str:
    """Return type, text and origin of an exception in one line."""
    text = f"{type(error).__name__}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return text
    file = frames[-1].filename.rsplit("/", 1)[-1]
    return f"{text} ({file}:{frames[-1].lineno}, {frames[-1].name})"


@dataclass(frozen=True, slots=True)
class Condition:
    """Hold one thing that is wrong at present."""

    kind: str
    """What makes it another condition of the same key; a change is reported."""
    level: Level
    """Severity."""
    text: str
    """Description for users."""
    since: float
    """Time at which it began, s on the log's clock."""


class ConditionLog:
    """Keep what is wrong at present, by key, and report each change once.

    A condition of a key has a ``kind``: the same kind again only refreshes its text (numbers in it
    may grow), another kind is a change and is reported. Kinds that differ in numbers only are the
    same. Safe to use from several threads.
    """

    def __init__(self, emit: Emit, clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._lock = threading.Lock()
        self._conditions: dict[str, Condition] = {}
        self._reports: dict[str, deque[float]] = {}
        self._unreported: set[str] = set()

    def begin(self, key: str, kind: str, text: str, level: Level = Level.WARN) -> None:
        """Note that something is wrong from now on.

        Args:
            key: the input or part that it concerns.
            kind: another kind than before is reported.
            text: description for users.
            level: severity.
        """
        kind = _NUMBERS.sub("#", kind)
        with self._lock:
            before = self._conditions.get(key)
            changed = before is None or before.kind != kind
            since = self._clock() if before is None or changed else before.since
            self._conditions[key] = Condition(kind, level, text, since)
            report = (changed or key in self._unreported) and self._may_report(key)
            if report:
                self._unreported.discard(key)
            elif changed:
                self._unreported.add(key)
        if report:
            self._emit(level, f"{key}: {text}")

    def _may_report(self, key: str) -> bool:
        """Note a report of a key, where it has not had too many of late."""
        now = self._clock()
        times = self._reports.setdefault(key, deque(maxlen=_MAX_REPORTS))
        if len(times) == _MAX_REPORTS and now - times[0] < _WINDOW_S:
            return False
        times.append(now)
        return True

    def end(self, key: str, text: str = "is back") -> None:
        """Note that nothing is wrong with ``key`` any more."""
        with self._lock:
            before = self._conditions.pop(key, None)
            unreported = key in self._unreported
            self._unreported.discard(key)
        if before is not None and not unreported:
            duration_s = self._clock() - before.since
            self._emit(Level.OK, f"{key} {text} (after {duration_s:.1f} s: {before.text})")

    def active(self) -> dict[str, Condition]:
        """Return what is wrong at present, by key."""
        with self._lock:
            return dict(self._conditions)

    def clear(self) -> None:
        """Forget everything without a report."""
        with self._lock:
            self._conditions.clear()
            self._unreported.clear()


class EventLog:
    """Report an event at once, and the same event again at most every ``quiet_s``.

    Events that differ in numbers only are the same. A later report includes how many were held
    back. Safe to use from several threads.
    """

    def __init__(
        self, emit: Emit, quiet_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._emit = emit
        self._quiet_s = quiet_s
        self._clock = clock
        self._lock = threading.Lock()
        self._reported: dict[str, tuple[float, int]] = {}

    def report(self, text: str, level: Level = Level.WARN) -> None:
        """Report that ``text`` happened."""
        kind = _NUMBERS.sub("#", plain(text))
        now = self._clock()
        with self._lock:
            last, held_back = self._reported.get(kind, (-float("inf"), 0))
            if now - last < self._quiet_s:
                self._reported[kind] = (last, held_back + 1)
                return
            # Kinds are few. Old ones are dropped, so that free text can't fill the memory.
            oldest = now - 100 * self._quiet_s
            self._reported = {k: v for k, v in self._reported.items() if v[0] > oldest}
            while len(self._reported) >= _MAX_KINDS:
                self._reported.pop(next(iter(self._reported)))
            self._reported[kind] = (now, 0)
        more = f" ({held_back} more like this since the last report)" if held_back else ""
        self._emit(level, text + more)
