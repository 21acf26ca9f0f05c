"""Blocks are kept from frame to frame, and given back when there are none."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import numpy as np, psutil, sys
from vos_ros.ros.common.memory import keep_blocks, trim
print(keep_blocks())
kept, process = [], psutil.Process()
before = process.memory_info().rss
def frame(i):
    blocks = [np.ones((8 + (i + j) % 17) << 20, np.uint8) for j in range(4)]
    kept.append(np.ones(100_000, np.uint8))  # small ones between, which hold a heap up
for i in range(40): frame(i)
print((process.memory_info().rss - before) >> 20)
for i in range(40): frame(i)
print((process.memory_info().rss - before) >> 20)
trim()
print((process.memory_info().rss - before) >> 20)
"""


def test_freed_blocks_are_used_again_and_go_back_when_asked():
    out = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    if out[0] != "True":
        pytest.skip("this C library has no mallopt")
    some, more, rest = map(int, out[1:])
    assert some > 24, "kept for the next frame"
    assert more < 1.5 * some, "and used by it"
    assert rest < 16, "8 MiB are still in use"


HEAPS = """
import ctypes, sys, threading
from vos_ros.ros.common.memory import share_heaps
libc = ctypes.CDLL(None)
print(share_heaps() if sys.argv[1] == "shared" else True, flush=True)
together = threading.Barrier(6)
def work():
    libc.malloc(2000)
    together.wait(20)
threads = [threading.Thread(target=work) for _ in range(6)]
for t in threads: t.start()
for t in threads: t.join()
out = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, out)
libc.fflush(out)
"""


def heaps(how: str) -> int:
    out = subprocess.run(
        [sys.executable, "-c", HEAPS, how], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    if not out.startswith("True") or "<heap nr=" not in out:
        pytest.skip("this C library has no mallopt or malloc_info")
    return out.count("<heap nr=")


def test_threads_share_their_heaps():
    assert heaps("shared") <= 2 < heaps("own")
