"""Transforms over time: a tree of frames, each edge with its last seconds of samples, and lookups
between any two frames.
"""

from __future__ import annotations

import math
import threading
import time as wall
from collections.abc import Callable
from typing import Any

import rclpy.logging
from geometry_msgs.msg import TransformStamped
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time

from tf2_ros.edge import NS_PER_S, Edge, stamp_message, stored_ns, to_ns
from tf2_ros.exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)
from tf2_ros.pose import (
    IDENTITY,
    Pose,
    compose,
    inverse,
    unit_rotation,
)

MAX_DEPTH = 1000
"""More steps to the root are taken for a loop."""


class Buffer:
    """Stores transforms and answers lookups; safe to use from several threads.

    ``cache_time``: how much of the past is kept, 10 s where not given. With a ``node`` the buffer
    is cleared when that node's clock jumps back (simulated time, a bag that starts over).
    """

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        self._cache_ns = 10 * NS_PER_S if cache_time is None else cache_time.nanoseconds
        self._edges: dict[str, Edge] = {}
        self._names: dict[str, None] = {}  # in the order in which they were first heard
        self._changed = threading.Condition(threading.RLock())
        self._waiting: list[tuple[Future, Callable[[], bool], Callable[[], Any]]] = []
        self._logger = rclpy.logging.get_logger("tf2_ros")
        if node is not None:
            threshold = JumpThreshold(
                min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True
            )
            self._jump_handle = node.get_clock().create_jump_callback(
                threshold, post_callback=lambda _: self.clear()
            )

    # --- transforms come in -----------------------------------------------------------------------

    def clear(self) -> None:
        """Forgets all transforms but the static ones. The names of the frames stay known."""
        with self._changed:
            for frame, edge in self._edges.items():
                if not edge.static:
                    self._edges[frame] = Edge(static=False, authority=edge.authority)

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Adds a transform; a malformed one, or one older than the cache, is logged and ignored."""
        self._set(transform, authority, static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Adds a transform that is valid at all times."""
        self._set(transform, authority, static=True)

    def _set(self, transform: TransformStamped, authority: str, static: bool) -> None:
        with self._changed:
            self._insert(transform, authority, static)
            # Also after one that is ignored, as in the real package: what is waited for may have
            # become available by what was forgotten.
            self._changed.notify_all()
            ready = [one for one in self._waiting if one[0].cancelled() or one[1]()]
            self._waiting = [one for one in self._waiting if one not in ready]
        for future, _, answer in ready:
            if not future.cancelled():
                _finish(future, answer)

    def _insert(self, transform: TransformStamped, authority: str, static: bool) -> None:
        """Adds a transform, or logs why not."""
        child = transform.child_frame_id.removeprefix("/")
        parent = transform.header.frame_id.removeprefix("/")
        t, r = transform.transform.translation, transform.transform.rotation
        rotation = unit_rotation((r.x, r.y, r.z, r.w))
        unknown = any(map(math.isnan, (t.x, t.y, t.z)))
        if not child or not parent or child == parent or unknown or rotation is None:
            self._logger.error(
                f"ignoring transform from [{parent}] to [{child}] by [{authority}]:"
                " frames or values are not valid"
            )
            return
        stamp_ns = stored_ns(transform.header.stamp)
        self._names |= {child: None, parent: None}
        edge = self._edges.get(child)
        if edge is None or edge.static != static:
            edge = self._edges[child] = Edge(static)
        if edge.insert(stamp_ns, (parent, ((t.x, t.y, t.z), rotation)), self._cache_ns):
            edge.authority = authority
        else:
            self._logger.warning(
                f"ignoring data from the past for frame {child} at time"
                f" {stamp_ns / NS_PER_S:.6f} according to authority {authority}",
                throttle_duration_sec=1.0,
            )

    # --- lookups ----------------------------------------------------------------------------------

    def _climb(
        self, frame: str, stamp_ns: int, goal: str, top: str | None = None
    ) -> tuple[str, Pose, ExtrapolationException | None]:
        """Go from a frame to its root, no further than ``goal`` or ``top``: the frame reached,
        T_reached_frame, and what ended the way before.
        """
        pose = IDENTITY
        for _ in range(MAX_DEPTH + 1):
            edge = self._edges.get(frame)
            if edge is None or frame == top:
                return frame, pose, None
            try:
                parent, step = edge.at(stamp_ns)
            except ExtrapolationException as error:
                # Its traceback would make a cycle with the caller's frame, and keep everything
                # alive that the callers hold.
                return frame, pose, error.with_traceback(None)
            if frame == goal:
                return frame, pose, None
            pose, frame = compose(step, pose), parent
        raise self._loop()

    def _loop(self) -> LookupException:
        return LookupException(
            "The tf tree is invalid because it contains a loop.\n" + self.all_frames_as_string()
        )

    def _latest_way(self, frame: str, goal: str) -> list[tuple[int, str]]:
        """Newest stamp and parent of every frame from ``frame`` up to ``goal`` or the root."""
        way: list[tuple[int, str]] = []
        while (edge := self._edges.get(frame)) is not None and (newest := edge.newest()):
            way.append(newest)
            frame = newest[1]
            if frame == goal:
                break
            if len(way) > MAX_DEPTH:
                raise self._loop()
        return way

    def _latest_common(self, target: str, source: str) -> int:
        """Newest time that all moving edges between the frames have reached; 0 where all are
        static.
        """
        if target == source:
            edge = self._edges.get(target)
            newest = edge.newest() if edge else None
            return newest[0] if newest else 0
        way = self._latest_way(source, target)
        if way and way[-1][1] == target:
            between = way
        else:
            common = {parent for _, parent in way}
            between, frame = [], target
            while True:
                edge = self._edges.get(frame)
                newest = edge.newest() if edge else None
                if newest is None:
                    raise self._unconnected(target, source)
                between.append(newest)
                frame = newest[1]
                if frame in common:
                    ends = [parent for _, parent in way].index(frame)
                    between += way[: ends + 1]
                    break
                if frame == source:
                    break
                if len(between) > MAX_DEPTH:
                    raise self._loop()
        return min((stamp for stamp, _ in between if stamp), default=0)

    @staticmethod
    def _unconnected(target: str, source: str) -> ConnectivityException:
        return ConnectivityException(
            f"Could not find a connection between '{target}' and '{source}' because they are not"
            " part of the same tree.Tf has two or more unconnected trees."
        )

    def _check_name(self, argument: str, frame: str) -> None:
        if not frame or frame.startswith("/"):
            raise InvalidArgumentException(
                f'Invalid argument "{frame}" passed to {argument} - in tf2 frame_ids cannot'
                + (" start with a '/'" if frame else " be empty")
            )
        if frame not in self._names:
            raise LookupException(f'"{frame}" passed to {argument} does not exist. ')

    def _lookup(self, target: str, source: str, stamp_ns: int) -> tuple[int, Pose]:
        """Time and T_target_source; raises the documented exceptions."""
        with self._changed:
            if target == source:  # of any name, as in tf2
                return stamp_ns or self._latest_common(target, source), IDENTITY
            self._check_name("lookupTransform argument target_frame", target)
            self._check_name("lookupTransform argument source_frame", source)
            if stamp_ns == 0:
                stamp_ns = self._latest_common(target, source)
            top, T_top_source, missing = self._climb(source, stamp_ns, target)
            if top == target:
                return stamp_ns, T_top_source
            end, T_end_target, error = self._climb(target, stamp_ns, source, top)
            if end == source and error is None:
                return stamp_ns, inverse(T_end_target)
            if error is None and end != top:
                error = missing
                if error is None:
                    raise self._unconnected(target, source)
            if error is not None:
                raise ExtrapolationException(
                    f"{error}, when looking up transform from frame [{source}] to frame [{target}]"
                )
            return stamp_ns, compose(inverse(T_end_target), T_top_source)

    @staticmethod
    def _answer(target: str, source: str, stamp_ns: int, pose: Pose) -> TransformStamped:
        out = TransformStamped(child_frame_id=source)
        out.header.frame_id = target
        out.header.stamp = stamp_message(stamp_ns)
        t, r = out.transform.translation, out.transform.rotation
        t.x, t.y, t.z = pose[0]
        r.x, r.y, r.z, r.w = pose[1]
        return out

    def lookup_transform_core(
        self, target_frame: str, source_frame: str, time: Time
    ) -> TransformStamped:
        """T_target_source at the time, now; see lookup_transform."""
        found = self._lookup(target_frame, source_frame, to_ns(time))
        return self._answer(target_frame, source_frame, *found)

    def lookup_transform_full_core(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
    ) -> TransformStamped:
        """As lookup_transform_core, with the way between two times; see lookup_transform_full."""
        with self._changed:
            for name, frame in (
                ("target_frame", target_frame),
                ("source_frame", source_frame),
                ("fixed_frame", fixed_frame),
            ):
                self._check_name(f"lookupTransform argument {name}", frame)
            _, T_fixed_source = self._lookup(fixed_frame, source_frame, to_ns(source_time))
            stamp_ns, T_target_fixed = self._lookup(target_frame, fixed_frame, to_ns(target_time))
        pose = compose(T_target_fixed, T_fixed_source)
        return self._answer(target_frame, source_frame, stamp_ns, pose)

    def lookup_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = Duration(),  # noqa: B008 - as in the real package, and never changed
    ) -> TransformStamped:
        """T_target_source: maps coordinates of ``source_frame`` to ``target_frame`` at the time
        (zero: the newest that all have).

        Waits up to ``timeout`` for it. Raises LookupException (no such frame, or the frames form a
        loop), ConnectivityException (no way between them), ExtrapolationException (not buffered at
        that time), InvalidArgumentException (malformed name).
        """
        self.can_transform(target_frame, source_frame, time, timeout)
        return self.lookup_transform_core(target_frame, source_frame, time)

    def lookup_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = Duration(),  # noqa: B008
    ) -> TransformStamped:
        """T_target_source from ``source_frame`` at one time to ``target_frame`` at another, by way
        of a frame that does not move between them.
        """
        arguments = (target_frame, target_time, source_frame, source_time, fixed_frame)
        self.can_transform_full(*arguments, timeout)
        return self.lookup_transform_full_core(*arguments)

    def can_transform_core(
        self, target_frame: str, source_frame: str, time: Time
    ) -> tuple[bool, str]:
        """Whether lookup_transform_core would succeed now, and why not."""
        return _succeeds(lambda: self._lookup(target_frame, source_frame, to_ns(time)))

    def can_transform_full_core(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
    ) -> tuple[bool, str]:
        """Whether lookup_transform_full_core would succeed now, and why not."""
        arguments = (target_frame, target_time, source_frame, source_time, fixed_frame)
        return _succeeds(lambda: self.lookup_transform_full_core(*arguments))

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = Duration(),  # noqa: B008
        return_debug_tuple: bool = False,
    ) -> Any:
        """Whether lookup_transform would succeed within ``timeout``; with ``return_debug_tuple``
        (answer, why not).
        """
        answer = self._wait(
            lambda: self.can_transform_core(target_frame, source_frame, time), timeout
        )
        return answer if return_debug_tuple else answer[0]

    def can_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = Duration(),  # noqa: B008
        return_debug_tuple: bool = False,
    ) -> Any:
        """Whether lookup_transform_full would succeed within ``timeout``."""
        arguments = (target_frame, target_time, source_frame, source_time, fixed_frame)
        answer = self._wait(lambda: self.can_transform_full_core(*arguments), timeout)
        return answer if return_debug_tuple else answer[0]

    def _wait(self, ask: Callable[[], tuple[bool, str]], timeout: Duration) -> tuple[bool, str]:
        """The answer as soon as it is yes, or after the time."""
        deadline = wall.monotonic() + timeout.nanoseconds / NS_PER_S
        with self._changed:
            while True:
                answer = ask()
                left = deadline - wall.monotonic()
                if answer[0] or left <= 0.0:
                    return answer
                self._changed.wait(left)

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        """The newest time at which the transform can be had; 0 where all of it is static."""
        with self._changed:
            for frame in (target_frame, source_frame):
                self._check_name("get_latest_common_time", frame)
            try:
                return Time(nanoseconds=self._latest_common(target_frame, source_frame))
            except TransformException as error:
                raise TransformException(str(error)) from error

    # --- lookups that wait ------------------------------------------------------------------------

    def wait_for_transform_async(self, target_frame: str, source_frame: str, time: Time) -> Future:
        """A future whose result is the transform, once it can be had."""
        arguments = (target_frame, source_frame, time)
        return self._future(
            lambda: self.can_transform_core(*arguments)[0],
            lambda: self.lookup_transform_core(*arguments),
        )

    def wait_for_transform_full_async(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
    ) -> Future:
        """A future whose result is that of lookup_transform_full, once it can be had."""
        arguments = (target_frame, target_time, source_frame, source_time, fixed_frame)
        return self._future(
            lambda: self.can_transform_full_core(*arguments)[0],
            lambda: self.lookup_transform_full_core(*arguments),
        )

    def _future(self, test: Callable[[], bool], answer: Callable[[], Any]) -> Future:
        future: Future = Future()
        with self._changed:
            available = test()
            if not available:
                self._waiting.append((future, test, answer))
        if available:
            _finish(future, answer)
        return future

    async def lookup_transform_async(
        self, target_frame: str, source_frame: str, time: Time
    ) -> TransformStamped:
        """As lookup_transform, in a coroutine that waits without a limit."""
        await self.wait_for_transform_async(target_frame, source_frame, time)
        return self.lookup_transform_core(target_frame, source_frame, time)

    async def lookup_transform_full_async(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
    ) -> TransformStamped:
        """As lookup_transform_full, in a coroutine that waits without a limit."""
        arguments = (target_frame, target_time, source_frame, source_time, fixed_frame)
        await self.wait_for_transform_full_async(*arguments)
        return self.lookup_transform_full_core(*arguments)

    # --- what is known ----------------------------------------------------------------------------

    def _known(self) -> list[tuple[str, Edge]]:
        return [(name, self._edges[name]) for name in self._names if name in self._edges]

    def all_frames_as_string(self) -> str:
        """One line per frame: its parent."""
        with self._changed:
            return "".join(
                f"Frame {child} exists with parent"
                f" {edge.samples[-1][0] if edge.samples else 'NO_PARENT'}.\n"
                for child, edge in self._known()
            )

    def all_frames_as_yaml(self) -> str:
        """Parent, source, rate, newest and oldest time of every frame."""
        with self._changed:
            if not self._names:
                return "[]"
            return "".join(
                f"{child}: \n  parent: '{edge.samples[-1][0]}'\n"
                f"  broadcaster: '{edge.authority}'\n"
                f"  rate: {len(edge.samples) * 1e9 / max(length_ns, 100_000):.3f}\n"
                f"  most_recent_transform: {edge.stamps[-1] / NS_PER_S:.6f}\n"
                f"  oldest_transform: {edge.stamps[0] / NS_PER_S:.6f}\n"
                f"  buffer_length: {length_ns / NS_PER_S:.3f}\n"
                for child, edge in self._known()
                if edge.samples
                for length_ns in [edge.stamps[-1] - edge.stamps[0]]
            )


def _succeeds(look_up: Callable[[], object]) -> tuple[bool, str]:
    """Whether a lookup raises nothing, and else what."""
    try:
        look_up()
    except TransformException as error:
        return False, str(error)
    return True, ""


def _finish(future: Future, answer: Callable[[], Any]) -> None:
    """Give a future its result, or what went wrong."""
    try:
        future.set_result(answer())
    except TransformException as error:
        future.set_exception(error)
