"""Reads the tensors of files that ``torch.save`` wrote, without running their pickles: today's zip archives and the older single stream.

A file is taken apart by hand: a pickle (see ``pickles``) says which tensors are made of which storages, and the storages are plain
numbers. Nothing is extracted to disk; nothing is read that lies outside what the file says of itself.
"""

from __future__ import annotations

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from vos_ros.segmentation.pickles import MOST_INSTRUCTIONS, Name, Opaque, opaque, read_pickle

MOST_BYTES = 4 << 30
"""Tensors larger than this together are refused."""
_ZIP_MAGIC = b"PK\x03\x04"
_STREAM_MAGIC, _STREAM_VERSION = 0x1950A86A20F9469CFC6C, 1001
_MOST_DIMENSIONS = 32
_KEY = re.compile(r"[0-9A-Za-z_]{1,64}")
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class TorchFileError(ValueError):
    """A file that cannot be read, or must not be; the text says why."""


@dataclass(frozen=True, slots=True)
class StorageReference:
    """Numbers that lie outside the pickle: ``count`` of a type, under a key."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class TensorReference:
    """A view of a storage: element (i, j, ...) is number ``offset + i stride[0] + j stride[1] + ...`` of it. Checked to lie inside."""

    storage: StorageReference
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.size)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the file a storage lies, in bytes, and its check sum where the file has one."""

    start: int
    size: int
    crc32: int | None = None


@dataclass(frozen=True, slots=True)
class TorchFile:
    """What a file holds. ``root``: plain values, dicts, lists, tuples, ``TensorReference``, and ``Opaque`` for objects of any class.
    ``kind``: zip or stream. ``classes``: every class and function that was named, none of which was imported."""

    path: Path
    kind: str
    root: Any
    classes: tuple[str, ...]
    _places: Mapping[str, _Place]

    def tensors(self, references: Mapping[str, TensorReference]) -> dict[str, torch.Tensor]:
        """The numbers of some tensors, each a contiguous one of its own. TorchFileError: more than ``MOST_BYTES`` together."""
        total = sum(r.count * r.storage.dtype.itemsize for r in references.values())
        if total > MOST_BYTES:
            raise TorchFileError(
                f"{self.path}: the tensors take {total / 2**30:.1f} GiB, more than the {MOST_BYTES / 2**30:.0f} allowed"
            )
        out: dict[str, torch.Tensor] = {}
        loaded: tuple[str, torch.Tensor] = ("", torch.empty(0))
        with open(self.path, "rb") as file:
            for name, r in references.items():
                if loaded[0] != r.storage.key:
                    loaded = (r.storage.key, self._storage(file, r.storage))
                flat = loaded[1]
                out[name] = flat.as_strided(r.size, r.stride, r.offset).clone(
                    memory_format=torch.contiguous_format
                )
        return out

    def _storage(self, file: BinaryIO, storage: StorageReference) -> torch.Tensor:
        place = self._places.get(storage.key)
        wanted = storage.count * storage.dtype.itemsize
        if place is None or place.size != wanted:
            found = "is not there" if place is None else f"has {place.size} bytes"
            raise TorchFileError(
                f"{self.path}: storage {storage.key!r} {found}, its tensors want {storage.count} x {storage.dtype}"
            )
        if not wanted:
            return torch.empty(0, dtype=storage.dtype)
        file.seek(place.start)
        data = bytearray(file.read(wanted))
        if len(data) != wanted:
            raise TorchFileError(
                f"{self.path}: it ends inside storage {storage.key!r}: the file is cut short"
            )
        if place.crc32 is not None and zlib.crc32(data) != place.crc32:
            raise TorchFileError(
                f"{self.path}: storage {storage.key!r} has not the numbers that were written: the file is damaged"
            )
        if storage.dtype == torch.bool:  # a byte may be anything, a bool may not
            return torch.frombuffer(data, dtype=torch.uint8) != 0
        return torch.frombuffer(data, dtype=storage.dtype)


