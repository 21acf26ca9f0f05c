"""Tells offline which messages belong together, and counts what is missing.

It is the counterpart of message_filters for a recording: nothing waits for a clock, and everything
that is left out is counted with its reason.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection
from typing import Generic, TypeVar

Item = TypeVar("Item")


class StampMatcher(Generic[Item]):
    """Finds the partner (depth) of each stamp of a leading stream (colour).

    The partner has the same stamp, or else the nearest one within ``slop_ns``. It serves once.
    ``unmatched`` counts the candidates that became too old without serving.
    """

    def __init__(self, slop_ns: int) -> None:
        self.slop_ns = slop_ns
        self.unmatched = 0
        self._stamps: list[int] = []
        self._items: dict[int, Item] = {}

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, item: Item) -> None:
        """Add a candidate; it replaces one of the same stamp."""
        if stamp_ns not in self._items:
            insort(self._stamps, stamp_ns)
        self._items[stamp_ns] = item

    def settled(self, stamp_ns: int) -> bool:
        """Tell whether no later candidate can be a better partner of ``stamp_ns``.

        That is so where its twin (the same stamp) is there, or candidates from ``slop_ns`` after it
        on.
        """
        return stamp_ns in self._items or (
            bool(self._stamps) and self._stamps[-1] >= stamp_ns + self.slop_ns
        )

    def take(self, stamp_ns: int, reserved: Collection[int] = ()) -> Item | None:
        """Take the partner of ``stamp_ns`` out, None where it has none.

        ``reserved`` are later stamps of the leading stream: their twins are left to them.
        Candidates that are too old for this and later stamps are dropped and counted.
        """
        low = bisect_left(self._stamps, stamp_ns - self.slop_ns)
        high = bisect_left(self._stamps, stamp_ns + self.slop_ns + 1)
        near = [s for s in self._stamps[low:high] if s == stamp_ns or s not in reserved]
        found = min(near, key=lambda s: abs(s - stamp_ns)) if near else None
        for old in self._stamps[:low]:
            del self._items[old]
        self.unmatched += low
        del self._stamps[:low]
        if found is None:
            return None
        self._stamps.remove(found)
        return self._items.pop(found)


class MissingDataCounts:
    """Counts what a source left out or could not fill in, by reason, with an example of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Count ``reason`` (a fixed text); ``example`` says where it happened first."""
        if count:
            self.counts[reason] += count
            self._examples.setdefault(reason, example)

    def lines(self) -> list[str]:
        """Give one line per reason, the most frequent first."""
        return [
            f"{n} x {reason}"
            + (f" (first: {self._examples[reason]})" if self._examples[reason] else "")
            for reason, n in self.counts.most_common()
        ]
