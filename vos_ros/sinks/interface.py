"""Defines a sink: it gets each frame with its result, and is closed once."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vos_ros.types import Frame, FrameResult


@runtime_checkable
class ResultSink(Protocol):
    """Writes results; also a context manager: ``with BagSink(path) as sink: sink.write(...)``."""

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Write one frame and its result."""

    def close(self) -> None:
        """Finish; nothing can be written afterwards."""
