"""Keeps the TF tree of a recording (/tf and /tf_static) and gives a transform at a stamp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3
from vos_ros.geometry.pose_track import PoseTrack
from vos_ros.messages.stamps import NS_PER_S


@dataclass(frozen=True, slots=True)
class Missing:
    """Tells why there is no transform."""

    reason: str
    """What is missing, for people."""
    permanent: bool
    """Whether later messages cannot supply it."""


class TfTree:
    """Keeps for each child frame its parent and the transform over time.

    A static transform holds at any time. Of the moving ones those of the last ``keep_ns`` are kept.
    """

    def __init__(self, keep_ns: int = 60 * NS_PER_S) -> None:
        self._keep_ns = keep_ns
        self._parents: dict[str, str] = {}
        self._static: dict[str, Float64[np.ndarray, "4 4"]] = {}
        self._moving: dict[str, PoseTrack] = {}
        self._static_poses: dict[str, dict[str, Float64[np.ndarray, "4 4"]]] = {}  # by frame

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        T_parent_child: Float64[np.ndarray, "4 4"],
        static: bool,
    ) -> None:
        """Add a transform; a leading slash of a frame name is dropped.

        Args:
            parent: name of the parent frame. A child that gets another parent loses its transforms.
            child: name of the child frame.
            stamp_ns: time of the transform, ns; not used where it is static.
            T_parent_child: pose of the child in the parent, m.
            static: whether it comes from /tf_static.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if self._parents.get(child, parent) != parent:
            self._moving.pop(child, None)
        self._parents[child] = parent
        if static or child in self._static:
            self._static_poses.clear()
        if static:
            self._static[child] = T_parent_child
        else:
            self._static.pop(child, None)
            self._moving.setdefault(child, PoseTrack(self._keep_ns)).add(stamp_ns, T_parent_child)

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of all frames, sorted."""
        return tuple(sorted({*self._parents, *self._parents.values()}))

    def static_poses_of(self, frame: str) -> dict[str, Float64[np.ndarray, "4 4"]]:
        """Give the pose of a frame on every frame that it is tied to by static transforms alone."""
        frame = frame.lstrip("/")
        if frame not in self._static_poses:
            self._static_poses[frame] = self._walk_static(frame)
        return self._static_poses[frame]

    def _walk_static(self, frame: str) -> dict[str, Float64[np.ndarray, "4 4"]]:
        found = {frame: np.eye(4)}
        waiting = [frame]
        while waiting:
            here = waiting.pop()
            near = {
                c: np.linalg.inv(T) for c, T in self._static.items() if self._parents[c] == here
            }
            if here in self._static:
                near[self._parents[here]] = self._static[here]
            for name, T_name_here in near.items():
                if name not in found:
                    found[name] = T_name_here @ found[here]
                    waiting.append(name)
        del found[frame]
        return found

    def lookup(
        self, target: str, source: str, stamp_ns: int, max_gap_ns: int = NS_PER_S
    ) -> Float64[np.ndarray, "4 4"] | Missing:
        """Give T_target_source at a stamp: interpolated, never extrapolated.

        Args:
            target: name of the frame in which the pose is wanted.
            source: name of the frame whose pose it is.
            stamp_ns: time, ns.
            max_gap_ns: longest gap between two transforms that is interpolated over, ns.

        Raises ValueError: the tree has a loop.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        up, down = self._chain(source), self._chain(target)
        root = next((f for f in up if f in down), None)
        if root is None:
            frames = ", ".join(self.frames) or "none"
            return Missing(
                f"TF has no path from {source!r} to {target!r}; its frames are {frames}", False
            )
        T_root_source = self._climb(up[: up.index(root)], stamp_ns, max_gap_ns)
        if isinstance(T_root_source, Missing):
            return T_root_source
        T_root_target = self._climb(down[: down.index(root)], stamp_ns, max_gap_ns)
        if isinstance(T_root_target, Missing):
            return T_root_target
        return se3.compose(se3.inverse(T_root_target), T_root_source)

    def _chain(self, frame: str) -> list[str]:
        """Give the frame and its ancestors up to the root."""
        chain = [frame]
        while chain[-1] in self._parents:
            chain.append(self._parents[chain[-1]])
            if chain[-1] in chain[:-1]:
                raise ValueError(f"the TF tree has a loop: {' -> '.join(chain)}")
        return chain

    def _climb(
        self, chain: list[str], stamp_ns: int, max_gap_ns: int
    ) -> Float64[np.ndarray, "4 4"] | Missing:
        """Give the transform of chain[0] in the parent of chain[-1]."""
        T = np.eye(4)
        for child in chain:
            if child in self._static:
                T = self._static[child] @ T
                continue
            track = self._moving[child]
            pose, span = track.at(stamp_ns, max_gap_ns), track.span_ns
            if pose is None:
                assert span is not None  # a child is added with its first transform
                return Missing(
                    f"TF {self._parents[child]} -> {child} has no value at the image's stamp",
                    stamp_ns < span[1],
                )
            T = pose[0] @ T
        return T
