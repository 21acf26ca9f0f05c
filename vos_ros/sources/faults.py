"""Adds faults to a source: pose drift, a faulty map, lost frames, an occluder, no depth.

Each fault wraps a source and can wrap another fault. It depends on its seed and the frames' indices
alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64

from vos_ros.geometry import se3
from vos_ros.sources.interface import FrameSource
from vos_ros.types import Frame, MapObject, MapUpdate

_BOARD_SIZE = (0.25, 0.5)
"""Width and height of the board, as shares of the image's."""
_BOARD_Z_M = 0.3
"""Distance of the board from the camera, m."""
_BOARD_PERIOD = 80
"""Frames from one passage of the board to the next."""


class _Wrapper:
    """Passes a source on; subclasses change frames or updates."""

    def __init__(self, source: FrameSource) -> None:
        self.source, self.map_frame = source, source.map_frame

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        for item in self.source:
            if isinstance(item, MapUpdate):
                yield self.update(item)
            elif (frame := self.frame(item)) is not None:
                yield frame

    def frame(self, frame: Frame) -> Frame | None:
        """Give the frame, None where it is lost."""
        return frame

    def update(self, update: MapUpdate) -> MapUpdate:
        """Give the map update."""
        return update


class MapOfBoxes(_Wrapper):
    """Leaves out the surfaces of the map's objects: position and size alone remain."""

    def update(self, update: MapUpdate) -> MapUpdate:
        boxes = (dataclasses.replace(o, points=o.points[:0], mesh=None) for o in update.objects)
        return dataclasses.replace(update, objects=tuple(boxes))


class PoseDrift(_Wrapper):
    """Adds an error to the poses that grows evenly, from none at the first frame to the last one.

    ``seed`` chooses its direction and its axis. ``Frame.pose_cov`` gets the covariance of an error
    of that size in an unknown direction, plus what the source gives.

    Args:
        source: frames and map updates.
        final_m: translation error at the last frame, m.
        final_deg: rotation error at the last frame, degrees.
        seed: of the direction and the axis.

    Raises ValueError: a size is negative.
    """

    def __init__(
        self, source: FrameSource, final_m: float, final_deg: float, seed: int = 0
    ) -> None:
        if final_m < 0 or final_deg < 0:
            raise ValueError(f"got final_m={final_m}, final_deg={final_deg}: wanted both >= 0")
        super().__init__(source)
        rng = np.random.default_rng(seed)
        self._error = np.concatenate(
            [_direction(rng) * final_m, _direction(rng) * np.deg2rad(final_deg)]
        )
        self._size = np.repeat([final_m, np.deg2rad(final_deg)], 3)

    def frame(self, frame: Frame) -> Frame:
        if frame.T_map_camera is None:
            return frame
        share = frame.index / max(len(self) - 1, 1)
        cov = np.diag((share * self._size) ** 2 / 3)
        if frame.pose_cov is not None:
            cov = cov + frame.pose_cov
        return dataclasses.replace(
            frame, T_map_camera=se3.perturb(frame.T_map_camera, share * self._error), pose_cov=cov
        )


