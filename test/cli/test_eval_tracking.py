"""``vos-ros eval tracking`` and ``eval fusion`` on a short video."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.moving_squares import draw, write_pair

from vos_ros.cli.main import main
from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec
from vos_ros.segmentation.point_trackers.heatmap import paper_options
from vos_ros.segmentation.point_trackers.simple import FirstFrame


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    for t in range(4):
        write_pair(
            tmp_path / f"d/JPEGImages/s/{t}.jpg", tmp_path / f"d/Annotations/s/{t}.png", *draw(t, 2)
        )
    torch.manual_seed(0)
    net = OnePointNet(OnePointSpec(dims=4, width=8))
    save_file(
        net.state_dict(),
        tmp_path / "w.safetensors",
        {"format": "vos_ros.one_point", "spec": net.spec.to_json()},
    )
    return ["--root", str(tmp_path / "d"), "--data-set", "davis", "--split", "2017/",
            "--model", str(tmp_path / "w.safetensors"), "--device", "cpu"]  # fmt: skip


def test_table_files_and_plot(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [f"--{k}={tmp_path / 'out' / f'f.{e}'}" for k, e in
           (("json", "json"), ("csv", "csv"), ("plot", "png"))]  # fmt: skip
    more = ["--trackers", "first_frame,flow,embedding", *out]
    assert main(["eval", "tracking", *words, *more]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "1 clips, 2 points, 3 frames" in printed and "davis2017/s" in printed
    assert re.search(r"^flow +1\.000 +1\.000 +nan", printed, re.MULTILINE)
    figures = json.loads((tmp_path / "out/f.json").read_text())
    assert figures["flow.coverage"] == 1.0 and figures["flow.pck_4"] is None
    assert figures["first_frame.coverage.davis2017/s"] == figures["first_frame.coverage"]
    rows = list(csv.DictReader((tmp_path / "out/f.csv").open()))
    assert len(rows) == 3 * 2 * 3 and {r["tracker"] for r in rows} == {
        "first_frame", "flow", "embedding"}  # fmt: skip
    inside = [float(r["outside_px"]) == 0 for r in rows if r["tracker"] == "embedding"]
    assert figures["embedding.coverage_frames"] == pytest.approx(sum(inside) / 6)
    assert (tmp_path / "out/f.png").stat().st_size > 1000


def test_heatmap_takes_options(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    values = ("steps=1", "images=1", "width=4", "long_side=128")
    more = ["--trackers", "heatmap", "--frames", "2", *(f"--set=heatmap.{v}" for v in values)]
    assert main(["eval", "tracking", *words, *more]) == 0, capsys.readouterr().err
    assert "2 clips, 4 points, 2 frames" in capsys.readouterr().out


def test_heatmap_in_the_papers_setting(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[object] = []

    def create(name: str, device: object, *, embedding: object, options: object) -> FirstFrame:
        made.append(options)
        return FirstFrame()

    monkeypatch.setattr("vos_ros.segmentation.point_trackers.registry.create", create)
    more = ["--trackers", "heatmap", "--paper", "--set", "heatmap.steps=2000"]
    assert main(["eval", "tracking", *words, *more]) == 0, capsys.readouterr().err
    assert made == [replace(paper_options(), steps=2000)]


def test_rows_of_fusion(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "f.json"
    assert main(["eval", "fusion", *words, "--json", str(out)]) == 0, capsys.readouterr().err
    figures = json.loads(out.read_text())
    rows = ("perfect", "first_frame", "tracked", "streaming")
    assert set(figures) == {f"{r}.{n}" for r in rows for n in ("davis2017/s", "mean")}
    assert all(0 <= v <= 1 for v in figures.values())
    more = ["--no-streaming", "--tracker", "first_frame"]
    assert main(["eval", "fusion", *words, *more]) == 0
    assert "streaming" not in capsys.readouterr().out.split("mean IoU")[-1]


def test_what_cannot_be_scored(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for more, message in (
        (["--trackers", "kalman"], "'kalman': known are embedding, first_frame"),
        (["--frames", "1"], "--frames: got 1, wanted 0 or 2 or more"),
        (["--min-px", "0"], "--min-px: got 0, wanted 1 or more"),
        (["--set", "flow.window=3"], "--set flow.window: wanted an option of heatmap, learned"),
        (["--set", "heatmap.stepz=3"], "unknown key heatmap.stepz: did you mean 'steps'?"),
        (["--trackers", "flow", "--min-px", "9999"], "no object of 9999 px or more"),
    ):
        assert main(["eval", "tracking", *words, *more]) == 1
        assert message in capsys.readouterr().err