def read(path: Path | str) -> TorchFile:
    """Takes a file apart. TorchFileError: no file of ``torch.save``, damaged, hostile, or of a kind that isn't read; with what is
    wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise TorchFileError(f"{path}: no such file")
    with open(path, "rb") as file:
        start = file.read(512)
    try:
        if start.startswith(_ZIP_MAGIC):
            return _read_zip(path)
        if start[257:262] == b"ustar":
            raise TorchFileError(
                "it is in the tar format of torch 0.1; load and save it with a torch of that time"
            )
        if not start.startswith(b"\x80"):
            raise TorchFileError("it does not begin like a file that torch.save wrote")
        return _read_stream(path)
    except (
        ValueError,
        EOFError,
        OSError,
        struct.error,
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
    ) as e:
        # NotImplementedError and RuntimeError are zipfile's, OSError comes of seeking where a damaged record points to
        raise TorchFileError(f"{path}: {e}") from e


class _Builder:
    """Gives a meaning to the few calls that tensors and dicts are made of. All other names stay names."""

    def __init__(self) -> None:
        self.classes: set[str] = set()

    def build(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """See ``read_pickle``."""
        self.classes.add(str(name))
        match str(name), arguments:
            case "collections.OrderedDict", ():
                return {}
            case "collections.OrderedDict", (list() as pairs,) if all(
                isinstance(p, list | tuple) and len(p) == 2 for p in pairs
            ):
                return {k: v for k, v in pairs if isinstance(k, str | int)}
            case "torch.Size", (tuple() | list() as size,):
                return tuple(size)
            case "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", (
                storage,
                offset,
                size,
                stride,
                *_,
            ):
                return _reference(storage, offset, size, stride)
            case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", (
                data,
                *_,
            ):
                return data
            case _:
                return opaque(name, arguments)

    @staticmethod
    def resolve(identity: Any) -> StorageReference | Opaque:
        """A storage: ("storage", class, key, device, count), in the stream followed by what part of another one it is."""
        match identity:
            case ("storage", Name() as kind, str() as key, str(), int() as count, *view):
                if not _KEY.fullmatch(key) or count < 0:
                    raise TorchFileError(
                        f"a storage has the key {key!r} and {count} numbers; wanted a word, and none or more"
                    )
                if any(v is not None for v in view):
                    raise TorchFileError(
                        "it has storages inside storages, as torch wrote before 0.4; load and save it with a newer one"
                    )
                dtype = (
                    _DTYPES.get(kind.name)
                    if kind.module in ("torch", "torch.storage", "torch.cuda")
                    else None
                )
                return (
                    StorageReference(key, dtype, count)
                    if dtype is not None
                    else Opaque(f"storage of {kind}")
                )
            case _:
                raise TorchFileError(
                    f"it refers to something that is no storage: a {type(identity).__name__}"
                )


def _reference(storage: Any, offset: Any, size: Any, stride: Any) -> TensorReference | Opaque:
    """A tensor, all of whose elements lie in its storage and don't outnumber it."""
    if isinstance(storage, Opaque):
        return Opaque(f"tensor in a {storage.what}")
    shaped = (
        isinstance(size, tuple)
        and isinstance(stride, tuple)
        and len(size) == len(stride) <= _MOST_DIMENSIONS
    )
    if (
        not isinstance(storage, StorageReference)
        or not shaped
        or any(type(n) is not int or not 0 <= n < 1 << 62 for n in (offset, *size, *stride))
    ):
        raise TorchFileError(
            "a tensor is not described by a storage, an offset, a size and as many strides, all of them >= 0"
        )
    found = TensorReference(storage, offset, size, stride)
    last = (
        offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if found.count else 0
    )
    if found.count and (last >= storage.count or found.count > storage.count):
        raise TorchFileError(
            f"a tensor of size {size} with strides {stride} from number {offset} does not lie in its storage of"
            f" {storage.count} numbers"
        )
    return found


def _read_zip(path: Path) -> TorchFile:
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        names = [r.filename for r in records]
        _check_archive(records, path.stat().st_size)
        top = next(
            (
                n.removesuffix("/data.pkl")
                for n in names
                if n.count("/") == 1 and n.endswith("/data.pkl")
            ),
            None,
        )
        if top is None:
            raise TorchFileError(
                "it is a zip archive without data.pkl: torch.save did not write it"
            )
        if f"{top}/constants.pkl" in names:
            raise TorchFileError(
                "it is a TorchScript program; wanted weights: save the state_dict() of the module"
            )
        if f"{top}/byteorder" in names and archive.read(f"{top}/byteorder") != b"little":
            raise TorchFileError("its numbers are big-endian, which isn't read")
        builder = _Builder()
        root = read_pickle(archive.read(f"{top}/data.pkl"), builder.build, builder.resolve)
        places = {
            r.filename.removeprefix(f"{top}/data/"): _Place(
                _data_start(archive, r), r.file_size, r.CRC
            )
            for r in records
            if r.filename.startswith(f"{top}/data/")
        }
    return TorchFile(path, "zip", root, tuple(sorted(builder.classes)), places)


