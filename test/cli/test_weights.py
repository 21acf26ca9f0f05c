"""``vos-ros weights`` as people start it."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vos_ros.cli.main import main
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet


def test_import_then_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = LwlNet(SPECS["mobilenet_v2"])
    source = tmp_path / "theirs.pth"
    torch.save({"epoch": 70, "net": net.state_dict(), "optimizer": {"state": {}}}, source, _use_new_zipfile_serialization=False)
    assert main(["weights", "show", str(source), "--json", str(tmp_path / "before.json")]) == 0
    before = json.loads((tmp_path / "before.json").read_text())
    assert (before["kind"], before["entry"], before["other_entries"]) == ("stream", "net", "epoch, optimizer")
    assert main(["weights", "import", str(source), "--json", str(tmp_path / "import.json")]) == 0
    out = tmp_path / "theirs.safetensors"
    assert f"written: {out}, {tmp_path / 'theirs.card.json'}" in capsys.readouterr().out
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in load_file(out).items())
    imported = json.loads((tmp_path / "import.json").read_text())
    assert imported["network"] == before["network"] == "mobilenet_v2" and imported["parameters"] == before["parameters"]
    assert main(["weights", "show", str(out), "--json", str(tmp_path / "after.json")]) == 0
    after = json.loads((tmp_path / "after.json").read_text())
    assert after["card"] == "agrees" and after["sha256"] == imported["sha256"] and after["source_sha256"] == before["sha256"]
    assert main(["weights", "import", str(source), str(tmp_path / "deep/mine.safetensors"), "--entry", "net"]) == 0
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
    for words, text in ((["import", str(hostile)], "which no checkpoint needs"), (["show", str(hostile)], "which no checkpoint needs"),
                        (["import", str(tmp_path / "none.pth")], "no such file"),
                        (["show", str(tmp_path / "none.safetensors")], "no such file"),
                        (["import", str(tmp_path / "empty.pt")], "step are no tensors; name the entry that is one"),
                        (["show", str(tmp_path / "text.safetensors")], "no safetensors file"),
                        (["import", str(tmp_path / "empty.pt"), str(tmp_path / "o.pt")], "wanted a name that ends in .safetensors")):
        assert main(["weights", *words]) == 1
        err = capsys.readouterr().err
        assert err.startswith("vos-ros weights: ") and text in err and "Traceback" not in err
    assert not marker.exists() and not list(tmp_path.glob("*.card.json"))
