"""Memory that frames use again and again is kept while they come, and goes back to the system when they don't. Knows nothing of ROS."""

from __future__ import annotations

import ctypes
import gc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""glibc's <malloc.h>."""
LARGE_BYTES = 32 << 20
"""The largest limit that glibc takes."""
KEPT_BYTES = 1 << 30
_LIBC = ctypes.CDLL(None)


def keep_blocks() -> bool:
    """Blocks below 32 MiB come from the heap, and what is free at its end (up to 1 GiB) stays there for the next frame; larger ones are
    returned to the system as soon as they are freed. False where the C library can't (it isn't glibc).

    Pages that the system has to hand out and clear anew for each frame's activations are a quarter of the segmenter's time (240 against
    320 ms with 25 objects at 640x480). By itself, glibc moves these limits with every block that it frees. The price is memory: 990 MiB
    at that, against 560; ``trim`` gives back what is free.
    """
    return (
        hasattr(_LIBC, "mallopt")
        and bool(_LIBC.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES))
        and bool(_LIBC.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
    )


def share_heaps(arenas: int = 1) -> bool:
    """All threads allocate from so few heaps; only of the first does all that is free go back by ``trim``. False where the C library can't
    (it isn't glibc).

    By itself, glibc gives the threads of DDS, of the executor, of torch and of the pipeline up to eight heaps per core, and what is free in
    one of them serves no other.
    """
    return hasattr(_LIBC, "mallopt") and bool(_LIBC.mallopt(M_ARENA_MAX, arenas))


def forget_start() -> None:
    """Takes what exists now out of the cyclic garbage collector.

    It looks at everything only when a quarter of that is new, and the start (torch, messages) makes some hundred thousand objects: a
    cycle that holds a frame's tensors, as an exception in the wrong place makes it, would live for hours.
    """
    gc.collect()
    gc.freeze()


def trim() -> None:
    """Gives back all that is free, milliseconds; nothing where the C library can't."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
