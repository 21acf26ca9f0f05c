"""The command as people start it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vos_ros.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["convert"],
        ["replay"],
        ["slam"],
        ["eval"],
        ["eval", "bag"],
        ["eval", "davis"],
        ["eval", "ytvos"],
        ["demo"],
        ["train"],
        ["bench"],
        ["bench", "lwl"],
        ["weights", "import"],
        ["weights", "show"],
    ],
)
def test_help_needs_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
sys.modules["rclpy"] = None  # as on a machine without ROS
from vos_ros.cli.main import main
try:
    main({[*words, "--help"]!r})
except SystemExit as e:
    assert e.code == 0
names = ("torch", "cv2", "scipy", "open3d", "rosbags", "matplotlib")
heavy = [m for m in names if m in sys.modules]
assert not heavy, heavy
"""
    out = run(code)
    assert out.startswith("usage: vos-ros")
    if not words:
        assert all(name in out for name in COMMANDS) and "from a recorded folder to a score" in out
    elif words != ["eval"]:
        assert "example" in out


def test_wrong_usage_is_2_and_failure_is_1_with_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as e:
        main(["fly"])
    assert e.value.code == 2
    assert "invalid choice: 'fly'" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "none"), str(tmp_path / "o.mcap")]) == 1
    err = capsys.readouterr().err
    assert (
        err.startswith("vos-ros convert: ") and "no such folder" in err and "Traceback" not in err
    )


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vos_ros.cli.main", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stdout.startswith("vos-ros 0.")
