"""Files of torch.save, of today's and the older format: read without being run, refused where they
are hostile.
"""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import types
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vos_ros.segmentation import torch_files
from vos_ros.segmentation.pickles import Opaque
from vos_ros.segmentation.torch_files import TensorReference, TorchFileError, read

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])


def save(value: object, path: Path, zipped: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def archive(path: Path, records: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as z:
        for name, data in records.items():
            z.writestr(name, data)
    return path


def stream(path: Path, data: bytes) -> Path:
    """The old format around one pickle without storages."""
    parts = (
        0x1950A86A20F9469CFC6C,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {}},
    )
    path.write_bytes(b"".join(pickle.dumps(p, 2) for p in parts) + data + pickle.dumps([], 2))
    return path


@BOTH
def test_tensors_of_every_kind_come_out_as_they_went_in(tmp_path: Path, zipped: bool) -> None:
    base = torch.randn(6, 7)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    values = {
        "view": base[1:5, ::3],
        "transposed": base.t(),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 3),
        "half": base.half(),
        "brain": base.bfloat16(),
        "double": base.double(),
        "long": torch.arange(5),
        "byte": torch.arange(9, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "parameter": net[0].weight,
        **net.state_dict(),
    }
    got = read(save({"net": values, "n": [1, None, (2.5, "x")]}, tmp_path / "f.pt", zipped))
    assert got.kind == ("zip" if zipped else "stream") and got.root["n"] == [1, None, (2.5, "x")]
    tensors = got.tensors(got.root["net"])
    assert list(tensors) == list(values)
    for name, want in values.items():
        assert (
            torch.equal(tensors[name], want)
            and tensors[name].dtype == want.dtype
            and tensors[name].is_contiguous()
        ), name


@BOTH
def test_classes_that_are_not_here_do_not_matter(
    tmp_path: Path, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("framework_of_theirs")
    for name in ("Settings", "Meter"):
        made = type(name, (), {"__module__": module.__name__})
        setattr(module, name, made)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    settings, meter = module.Settings(), module.Meter()
    settings.path, meter.history, meter.kind = "/some/where", [0.5] * 3, torch.float32
    net = torch.nn.Linear(3, 2)
    path = save(
        {
            "epoch": 7,
            "net": net.state_dict(),
            "constructor": settings,
            "stats": OrderedDict(loss=meter),
            "cls": module.Meter,
            "optimizer": torch.optim.Adam(net.parameters()).state_dict(),
            "set": {1, 2},
        },
        tmp_path / "train.pth.tar",
        zipped,
    )
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    got = read(path)
    assert got.root["epoch"] == 7 and got.root["constructor"] == Opaque(
        "framework_of_theirs.Settings"
    )
    assert {
        "framework_of_theirs.Settings",
        "framework_of_theirs.Meter",
        "collections.OrderedDict",
    } <= set(got.classes)
    assert module.__name__ not in sys.modules
    assert torch.equal(got.tensors(got.root["net"])["weight"], net.weight)


class Calls:
    """Unpickles as the call of a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def code(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


def quoted(text: str) -> bytes:
    return repr(text).encode()


ATTACKS: dict[str, Callable[[Path], bytes]] = {
    "os.system": lambda m: pickle.dumps({"net": Calls(os.system, f"touch '{m}'")}, 2),
    "os.system by name": lambda m: pickle.dumps({"net": Calls(os.system, f"touch '{m}'")}, 4),
    "builtins.eval": lambda m: pickle.dumps({"net": Calls(eval, code(m))}, 2),
    "builtins.exec": lambda m: pickle.dumps([Calls(exec, code(m))], 5),
    "builtins.open": lambda m: pickle.dumps(Calls(open, str(m), "w")),
    "subprocess": lambda m: pickle.dumps(Calls(subprocess.check_output, ["touch", str(m)])),
    "__import__": lambda m: pickle.dumps(
        Calls(eval, f"__import__('pathlib').Path({str(m)!r}).touch()"), 0
    ),
    "old instance": lambda m: f"(S{f'touch {m}'!r}\nios\nsystem\n.".encode(),
    "old object": lambda m: f"(cposix\nsystem\nS{f'touch {m}'!r}\no.".encode(),
    "by way of torch": lambda m: (
        b"\x80\x04\x8c\x13torch.serialization\x8c\x09os.system\x93(S"
        + quoted(f"touch {m}")
        + b"\ntR."
    ),
    "getattr": lambda m: (
        b"cbuiltins\ngetattr\n(cpathlib\nPath\nS'touch'\ntR(cpathlib\nPath\n(S"
        + quoted(str(m))
        + b"\ntRtR."
    ),
    "dunder": lambda m: b"\x80\x04\x8c\x07pathlib\x8c\x19Path.__init__.__globals__\x93.",
    "in the state of an object": lambda m: (
        b"ccollections\nOrderedDict\n)R(S'x'\ncos\nsystem\n(S" + quoted(f"touch {m}") + b"\ntRdb."
    ),
    "in a persistent id": lambda m: (
        b"(S'storage'\ncos\nsystem\n(S" + quoted(f"touch {m}") + b"\ntRtQ."
    ),
    "torch.load inside": lambda m: pickle.dumps(Calls(torch.load, str(m))),
    "pickle inside": lambda m: pickle.dumps(
        Calls(pickle.loads, pickle.dumps(Calls(os.system, f"touch {m}")))
    ),
    "storage from bytes": lambda m: pickle.dumps(
        Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(os.system, f"touch {m}")))
    ),
}
HARMLESS_HERE = ("dunder", "torch.load inside")  # plain pickle.loads stumbles over these too


@BOTH
@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_pickles_do_nothing_and_are_refused(
    tmp_path: Path, name: str, zipped: bool
) -> None:
    marker = tmp_path / "marker"
    data = ATTACKS[name](marker)
    path = (
        archive(tmp_path / "f.pt", {"f/data.pkl": data, "f/version": b"3\n"})
        if zipped
        else stream(tmp_path / "f.pt", data)
    )
    with pytest.raises(
        TorchFileError,
        match=r"wants to call '[^']+', which no checkpoint needs.*Nothing of it was run",
    ):
        read(path)
    assert not marker.exists()
    if (
        name not in HARMLESS_HERE
    ):  # the file is a real attack: the usual way of loading falls for it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pickle.loads(data)
            except (
                Exception
            ) as e:  # after the deed, or before it where the interpreter has closed the way
                assert marker.exists() or name == "by way of torch", e
        assert marker.exists()


@BOTH
def test_unknown_callables_are_not_called(tmp_path: Path, zipped: bool) -> None:
    """A name on no list of bad ones is harmless too: nothing is imported or called at all."""
    (tmp_path / "innocent_looking.py").write_text(
        f"open({str(tmp_path / 'imported')!r}, 'w').close()\n"
        f"def helper(*_): open({str(tmp_path / 'called')!r}, 'w').close()\n"
    )
    data = b"\x80\x02}X\x03\x00\x00\x00netcinnocent_looking\nhelper\n)Rs."
    path = (
        archive(tmp_path / "f.pt", {"f/data.pkl": data})
        if zipped
        else stream(tmp_path / "f.pt", data)
    )
    sys.path.insert(0, str(tmp_path))
    try:
        assert read(path).root == {"net": Opaque("innocent_looking.helper")}
    finally:
        sys.path.remove(str(tmp_path))
    assert not (tmp_path / "imported").exists() and not (tmp_path / "called").exists()


def tensor_pickle(
    offset: int = 0,
    size: tuple[Any, ...] = (3,),
    stride: tuple[Any, ...] = (1,),
    count: Any = 3,
    key: Any = "0",
    kind: str = "FloatStorage",
) -> bytes:
    """{"w": a tensor} whose storage and geometry are as asked for."""

    def plain(value: object) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    storage = (
        b"("
        + plain("storage")
        + f"ctorch\n{kind}\n".encode()
        + plain(key)
        + plain("cpu")
        + plain(count)
        + b"tQ"
    )
    return (
        b"\x80\x02}"
        + plain("w")
        + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + plain(offset)
        + plain(size)
        + plain(stride)
        + plain(False)
        + plain(None)
        + b"tRs."
    )


def tensor_archive(path: Path, data: bytes = struct.pack("<3f", 1, 2, 3), **geometry: Any) -> Path:
    return archive(
        path, {"f/data.pkl": tensor_pickle(**geometry), "f/data/0": data, "f/version": b"3\n"}
    )


def test_the_made_up_tensor_is_a_tensor(tmp_path: Path) -> None:
    path = tensor_archive(tmp_path / "f.pt")
    assert torch.load(path, weights_only=True)["w"].tolist() == [1, 2, 3]
    got = read(path)
    assert got.tensors(got.root)["w"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "geometry",
    [
        {"offset": 1},
        {"offset": -1},
        {"size": (4,)},
        {"size": (2,), "stride": (3,)},
        {"size": (2, 2), "stride": (2, 1)},
        {"size": (-1,)},
        {"size": (2,), "stride": (-1,)},
        {"size": (10**6,), "stride": (0,)},
        {"size": (2**62,), "stride": (2**62,)},
        {"size": (3, 1)},
        {"size": (2**200,)},
        {"size": (1.5,)},
        {"size": (True,)},
        {"size": (1,) * 40, "stride": (1,) * 40},
        {"offset": None},
        {"count": -3},
        {"key": "../0"},
        {"key": "0/../../x"},
        {"key": ""},
        {"key": 5},
        {"count": "3"},
    ],
    ids=str,
)
def test_tensors_must_lie_in_their_storage(tmp_path: Path, geometry: dict[str, Any]) -> None:
    with pytest.raises(
        TorchFileError, match=r"does not lie in its storage|not described by|has the key|no storage"
    ):
        read(tensor_archive(tmp_path / "f.pt", **geometry))


def test_storages_must_hold_what_they_say(tmp_path: Path) -> None:
    for data, geometry, text in (
        (b"\0" * 8, {}, "storage '0' has 8 bytes, its tensors want 3 x torch.float32"),
        (b"\0" * 12, {"count": 2**40, "size": (3,)}, "its tensors want 1099511627776"),
        (b"\0" * 12, {"key": "1"}, "storage '1' is not there"),
    ):
        got = read(tensor_archive(tmp_path / "f.pt", data, **geometry))
        with pytest.raises(TorchFileError, match=text):
            got.tensors(got.root)
    huge = read(tensor_archive(tmp_path / "f.pt", count=2**33, size=(2**33,)))
    with pytest.raises(TorchFileError, match=r"take 32\.0 GiB, more than the 4 allowed"):
        huge.tensors(huge.root)
    odd = read(tensor_archive(tmp_path / "f.pt", kind="QInt8Storage"))
    assert odd.root["w"] == Opaque("tensor in a storage of torch.QInt8Storage")


def test_bools_are_bools(tmp_path: Path) -> None:
    got = read(tensor_archive(tmp_path / "f.pt", bytes([0, 1, 77]), kind="BoolStorage"))
    assert got.tensors(got.root)["w"].tolist() == [False, True, True]


def test_damaged_numbers_are_noticed(tmp_path: Path) -> None:
    path = save({"w": torch.full((1000,), 1.25)}, tmp_path / "f.pt")
    data = bytearray(path.read_bytes())
    data[data.index(struct.pack("<4f", *[1.25] * 4)) + 9] ^= 1
    path.write_bytes(data)
    got = read(path)
    with pytest.raises(TorchFileError, match="has not the numbers that were written"):
        got.tensors(got.root)


def test_archives_that_torch_would_not_write(tmp_path: Path) -> None:
    good = {"f/data.pkl": tensor_pickle(), "f/data/0": b"\0" * 12}
    bomb = archive(tmp_path / "bomb.pt", {"f/data.pkl": b"\0" * 50_000_000}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    cases = {
        "compressed": bomb,
        "lies outside of it": archive(tmp_path / "a.pt", {**good, "../../evil.py": b"x"}),
        "lies outside": archive(tmp_path / "b.pt", {**good, "/etc/evil": b"x"}),
        "which lies": archive(tmp_path / "c.pt", {**good, "f\\..\\..\\evil": b"x"}),
        "TorchScript": archive(tmp_path / "d.pt", {**good, "f/constants.pkl": b"x"}),
        "big-endian": archive(tmp_path / "e.pt", {**good, "f/byteorder": b"big"}),
        "without data.pkl": archive(tmp_path / "g.pt", {"f/other": b"x"}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(tmp_path / "h.pt", "w") as z:
            z.writestr("f/data.pkl", tensor_pickle())
            z.writestr("f/data.pkl", pickle.dumps({}))
    cases["two records of one name"] = tmp_path / "h.pt"
    for text, path in cases.items():
        with pytest.raises(TorchFileError, match=text):
            read(path)
    assert not list(tmp_path.rglob("evil*")) and not (tmp_path.parent / "evil.py").exists()


def test_pickles_that_unfold_to_be_huge(tmp_path: Path) -> None:
    laughs = (
        b"\x80\x02]"
        + b"q\x00"
        + b"".join(b"]q" + bytes([i]) + (b"h" + bytes([i - 1]) + b"a") * 10 for i in range(1, 60))
        + b"."
    )
    with pytest.raises(TorchFileError, match="values are left at its end"):
        read(archive(tmp_path / "g.pt", {"f/data.pkl": laughs}))
    doubled = (
        b"]" + b"2\x86" * 100_000 + b"."
    )  # pairs of pairs of pairs: 2^100000 leaves if somebody printed it
    assert isinstance(read(stream(tmp_path / "h.pt", doubled)).root, tuple)
    claims = b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x."  # a string of 4 EiB
    for path in (
        stream(tmp_path / "i.pt", claims),
        archive(tmp_path / "j.pt", {"f/data.pkl": claims}),
    ):
        with pytest.raises(TorchFileError, match="damaged"):
            read(path)


def test_a_storage_is_read_once_for_all_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order of the tensors: a file of thousands of small views would take hours."""
    a, b = torch.arange(40.0), torch.arange(40.0) + 100
    views = {f"{name}{i}": t[i : i + 2] for i in range(30) for name, t in (("a", a), ("b", b))}
    got = read(save(views, tmp_path / "f.pt"))
    sums: list[int] = []
    real = zlib.crc32
    monkeypatch.setattr(torch_files.zlib, "crc32", lambda data: (sums.append(1), real(data))[1])
    tensors = got.tensors(got.root)
    assert len(sums) == 2 and list(tensors) == list(views)
    assert all(torch.equal(tensors[k], v) for k, v in views.items())


def test_any_byte_may_be_wrong(tmp_path: Path) -> None:
    """Whole files with a few bytes changed are read or refused, but never crash."""
    rng = random.Random(5)
    path, refused = tmp_path / "f.pt", 0
    for zipped in (True, False):
        value = {
            "net": {"a.weight": torch.randn(3, 2), "b": torch.arange(4)},
            "epoch": 3,
            "o": [{"x": 1.5}],
        }
        whole = save(value, path, zipped).read_bytes()
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            path.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
            try:
                got = read(path)
                net = got.root.get("net", {}) if isinstance(got.root, dict) else {}
                got.tensors({k: v for k, v in dict(net).items() if isinstance(v, TensorReference)})
            except TorchFileError as e:
                assert str(e).startswith(str(path))
                refused += 1
    assert refused > 200


def test_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for data, text in (
        (b"", "does not begin like"),
        (b"hello", "does not begin like"),
        (b"PK\x03\x04rest", "not a zip file"),
        (pickle.dumps({"a": 1}), "torch.save did not write it"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, r"tar format of torch 0\.1"),
        (
            b"".join(
                pickle.dumps(p, 2) for p in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": False})
            ),
            "big-endian",
        ),
    ):
        path.write_bytes(data)
        with pytest.raises(TorchFileError, match=text):
            read(path)
    with pytest.raises(TorchFileError, match="no such file"):
        read(tmp_path / "none")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(TorchFileError, match=r"TorchScript|two records|compressed"):
        read(path)
