"""Weights files: safetensors with their checks, and foreign checkpoints converted to safetensors.

Published checkpoints of LWL (paper 003) are pickles of a whole training state, of which only the
entry ``net`` matters; nothing of a file is executed (see ``pickles``). The header of a weights file
names the network that its tensors belong to, under the keys that ``vos-ros train`` writes too:
``format`` and ``spec``.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vos_ros.config import ConfigError
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet
from vos_ros.segmentation.pickles import Opaque
from vos_ros.segmentation.torch_files import TensorReference, TorchFile, TorchFileError, read

LWL_FORMAT = "vos_ros.lwl"
META_FORMAT = "vos_ros.meta"
EMBEDDING_FORMAT = "vos_ros.embedding"
ONE_POINT_FORMAT = "vos_ros.one_point"
POINT_TRACKER_FORMAT = "vos_ros.point_tracker"
"""Values of ``format`` in the header: which kind of network a file holds."""
SHIPPED_WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
"""Folder of the weights that come with the package."""
_STATE_DICT_ENTRIES = ("net", "state_dict", "model")
_MAX_LISTED_NAMES = 12
_MAX_LISTED_CHARS = 80
Shapes = Mapping[str, tuple[int, ...]]
Network = TypeVar("Network", bound=torch.nn.Module)


class CheckpointError(ValueError):
    """Weights that cannot be used as they are; the text says why and what would do."""


@dataclass(frozen=True, slots=True)
class Card:
    """Origin and contents of imported weights, written beside them as JSON."""

    file: str
    """Name of the safetensors file."""
    sha256: str
    """Checksum of the safetensors file."""
    source: str
    """Name of the file that it was made from."""
    source_sha256: str
    """Checksum of that file."""
    entry: str
    """Key of the state dict in that file, "" where it is the whole file."""
    network: str
    """One of ``networks.lwl.SPECS``, "" where the tensors fit none."""
    tensors: int
    """Number of tensors."""
    parameters: int
    """Number of floating-point values, without the statistics of batch norms."""
    bytes: int
    """Size of the safetensors file."""
    imported: str
    """Date, ISO 8601."""
    licence: str
    """Licence of the weights."""
    keys: Mapping[str, str]
    """Type and shape of each tensor."""

    def write(self, path: Path) -> None:
        """Write the card; a file at ``path`` is replaced as a whole."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(part, path)


@dataclass(frozen=True, eq=False, slots=True)
class Weights:
    """Contents of a safetensors file."""

    tensors: Mapping[str, torch.Tensor]
    """Tensors by name, on the CPU."""
    header: Mapping[str, str]
    """Metadata of the file."""
    sha256: str
    """Checksum of the file."""


def weights_file(model: str) -> Path:
    """Return the file that a ``model`` option names: a path, or the name of shipped weights."""
    path = Path(model)
    shipped = SHIPPED_WEIGHTS / f"{model}.safetensors"
    return shipped if not path.suffix and not path.is_file() and shipped.is_file() else path


def sha256_of(path: Path | str) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def card_path(weights: Path | str) -> Path:
    """Return the path of the card of a weights file: NAME.card.json, beside it."""
    return Path(weights).with_suffix(".card.json")


def load(path: Path | str, sha256: str = "") -> Weights:
    """Read a safetensors file; its checksum must be ``sha256`` and that of its card, where given.

    Raises CheckpointError: no such file, another checksum, no safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file; wanted .safetensors, from vos-ros weights import or vos-ros"
            " train"
        )
    got = sha256_of(path)
    for wanted, origin in (
        (sha256, "what was asked for"),
        (_card_checksum(path), f"its card {card_path(path).name}"),
    ):
        _check_sha256(path, got, wanted, origin)
    try:
        with safe_open(path, "pt") as f:
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 it is no dict
            _check_finite(path, tensors)
            return Weights(tensors, f.metadata() or {}, got)
    except SafetensorError as e:
        raise CheckpointError(
            f"{path}: no safetensors file, or a damaged one ({e}); vos-ros weights import converts"
            " what torch.save wrote"
        ) from e


def _check_sha256(path: Path, got: str, wanted: str, origin: str) -> None:
    """Raise CheckpointError where a file's checksum is not the wanted one ("" = any)."""
    if wanted and got != wanted.lower():
        raise CheckpointError(
            f"{path}: its sha256 is {got}, {origin} says {wanted}: the file is damaged or another"
            " one"
        )


def _check_finite(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError where a tensor holds a number that is not finite."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{path}: tensor {name!r} holds numbers that are not finite: the training that"
                " wrote it has failed"
            )


