"""The demo for real, small, and what it says where it can't run."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from vos_ros.cli.main import main

with_ros = pytest.mark.skipif(
    importlib.util.find_spec("rclpy") is None,
    reason="rclpy is not in this environment (tools/env brings it)",
)
with_open3d = pytest.mark.skipif(
    importlib.util.find_spec("open3d") is None, reason="Open3D is not in this environment"
)


def _nobody(out: Path) -> list[psutil.Process]:
    """Processes whose command line names the demo's folder."""
    return [
        p
        for p in psutil.process_iter(["cmdline"])
        if any(str(out) in word for word in p.info["cmdline"] or [])
    ]


@with_ros
@with_open3d
def test_demo_runs_over_dds_and_leaves_pictures_bag_and_figures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, figures_file = tmp_path / "demo", tmp_path / "figures.json"
    words = [
        "demo",
        "--out",
        str(out),
        "--method",
        "null",
        "--frames",
        "8",
        "--rate",
        "2",
        "--size",
        "160x120",
        "--json",
        str(figures_file),
    ]
    status = main(words)
    printed, errors = capfd.readouterr()
    assert status == 0, printed + errors
    figures = json.loads((out / "summary.json").read_text())
    assert figures == json.loads(figures_file.read_text())
    assert figures["frames_sent"] == 8 and 1 <= figures["frames_processed"] <= 8
    assert figures["frames_dropped"] == 8 - figures["frames_processed"]
    assert (
        figures["latency_ms_p95"] >= figures["latency_ms_p50"] > 0
        and figures["round_trip_ms_p50"] >= figures["latency_ms_p50"]
    )
    assert (
        figures["mean_iou"] > 0.5
        and figures["association_accuracy"] > 0.9
        and figures["id_switches"] == 0
    )
    assert "mean_iou" in printed and "contact_sheet.png" in printed
    assert len(list((out / "overlay").glob("*.png"))) == figures["frames_processed"]
    assert Image.open(out / "contact_sheet.png").width >= 320
    assert not (out / "sequence").exists(), "the truth is kept on demand only"
    assert {p.name for p in out.iterdir()} == {
        "contact_sheet.png",
        "demo.mcap",
        "node.log",
        "overlay",
        "recorder.log",
        "summary.json",
    }
    assert not _nobody(out)


@with_ros
@with_open3d
@pytest.mark.slow
def test_clicks_become_followed_objects(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    words = ["demo", "--out", str(out), "--clicks", "2", "--frames", "12", "--rate", "2"]
    assert main([*words, "--set", "segmentation.seed_with=one_point"]) == 0
    figures = json.loads((out / "summary.json").read_text())
    assert figures["objects_clicked"] == figures["objects_followed"] == 2
    assert figures["mean_iou"] > 0.5, "of 12 frames two or three come before the masks"
    assert not _nobody(out)


@with_ros
@with_open3d
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    out = tmp_path / "demo"
    words = [
        sys.executable,
        "-m",
        "vos_ros.cli.main",
        "demo",
        "--out",
        str(out),
        "--frames",
        "200",
        "--rate",
        "1",
        "--size",
        "64x48",
    ]
    process = subprocess.Popen(
        words, env=os.environ.copy(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        end = time.monotonic() + 100
        while time.monotonic() < end and len(_nobody(out)) < 4:  # demo, node, recorder, player
            time.sleep(0.2)
        assert len(_nobody(out)) == 4
        process.send_signal(number)
        output, _ = process.communicate(timeout=40)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert not _nobody(out)


def test_without_ros_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "rclpy" else find(name, *a)
    )
    assert main(["demo", "--out", str(tmp_path / "demo")]) == 1
    error = capsys.readouterr().err
    assert "rclpy" in error and "tools/env vos-ros demo" in error and error.count("\n") == 1
    assert not (tmp_path / "demo").exists()


@with_ros
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--method", "nope"], "known are"),
        (["--set", "tracking.lost=1"], "lost_s"),
        (["--frames", "0"], "frames"),
    ],
)
def test_wrong_options_are_told_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    assert main(["demo", "--out", str(tmp_path / "demo"), *words]) == 1
    assert text in capsys.readouterr().err
    assert not (tmp_path / "demo" / "node.log").exists()


@pytest.mark.parametrize("words", [["--size", "big"], ["--rate", "0"]])
def test_usage_errors(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as e:
        main(["demo", *words])
    assert e.value.code == 2 and "wanted" in capsys.readouterr().err
