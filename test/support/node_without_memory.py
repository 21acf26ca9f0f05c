"""Run the perception node as its main does, with an allocator that can be out of memory.

    python -m support.node_without_memory --ros-args ...

While the file of the environment variable NO_MEMORY exists, every frame of the network finds no
memory, as on a GPU that another process has filled.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from vos_ros.ros.perception.node import main
from vos_ros.segmentation.methods.lwl.segmenter import Lwl

_FULL = Path(os.environ["NO_MEMORY"])
_step = Lwl.step


def _step_where_there_is_memory(self: Lwl, *args: Any) -> Any:
    if _FULL.exists():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    return _step(self, *args)


if __name__ == "__main__":
    Lwl.step = _step_where_there_is_memory  # type: ignore[method-assign]
    main()
