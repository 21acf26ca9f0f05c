"""Transforms over time: a tree of frames, each edge with its last seconds of samples, and lookups
between any two frames.
"""

from __future__ import annotations

import threading
import time as wall
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy.logging
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time

from tf2_ros.exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)

Vector = NDArray[np.float64]
IDENTITY = (np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))


# Written out: for three numbers, NumPy's functions take fifty times as long, and a node waits for
# this in every frame.
def _rotate(q: Vector, v: Vector) -> Vector:
    """The vector rotated by the unit quaternion (x y z w)."""
    (x, y, z, w), (a, b, c) = q.tolist(), v.tolist()
    # v + 2 u x (u x v + w v)
    d, e, f = y * c - z * b + w * a, z * a - x * c + w * b, x * b - y * a + w * c
    return np.array(
        [a + 2.0 * (y * f - z * e), b + 2.0 * (z * d - x * f), c + 2.0 * (x * e - y * d)]
    )


def _multiply(a: Vector, b: Vector) -> Vector:
    """Quaternion product: the rotation b, then a."""
    (x, y, z, w), (i, j, k, r) = a.tolist(), b.tolist()
    return np.array(
        [
            w * i + r * x + y * k - z * j,
            w * j + r * y + z * i - x * k,
            w * k + r * z + x * j - y * i,
            w * r - x * i - y * j - z * k,
        ]
    )


def _compose(a: tuple[Vector, Vector], b: tuple[Vector, Vector]) -> tuple[Vector, Vector]:
    """T_a * T_b."""
    return a[0] + _rotate(a[1], b[0]), _multiply(a[1], b[1])


def _inverse(a: tuple[Vector, Vector]) -> tuple[Vector, Vector]:
    q = a[1] * np.array([-1.0, -1.0, -1.0, 1.0])
    return -_rotate(q, a[0]), q


def _slerp(a: Vector, b: Vector, ratio: float) -> Vector:
    """The rotation at ``ratio`` (0..1) of the shorter way from a to b."""
    cosine = float(a @ b)
    if cosine < 0.0:
        b, cosine = -b, -cosine
    if cosine > 0.9995:
        q = a + ratio * (b - a)
    else:
        angle = np.arccos(cosine)
        q = (np.sin((1.0 - ratio) * angle) * a + np.sin(ratio * angle) * b) / np.sin(angle)
    return np.asarray(q / np.linalg.norm(q))


@dataclass
class _Edge:
    """The samples of one frame relative to its parent, in the order of time; a static edge has one,
    valid at all times.
    """

    static: bool
    stamps: list[int] = field(default_factory=list)
    samples: list[tuple[str, tuple[Vector, Vector]]] = field(default_factory=list)

    def insert(
        self, stamp_ns: int, parent: str, pose: tuple[Vector, Vector], cache_ns: int
    ) -> None:
        """Adds a sample, in place of one with the same stamp; one that is older than the cache is
        ignored.
        """
        if self.static:
            self.stamps, self.samples = [stamp_ns], [(parent, pose)]
            return
        if self.stamps and stamp_ns < self.stamps[-1] - cache_ns:
            return
        at = bisect_left(self.stamps, stamp_ns)
        if at < len(self.stamps) and self.stamps[at] == stamp_ns:
            self.samples[at] = (parent, pose)
            return
        self.stamps.insert(at, stamp_ns)
        self.samples.insert(at, (parent, pose))
        old = bisect_left(self.stamps, self.stamps[-1] - cache_ns)
        del self.stamps[:old], self.samples[:old]

    def at(self, frame: str, stamp_ns: int) -> tuple[str, tuple[Vector, Vector]]:
        """Parent and pose at the time; ExtrapolationException outside of the samples."""
        if self.static or (stamp_ns == self.stamps[-1]):
            return self.samples[-1]
        if not self.stamps[0] <= stamp_ns <= self.stamps[-1]:
            where, limit = (
                ("past", self.stamps[0])
                if stamp_ns < self.stamps[0]
                else ("future", self.stamps[-1])
            )
            raise ExtrapolationException(
                f"Lookup would require extrapolation into the {where}."
                f" Requested time {stamp_ns / 1e9:.6f} but the"
                f" {'earliest' if where == 'past' else 'latest'} data is at time"
                f" {limit / 1e9:.6f}, when looking up frame [{frame}]"
            )
        after = bisect_right(self.stamps, stamp_ns)
        (parent, a), (next_parent, b) = self.samples[after - 1], self.samples[after]
        if parent != next_parent:
            return parent, a
        ratio = (stamp_ns - self.stamps[after - 1]) / (self.stamps[after] - self.stamps[after - 1])
        return parent, (a[0] + ratio * (b[0] - a[0]), _slerp(a[1], b[1], ratio))