class FaultyMap(_Wrapper):
    """Removes objects from the map and adds copies of others where nothing is.

    The first update decides which: later ones lack the same objects, and have the copies of the
    objects that they contain.

    Args:
        source: frames and map updates.
        missing: share of the objects that is removed, 0..1.
        invented: number of copies as a share of the objects, 0..1.
        seed: chooses the objects.
        shift_m: distance of a copy from its original, m.
        up: direction of a copy from its original, map frame.

    Raises ValueError: a share is not in 0..1.
    """

    def __init__(
        self,
        source: FrameSource,
        missing: float = 0.0,
        invented: float = 0.0,
        seed: int = 0,
        *,
        shift_m: float = 0.4,
        up: tuple[float, float, float] = (0.0, 0.0, 1.0),
    ) -> None:
        if not (0 <= missing <= 1 and 0 <= invented <= 1):
            raise ValueError(f"got missing={missing}, invented={invented}: wanted shares 0..1")
        super().__init__(source)
        self._missing, self._invented, self._seed = missing, invented, seed
        self._shift = shift_m * np.array(up)
        self._originals: dict[int, int] | None = None
        self._gone: set[int] = set()

    @property
    def invented_ids(self) -> frozenset[int]:
        """Ids of the copies, which no object had; empty before the first update."""
        return frozenset(self._originals or ())

    def update(self, update: MapUpdate) -> MapUpdate:
        if self._originals is None:
            self._choose(sorted(o.id for o in update.objects))
        assert self._originals is not None
        kept = [o for o in update.objects if o.id not in self._gone]
        by_id = {o.id: o for o in update.objects}
        copies = [
            self._copy(by_id[original], new)
            for new, original in self._originals.items()
            if original in by_id
        ]
        return dataclasses.replace(update, objects=(*kept, *copies))

    def _choose(self, ids: list[int]) -> None:
        order = np.random.default_rng(self._seed).permutation(ids).tolist()
        self._gone = set(order[: round(self._missing * len(ids))])
        chosen = order[len(order) - round(self._invented * len(ids)) :] if self._invented else []
        self._originals = {max(ids) + 1 + k: i for k, i in enumerate(chosen)}

    def _copy(self, o: MapObject, new_id: int) -> MapObject:
        pose: Float64[np.ndarray, "4 4"] = np.array(o.T_map_object)
        pose[:3, 3] += self._shift
        mesh = (
            None
            if o.mesh is None
            else dataclasses.replace(
                o.mesh, vertices=(o.mesh.vertices + self._shift).astype(np.float32)
            )
        )
        return dataclasses.replace(
            o,
            id=new_id,
            T_map_object=pose,
            points=(o.points + self._shift).astype(np.float32),
            mesh=mesh,
        )


class GivenMap(_Wrapper):
    """Gives another map before the first frame, in place of all updates of the source."""

    def __init__(self, source: FrameSource, update: MapUpdate) -> None:
        super().__init__(source)
        self._update = update

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        yield self._update
        yield from (item for item in self.source if isinstance(item, Frame))


class LostFrames(_Wrapper):
    """Loses a share of the frames, each by chance; the first frame stays.

    Raises ValueError: the share is not in 0..1, or 1.
    """

    def __init__(self, source: FrameSource, share: float, seed: int = 0) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"got share={share}: wanted 0 <= share < 1")
        super().__init__(source)
        self._share, self._seed = share, seed

    def frame(self, frame: Frame) -> Frame | None:
        lost = (
            frame.index > 0
            and np.random.default_rng((self._seed, frame.index)).uniform() < self._share
        )
        return None if lost else frame


class Covered(_Wrapper):
    """Moves a grey board across the image from left to right, again and again."""

    def frame(self, frame: Frame) -> Frame:
        board = board_mask(frame.index, frame.shape)
        rgb = np.array(frame.rgb)
        rgb[board] = 128
        depth = (
            None if frame.depth is None else np.where(board, np.float32(_BOARD_Z_M), frame.depth)
        )
        return dataclasses.replace(frame, rgb=rgb, depth=depth)


class WithoutDepth(_Wrapper):
    """Removes the depth of every frame."""

    def frame(self, frame: Frame) -> Frame:
        return dataclasses.replace(frame, depth=None)


def board_mask(index: int, shape: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Give the pixels of the board of ``Covered`` in a frame of ``shape`` (H, W)."""
    height, width = shape
    w, h = round(_BOARD_SIZE[0] * width), round(_BOARD_SIZE[1] * height)
    left = round((index % _BOARD_PERIOD) / _BOARD_PERIOD * (width + w)) - w
    out = np.zeros(shape, bool)
    out[(height - h) // 2 : (height + h) // 2, max(left, 0) : max(left + w, 0)] = True
    return out


def _direction(rng: np.random.Generator) -> Float64[np.ndarray, "3"]:
    v = rng.normal(size=3)
    return np.asarray(v / np.linalg.norm(v))
