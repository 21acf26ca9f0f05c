"""``vos-ros eval davis`` and ``vos-ros eval ytvos`` as people start them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vos_ros.cli.main import main
from vos_ros.config import load
from vos_ros.datasets.masks import read_mask


def test_davis_from_masks_to_figures(
    davis_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, figures_file = tmp_path / "out", tmp_path / "deep/figures.json"
    words = [
        "eval",
        "davis",
        "--root",
        str(davis_root),
        "--out",
        str(out),
        "--json",
        str(figures_file),
    ]
    assert (
        main(
            [
                *words,
                "--method",
                "lwl",
                "--set",
                "segmentation.device=cpu",
                "--set",
                "segmentation.features.long_side=128",
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()[:4]] == [
        "sequence",
        "pair",
        "solo",
        "all",
    ]
    figures = json.loads(figures_file.read_text())
    assert (
        figures["sequences"] == 2
        and figures["objects"] == 3
        and figures["frames"] == 12
        and figures["fps"] > 0
    )
    assert figures["j_mean"] > 0.5 and figures["jf_mean"] == pytest.approx(
        (figures["j_mean"] + figures["f_mean"]) / 2
    )
    assert {
        "j_recall",
        "j_decay",
        "j_decay_unwrapped",
        "f_decay",
        "j_mean_pair",
        "f_mean_solo",
        "jf_mean_pair",
        "fps_solo",
    } <= set(figures)
    assert load(out / "config.yaml").segmentation.methods["features"].long_side == 128
    assert len((out / "objects.csv").read_text().splitlines()) == 4
    assert all(
        (out / f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")
        for name in ("pair", "solo")
    )
    assert np.array_equal(
        read_mask(out / "predictions/pair/00000.png"),
        read_mask(davis_root / "Annotations/480p/pair/00000.png"),
    )

    again = tmp_path / "again.json"  # the masks alone, scored a second time
    assert main([*words[:-1], str(again), "--predictions", str(out / "predictions")]) == 0
    assert json.loads(again.read_text()) == figures


def test_2016_and_chosen_sequences(
    davis_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures_file = tmp_path / "figures.json"
    assert (
        main(
            [
                "eval",
                "davis",
                "--root",
                str(davis_root),
                "--year",
                "2016",
                "--sequences",
                "pair",
                "--predictions",
                str(davis_root / "Annotations/480p"),
                "--out",
                str(tmp_path),
                "--json",
                str(figures_file),
            ]
        )
        == 0
    )
    figures = json.loads(figures_file.read_text())
    assert (
        figures["objects"] == 1
        and figures["jf_mean"] == 1.0
        and figures["fps"] is None
        and "jf_mean_solo" not in figures
    )


def test_youtube_vos(davis_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "valid"
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(davis_root / kind / "480p", root / kind)
    frames = [f"{t:05d}" for t in range(8)]
    videos = {
        "pair": {
            "objects": {
                "1": {"category": "dog", "frames": frames},
                "2": {"category": "yak", "frames": frames[3:]},
            }
        }
    }
    (root / "meta.json").write_text(json.dumps({"videos": videos}))
    (tmp_path / "train.json").write_text(
        json.dumps({"videos": {"x": {"objects": {"1": {"category": "dog"}}}}})
    )
    words = [
        "eval",
        "ytvos",
        "--root",
        str(root),
        "--out",
        str(tmp_path / "out"),
        "--json",
        str(tmp_path / "f.json"),
        "--set",
        "segmentation.device=cpu",
        "--set",
        "segmentation.features.long_side=128",
    ]
    assert main([*words, "--seen", str(tmp_path / "train.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    parts = [figures[k] for k in ("j_seen", "f_seen", "j_unseen", "f_unseen")]
    assert figures["g"] == pytest.approx(sum(parts) / 4) and min(parts) > 0.3
    masks = [
        np.unique(read_mask(tmp_path / f"out/predictions/pair/{t:05d}.png")).tolist()
        for t in (0, 2, 3)
    ]
    assert masks == [[0, 1], [0, 1], [0, 1, 2]], "object 2 starts at frame 3"
    assert main([*words, "--predictions", str(tmp_path / "out/predictions")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["j_unseen"] is None, (
        "without a list, all categories are seen"
    )


def test_what_goes_wrong_is_said(
    davis_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "davis", "--root", str(davis_root), "--out", str(tmp_path / "out")]
    for more, text in (
        (["--sequences", "solos"], "did you mean solo?"),
        (["--method", "fly"], "unknown segmentation method 'fly'"),
        (["--predictions", str(tmp_path / "none")], "6 of 6 predictions are missing"),
        (["--set", "segmentation.lwl.decay=7"], "wanted 0.01..1"),
        (["--subset", "mine"], "no list of subset 'mine'"),
    ):
        assert main([*words, *more]) == 1
        err = capsys.readouterr().err
        assert text in err and "Traceback" not in err
    assert main(["eval", "ytvos", "--root", str(davis_root)]) == 1
    assert "no meta.json" in capsys.readouterr().err
