"""Whether those who listen to the map have kept up with it."""

from __future__ import annotations

from collections import deque


class RevisionTracker:
    """Revisions that were published, and when, beside the revision that the perception node speaks of. Times are monotonic, s.

    A reader that has lost a change can't use any later one: it stays behind until a whole map comes. It is asked for by this alone, so
    that it works with any node that says which revision it used.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._published: deque[tuple[int, float]] = deque()
        self._asked_s = -float("inf")

    def published(self, revision: int, full: bool, now_s: float) -> None:
        """Notes an update. Who gets a whole map has all that came before it."""
        if full:
            self._published.clear()
            self._asked_s = now_s
        self._published.append((revision, now_s))

    def is_behind(self, revision: int, came_s: float) -> bool:
        """Whether a reader that speaks of a revision (0 = of none of this session), of an image that came to it at a time, needs a whole
        map: a later revision was published ``patience_s`` before that. Says so once in that time."""
        while self._published and self._published[0][0] <= revision:
            self._published.popleft()
        if (
            not self._published
            or came_s - self._published[0][1] < self._patience_s
            or came_s - self._asked_s < self._patience_s
        ):
            return False
        self._asked_s = came_s
        return True
