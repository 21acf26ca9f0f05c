"""``vos-ros eval points`` on two images."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.moving_squares import draw, write_pair

from vos_ros.cli.main import main
from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec


def weights(path: Path, **header: str) -> str:
    torch.manual_seed(0)
    net = OnePointNet(OnePointSpec(dims=4, width=8))
    save_file(
        net.state_dict(),
        path,
        {"format": "vos_ros.one_point", "spec": net.spec.to_json(), **header},
    )
    return str(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for t in range(2):
        write_pair(tmp_path / f"i/images/{t}.jpg", tmp_path / f"i/masks/{t}.png", *draw(t, 2))
    return tmp_path / "i"


def test_figures_table_and_plot(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [weights(tmp_path / f"m{m}.safetensors", margin=m) for m in ("0.5", "0.7")]
    outputs = [f"--{k}={tmp_path / 'out' / k}.{e}" for k, e in (("json", "json"), ("csv", "csv"))]
    words = ["--root", str(images), "--data-set", "folder", "--long-side", "65", *outputs]
    plot = tmp_path / "out/plot.png"
    assert main(["eval", "points", *files, *words, "--plot", str(plot)]) == 0, (
        capsys.readouterr().err
    )
    assert plot.stat().st_size > 1000
    figures = json.loads((tmp_path / "out/json.json").read_text())
    assert figures["m0.5.instances_all"] == 4 and figures["m0.7.gamma"] == pytest.approx(0.5)
    rows = list(csv.DictReader((tmp_path / "out/csv.csv").open()))
    assert len(rows) == 8
    mean = np.mean([float(r["iou"]) for r in rows if r["weights"] == "m0.5"])
    assert figures["m0.5.miou_all"] == pytest.approx(mean, abs=1e-4)
    assert main(["eval", "points", files[0], *words[:-2], "--part", "1/2", "--share", "0.1"]) == 0
    out = capsys.readouterr().out.split()
    assert out[out.index("images") + 1] == "1" and "instances_from_10_percent" in out


def test_what_cannot_be_scored(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = weights(tmp_path / "bare.safetensors")
    words = ["--root", str(images), "--data-set"]
    for more, message in (
        ([bare, *words, "imagenet"], "kind: got 'imagenet', wanted one of"),
        ([bare, *words, "folder", "--only", "nothing"], "no annotated sequence"),
        ([bare, *words, "folder", "--long-side", "3"], "--long-side: got 3, wanted 64"),
        ([bare, *words, "folder", "--plot", str(tmp_path / "x.png")], "states no margin"),
        (["lwl-mnv2", *words, "folder"], "weights: .*names no network of this method"),
    ):
        assert main(["eval", "points", *more]) == 1
        err = capsys.readouterr().err
        assert re.search(message, err) and "Traceback" not in err
