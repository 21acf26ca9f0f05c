"""Child processes that are always stopped: the demo's node, recorder and player."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_S = 8.0
KILL_S = 3.0


def free_domain() -> int:
    """Return a random ROS_DOMAIN_ID (10..100) that no process on this machine uses at this moment.

    By the DDS standard the first participant of domain d listens on UDP port 7410 + 250 d. Raises
    RuntimeError: all are in use.
    """
    for domain in random.sample(range(10, 101), 91):
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe,
            contextlib.suppress(OSError),
        ):
            probe.bind(("", 7410 + 250 * domain))
            return domain
    raise RuntimeError("every ROS_DOMAIN_ID from 10 to 100 is in use on this machine")


class ProcessError(RuntimeError):
    """A process ended or did not do its part; the text holds the end of its log."""


class Process:
    """A command in a session of its own: a Ctrl-C of the terminal reaches only its parent.

    Its output goes to ``log``, or to ours where that is None.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path | None, env: Mapping[str, str]
    ) -> None:
        self.name, self.log = name, log
        if log is None:
            self._popen = subprocess.Popen(
                command, env=dict(env), start_new_session=True, stdin=subprocess.DEVNULL
            )
        else:
            with open(log, "wb") as out:
                self._popen = subprocess.Popen(
                    command,
                    env=dict(env),
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )

    @property
    def pid(self) -> int:
        """Return its process id, which is that of its process group too."""
        return self._popen.pid

    @property
    def code(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self._popen.poll()

    def tail(self, lines: int = 20) -> str:
        """Return the end of its log."""
        if self.log is None or not self.log.is_file():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> int:
        """Send SIGINT, then SIGTERM, then SIGKILL to the whole group, each with a bounded wait.

        Returns its exit status.
        """
        for number, wait_s in (
            (signal.SIGINT, STOP_S),
            (signal.SIGTERM, KILL_S),
            (signal.SIGKILL, KILL_S),
        ):
            if self._popen.poll() is None:
                self._signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(wait_s)
        return int(self._popen.wait(KILL_S))

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class Processes:
    """A group of processes; leaving the ``with`` block stops all of them, the last one first."""

    def __init__(self) -> None:
        self._running: list[Process] = []

    def start(
        self, name: str, command: Sequence[str], *, log: Path | None, env: Mapping[str, str]
    ) -> Process:
        """Start a process."""
        process = Process(name, command, log=log, env=env)
        self._running.append(process)
        return process

    def wait(self, done: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait until ``done`` returns true.

        Raises ProcessError: a process ended with an error meanwhile, or the time is over. ``what``
        names what is waited for.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            for process in self._running:
                if process.code:
                    raise ProcessError(
                        f"the {process.name} ended with status {process.code}"
                        f" before {what}{_log(process)}"
                    )
            if time.monotonic() > deadline:
                logs = "".join(_log(p) for p in self._running)
                raise ProcessError(f"waited {timeout_s:.0f} s for {what}, in vain{logs}")
            time.sleep(0.1)

    def stop(self, process: Process) -> None:
        """Stop a process. Raises ProcessError: it ended with an error or had to be killed."""
        code = process.stop()
        self._running.remove(process)
        if code:
            raise ProcessError(f"the {process.name} ended with status {code}{_log(process)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A second Ctrl-C must not leave some of them running; every wait below is bounded.
        before = (
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if threading.current_thread() is threading.main_thread()
            else None
        )
        try:
            for process in reversed(self._running):
                process.stop()
            self._running.clear()
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)


def _log(process: Process) -> str:
    text = process.tail()
    return f"\n--- end of {process.log} ---\n{text}" if text else ""
