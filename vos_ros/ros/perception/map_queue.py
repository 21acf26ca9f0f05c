"""Hold the map messages that wait for the worker. Knows nothing of ROS."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any


class MapQueue:
    """Keep the map messages that still matter: the newest snapshot and the changes after it.

    A snapshot replaces all that wait before it. Of too many changes the oldest go; the map notices
    the gap and asks for a snapshot. ``replaced`` counts what was dropped. Safe to use from several
    threads.

    Args:
        limit: largest number of messages that wait.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: deque[Any] = deque()
        self.replaced = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, msg: Any) -> bool:
        """Add a message; True where none waited before, so that a job must fetch it."""
        with self._lock:
            idle = not self._waiting
            if msg.full:
                self.replaced += len(self._waiting)
                self._waiting.clear()
            self._waiting.append(msg)
            while len(self._waiting) > self._limit:
                self._waiting.popleft()
                self.replaced += 1
            return idle

    def get(self) -> tuple[Any | None, Any | None]:
        """Take the oldest message and show the next one, None where there is none."""
        with self._lock:
            msg = self._waiting.popleft() if self._waiting else None
            return msg, self._waiting[0] if self._waiting else None
