"""Defines a source: an iterable of frames and map updates, in time order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from vos_ros.types import Frame, MapUpdate


@runtime_checkable
class FrameSource(Protocol):
    """Yields ``MapUpdate`` and ``Frame`` in the order of their stamps; iterating again starts over.

    ``len()`` is the number of frames.
    """

    map_frame: str
    """Name of the frame of poses and map points."""

    def __iter__(self) -> Iterator[Frame | MapUpdate]: ...

    def __len__(self) -> int: ...
