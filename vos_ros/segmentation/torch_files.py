"""Read the tensors of files that ``torch.save`` wrote, without executing their pickles.

Two formats are read: today's zip archives, and the single stream of torch before 1.6. A pickle (see
``pickles``) tells which tensors consist of which storages, and the storages are plain numbers.
Nothing is extracted to disk, and sizes that a file declares are checked against the file before
they are used.
"""

from __future__ import annotations

import itertools
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

from vos_ros.segmentation.pickles import MAX_INSTRUCTIONS, Name, Opaque, opaque, read_pickle

MAX_TENSOR_BYTES = 4 << 30
"""Maximum size of the tensors of a file together."""
_ZIP_MAGIC = b"PK\x03\x04"
_STREAM_MAGIC, _STREAM_VERSION = 0x1950A86A20F9469CFC6C, 1001
_MAX_DIMENSIONS = 32
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
    """Numbers that lie outside the pickle."""

    key: str
    """Name in the file."""
    dtype: torch.dtype
    """Type of the numbers."""
    count: int
    """How many there are."""


@dataclass(frozen=True, slots=True)
class TensorReference:
    """A view of a storage, checked to lie inside it.

    Element (i, j, ...) is number ``offset + i stride[0] + j stride[1] + ...`` of the storage.
    """

    storage: StorageReference
    """The numbers."""
    offset: int
    """Index of the first element in the storage."""
    size: tuple[int, ...]
    """Shape."""
    stride: tuple[int, ...]
    """Numbers of the storage from one element to the next, by dimension."""

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.size)


@dataclass(frozen=True, slots=True)
class _StorageLocation:
    """Where in the file a storage lies."""

    start: int
    """First byte."""
    size: int
    """Number of bytes."""
    crc32: int | None = None
    """Checksum, None where the file has none."""


@dataclass(frozen=True, slots=True)
class TorchFile:
    """Contents of a file of ``torch.save``."""

    path: Path
    """The file."""
    kind: str
    """``zip`` or ``stream``."""
    root: Any
    """Plain values, dicts, lists, tuples, ``TensorReference``, ``Opaque`` for any other object."""
    classes: tuple[str, ...]
    """Every class and function that the file names; none of them was imported."""
    locations: Mapping[str, _StorageLocation]
    """Where each storage lies, by key."""

    def tensors(self, references: Mapping[str, TensorReference]) -> dict[str, torch.Tensor]:
        """Read some tensors, each into a contiguous tensor of its own.

        Raises TorchFileError: more than ``MAX_TENSOR_BYTES`` together, or a damaged storage.
        """
        total = sum(r.count * r.storage.dtype.itemsize for r in references.values())
        if total > MAX_TENSOR_BYTES:
            raise TorchFileError(
                f"{self.path}: the tensors take {total / 2**30:.1f} GiB, more than the"
                f" {MAX_TENSOR_BYTES / 2**30:.0f} allowed"
            )
        out: dict[str, torch.Tensor] = {}
        # tensors of one storage after another: each storage is read once, and one is held at a time
        by_storage = sorted(references.items(), key=lambda item: item[1].storage.key)
        with open(self.path, "rb") as file:
            for _, group in itertools.groupby(by_storage, key=lambda item: item[1].storage.key):
                items = list(group)
                flat = self._read_storage(file, items[0][1].storage)
                for name, r in items:
                    out[name] = flat.as_strided(r.size, r.stride, r.offset).clone(
                        memory_format=torch.contiguous_format
                    )
        return {name: out[name] for name in references}

    def _read_storage(self, file: BinaryIO, storage: StorageReference) -> torch.Tensor:
        place = self.locations.get(storage.key)
        wanted = storage.count * storage.dtype.itemsize
        if place is None or place.size != wanted:
            found = "is not there" if place is None else f"has {place.size} bytes"
            raise TorchFileError(
                f"{self.path}: storage {storage.key!r} {found}, its tensors want {storage.count} x"
                f" {storage.dtype}"
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
                f"{self.path}: storage {storage.key!r} has not the numbers that were written: the"
                " file is damaged"
            )
        if storage.dtype == torch.bool:  # a byte may be anything, a bool may not
            return torch.frombuffer(data, dtype=torch.uint8) != 0
        return torch.frombuffer(data, dtype=storage.dtype)


def read(path: Path | str) -> TorchFile:
    """Read the structure of a file; the numbers stay in it until ``TorchFile.tensors``.

    Raises TorchFileError: no file of ``torch.save``, a damaged or hostile one, or of a kind that
    isn't read.
    """
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
        # zipfile raises NotImplementedError and RuntimeError; seeking to where a damaged record
        # points raises OSError
        raise TorchFileError(f"{path}: {e}") from e


