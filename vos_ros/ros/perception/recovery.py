"""Go on after a frame that failed, and where memory is full."""

from __future__ import annotations

import gc
import time

import torch

from vos_ros.pipeline import Pipeline
from vos_ros.ros.common.logging import ConditionLog, Level, describe_error
from vos_ros.segmentation.out_of_memory import is_out_of_memory

PROJECTION = "null"
"""Method whose masks are the map's projection; it needs no network."""
RETRY_S = 10.0
"""Time after which the configured method is tried again where memory was full, s."""


class Recovery:
    """Start masks over where a frame failed; do without the network while memory is full.

    Args:
        pipeline: started over.
        log: gets the condition that memory is full.
    """

    def __init__(self, pipeline: Pipeline, log: ConditionLog) -> None:
        self._pipeline, self._log = pipeline, log
        self._method = pipeline.config.segmentation.method
        self._retry_s: float | None = None  # when the method is tried again (time.monotonic)

    @property
    def without_network(self) -> bool:
        """Tell whether masks are the map's projection because memory was full."""
        return self._retry_s is not None

    def before_frame(self) -> None:
        """Try the configured method again, where its time has come."""
        if self._retry_s is None or time.monotonic() < self._retry_s:
            return
        try:
            self._pipeline.start_over(self._method)
            self._retry_s = None
        except Exception as error:
            self._retry_s = time.monotonic() + RETRY_S
            if not is_out_of_memory(error):
                raise
            self._do_without_network(error)

    def after_frame(self) -> None:
        """Note that a frame was processed."""
        if self._retry_s is None:
            self._log.end("memory", "is enough again")

    def after_failure(self, error: Exception) -> bool:
        """Start over after an error; return whether the frame may be tried again."""
        if is_out_of_memory(error) and self._method != PROJECTION and self._retry_s is None:
            self._do_without_network(error)
            return True
        self._pipeline.start_over()
        return False

    def _do_without_network(self, error: Exception) -> None:
        # The error's traceback holds the tensors of the frame.
        error.__traceback__ = None
        self._pipeline.start_over(PROJECTION)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._retry_s = time.monotonic() + RETRY_S
        self._log.begin(
            "memory",
            "full",
            f"memory is full ({describe_error(error)}): masks are the map's projection alone, and"
            f" {self._method} is tried again every {RETRY_S:g} s. Free memory, or set fewer"
            " tracking.max_objects, or another segmentation.device",
            Level.ERROR,
        )
