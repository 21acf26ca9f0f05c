"""Child processes: their end is noticed, their log is shown, and none is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from vos_ros.cli import processes
from vos_ros.cli.processes import ProcessError, Processes

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\n"
    "print('up', flush=True)\ntime.sleep(60)",
]


def _gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_all_are_stopped_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"), Processes() as group:
        pids = [
            group.start(f"p{i}", SLEEP, log=tmp_path / f"{i}.log", env=os.environ).pid
            for i in range(2)
        ]
        assert all(psutil.pid_exists(p) for p in pids)
        raise RuntimeError("boom")
    assert all(_gone(p) for p in pids)


def test_a_process_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with Processes() as group:
        group.start(
            "node",
            [sys.executable, "-c", "print('first'); raise SystemExit('no camera')"],
            log=tmp_path / "n",
            env=os.environ,
        )
        with pytest.raises(
            ProcessError,
            match=r"(?s)the node ended with status 1 before the end came.*first\nno camera"
            r"|no camera",
        ):
            group.wait(lambda: False, "the end came", 20.0)


def test_a_wait_is_bounded_and_names_what_it_waited_for(tmp_path: Path) -> None:
    with Processes() as group:
        process = group.start("node", SLEEP, log=tmp_path / "n", env=os.environ)
        group.wait(lambda: "up" in process.tail(), "it is up", 20.0)
        start = time.monotonic()
        with pytest.raises(ProcessError, match=r"(?s)waited 0 s for the moon, in vain.*up"):
            group.wait(lambda: False, "the moon", 0.3)
        assert time.monotonic() - start < 5


def test_one_that_ignores_signals_is_killed_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_S", 0.3)
    with Processes() as group:
        process = group.start("node", DEAF, log=tmp_path / "n", env=os.environ)
        monkeypatch.setattr(processes, "KILL_S", 0.3)
        group.wait(lambda: "up" in process.tail(), "it is up", 20.0)
        monkeypatch.setattr(processes, "KILL_S", 3.0)
        with pytest.raises(ProcessError, match="status -9"):
            group.stop(process)
    assert _gone(process.pid)


def test_a_domain_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 10 <= processes.free_domain() <= 100
    taken, free = 7410 + 250 * 42, 43
    monkeypatch.setattr(processes.random, "sample", lambda population, k: [42, free])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("", taken))
        assert processes.free_domain() == free


def test_ctrl_c_leaves_no_process(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from vos_ros.cli.processes import Processes\n"
        "with Processes() as group:\n"
        f"    p = group.start('child', {SLEEP!r}, log=Path(sys.argv[1]), env=os.environ)\n"
        "    group.wait(lambda: 'up' in p.tail(), 'it is up', 20.0)\n"
        "    print(p.pid, flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGINT)
        parent.communicate(timeout=20)
    finally:
        parent.kill()
    assert parent.returncode != 0 and _gone(pid)
