"""A sequence with a camera as a source of frames, for replay, conversion and playing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vos_ros.datasets.interface import VideoSequence
from vos_ros.datasets.registry import data_sets, open_one
from vos_ros.types import Frame, Intrinsics, MapUpdate


class SequenceSource:
    """Give the frames of a sequence, and its object map (where it has one) before the first.

    ``frames``: which of the frames to give, e.g. ``slice(0, 100)``; they are numbered from 0.
    Raises ValueError: no camera, no stamps, or no frames left.
    """

    map_frame = "map"

    def __init__(self, sequence: VideoSequence, frames: slice | None = None) -> None:
        if sequence.intrinsics is None or any(f.stamp_ns is None for f in sequence.frames):
            lacking = "camera" if sequence.intrinsics is None else "stamps"
            raise ValueError(
                f"{sequence.name}: no {lacking}; wanted a recording with intrinsics and a stamp of"
                " every frame"
            )
        self.sequence = sequence
        self.intrinsics: Intrinsics = sequence.intrinsics
        self._chosen = range(len(sequence))[frames or slice(None)]
        if not self._chosen:
            raise ValueError(
                f"{sequence.name}: no frames"
                + (f" in {frames}, the folder has {len(sequence)}" if frames else "")
            )

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        update = self.map_update()
        if update is not None:
            yield update
        for index in range(len(self)):
            yield self.frame(index)

    def map_update(self) -> MapUpdate | None:
        """Return the objects as one snapshot, stamped as the first frame; None without a map."""
        if self.sequence.read_map is None:
            return None
        return MapUpdate(
            stamp_ns=self._stamp_ns(0),
            session_id=self.sequence.name,
            revision=1,
            full=True,
            objects=self.sequence.read_map(),
            frame_id=self.map_frame,
        )

    def color_file(self, index: int) -> tuple[str, bytes]:
        """Return format (jpeg, png, ...) and bytes of a colour image as it is stored."""
        path = self.sequence.frames[self._chosen[index]].image
        if path is None:
            raise ValueError(f"{self.sequence.name}: no colour images")
        suffix = path.suffix[1:].lower()
        return {"jpg": "jpeg"}.get(suffix, suffix), path.read_bytes()

    def frame(self, index: int) -> Frame:
        """Read one of the chosen frames. Raises ValueError: image or depth of another size."""
        at, k = self._chosen[index], self.intrinsics
        files = self.sequence.frames[at]
        rgb = self.sequence.image(at)
        if rgb.shape[:2] != (k.height, k.width):
            raise ValueError(
                f"{files.image}: got an image of {rgb.shape[1]}x{rgb.shape[0]} px, the camera has"
                f" {k.width}x{k.height}"
            )
        depth = self.sequence.depth(at)
        if depth is not None and depth.shape != rgb.shape[:2]:
            raise ValueError(
                f"{files.depth}: got depth of {depth.shape[1]}x{depth.shape[0]} px, wanted it"
                f" registered to the colour image, {k.width}x{k.height}"
            )
        return Frame(
            index=index,
            stamp_ns=self._stamp_ns(index),
            rgb=rgb,
            depth=depth,
            intrinsics=k,
            T_map_camera=files.T_map_camera,
        )

    def _stamp_ns(self, index: int) -> int:
        stamp_ns = self.sequence.frames[self._chosen[index]].stamp_ns
        assert stamp_ns is not None  # checked at the door
        return stamp_ns


def open_recording(
    root: Path | str, layout: str = "auto", frames: slice | None = None
) -> SequenceSource:
    """Open a folder that holds one recorded sequence.

    ``layout``: name of a data set with a camera; auto = recognise it by its files.
    Raises FileNotFoundError: no folder. Raises ValueError: no known layout, or several sequences.
    """
    return SequenceSource(open_one(root, data_sets(has_camera=True), layout=layout), frames)
