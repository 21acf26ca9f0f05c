"""The samples of one edge of the tree of frames, and the times under which they are kept."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

from builtin_interfaces.msg import Time as TimeMsg
from rclpy.time import Time

from tf2_ros.exceptions import ExtrapolationException
from tf2_ros.pose import Pose, interpolate

NS_PER_S = 1_000_000_000

Sample = tuple[str, Pose]
"""A frame's parent, and its pose on it."""


def to_ns(time: Time | TimeMsg) -> int:
    """ns of a time of rclpy or of a message; a message's may be negative."""
    if hasattr(time, "sec") and hasattr(time, "nanosec"):
        return int(time.sec) * NS_PER_S + int(time.nanosec)
    if hasattr(time, "nanoseconds"):
        return int(time.nanoseconds)
    raise TypeError(
        f"time must have sec and nanosec, or nanoseconds, and is a {type(time).__name__}"
    )


def stored_ns(time: Time | TimeMsg) -> int:
    """ns under which a sample of that time is kept.

    tf2 splits it into whole seconds, towards zero, and an unsigned rest: a fraction of a second
    before 1970 is kept 2**32 ns later.
    """
    ns = to_ns(time)
    return ns + 2**32 if ns < 0 and ns % NS_PER_S else ns


def stamp_message(ns: int) -> TimeMsg:
    """The stamp of an answer, with tf2's unsigned fraction of a second before 1970."""
    whole = ns // NS_PER_S if ns >= 0 else -(-ns // NS_PER_S)
    return TimeMsg(sec=whole, nanosec=ns % 2**64 % NS_PER_S)


@dataclass
class Edge:
    """The samples of one frame relative to its parent, in the order of time and, within a stamp, of
    arrival; a static edge has one, valid at all times.
    """

    static: bool
    stamps: list[int] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    authority: str = ""

    def insert(self, stamp_ns: int, sample: Sample, cache_ns: int) -> bool:
        """Adds a sample; False: it is older than the cache, and ignored."""
        if self.static:
            self.stamps, self.samples = [0], [sample]
            return True
        if self.stamps:
            oldest_ns = self.stamps[-1] - cache_ns
            # As in tf2, the newest so far decides. So a gap is bridged, once.
            old = bisect_left(self.stamps, oldest_ns)
            del self.stamps[:old], self.samples[:old]
            if stamp_ns < oldest_ns:
                return False
        at = bisect_right(self.stamps, stamp_ns)
        if sample not in self.samples[bisect_left(self.stamps, stamp_ns) : at]:
            self.stamps.insert(at, stamp_ns)
            self.samples.insert(at, sample)
        return True

    def newest(self) -> tuple[int, str] | None:
        """Stamp (0 of a static edge) and parent of the newest sample."""
        return (self.stamps[-1], self.samples[-1][0]) if self.samples else None

    def at(self, stamp_ns: int) -> Sample:
        """Parent and pose at the time, 0: the newest; ExtrapolationException outside of the
        samples.
        """
        stamps, samples = self.stamps, self.samples
        if not samples:
            raise ExtrapolationException("there are no transforms in the buffer")
        if self.static or stamp_ns == 0 or stamp_ns == stamps[-1]:
            return samples[-1]
        if stamp_ns == stamps[0]:
            return samples[0]
        if len(stamps) == 1:
            raise ExtrapolationException(
                f"Lookup would require extrapolation at time {stamp_ns / NS_PER_S:.6f}, but only"
                f" time {stamps[0] / NS_PER_S:.6f} is in the buffer"
            )
        for outside, where, name, limit in (
            (stamp_ns > stamps[-1], "future", "latest", stamps[-1]),
            (stamp_ns < stamps[0], "past", "earliest", stamps[0]),
        ):
            if outside:
                raise ExtrapolationException(
                    f"Lookup would require extrapolation into the {where}.  Requested time"
                    f" {stamp_ns / NS_PER_S:.6f} but the {name} data is at time"
                    f" {limit / NS_PER_S:.6f}"
                )
        after = bisect_right(stamps, stamp_ns)
        (parent, a), (next_parent, b) = samples[after - 1], samples[after]
        if parent != next_parent:
            return parent, a
        ratio = (stamp_ns - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        return parent, interpolate(a, b, ratio)
