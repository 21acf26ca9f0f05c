"""Run a node as a process: from the command line to the end by a signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, Protocol, TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from vos_ros.ros.common import fastdds, memory
from vos_ros.ros.common.guard import Guard


class GuardedNode(Protocol):
    """A node that notes what its callbacks raise, and goes on."""

    guard: Guard
    """Notes what a callback of rclpy or TF has raised."""

    def destroy_node(self) -> None:
        """See rclpy.node.Node."""
        ...


N = TypeVar("N", bound=GuardedNode)
_JOIN_S = 0.5
"""Longest wait for the executor's thread, s."""
_PAUSE_S = 0.01
"""Pause after an error of a callback, s: one that comes at once again must not take a processor."""


def run(
    args: Sequence[str] | None,
    make: Callable[[], N],
    *,
    end: Callable[[N], None],
    exit_s: float,
    begin: Callable[[N], Any] = lambda node: None,
    startup_errors: tuple[type[Exception], ...] = (),
) -> NoReturn:
    """Run a node until SIGINT or SIGTERM and end the process.

    The exit status is 0 after a signal, 1 where the node could not start or its executor failed.
    From the signal to the end of the process it takes ``exit_s`` at most, whatever hangs.

    Args:
        args: command line for rclpy; None: that of the process.
        make: makes the node.
        end: called on the main thread when the executor has stopped, before the node is destroyed.
        exit_s: longest time from the signal to the end of the process, s.
        begin: called on the executor's thread before it spins.
        startup_errors: errors of ``make`` that are printed in one line, without a traceback.
    """
    leave(_run(args, make, begin, end, exit_s, startup_errors))


def leave(code: int) -> NoReturn:
    """End the process with an exit status, without the interpreter's own end.

    That end can take seconds on a busy machine (static destructors, a worker inside a frame), and
    it aborts the process where a thread returns from the middleware meanwhile.
    """
    # The middleware's participant and its files in shared memory (35 MB) go with the last
    # reference to the node, which is part of reference cycles.
    memory.release()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(
    args: Sequence[str] | None,
    make: Callable[[], N],
    begin: Callable[[N], Any],
    end: Callable[[N], None],
    exit_s: float,
    startup_errors: tuple[type[Exception], ...],
) -> int:
    fastdds.prepare()
    memory.keep_blocks()
    memory.share_heaps()
    # rclpy's own handlers shut the context down while the node still needs it for its clean-up.
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
    try:
        node = make()
    except startup_errors as e:
        program = os.path.basename(sys.argv[0]).removesuffix(".py")
        print(f"{program}: {e}", file=sys.stderr)
        sys.exit(1)
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            begin(node)
            while not stop.is_set() and rclpy.ok():
                try:
                    executor.spin_once()
                except ExternalShutdownException:
                    return
                except Exception as e:
                    # Callbacks of rclpy and TF: ours are guarded one by one. After a signal the
                    # node is destroyed while callbacks may still run.
                    if not stop.is_set():
                        node.guard.note("a callback", e)
                        stop.wait(_PAUSE_S)
        except BaseException as e:
            if not stop.is_set():
                failure.append(e)
        finally:
            stop.set()

    # Python runs signal handlers in the main thread only, and not while that waits in the
    # middleware. So the main thread waits here, and another one spins.
    spinner = threading.Thread(target=spin, name="vos_ros executor", daemon=True)
    spinner.start()
    stop.wait()
    if failure:
        traceback.print_exception(failure[0])
    executor.shutdown(timeout_sec=0.0)
    spinner.join(_JOIN_S)
    end(node)
    node.destroy_node()
    rclpy.try_shutdown()
    return 1 if failure else 0
