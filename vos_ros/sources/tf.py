"""The TF tree of a recording: /tf and /tf_static as pose tracks, looked up at a stamp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3
from vos_ros.geometry.pose_track import PoseTrack
from vos_ros.messages.stamps import NS_PER_S


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a transform could not be had; ``permanent`` where later messages cannot help."""

    reason: str
    permanent: bool


class TfTree:
    """Child frame -> parent frame with the transform over time. A static transform holds at any time."""

    def __init__(self, keep_ns: int = 60 * NS_PER_S) -> None:
        self._keep_ns = keep_ns
        self._parents: dict[str, str] = {}
        self._static: dict[str, Float64[np.ndarray, "4 4"]] = {}
        self._moving: dict[str, PoseTrack] = {}

    def add(
        self,
        parent: str,
        child: str,
        stamp_ns: int,
        T_parent_child: Float64[np.ndarray, "4 4"],
        static: bool,
    ) -> None:
        """A transform as TF says it; a leading slash of a frame name is left off."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if (
            self._parents.get(child, parent) != parent
        ):  # the child moved to another parent: what was known doesn't hold any more
            self._moving.pop(child, None)
        self._parents[child] = parent
        if static:
            self._static[child] = T_parent_child
        else:
            self._static.pop(child, None)
            self._moving.setdefault(child, PoseTrack(self._keep_ns)).add(stamp_ns, T_parent_child)

    @property
    def frames(self) -> tuple[str, ...]:
        """All frames, sorted."""
        return tuple(sorted({*self._parents, *self._parents.values()}))

    def _chain(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._parents:
            chain.append(self._parents[chain[-1]])
            if chain[-1] in chain[:-1]:
                raise ValueError(f"the TF tree has a loop: {' -> '.join(chain)}")
        return chain

    def lookup(
        self, target: str, source: str, stamp_ns: int, max_gap_ns: int = NS_PER_S
    ) -> Float64[np.ndarray, "4 4"] | Missing:
        """T_target_source at ``stamp_ns``, interpolated, never extrapolated. ValueError: the tree has a loop."""
        target, source = target.lstrip("/"), source.lstrip("/")
        up, down = self._chain(source), self._chain(target)
        root = next((f for f in up if f in down), None)
        if root is None:
            return Missing(
                f"TF knows no way from {source!r} to {target!r}; its frames are {', '.join(self.frames) or 'none'}",
                False,
            )
        T_root_source = self._climb(up[: up.index(root)], stamp_ns, max_gap_ns)
        T_root_target = self._climb(down[: down.index(root)], stamp_ns, max_gap_ns)
        for part in (T_root_source, T_root_target):
            if isinstance(part, Missing):
                return part
        assert isinstance(T_root_source, np.ndarray) and isinstance(T_root_target, np.ndarray)
        return se3.compose(se3.inverse(T_root_target), T_root_source)

    def _climb(
        self, chain: list[str], stamp_ns: int, max_gap_ns: int
    ) -> Float64[np.ndarray, "4 4"] | Missing:
        """The transform of chain[0] in the parent of chain[-1]."""
        T = np.eye(4)
        for child in chain:
            if child in self._static:
                T = self._static[child] @ T
                continue
            track = self._moving[child]
            found, span = track.at(stamp_ns, max_gap_ns), track.span_ns
            if found is None:
                assert span is not None
                return Missing(
                    f"TF {self._parents[child]} -> {child} has no value at the image's stamp",
                    stamp_ns < span[1],
                )
            T = found[0] @ T
        return T
