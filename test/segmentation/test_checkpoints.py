"""Checkpoints that others made, converted number by number; weights loaded with their checks."""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.golden import key_shapes

from vos_ros.segmentation.checkpoints import (
    CheckpointError,
    card_path,
    count_parameters,
    import_checkpoint,
    load,
    load_weights,
    network_of,
    sha256_of,
)
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet, LwlSpec
from vos_ros.segmentation.torch_files import TorchFileError

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])


def save(value: object, path: Path, zipped: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@BOTH
def test_import_writes_weights_and_card(tmp_path: Path, zipped: bool) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    source = save({"epoch": 9, "net": net.state_dict()}, tmp_path / "train.pth", zipped)
    target = tmp_path / "deep/out.safetensors"
    card = import_checkpoint(source, target)
    written = load_file(target)
    assert all(torch.equal(written[k], v) for k, v in net.state_dict().items()) and len(
        written
    ) == len(net.state_dict())
    assert json.loads(card_path(target).read_text()) == json.loads(
        json.dumps({f: getattr(card, f) for f in card.__dataclass_fields__})
    )
    assert (card.source, card.source_sha256, card.sha256) == (
        "train.pth",
        sha256_of(source),
        sha256_of(target),
    )
    assert (card.entry, card.network, card.tensors, card.parameters) == (
        "net",
        "",
        7,
        3 * 4 * 9 + 4 + 4 + 4,
    )
    assert (
        card.keys["0.weight"] == "float32 4x3x3x3"
        and card.keys["1.num_batches_tracked"] == "int64 scalar"
    )
    weights = load(target)
    assert (
        weights.header == {"source": "train.pth", "source_sha256": card.source_sha256}
        and weights.sha256 == card.sha256
    )
    assert sorted(p.name for p in target.parent.iterdir()) == ["out.card.json", "out.safetensors"]


def test_import_finds_the_entry_or_says_what_there_is(tmp_path: Path) -> None:
    weights = {"w": torch.ones(2)}
    target = tmp_path / "o.safetensors"
    assert import_checkpoint(save(weights, tmp_path / "a.pt"), target).entry == ""
    assert (
        import_checkpoint(save({"state_dict": weights, "x": 1}, tmp_path / "b.pt"), target).entry
        == "state_dict"
    )
    nested = save({"ema": weights, "step": 3, "net": 5}, tmp_path / "c.pt")
    assert import_checkpoint(nested, target, "ema").entry == "ema"
    for entry, text in (
        ("", "of its 3 entries ema, step, net are no tensors; name the entry"),
        ("step", "entry 'step' holds a int"),
        ("emma", "no entry 'emma'; it has ema, step, net"),
    ):
        with pytest.raises(CheckpointError, match=text):
            import_checkpoint(nested, target, entry)
    with pytest.raises(CheckpointError, match="the file holds nothing"):
        import_checkpoint(save({}, tmp_path / "d.pt"), target)
    with pytest.raises(CheckpointError, match="the file holds a list"):
        import_checkpoint(save([1], tmp_path / "e.pt"), target)
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors"):
        import_checkpoint(nested, tmp_path / "o.pt")
    ugly = save({"\x1b[2J\x07": 1}, tmp_path / "f.pt")
    with pytest.raises(CheckpointError) as e:
        import_checkpoint(ugly, target)
    assert "\x1b" not in str(e.value), "a terminal is not to be told what to do"


def test_shared_and_tied_tensors_are_written_apart(tmp_path: Path) -> None:
    base = torch.arange(12.0)
    import_checkpoint(
        save({"a": base, "b": base[3:7], "c": base.reshape(3, 4).t()}, tmp_path / "a.pt"),
        tmp_path / "o.safetensors",
    )
    got = load(tmp_path / "o.safetensors").tensors
    assert torch.equal(got["b"], base[3:7]) and torch.equal(got["c"], base.reshape(3, 4).t())


class _Theirs:
    """Stand-in for a class of the published program; pickled under its module and name."""


@BOTH
def test_a_checkpoint_of_the_published_layout_becomes_the_network(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training state with objects of classes that are not installed here; ``net`` is wanted."""
    objects = {}
    for path in ("admin.settings.Settings", "admin.stats.AverageMeter", "admin.model.Constructor"):
        module, name = f"ltr.{path}".rsplit(".", 1)
        for part in ("ltr", "ltr.admin", module):
            monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
        made = type(name, (_Theirs,), {"__module__": module})
        setattr(sys.modules[module], name, made)
        objects[name] = made()
        objects[name].history = [0.5] * 3
    torch.manual_seed(0)
    net = LwlNet(SPECS["mobilenet_v2"])
    state = {
        "epoch": 70,
        "actor_type": "LWLActor",
        "net": net.state_dict(),
        "net_info": None,
        "constructor": objects["Constructor"],
        "optimizer": torch.optim.Adam(net.parameters()).state_dict(),
        "stats": OrderedDict(train=OrderedDict(loss=objects["AverageMeter"])),
        "settings": objects["Settings"],
    }
    source = save(state, tmp_path / "lwl.pth", zipped)
    for module in [m for m in sys.modules if m.split(".")[0] == "ltr"]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(source, weights_only=True)
    card = import_checkpoint(source, tmp_path / "lwl.safetensors")
    assert (card.entry, card.network) == ("net", "mobilenet_v2")
    again = LwlNet(LwlSpec.from_json(load(tmp_path / "lwl.safetensors").header["spec"]))
    load_weights(again, tmp_path / "lwl.safetensors")
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in again.state_dict().items())
    direct = LwlNet(SPECS["mobilenet_v2"])
    load_weights(direct, source)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in direct.state_dict().items())
    assert not [m for m in sys.modules if m.split(".")[0] == "ltr"]


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def test_nothing_is_written_of_a_hostile_file(tmp_path: Path) -> None:
    path, marker = tmp_path / "f.pt", tmp_path / "marker"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("f/data.pkl", pickle.dumps({"net": Attack(marker)}))
    with pytest.raises(
        TorchFileError, match=r"wants to call '\w+\.system', which no checkpoint needs"
    ):
        import_checkpoint(path, tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["f.pt"]


def test_load_checks_sums(tmp_path: Path) -> None:
    path = tmp_path / "o.safetensors"
    card = import_checkpoint(save({"w": torch.ones(2)}, tmp_path / "a.pt"), path)
    assert torch.equal(load(path, card.sha256.upper()).tensors["w"], torch.ones(2))
    with pytest.raises(CheckpointError, match="what was asked for says 00ff"):
        load(path, "00ff")
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"its card o\.card\.json says"):
        load(path)
    card_path(path).unlink()
    assert not load(path).tensors["w"].any() and load(path).header == {}
    path.write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="vos-ros weights import converts"):
        load(path)
    with pytest.raises(CheckpointError, match="no such file"):
        load(tmp_path / "none.safetensors")


def test_known_networks_are_recognised(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = LwlNet(SPECS["mobilenet_v2"])
    state = {
        k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")
    }  # some old files lack them
    card = import_checkpoint(save({"net": state}, tmp_path / "a.pt"), tmp_path / "o.safetensors")
    assert card.network == "mobilenet_v2"
    weights = load(tmp_path / "o.safetensors")
    again = LwlNet(LwlSpec.from_json(weights.header["spec"]))
    again.load_state_dict(dict(weights.tensors))
    assert weights.header["format"] == "vos_ros.lwl"
    assert (
        network_of({k: tuple(v.shape) for k, v in state.items() if "label_encoder" not in k}) == ""
    )


def golden_shapes() -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """The published network's tensors, and those of the one with a box encoder."""
    every = {k: shape for k, (shape, _) in key_shapes("lwl/state_dict_keys.txt").items()}
    plain = {k: v for k, v in every.items() if not k.startswith("box_")}
    box = {k: shape for k, (shape, _) in key_shapes("lwl/box_state_dict_keys.txt").items()}
    return plain, plain | box


@pytest.mark.golden
def test_golden_key_lists_are_recognised() -> None:
    plain, with_boxes = golden_shapes()
    assert len(plain) == 480 and network_of(plain) == "resnet50"
    assert len(with_boxes) == 490 and network_of(with_boxes) == "resnet50_box"
    changed = {**plain, "decoder.project.conv2.bias": (2,)}
    assert (
        network_of(changed) == ""
        and network_of({k: v for k, v in plain.items() if k != "decoder.project.conv2.bias"}) == ""
    )
    with torch.device("meta"):
        tensors = {
            k: torch.empty(s, dtype=torch.int64 if k.endswith("tracked") else torch.float32)
            for k, s in plain.items()
        }
    assert count_parameters(tensors) == 36_658_722


@pytest.mark.slow
@pytest.mark.golden
@BOTH
def test_golden_checkpoint_becomes_the_network(tmp_path: Path, zipped: bool) -> None:
    shapes, _ = golden_shapes()
    generator = torch.Generator().manual_seed(1)
    state = OrderedDict(
        (k, torch.tensor(0) if k.endswith("tracked") else torch.randn(s, generator=generator))
        for k, s in shapes.items()
    )
    source = save({"epoch": 70, "net": state, "stats": None}, tmp_path / "lwl.pth", zipped)
    card = import_checkpoint(source, tmp_path / "lwl.safetensors")
    assert card.network == "resnet50" and card.tensors == 480 and card.parameters == 36_658_722
    weights = load(tmp_path / "lwl.safetensors")
    net = LwlNet(LwlSpec.from_json(weights.header["spec"]))
    net.load_state_dict(dict(weights.tensors))
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
