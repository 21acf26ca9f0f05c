"""Keep the memory that every frame needs while frames come, and return it when they don't.

Knows nothing of ROS.
"""

from __future__ import annotations

import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of mallopt, from glibc's <malloc.h>."""
LARGE_BYTES = 32 << 20
"""Blocks below this size come from the heap: the largest limit that glibc takes."""
KEPT_BYTES = 1 << 30
"""Free memory at the end of the heap that is kept for the next frame."""
_LIBC = ctypes.CDLL(None)


def keep_blocks() -> bool:
    """Keep freed blocks below 32 MiB for the next frame; False where the C library can't.

    Blocks below 32 MiB come from the heap, and what is free at its end (up to 1 GiB) stays there.
    Larger blocks are returned to the system when they are freed.

    Pages that the system has to clear anew for the activations of every frame cost a quarter of the
    segmenter's time (320 against 240 ms with 25 objects at 640x480). By itself, glibc moves these
    limits with every block that it frees. The price is memory: 990 against 560 MiB in that case;
    ``trim`` returns what is free.
    """
    return (
        hasattr(_LIBC, "mallopt")
        and bool(_LIBC.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES))
        and bool(_LIBC.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
    )


def share_heaps(arenas: int = 1) -> bool:
    """Let all threads allocate from at most so many heaps; False where the C library can't.

    By itself, glibc gives the threads of DDS, of the executor, of torch and of the pipeline up to
    eight heaps per core. Free memory of one heap can't serve another, and ``trim`` returns all free
    memory of the first heap only.
    """
    return hasattr(_LIBC, "mallopt") and bool(_LIBC.mallopt(M_ARENA_MAX, arenas))


def forget_start() -> None:
    """Exclude the objects that exist now from cyclic garbage collection.

    Python runs a full collection only when a quarter of all objects is new, and the start (torch,
    messages) makes some hundred thousand of them. Without this, a reference cycle that holds a
    frame's tensors (an exception can make one) would live for hours.
    """
    gc.collect()
    gc.freeze()


def release() -> None:
    """Collect what was in use until now, that of ``forget_start`` too, and return its memory."""
    gc.unfreeze()
    gc.collect()
    trim()


def trim() -> None:
    """Return all free memory to the system, in milliseconds; nothing where the C library can't."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
