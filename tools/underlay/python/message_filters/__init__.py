"""Stand-in for ``message_filters`` on machines without a ROS distribution: the filters a node needs
to pair topics by stamp.

Written from the public API documentation of message_filters; used only where the real one can't be
installed. The names, arguments and behaviour are those of the real package: callbacks get one
message per input, in the order of the inputs.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from rclpy.time import Time

__all__ = ["ApproximateTimeSynchronizer", "SimpleFilter", "Subscriber", "TimeSynchronizer"]


class SimpleFilter:
    """Something that passes messages on to the callbacks registered with it."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., None], *args: Any) -> int:
        """Adds a callback, called as ``cb(*messages, *args)``; returns its number."""
        connection = len(self.callbacks)
        self.callbacks[connection] = (cb, args)
        return connection

    def signalMessage(self, *msg: Any) -> None:
        """Calls every callback with the messages."""
        for cb, args in list(self.callbacks.values()):
            cb(*msg, *args)


class Subscriber(SimpleFilter):
    """A subscription as a filter: ``Subscriber(node, msg_type, topic, **keyword arguments of
    create_subscription)``.

    ``qos_profile`` is 10 where it is not given. The rclpy subscription is ``sub``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.node: Node = args[0]
        self.topic: str = args[2]
        if len(args) < 4:
            kwargs.setdefault("qos_profile", 10)
        else:
            kwargs["qos_profile"] = args[3]
        self.sub = self.node.create_subscription(args[1], self.topic, self.callback, **kwargs)

    def callback(self, msg: Any) -> None:
        """Takes a message from rclpy."""
        self.signalMessage(msg)

    def getTopic(self) -> str:
        """The topic as it was given."""
        return self.topic

    def __getattr__(self, key: str) -> Any:
        """The attributes of the rclpy subscription."""
        if key == "sub":  # not made yet: no recursion
            raise AttributeError(key)
        return getattr(self.sub, key)


def _stamp_ns(msg: Any) -> int | None:
    """Stamp of the message's header, None where it has none."""
    header = getattr(msg, "header", None)
    return None if header is None else Time.from_msg(header.stamp).nanoseconds


def _now_ns() -> int:
    from rclpy.clock import ROSClock

    return int(ROSClock().now().nanoseconds)


class TimeSynchronizer(SimpleFilter):
    """Passes on sets of messages, one of each input, with equal stamps; keeps at most
    ``queue_size`` messages per input.
    """

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int) -> None:
        super().__init__()
        self.queue_size = queue_size
        self.lock = threading.Lock()
        self.connectInput(fs)

    def connectInput(self, fs: Sequence[SimpleFilter]) -> None:
        """Listens to these filters."""
        self.queues: list[dict[int, Any]] = [{} for _ in fs]
        self.input_connections = [
            f.registerCallback(self._add_to, index) for index, f in enumerate(fs)
        ]

    def _add_to(self, msg: Any, index: int) -> None:
        self.add(msg, self.queues[index], index)

    def add(self, msg: Any, my_queue: dict[int, Any], my_queue_index: int | None = None) -> None:
        """Takes a message of one input. Unmatched messages stay until the queue is full: a partner
        may come late.
        """
        stamp = self._stamp_of(msg)
        if stamp is None:
            return
        with self.lock:
            my_queue[stamp] = msg
            while len(my_queue) > self.queue_size:
                del my_queue[min(my_queue)]
            # A message that is older than a full queue of others is the one that was just removed.
            stamps = self._match(stamp, my_queue) if stamp in my_queue else None
            messages = (
                None
                if stamps is None
                else [q.pop(s) for q, s in zip(self.queues, stamps, strict=True)]
            )
        if messages is not None:
            self.signalMessage(*messages)

    def _stamp_of(self, msg: Any) -> int | None:
        return _stamp_ns(msg)

    def _match(self, stamp: int, my_queue: dict[int, Any]) -> Sequence[int] | None:
        return [stamp] * len(self.queues) if all(stamp in q for q in self.queues) else None


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Passes on sets of messages whose stamps differ by less than ``slop`` seconds, the nearest
    first.

    Messages without a header are refused, or, with ``allow_headerless``, stamped with the time of
    their arrival.
    """

    def __init__(
        self,
        fs: Sequence[SimpleFilter],
        queue_size: int,
        slop: float,
        allow_headerless: bool = False,
    ) -> None:
        self.slop_ns = round(slop * 1e9)
        self.allow_headerless = allow_headerless
        super().__init__(fs, queue_size)

    def _stamp_of(self, msg: Any) -> int | None:
        stamp = _stamp_ns(msg)
        if stamp is None:
            if self.allow_headerless:
                return _now_ns()
            import rclpy.logging

            rclpy.logging.get_logger("message_filters").warning(
                "a message without a header can't be synchronised;"
                " pass allow_headerless=True to use its time of arrival",
                once=True,
            )
        return stamp

    def _match(self, stamp: int, my_queue: dict[int, Any]) -> Sequence[int] | None:
        candidates = []
        for queue in self.queues:
            near = (
                [stamp]
                if queue is my_queue
                else sorted(
                    (s for s in queue if abs(s - stamp) <= self.slop_ns),
                    key=lambda s: abs(s - stamp),
                )
            )
            if not near:
                return None
            candidates.append(near)
        for stamps in itertools.product(*candidates):
            if max(stamps) - min(stamps) < self.slop_ns:
                return stamps
        return None
