"""The loop: what a run leaves behind, and that a run that was stopped ends as one that wasn't."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vos_ros.config import ConfigError
from vos_ros.training.loop import train

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("run_tiny.py")
STEPS = 14


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "tiny.safetensors")


def same(a: Path, b: Path) -> None:
    """Averaged weights, and the last ones in the newest checkpoint, are equal to the bit."""
    newest = [
        torch.load(sorted((out / "checkpoints").glob("*.pt"))[-1], weights_only=True)
        for out in (a, b)
    ]
    assert newest[0]["step"] == newest[1]["step"] == STEPS
    for ours, theirs in ((weights(a), weights(b)), (newest[0]["model"], newest[1]["model"])):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), key


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As in the processes that are started: sums over more threads round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, clips_folder: Path, runner: ModuleType
) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    done = train(runner.config(clips_folder), runner.TinyTask(), out, device="cpu", show=False)
    assert (done.step, done.finished, done.interrupted) == (STEPS, True, False)
    return out


def start(out: Path, data: Path, *words: str, processes: int = 1) -> subprocess.Popen[str]:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if processes > 1
        else []
    )
    command = [sys.executable, *launcher, str(PROGRAM), str(out), str(data), *words]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def ends(process: subprocess.Popen[str], status: int = 0) -> None:
    output, _ = process.communicate(timeout=100)
    assert process.returncode == status, output


def wait_for(process: subprocess.Popen[str], log: Path, step: int) -> None:
    """Until a step has been logged: 4, 8 and 12 write a checkpoint."""
    deadline = time.monotonic() + 90
    while not log.is_file() or f'"step": {step}, "kind": "train"' not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, (
            process.communicate()[0] if process.poll() is not None else "late"
        )
        time.sleep(0.02)


def test_what_a_run_leaves(finished: Path, clips_folder: Path, read_log: Callable) -> None:
    assert {p.name for p in finished.iterdir()} == {
        "config.yaml",
        "log.jsonl",
        "curve.png",
        "tensorboard",
        "checkpoints",
        "tiny.safetensors",
        "tiny-fp16.safetensors",
        "tiny-best.safetensors",
        "tiny.md",
    }
    assert [p.name for p in sorted((finished / "checkpoints").iterdir())] == [
        "step-000000012.pt",
        "step-000000014.pt",
    ]
    train_rows = read_log(finished, "train")
    assert [r["step"] for r in train_rows] == list(range(1, STEPS + 1))
    assert (
        train_rows[-1]["rate/first"] == pytest.approx(0.002) and "rate/first" not in train_rows[5]
    )
    assert train_rows[-1]["loss"] < train_rows[0]["loss"]
    assert [r["step"] for r in read_log(finished, "validation")] == [7, 14]
    ious = [r["iou"] for r in read_log(finished, "validation")]
    with safe_open(finished / "tiny-best.safetensors", "pt") as f:
        assert f.metadata()["steps"] == ("14" if ious[1] > ious[0] else "7")
    (start_row,) = read_log(finished, "start")
    assert start_row["seed"] == 3 and start_row["git"] and start_row["torch"] == torch.__version__
    with safe_open(finished / "tiny-fp16.safetensors", "pt") as f:
        assert f.metadata()["format"] == "tiny" and f.metadata()["steps"] == str(STEPS)
        assert f.get_tensor("first.weight").dtype == torch.float16
    card = (finished / "tiny.md").read_text()
    assert (
        "CC0" in card
        and "| one | 6 | 4 | 3 | 33x33 |" in card
        and "(held out)" in card
        and "steps: all" in card
    )
    assert list((finished / "tensorboard").iterdir())


def test_frozen_groups_stay(
    finished: Path, runner: ModuleType, tmp_path: Path, clips_folder: Path
) -> None:
    torch.manual_seed(3)
    fresh = runner.TinyTask().build().state_dict()
    train(
        runner.config(clips_folder),
        runner.TinyTask(),
        tmp_path,
        device="cpu",
        max_steps=6,
        show=False,
    )
    after_one = torch.load(tmp_path / "checkpoints/step-000000006.pt", weights_only=True)["model"]
    assert torch.equal(after_one["first.weight"], fresh["first.weight"]) and not torch.equal(
        after_one["last.weight"], fresh["last.weight"]
    )
    assert not torch.equal(weights(finished)["first.weight"], fresh["first.weight"])


@pytest.mark.slow
def test_legs_equal_one_run(
    finished: Path, tmp_path: Path, clips_folder: Path, runner: ModuleType, read_log: Callable
) -> None:
    for leg in (3, 3, 5, 20):  # one ends where a stage does
        done = train(
            runner.config(clips_folder, workers=int(leg == 5)),
            runner.TinyTask(),
            tmp_path,
            device="cpu",
            max_steps=leg,
            resume=True,
            show=False,
        )
    assert done.finished
    same(finished, tmp_path)
    whole, legs = (read_log(out, "train") for out in (finished, tmp_path))
    assert [(r["step"], r["loss"]) for r in whole] == [(r["step"], r["loss"]) for r in legs]


@pytest.mark.slow
def test_killed_and_resumed(finished: Path, tmp_path: Path, clips_folder: Path) -> None:
    process = start(tmp_path, clips_folder, "--slow", "0.1")
    wait_for(process, tmp_path / "log.jsonl", 9)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    ends(start(tmp_path, clips_folder, "--resume"))
    same(finished, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sigterm_saves_where_it_is(tmp_path: Path, clips_folder: Path) -> None:
    process = start(tmp_path, clips_folder, "--slow", "0.3", "--workers", "1")
    wait_for(process, tmp_path / "log.jsonl", 9)
    process.terminate()
    ends(process, 130)
    assert max(p.name for p in (tmp_path / "checkpoints").iterdir()) in [
        f"step-{n:09d}.pt" for n in (9, 10, 11)
    ]


def test_ctrl_c_in_this_process(tmp_path: Path, clips_folder: Path, runner: ModuleType) -> None:
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    done = train(
        runner.config(clips_folder), runner.TinyTask(slow_s=0.2), tmp_path, device="cpu", show=False
    )
    assert done.interrupted and not done.finished and 0 < done.step < STEPS
    assert (
        torch.load(max((tmp_path / "checkpoints").iterdir()), weights_only=True)["step"]
        == done.step
    )
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, clips_folder: Path) -> Path:
    """A run of two processes with gloo that nothing disturbed."""
    out = tmp_path_factory.mktemp("runs") / "two"
    ends(start(out, clips_folder, "--dropout", "0", processes=2))
    return out


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_two_processes_equal_one(
    two: Path, tmp_path: Path, clips_folder: Path, runner: ModuleType
) -> None:
    """But for the order of sums."""
    train(
        runner.config(clips_folder),
        runner.TinyTask(dropout=0.0),
        tmp_path,
        device="cpu",
        show=False,
    )
    for key, value in weights(tmp_path).items():
        assert torch.allclose(value, weights(two)[key], atol=2e-5), key


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_killed_and_resumed(two: Path, tmp_path: Path, clips_folder: Path) -> None:
    process = start(tmp_path, clips_folder, "--dropout", "0", "--slow", "0.2", processes=2)
    wait_for(process, tmp_path / "log.jsonl", 5)
    os.killpg(process.pid, signal.SIGKILL)
    for pid in children_of(str(tmp_path)):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    ends(start(tmp_path, clips_folder, "--dropout", "0", "--resume", processes=2))
    same(two, tmp_path)


def children_of(word: str) -> list[int]:
    """Processes that torchrun started for this run: they have sessions of their own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word in entry.read_text() and int(entry.parent.name) != os.getpid():
                found.append(int(entry.parent.name))
        except OSError:
            continue
    return found


