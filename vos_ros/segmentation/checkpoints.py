"""Weights: foreign checkpoints into safetensors with a card, and safetensors with their checks back.

Published checkpoints of LWL (paper 003) are pickles of a whole training state, of which only ``net`` matters; nothing of them is run (see
``pickles``). The header of what is written says which network it is for, under the keys that ``vos-ros train`` writes too: ``format`` and
``spec``.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vos_ros.segmentation.networks.lwl import SPECS, LwlNet
from vos_ros.segmentation.pickles import Opaque
from vos_ros.segmentation.torch_files import TensorReference, TorchFile, read

LWL_FORMAT = "vos_ros.lwl"
_ENTRIES = ("net", "state_dict", "model")
_NAMED = 12
Shapes = Mapping[str, tuple[int, ...]]


class CheckpointError(ValueError):
    """Weights that cannot be used as they are; the text says why and what would do."""


@dataclass(frozen=True, slots=True)
class Card:
    """What stands beside imported weights, as JSON. ``sha256`` is of the safetensors file, ``source_sha256`` of what it was made from.
    ``network`` is one of ``networks.lwl.SPECS``, "" where the tensors fit none. ``parameters`` are the floating-point numbers, without the
    statistics of batch norms."""

    file: str
    sha256: str
    source: str
    source_sha256: str
    entry: str
    network: str
    tensors: int
    parameters: int
    bytes: int
    imported: str
    licence: str
    keys: Mapping[str, str]

    def write(self, path: Path) -> None:
        """Writes it, whole."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)


@dataclass(frozen=True, eq=False, slots=True)
class Weights:
    """The tensors of a safetensors file, its header, and its checksum."""

    tensors: Mapping[str, torch.Tensor]
    header: Mapping[str, str]
    sha256: str


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def card_path(weights: Path | str) -> Path:
    """Where the card of a weights file is: beside it, as NAME.card.json."""
    return Path(weights).with_suffix(".card.json")


def load(path: Path | str, sha256: str = "") -> Weights:
    """A safetensors file on the CPU, checked against ``sha256`` where one is given, and against its card where it has one.

    CheckpointError: no such file, another checksum, no safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file; wanted .safetensors, from vos-ros weights import or vos-ros train"
        )
    got = sha256_of(path)
    for wanted, origin in (
        (sha256, "what was asked for"),
        (_card_checksum(path), f"its card {card_path(path).name}"),
    ):
        if wanted and got != wanted.lower():
            raise CheckpointError(
                f"{path}: its sha256 is {got}, {origin} says {wanted}: the file is damaged or another one"
            )
    try:
        with safe_open(path, "pt") as f:
            return Weights({k: f.get_tensor(k) for k in f.keys()}, f.metadata() or {}, got)  # noqa: SIM118 it is no dict
    except SafetensorError as e:
        raise CheckpointError(
            f"{path}: no safetensors file, or a damaged one ({e}); vos-ros weights import converts what torch.save wrote"
        ) from e


def _card_checksum(path: Path) -> str:
    """Checksum that the card of a weights file names, "" where there is no card of it."""
    try:
        card = json.loads(card_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return (
        str(card.get("sha256", ""))
        if isinstance(card, dict) and card.get("file") == path.name
        else ""
    )


def import_checkpoint(source: Path | str, target: Path | str, entry: str = "") -> Card:
    """Converts what ``torch.save`` wrote into safetensors, tensors as they are, with a card beside it; older ones are replaced.

    ``entry``: key of the state dict in the file; without it ``net``, ``state_dict``, ``model`` or the whole file. Nothing of the file is
    run. TorchFileError: the file is damaged or hostile. CheckpointError: no state dict in it.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise CheckpointError(f"{target}: wanted a name that ends in .safetensors")
    source_sha256 = sha256_of(source) if source.is_file() else ""
    file = read(source)
    found, references = state_dict(file, entry)
    tensors = file.tensors(references)
    network = network_of({k: r.size for k, r in references.items()})
    header = {"source": source.name, "source_sha256": source_sha256}
    if network:
        header |= {"format": LWL_FORMAT, "spec": SPECS[network].to_json()}
        tensors |= {
            k: torch.zeros(shape, dtype=torch.int64)
            for k, shape in _shapes(network).items()
            if k not in tensors
        }
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    save_file(tensors, part, metadata=header)
    part.chmod(0o644)  # it comes for its owner alone
    os.replace(part, target)
    keys = {
        k: f"{str(t.dtype).removeprefix('torch.')} {'x'.join(map(str, t.shape)) or 'scalar'}"
        for k, t in tensors.items()
    }
    card = Card(
        file=target.name,
        sha256=sha256_of(target),
        source=source.name,
        source_sha256=source_sha256,
        entry=found,
        network=network,
        tensors=len(tensors),
        parameters=parameters(references),
        bytes=target.stat().st_size,
        imported=datetime.date.today().isoformat(),
        licence="that of the source: the file names none",
        keys=keys,
    )
    card.write(card_path(target))
    return card


