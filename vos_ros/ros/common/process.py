"""A node as a process: from the command line to the end by a signal."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vos_ros.ros.common import fastdds, memory

N = TypeVar("N", bound=Node)


def run(
    args: Sequence[str] | None,
    make: Callable[[], N],
    begin: Callable[[N], None],
    end: Callable[[N], None],
    *,
    exit_s: float,
) -> NoReturn:
    """Runs a node until SIGINT or SIGTERM and ends the process: with 0 then, with 1 where the executor failed.

    ``begin`` is called on the executor's thread before it spins, ``end`` on the main thread when it no longer does, the node still whole.
    From the signal to the end of the process it takes ``exit_s`` at most, whatever hangs.
    """
    code = _run(args, make, begin, end, exit_s)
    # The middleware's participant, and its files in shared memory (35 MB), go with the last reference to the node, which is in cycles.
    gc.unfreeze()  # see memory.forget_start
    gc.collect()
    # What an interpreter does beyond that (static destructors, a worker that is still inside a frame) can take seconds on a busy machine.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(
    args: Sequence[str] | None,
    make: Callable[[], N],
    begin: Callable[[N], None],
    end: Callable[[N], None],
    exit_s: float,
) -> int:
    fastdds.prepare()
    memory.keep_blocks()
    memory.share_heaps()
    # rclpy's own handlers take the context away under the node, which could then not release anything in order.
    rclpy.init(
        args=list(args) if args is not None else None,
        signal_handler_options=SignalHandlerOptions.NO,
    )
    stop = threading.Event()
    failure: list[BaseException] = []

    def on_signal(number: int, frame: Any) -> None:
        # Whatever hangs (a long frame, the middleware), the process ends in time.
        guard = threading.Timer(exit_s, os._exit, (0,))
        guard.daemon = True
        guard.start()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    node = make()
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            begin(node)
            executor.spin()
        except BaseException as e:
            if (
                not stop.is_set()
            ):  # after a signal the node is taken down under whatever is still being done
                failure.append(e)
        finally:
            stop.set()

    # Python runs signal handlers in the main thread only, and not while that waits in the middleware: so it waits here instead.
    spinner = threading.Thread(target=spin, name="vos_ros executor", daemon=True)
    spinner.start()
    stop.wait()
    if failure:
        traceback.print_exception(failure[0])
    executor.shutdown(timeout_sec=0.0)
    spinner.join(0.5)
    end(node)
    node.destroy_node()
    rclpy.try_shutdown()
    return 1 if failure else 0