class Buffer:
    """Stores transforms and answers lookups; safe to use from several threads.

    ``cache_time``: how much of the past is kept, 10 s where not given. With a ``node`` the buffer
    is cleared when that node's clock jumps back (simulated time, a bag that starts over).
    """

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        self._cache_ns = 10_000_000_000 if cache_time is None else cache_time.nanoseconds
        self._edges: dict[str, _Edge] = {}
        self._changed = threading.Condition(threading.RLock())
        self._waiting: list[tuple[Future, Callable[[], bool]]] = []
        self._logger = rclpy.logging.get_logger("tf2_ros")
        if node is not None:
            threshold = JumpThreshold(
                min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True
            )
            self._jump_handle = node.get_clock().create_jump_callback(
                threshold, post_callback=lambda _: self.clear()
            )

    def clear(self) -> None:
        """Forgets all transforms but the static ones."""
        with self._changed:
            self._edges = {frame: edge for frame, edge in self._edges.items() if edge.static}

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Adds a transform; a malformed one is logged and ignored."""
        self._set(transform, authority, static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Adds a transform that is valid at all times."""
        self._set(transform, authority, static=True)

    def _set(self, transform: TransformStamped, authority: str, static: bool) -> None:
        child, parent = transform.child_frame_id.lstrip("/"), transform.header.frame_id.lstrip("/")
        t, r = transform.transform.translation, transform.transform.rotation
        position, rotation = np.array([t.x, t.y, t.z]), np.array([r.x, r.y, r.z, r.w])
        norm = np.linalg.norm(rotation)
        if (
            not child
            or not parent
            or child == parent
            or not np.isfinite(position).all()
            or not abs(norm - 1.0) < 0.01
            or transform.header.stamp.sec < 0
        ):
            self._logger.error(
                f"ignoring transform from [{parent}] to [{child}] by [{authority}]:"
                " frames or values are not valid"
            )
            return
        stamp = Time.from_msg(transform.header.stamp).nanoseconds
        with self._changed:
            edge = self._edges.get(child)
            if edge is None or edge.static != static:
                edge = self._edges[child] = _Edge(static)
            edge.insert(stamp, parent, (position, rotation / norm), self._cache_ns)
            self._changed.notify_all()
            ready = [
                (future, test) for future, test in self._waiting if future.cancelled() or test()
            ]
            self._waiting = [entry for entry in self._waiting if entry not in ready]
        for future, _ in ready:
            if not future.cancelled():
                future.set_result(True)

    def _frames(self) -> set[str]:
        return set(self._edges) | {
            parent for edge in self._edges.values() for parent, _ in edge.samples
        }

    def _chain(
        self, frame: str, stamp_ns: int | None
    ) -> tuple[dict[str, tuple[Vector, Vector]], TransformException | None]:
        """Every frame from ``frame`` to its root, with T_ancestor_frame at the time (None: each
        edge's newest sample), and what ended the way before the root."""
        chain = {frame: IDENTITY}
        pose = IDENTITY
        while (edge := self._edges.get(frame)) is not None:
            try:
                frame, step = edge.at(frame, edge.stamps[-1] if stamp_ns is None else stamp_ns)
            except ExtrapolationException as error:
                # Its traceback would make a cycle with the caller's frame, and keep everything
                # alive that the callers hold.
                return chain, error.with_traceback(None)
            if frame in chain:
                return chain, ConnectivityException(f"the frames form a loop at [{frame}]")
            pose = _compose(step, pose)
            chain[frame] = pose
        return chain, None

    def _latest_common(self, target: str, source: str) -> int:
        """Newest time that all moving edges between the frames have reached; 0 where all are
        static.
        """
        target_chain, source_chain = self._chain(target, None)[0], self._chain(source, None)[0]
        common = next((f for f in source_chain if f in target_chain), None)
        moving = []
        for chain in (target_chain, source_chain):
            for frame in chain:
                if frame == common:
                    break
                edge = self._edges.get(frame)
                if edge is not None and not edge.static:
                    moving.append(edge.stamps[-1])
        return min(moving, default=0)

    def _lookup(self, target: str, source: str, stamp_ns: int) -> tuple[int, tuple[Vector, Vector]]:
        """Time and T_target_source; raises the documented exceptions."""
        for name, frame in (("target_frame", target), ("source_frame", source)):
            if not frame or frame.startswith("/"):
                raise InvalidArgumentException(
                    f'Invalid argument "{frame}" passed to lookupTransform argument {name}:'
                    " empty or with a leading slash"
                )
        with self._changed:
            known = self._frames()
            for name, frame in (("target_frame", target), ("source_frame", source)):
                if frame not in known and (target != source):
                    raise LookupException(
                        f'"{frame}" passed to lookupTransform argument {name} does not exist.'
                    )
            if stamp_ns == 0:
                stamp_ns = self._latest_common(target, source)
            source_chain, source_error = self._chain(source, stamp_ns)
            target_chain, target_error = self._chain(target, stamp_ns)
            common = next((f for f in source_chain if f in target_chain), None)
            if common is None:
                error = source_error or target_error
                if error is not None:
                    raise type(error)(
                        f"{error}, when transforming from frame [{source}] to frame [{target}]"
                    ) from error
                raise ConnectivityException(
                    f"Could not find a connection between '{target}' and '{source}'"
                    " because they are not part of the same tree."
                )
            return stamp_ns, _compose(_inverse(target_chain[common]), source_chain[common])

    def lookup_transform_core(
        self, target_frame: str, source_frame: str, time: Time
    ) -> TransformStamped:
        """T_target_source at the time, now; see lookup_transform."""
        stamp_ns, (position, rotation) = self._lookup(target_frame, source_frame, time.nanoseconds)
        out = TransformStamped(child_frame_id=source_frame)
        out.header.frame_id = target_frame
        out.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        t, r = out.transform.translation, out.transform.rotation
        t.x, t.y, t.z = position.tolist()
        r.x, r.y, r.z, r.w = rotation.tolist()
        return out

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration | None = None
    ) -> TransformStamped:
        """T_target_source: maps coordinates of ``source_frame`` to ``target_frame`` at the time
        (zero: the newest that all have).

        Waits up to ``timeout`` for it. Raises LookupException (no such frame),
        ConnectivityException (no way between them), ExtrapolationException (not buffered at that
        time), InvalidArgumentException (malformed name).
        """
        if timeout is not None:
            self.can_transform(target_frame, source_frame, time, timeout)
        return self.lookup_transform_core(target_frame, source_frame, time)

    async def lookup_transform_async(
        self, target_frame: str, source_frame: str, time: Time
    ) -> TransformStamped:
        """As lookup_transform, in a coroutine that waits without a limit."""
        await self.wait_for_transform_async(target_frame, source_frame, time)
        return self.lookup_transform_core(target_frame, source_frame, time)

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration | None = None,
        return_debug_tuple: bool = False,
    ) -> Any:
        """Whether lookup_transform would succeed within ``timeout``; with ``return_debug_tuple``
        (answer, why not).
        """
        deadline = wall.monotonic() + (0.0 if timeout is None else timeout.nanoseconds / 1e9)
        with self._changed:
            while True:
                reason = self._why_not(target_frame, source_frame, time)
                left = deadline - wall.monotonic()
                if not reason or left <= 0.0:
                    break
                self._changed.wait(left)
        return (not reason, reason) if return_debug_tuple else not reason

    def _why_not(self, target_frame: str, source_frame: str, time: Time) -> str:
        try:
            self._lookup(target_frame, source_frame, time.nanoseconds)
        except TransformException as error:
            return str(error)
        return ""

    def wait_for_transform_async(self, target_frame: str, source_frame: str, time: Time) -> Future:
        """A future that is done when the transform can be had."""
        future: Future = Future()

        def test() -> bool:
            return not self._why_not(target_frame, source_frame, time)

        with self._changed:
            available = test()
            if not available:
                self._waiting.append((future, test))
        if available:
            future.set_result(True)
        return future

    def all_frames_as_string(self) -> str:
        """One line per frame: its parent."""
        with self._changed:
            return "".join(
                f"Frame {child} exists with parent {edge.samples[-1][0]}.\n"
                for child, edge in sorted(self._edges.items())
            )

    def all_frames_as_yaml(self) -> str:
        """Parent, newest and oldest time of every frame."""
        with self._changed:
            return "".join(
                f"{child}:\n  parent: '{edge.samples[-1][0]}'\n"
                f"  most_recent_transform: {edge.stamps[-1] / 1e9:.6f}\n"
                f"  oldest_transform: {edge.stamps[0] / 1e9:.6f}\n"
                for child, edge in sorted(self._edges.items())
            )