def test_a_run_isnt_overwritten(finished: Path, clips_folder: Path, runner: ModuleType) -> None:
    with pytest.raises(ValueError, match="holds a run of 14 steps: go on with --resume"):
        train(runner.config(clips_folder), runner.TinyTask(), finished, device="cpu", show=False)


def test_changes_are_told(
    tmp_path: Path, clips_folder: Path, runner: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        runner.config(clips_folder),
        runner.TinyTask(),
        tmp_path,
        device="cpu",
        max_steps=2,
        show=False,
    )
    capsys.readouterr()
    train(
        runner.config(clips_folder, ema=0.5),
        runner.TinyTask(),
        tmp_path,
        device="cpu",
        max_steps=1,
        resume=True,
        show=True,
    )
    assert "ema: 0.9 -> 0.5" in capsys.readouterr().out


def test_a_bad_step_is_left_out(
    tmp_path: Path, clips_folder: Path, runner: ModuleType, read_log: Callable
) -> None:
    train(
        runner.config(clips_folder),
        runner.TinyTask(break_at=3),
        tmp_path,
        device="cpu",
        max_steps=5,
        show=False,
    )
    assert read_log(tmp_path, "train")[2]["loss"] != read_log(tmp_path, "train")[2]["loss"]  # NaN
    assert all(bool(v.isfinite().all()) for v in weights(tmp_path).values())


def test_wrong_at_the_door(tmp_path: Path, clips_folder: Path, runner: ModuleType) -> None:
    config = runner.config(clips_folder)
    stage = config.stages["one"]

    def run(**changes: object) -> None:
        train(
            dataclasses.replace(config, stages={"one": dataclasses.replace(stage, **changes)}),
            runner.TinyTask(),
            tmp_path,
            device="cpu",
            show=False,
        )

    with pytest.raises(ConfigError, match=r"no group \['middle'\]"):
        run(rates={"middle": 0.1})
    with pytest.raises(ConfigError, match="trains nothing"):
        run(rates={"first": 0.0})
    with pytest.raises(ConfigError, match="batch: got 4, wanted a multiple of 3"):
        run(accumulate=3)
    with pytest.raises(ValueError, match=r"device 'tpu': wanted auto, cpu or cuda"):
        train(config, runner.TinyTask(), tmp_path, device="tpu", show=False)
