"""Whether the perception node has received the map updates that were published."""

from __future__ import annotations

from collections import deque


class RevisionTracker:
    """Compare the revisions that were published with the one that the perception node uses.

    A reader that has lost an update can't use any later one, until a snapshot comes. The tracker
    sees that from the revisions in the reader's associations alone, so that it works with every
    node that states which revision it used. Times are monotonic, s.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._published: deque[tuple[int, float]] = deque()
        self._asked_s = -float("inf")

    def published(self, revision: int, full: bool, now_s: float) -> None:
        """Note an update; a snapshot (``full``) holds all that came before it."""
        if full:
            self._published.clear()
            self._asked_s = now_s
        self._published.append((revision, now_s))

    def is_behind(self, revision: int, came_s: float) -> bool:
        """Return whether a reader needs a snapshot. Within ``patience_s`` it is true only once.

        It needs one where a later revision was published ``patience_s`` before ``came_s``, the time
        at which the image came to it of which its associations are. ``revision`` is the one that
        they name; 0 where they are of another session or of no map.
        """
        while self._published and self._published[0][0] <= revision:
            self._published.popleft()
        if not self._published or came_s - self._published[0][1] < self._patience_s:
            return False
        if came_s - self._asked_s < self._patience_s:
            return False
        self._asked_s = came_s
        return True
