"""Stand-in for ``message_filters`` on machines without a ROS distribution: the filters a node needs
to pair topics by stamp.

Used only where the real package can't be installed. Names, arguments and behaviour are those of the
real package, which ``test/underlay/test_against_upstream.py`` checks message by message. Its
``Cache`` is not here. Where the real one waits for itself for ever, ``RuntimeError`` is raised.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import rclpy.logging
from rclpy.clock import ROSClock
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time

__all__ = ["ApproximateTimeSynchronizer", "SimpleFilter", "Subscriber", "TimeSynchronizer"]

_logger = rclpy.logging.get_logger("message_filters_approx")


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
        for cb, args in self.callbacks.values():
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
        kwargs.setdefault("qos_profile", 10)
        self.sub = self.node.create_subscription(*args[1:], self.callback, **kwargs)

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


class TimeSynchronizer(SimpleFilter):
    """Passes on sets of messages, one of each input, with equal stamps; keeps at most
    ``queue_size`` messages per input, those with the newest stamps.

    One set is handed on at a time, also where messages come on several threads.
    """

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int) -> None:
        super().__init__()
        self.connectInput(fs)
        self.queue_size = queue_size
        self.lock = threading.Lock()
        self._holder: int | None = None
        self._stuck = False

    def connectInput(self, fs: Sequence[SimpleFilter]) -> None:
        """Listens to these filters."""
        self.queues: list[dict[int, Any]] = [{} for _ in fs]
        self.input_connections = [
            f.registerCallback(self.add, queue, index)
            for index, (f, queue) in enumerate(zip(fs, self.queues, strict=True))
        ]

    def add(self, msg: Any, my_queue: dict[int, Any], my_queue_index: int | None = None) -> None:
        """Takes a message of one input. Unmatched messages stay until the queue is full: a partner
        may come late.
        """
        with self._alone():
            self._keep(msg, Time.from_msg(msg.header.stamp).nanoseconds, my_queue)
            common = set(self.queues[0]).intersection(*self.queues[1:])
            for stamp_ns in sorted(common):
                self._hand_on([stamp_ns] * len(self.queues))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the lock. Where the real package would never get it, RuntimeError."""
        me = threading.get_ident()
        if self._stuck or self._holder == me:
            raise RuntimeError(
                "a callback of this synchroniser has raised an error, or has given it a message:"
                " from then on the real message_filters waits for ever. Catch errors inside of the"
                " callback, and hand messages on after it"
            )
        with self.lock:
            self._holder = me
            try:
                yield
            except BaseException:
                self._stuck = True
                raise
            finally:
                self._holder = None

    def _keep(self, msg: Any, stamp_ns: int, my_queue: dict[int, Any]) -> None:
        my_queue[stamp_ns] = msg
        while len(my_queue) > self.queue_size:
            del my_queue[min(my_queue)]

    def _hand_on(self, stamps_ns: Sequence[int]) -> None:
        """Passes on the message of each queue with this stamp, and forgets it."""
        messages = [q.pop(s) for q, s in zip(self.queues, stamps_ns, strict=True)]
        self.signalMessage(*messages)


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Passes on sets of messages whose stamps differ by less than ``slop`` seconds, the nearest
    first.

    Messages without a stamp are refused, or, with ``allow_headerless``, stamped with the time of
    their arrival.
    """

    def __init__(
        self,
        fs: Sequence[SimpleFilter],
        queue_size: int,
        slop: float,
        allow_headerless: bool = False,
    ) -> None:
        super().__init__(fs, queue_size)
        self.slop = Duration(seconds=slop)
        self.allow_headerless = allow_headerless

    def add(self, msg: Any, my_queue: dict[int, Any], my_queue_index: int | None = None) -> None:
        """Takes a message of one input."""
        stamp_ns = self._stamp_ns(msg)
        if stamp_ns is None:
            return
        with self._alone():
            self._keep(msg, stamp_ns, my_queue)
            stamps_ns = self._match(stamp_ns, my_queue_index)
            if stamps_ns is not None:
                self._hand_on(stamps_ns)

    def _stamp_ns(self, msg: Any) -> int | None:
        """Stamp of the message, or of its arrival; None where it is refused."""
        if hasattr(msg, "header") and hasattr(msg.header, "stamp"):
            stamp = msg.header.stamp
            time = stamp if hasattr(stamp, "nanoseconds") else Time.from_msg(stamp)
            return int(time.nanoseconds)
        if self.allow_headerless:
            return int(ROSClock().now().nanoseconds)
        _logger.warning(
            "a message without a stamp can't be synchronised;"
            " pass allow_headerless=True to use its time of arrival",
            once=True,
        )
        return None

    def _match(self, stamp_ns: int, index: int | None) -> Sequence[int] | None:
        """Stamps of the best set with the message just added to the queue of that index (None: of
        any queue); None where there is none.
        """
        slop_ns = self.slop.nanoseconds
        candidates = []
        for i, queue in enumerate(self.queues):
            near = [stamp_ns]
            if i != index:
                near = [s for s in queue if abs(s - stamp_ns) <= slop_ns]
                near.sort(key=lambda s: abs(s - stamp_ns))
            elif stamp_ns not in queue:
                # It is older than a full queue of others and was forgotten at once.
                return None
            if not near:
                return None
            candidates.append(near)
        for stamps_ns in itertools.product(*candidates):
            if max(stamps_ns) - min(stamps_ns) < slop_ns:
                return stamps_ns
        return None
