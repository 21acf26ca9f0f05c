"""``vos-ros weights`` as people start it."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vos_ros.cli.main import main
from vos_ros.datasets.images import read_color
from vos_ros.segmentation.networks.embedding import EmbeddingSpec
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet
from vos_ros.segmentation.networks.meta import MetaNet, MetaSpec
from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec
from vos_ros.sinks.images import write_png


def test_import_then_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = LwlNet(SPECS["mobilenet_v2"])
    source = tmp_path / "theirs.pth"
    torch.save(
        {"epoch": 70, "net": net.state_dict(), "optimizer": {"state": {}}},
        source,
        _use_new_zipfile_serialization=False,
    )
    assert main(["weights", "show", str(source), "--json", str(tmp_path / "before.json")]) == 0
    before = json.loads((tmp_path / "before.json").read_text())
    assert (before["kind"], before["entry"], before["other_entries"]) == (
        "stream",
        "net",
        "epoch, optimizer",
    )
    assert main(["weights", "import", str(source), "--json", str(tmp_path / "import.json")]) == 0
    out = tmp_path / "theirs.safetensors"
    assert f"written: {out}, {tmp_path / 'theirs.card.json'}" in capsys.readouterr().out
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in load_file(out).items())
    imported = json.loads((tmp_path / "import.json").read_text())
    assert (
        imported["network"] == before["network"] == "mobilenet_v2"
        and imported["parameters"] == before["parameters"]
    )
    assert main(["weights", "show", str(out), "--json", str(tmp_path / "after.json")]) == 0
    after = json.loads((tmp_path / "after.json").read_text())
    assert (
        after["card"] == "agrees"
        and after["sha256"] == imported["sha256"]
        and after["source_sha256"] == before["sha256"]
    )
    assert (
        main(
            [
                "weights",
                "import",
                str(source),
                str(tmp_path / "deep/mine.safetensors"),
                "--entry",
                "net",
            ]
        )
        == 0
    )
    assert (tmp_path / "deep/mine.card.json").is_file()


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def test_what_goes_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile, marker = tmp_path / "hostile.pth", tmp_path / "marker"
    with zipfile.ZipFile(hostile, "w") as z:
        z.writestr("f/data.pkl", pickle.dumps({"net": Attack(marker)}))
    torch.save({"step": 1}, tmp_path / "empty.pt")
    (tmp_path / "text.safetensors").write_text("hello")
    for words, text in (
        (["import", str(hostile)], "which no checkpoint needs"),
        (["show", str(hostile)], "which no checkpoint needs"),
        (["import", str(tmp_path / "none.pth")], "no such file"),
        (["show", str(tmp_path / "none.safetensors")], "no such file"),
        (["import", str(tmp_path / "empty.pt")], "step are no tensors; name the entry that is one"),
        (["show", str(tmp_path / "text.safetensors")], "no safetensors file"),
        (
            ["import", str(tmp_path / "empty.pt"), str(tmp_path / "o.pt")],
            "wanted a name that ends in .safetensors",
        ),
    ):
        assert main(["weights", *words]) == 1
        err = capsys.readouterr().err
        assert err.startswith("vos-ros weights: ") and text in err and "Traceback" not in err
    assert not marker.exists() and not list(tmp_path.glob("*.card.json"))


def test_pictures_of_embeddings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    spec = EmbeddingSpec(dims=4, width=8)
    meta = MetaNet(MetaSpec(embedding=spec))
    save_file(
        meta.embedding.state_dict(),
        tmp_path / "e.safetensors",
        {"format": "vos_ros.embedding", "spec": spec.to_json()},
    )
    save_file(
        meta.state_dict(),
        tmp_path / "m.safetensors",
        {"format": "vos_ros.meta", "spec": meta.spec.to_json()},
    )
    save_file(meta.state_dict(), tmp_path / "x.safetensors", {"format": "vos_ros.lwl"})
    one_point = OnePointNet(OnePointSpec(dims=5, width=8))
    save_file(
        one_point.state_dict(),
        tmp_path / "o.safetensors",
        {"format": "vos_ros.one_point", "spec": one_point.spec.to_json()},
    )
    folder, out = tmp_path / "images", tmp_path / "deep/out.png"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(9):
        write_png(folder / f"{i}.png", rng.integers(0, 256, (48, 64, 3), np.uint8))
    words = [str(out), str(folder), "--most", "3", "--long-side", "96"]
    pictures = []
    for file in ("e", "m"):
        assert main(["weights", "picture", str(tmp_path / f"{file}.safetensors"), *words]) == 0, (
            capsys.readouterr().err
        )
        assert "3 images, 4 dimensions, cells of 17x25" in capsys.readouterr().out
        pictures.append(read_color(out))
    assert np.array_equal(*pictures) and pictures[0].shape == (2 * 244 - 4, 3 * 324 - 4, 3)
    assert main(["weights", "picture", str(tmp_path / "o.safetensors"), *words]) == 0
    assert "3 images, 5 dimensions, cells of 9x13" in capsys.readouterr().out
    write_png(folder / "odd.png", np.zeros((32, 32, 3), np.uint8))
    for file, images, message in (
        ("x", folder / "0.png", "names no network with an embedding"),
        ("e", tmp_path / "none.png", "missing"),
        ("none", folder / "0.png", "no such file"),
        ("e", folder, "2 different sizes"),
        ("e", tmp_path / "deep/..", "no images in"),
    ):
        assert (
            main(
                [
                    "weights",
                    "picture",
                    str(tmp_path / f"{file}.safetensors"),
                    str(out),
                    str(images),
                    "--most",
                    "99",
                ]
            )
            == 1
        )
        assert message in capsys.readouterr().err