def _card_checksum(path: Path) -> str:
    """Return the checksum on the card of a weights file, "" where it has no card."""
    try:
        card = json.loads(card_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return (
        str(card.get("sha256", ""))
        if isinstance(card, dict) and card.get("file") == path.name
        else ""
    )


def read_network(
    option: str,
    model: str,
    sha256: str,
    file_format: str,
    build: Callable[[str], Network],
) -> Network:
    """Build the network of a weights file, with its tensors, in eval mode without gradients.

    Args:
        option: name of the option that ``model`` comes from, for the error text.
        model: file, or name of weights that come with the package.
        sha256: expected checksum of the file, "" = not checked.
        file_format: wanted ``format`` of the file's header, such as ``LWL_FORMAT``.
        build: makes the network of a spec in JSON; ValueError where it cannot.

    Raises ConfigError: no such file, a damaged one, or one of another network.
    """
    path = weights_file(model)
    try:
        weights = load(path, sha256)
        got = weights.header.get("format")
        if got != file_format:
            raise CheckpointError(
                f"{path}: its header names no network of this method (format {got!r}, wanted"
                f" {file_format!r})"
            )
        net = build(weights.header.get("spec", ""))
        net.load_state_dict(dict(weights.tensors))
    except (ValueError, RuntimeError) as e:
        raise ConfigError(f"{option}: {e}") from e
    return net.eval().requires_grad_(False)


def load_weights(module: torch.nn.Module, path: Path | str, sha256: str = "") -> None:
    """Copy into a module its tensors from a file: safetensors, or a state dict of torch.save.

    Further tensors of the file (a classifier head, deeper blocks) are ignored. A refused file
    leaves the module as it was.

    Raises ConfigError: unreadable file, wrong checksum, missing tensor, wrong shape.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            tensors = load(path, sha256).tensors
        else:
            file = read(path)
            _check_sha256(path, sha256_of(path), sha256, "what was asked for")
            tensors = file.tensors(state_dict(file)[1])
            _check_finite(path, tensors)
    except (CheckpointError, TorchFileError) as e:
        raise ConfigError(f"not a readable state dict: {e}") from e
    wanted = module.state_dict()
    missing = [k for k in wanted if k not in tensors]
    if missing:
        raise ConfigError(
            f"{path}: {len(missing)} of {len(wanted)} tensors are missing, first {missing[0]!r}: it"
            f" isn't a checkpoint of {type(module).__name__}"
        )
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape:
            got_shape, wanted_shape = tuple(tensors[name].shape), tuple(tensor.shape)
            raise ConfigError(f"{path}: {name!r} has shape {got_shape}, wanted {wanted_shape}")
    module.load_state_dict({k: tensors[k] for k in wanted})


def import_checkpoint(source: Path | str, target: Path | str, entry: str = "") -> Card:
    """Convert a file of ``torch.save`` into safetensors, with a card beside it.

    The tensors stay as they are; older files of these names are replaced. Nothing of the source is
    executed.

    Args:
        source: file of ``torch.save``, of today's or the older format.
        target: path that ends in .safetensors.
        entry: key of the state dict in the file; "" is ``net``, ``state_dict``, ``model`` or the
            whole file, whichever is there.

    Raises TorchFileError: the file is damaged or hostile.
    Raises CheckpointError: there is no state dict in it.
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
    part.chmod(0o644)  # save_file leaves it readable for its owner alone
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
        parameters=count_parameters(references),
        bytes=target.stat().st_size,
        imported=datetime.date.today().isoformat(),
        licence="that of the source: the file names none",
        keys=keys,
    )
    card.write(card_path(target))
    return card


def state_dict(file: TorchFile, entry: str = "") -> tuple[str, dict[str, TensorReference]]:
    """Return the key of the state dict in a file ("" = the whole file), and its tensors.

    Raises CheckpointError: there is none; the text names what is there instead.
    """
    found: Any = file.root
    if isinstance(found, dict):
        if entry and entry not in found:
            raise CheckpointError(f"{file.path}: no entry {entry!r}; it has {_listed(found)}")
        entry = entry or next(
            (e for e in _STATE_DICT_ENTRIES if isinstance(found.get(e), dict)), ""
        )
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
            f"{place} is no state dict: of its {len(found)} entries {_listed(odd)} are no tensors"
            + ("" if entry else "; name the entry that is one")
        )
    return entry, found


def _kind(value: Any) -> str:
    return (
        f"an object of {value.what}" if isinstance(value, Opaque) else f"a {type(value).__name__}"
    )


def network_of(shapes: Shapes) -> str:
    """Return the name of the LWL network that has exactly these tensors, "" where none has.

    The counters of batch norms may be missing.
    """
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
    """Return the shape of each tensor of an LWL network."""
    with torch.device("meta"):
        return {k: tuple(v.shape) for k, v in LwlNet(SPECS[network]).state_dict().items()}


def count_parameters(tensors: Mapping[str, TensorReference | torch.Tensor]) -> int:
    """Count the floating-point values that are learned: all but the statistics of batch norms."""
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
    """Return the contents of a weights file of either kind, as flat figures.

    Nothing of it is executed. Raises CheckpointError, TorchFileError: as ``import_checkpoint``.
    """
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
            "classes": _listed(file.classes),
        }
        if entry:
            more["other_entries"] = _listed([k for k in file.root if k != entry])
    return {
        "file": path.name,
        "tensors": len(tensors),
        "parameters": count_parameters(tensors),
        "network": network_of(shapes) or "not known",
        **more,
    }


def _listed(names: Iterable[object]) -> str:
    """Return the first of some names, safe to print whatever a file has put into them."""
    texts = [str(n) if str(n).isprintable() else repr(n) for n in names]
    return ", ".join(t[:_MAX_LISTED_CHARS] for t in texts[:_MAX_LISTED_NAMES]) + (
        f" and {len(texts) - _MAX_LISTED_NAMES} more" if len(texts) > _MAX_LISTED_NAMES else ""
    )