def _check_archive(records: list[zipfile.ZipInfo], file_size: int) -> None:
    """Only what ``torch.save`` writes: stored as it is, every name once, in the archive's own folder, no larger than the file."""
    names = [r.filename for r in records]
    if len(set(names)) != len(names):
        raise TorchFileError("the archive has two records of one name")
    for r in records:
        if re.match(r"[/\\]|[A-Za-z]:[/\\]", r.filename) or ".." in re.split(r"[/\\]", r.filename):
            raise TorchFileError(
                f"the archive has a record {r.filename!r}, which lies outside of it: the file was made to write elsewhere"
            )
        if r.compress_type != zipfile.ZIP_STORED or r.file_size != r.compress_size:
            raise TorchFileError(
                f"the archive's record {r.filename!r} is compressed ({r.compress_size} bytes become {r.file_size}), which"
                " torch never does"
            )
        if r.flag_bits & 1:
            raise TorchFileError(f"the archive's record {r.filename!r} is encrypted")
    if sum(r.file_size for r in records) > file_size:
        raise TorchFileError("the archive's records are larger than the file: they overlap")


def _data_start(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> int:
    """First byte of a stored record; zipfile compares the record's own head with the directory on opening it."""
    with archive.open(record):
        pass
    file = archive.fp
    assert file is not None
    file.seek(record.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return record.header_offset + 30 + int(name) + int(extra)


class _Bounded:
    """The part of a file reader that ``pickletools`` uses; never asks for more than is there, whatever a pickle says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self.readline: Callable[[], bytes] = file.readline
        self.tell = file.tell

    def read(self, n: int) -> bytes:
        return self._file.read(max(0, min(n, self._size - self._file.tell())))


def _read_stream(path: Path) -> TorchFile:
    """Four pickles (magic number, version, about the machine, the object), one of the storages' keys, then per storage its count and its
    numbers, in the order of the keys."""
    builder = _Builder()
    storages: dict[str, StorageReference] = {}

    def resolve(identity: Any) -> StorageReference | Opaque:
        found = builder.resolve(identity)
        if isinstance(found, Opaque):
            raise TorchFileError(f"it has a {found.what}, which isn't read")
        if storages.setdefault(found.key, found) != found:
            raise TorchFileError(f"storage {found.key!r} has two types or sizes")
        return found

    with open(path, "rb") as file:
        bounded: Any = _Bounded(file)
        if read_pickle(bounded, most_instructions=100) != _STREAM_MAGIC:
            raise TorchFileError("it is a pickle, but torch.save did not write it")
        version, machine = (
            read_pickle(bounded, most_instructions=100),
            read_pickle(bounded, most_instructions=1000),
        )
        if (
            version != _STREAM_VERSION
            or not isinstance(machine, dict)
            or machine.get("little_endian") is not True
        ):
            raise TorchFileError(
                f"it is of another version than {_STREAM_VERSION}, or its numbers are big-endian; neither is read"
            )
        root = read_pickle(bounded, builder.build, resolve, MOST_INSTRUCTIONS)
        keys = read_pickle(bounded)
        size = os.fstat(file.fileno()).st_size
        places: dict[str, _Place] = {}
        for key in keys if isinstance(keys, list) else [None]:
            if not isinstance(key, str) or key not in storages or key in places:
                raise TorchFileError(
                    "its list of storages names one that no tensor uses, or one twice"
                )
            (count,) = struct.unpack("<q", bounded.read(8))
            start, wanted = file.tell(), storages[key].count * storages[key].dtype.itemsize
            if count != storages[key].count or start + wanted > size:
                raise TorchFileError(
                    f"storage {key!r} has {count} numbers and the file {size - start} more bytes; its tensors want"
                    f" {storages[key].count} x {storages[key].dtype}"
                )
            places[key] = _Place(start, wanted)
            file.seek(wanted, os.SEEK_CUR)
    return TorchFile(path, "stream", root, tuple(sorted(builder.classes)), places)
