"""Memory that a frame no longer needs goes back to the system. Knows nothing of ROS."""

from __future__ import annotations

import ctypes
import gc

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""glibc's <malloc.h>."""
LARGE_BYTES = 4 << 20
_LIBC = ctypes.CDLL(None)


def give_back_large_blocks(size_bytes: int = LARGE_BYTES) -> bool:
    """Blocks from this size on are returned to the system as soon as they are freed. False where the C library can't (it isn't glibc).

    By itself, glibc raises this limit to 32 MiB when the first block of that size is freed, and from then on keeps the probabilities of
    every frame in a heap that fragments: over 300 frames of 25 objects at 640x480, 500 MiB grow to 1300 MiB; with the limit held, RSS
    stays at 390 MiB.
    """
    return hasattr(_LIBC, "mallopt") and bool(_LIBC.mallopt(M_MMAP_THRESHOLD, size_bytes))


def share_heaps(arenas: int = 2) -> bool:
    """All threads allocate from so few heaps. False where the C library can't (it isn't glibc).

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
    """Gives back what is free among the small blocks too, milliseconds; nothing where the C library can't."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)