class _Builder:
    """Gives the few calls that make tensors and dicts their values. All other names stay names."""

    def __init__(self) -> None:
        self.classes: set[str] = set()

    def build(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        """Return the value of a call, see ``read_pickle``."""
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
        """Return the storage of a persistent id.

        The id is ("storage", class, key, device, count); in the stream format there follows the
        part of another storage that it is.
        """
        match identity:
            case ("storage", Name() as kind, str() as key, str(), int() as count, *view):
                if not _KEY.fullmatch(key) or count < 0:
                    raise TorchFileError(
                        f"a storage has the key {key[:100]!r} and {count} numbers; wanted a word,"
                        " and none or more"
                    )
                if any(v is not None for v in view):
                    raise TorchFileError(
                        "it has storages inside storages, as torch wrote before 0.4; load and save"
                        " it with a newer one"
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
    """Return a tensor, all of whose elements lie in its storage and don't outnumber it."""
    if isinstance(storage, Opaque):
        return Opaque(f"tensor in a {storage.what}")
    shaped = (
        isinstance(size, tuple)
        and isinstance(stride, tuple)
        and len(size) == len(stride) <= _MAX_DIMENSIONS
    )
    if (
        not isinstance(storage, StorageReference)
        or not shaped
        or any(type(n) is not int or not 0 <= n < 1 << 62 for n in (offset, *size, *stride))
    ):
        raise TorchFileError(
            "a tensor is not described by a storage, an offset, a size and as many strides, all of"
            " them >= 0"
        )
    found = TensorReference(storage, offset, size, stride)
    last = (
        offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if found.count else 0
    )
    if found.count and (last >= storage.count or found.count > storage.count):
        raise TorchFileError(
            f"a tensor of size {size} with strides {stride} from number {offset} does not lie in"
            f" its storage of {storage.count} numbers"
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
        locations = {
            r.filename.removeprefix(f"{top}/data/"): _StorageLocation(
                _data_start(archive, r), r.file_size, r.CRC
            )
            for r in records
            if r.filename.startswith(f"{top}/data/")
        }
    return TorchFile(path, "zip", root, tuple(sorted(builder.classes)), locations)


def _check_archive(records: list[zipfile.ZipInfo], file_size: int) -> None:
    """Raise TorchFileError where an archive is none that ``torch.save`` writes.

    Its records are stored as they are, each name once, in the archive's own folder, and together
    are no larger than the file.
    """
    names = [r.filename for r in records]
    if len(set(names)) != len(names):
        raise TorchFileError("the archive has two records of one name")
    for r in records:
        if re.match(r"[/\\]|[A-Za-z]:[/\\]", r.filename) or ".." in re.split(r"[/\\]", r.filename):
            raise TorchFileError(
                f"the archive has a record {r.filename!r}, which lies outside of it: the file was"
                " made to write elsewhere"
            )
        if r.compress_type != zipfile.ZIP_STORED or r.file_size != r.compress_size:
            raise TorchFileError(
                f"the archive's record {r.filename!r} is compressed ({r.compress_size} bytes become"
                f" {r.file_size}), which torch never does"
            )
        if r.flag_bits & 1:
            raise TorchFileError(f"the archive's record {r.filename!r} is encrypted")
    if sum(r.file_size for r in records) > file_size:
        raise TorchFileError("the archive's records are larger than the file: they overlap")


def _data_start(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> int:
    """Return the first byte of a stored record.

    zipfile compares the record's own head with the directory when the record is opened.
    """
    with archive.open(record):
        pass
    file = archive.fp
    assert file is not None
    file.seek(record.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return record.header_offset + 30 + int(name) + int(extra)


class _Bounded:
    """The part of a file reader that ``pickletools`` uses.

    It never asks for more than the file has, whatever length a pickle declares.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self.readline: Callable[[], bytes] = file.readline
        self.tell = file.tell

    def read(self, n: int) -> bytes:
        return self._file.read(max(0, min(n, self._size - self._file.tell())))


def _read_stream(path: Path) -> TorchFile:
    """Read the format before torch 1.6.

    Four pickles (magic number, version, about the machine, the object), one of the storages' keys,
    then per storage its count and its numbers, in the order of the keys.
    """
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
        if read_pickle(bounded, max_instructions=100) != _STREAM_MAGIC:
            raise TorchFileError("it is a pickle, but torch.save did not write it")
        version, machine = (
            read_pickle(bounded, max_instructions=100),
            read_pickle(bounded, max_instructions=1000),
        )
        if (
            version != _STREAM_VERSION
            or not isinstance(machine, dict)
            or machine.get("little_endian") is not True
        ):
            raise TorchFileError(
                f"it is of another version than {_STREAM_VERSION}, or its numbers are big-endian;"
                " neither is read"
            )
        root = read_pickle(bounded, builder.build, resolve, MAX_INSTRUCTIONS)
        keys = read_pickle(bounded)
        size = os.fstat(file.fileno()).st_size
        locations: dict[str, _StorageLocation] = {}
        for key in keys if isinstance(keys, list) else [None]:
            if not isinstance(key, str) or key not in storages or key in locations:
                raise TorchFileError(
                    "its list of storages names one that no tensor uses, or one twice"
                )
            (count,) = struct.unpack("<q", bounded.read(8))
            start, wanted = file.tell(), storages[key].count * storages[key].dtype.itemsize
            if count != storages[key].count or start + wanted > size:
                raise TorchFileError(
                    f"storage {key!r} has {count} numbers and the file {size - start} more bytes;"
                    f" its tensors want {storages[key].count} x {storages[key].dtype}"
                )
            locations[key] = _StorageLocation(start, wanted)
            file.seek(wanted, os.SEEK_CUR)
    return TorchFile(path, "stream", root, tuple(sorted(builder.classes)), locations)
