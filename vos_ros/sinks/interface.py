"""What a sink is: it takes each frame with its result, and is closed once."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vos_ros.types import Frame, FrameResult


@runtime_checkable
class ResultSink(Protocol):
    """A context manager too: ``with BagSink(path) as sink: sink.write(frame, result)``."""

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Takes one frame and what was said of it."""

    def close(self) -> None:
        """Finishes; nothing is written after it."""