def state_dict(file: TorchFile, entry: str = "") -> tuple[str, dict[str, TensorReference]]:
    """Where in a file the state dict is, and its tensors. CheckpointError: there is none, with what is there instead."""
    found: Any = file.root
    if isinstance(found, dict):
        if entry and entry not in found:
            raise CheckpointError(f"{file.path}: no entry {entry!r}; it has {_some(found)}")
        entry = entry or next((e for e in _ENTRIES if isinstance(found.get(e), dict)), "")
        found = found[entry] if entry else found
    place = f"{file.path}: entry {entry!r}" if entry else f"{file.path}: the file"
    if not isinstance(found, dict) or not found:
        holds = "nothing" if isinstance(found, dict) else _kind(found)
        raise CheckpointError(f"{place} holds {holds}; wanted tensors by name (a state dict)")
    odd = [
        k for k, v in found.items() if not isinstance(k, str) or not isinstance(v, TensorReference)
    ]
    if odd:
        raise CheckpointError(
            f"{place} is no state dict: of its {len(found)} entries {_some(odd)} are no tensors"
            + ("" if entry else "; name the entry that is one")
        )
    return entry, found


def _kind(value: Any) -> str:
    return (
        f"an object of {value.what}" if isinstance(value, Opaque) else f"a {type(value).__name__}"
    )


def network_of(shapes: Shapes) -> str:
    """Name of the LWL network that has exactly these tensors (counters of batch norms aside), "" where none has."""
    for name in SPECS:
        wanted = _shapes(name)
        if all(
            shapes.get(k) == v or (k not in shapes and k.endswith("num_batches_tracked"))
            for k, v in wanted.items()
        ) and all(k in wanted for k in shapes):
            return name
    return ""


@functools.cache
def _shapes(network: str) -> Shapes:
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in LwlNet(SPECS[network]).state_dict().items()}


def parameters(tensors: Mapping[str, TensorReference | torch.Tensor]) -> int:
    """Floating-point numbers that are learned: all but the statistics of batch norms."""
    total = 0
    for name, t in tensors.items():
        dtype, size = (
            (t.storage.dtype, t.size)
            if isinstance(t, TensorReference)
            else (t.dtype, tuple(t.shape))
        )
        if dtype.is_floating_point and not name.endswith(("running_mean", "running_var")):
            total += math.prod(size)
    return total


def describe(path: Path | str) -> dict[str, Any]:
    """What is in a weights file, of either kind, as flat figures; nothing of it is run. CheckpointError, TorchFileError as above."""
    path = Path(path)
    if path.suffix == ".safetensors":
        weights = load(path)
        tensors: Mapping[str, Any] = weights.tensors
        shapes = {k: tuple(v.shape) for k, v in weights.tensors.items()}
        more = {
            "sha256": weights.sha256,
            "card": "agrees" if _card_checksum(path) else "none",
            **weights.header,
        }
    else:
        file = read(path)
        entry, references = state_dict(file)
        tensors, shapes = references, {k: r.size for k, r in references.items()}
        more = {
            "sha256": sha256_of(path),
            "kind": file.kind,
            "entry": entry or "the whole file",
            "classes": _some(file.classes),
        }
        if entry:
            more["other_entries"] = _some([k for k in file.root if k != entry])
    return {
        "file": path.name,
        "tensors": len(tensors),
        "parameters": parameters(tensors),
        "network": network_of(shapes) or "not known",
        **more,
    }


def _some(names: Iterable[object]) -> str:
    """Some of the names, safe to print whatever the file has put into them."""
    texts = [str(n) if str(n).isprintable() else repr(n) for n in names]
    return ", ".join(t[:80] for t in texts[:_NAMED]) + (
        f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    )
