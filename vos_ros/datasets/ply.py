"""PLY files: vertices are read from ascii or binary of either byte order, written as binary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped

_TYPES = {
    "char": "i1",
    "int8": "i1",
    "uchar": "u1",
    "uint8": "u1",
    "short": "i2",
    "int16": "i2",
    "ushort": "u2",
    "uint16": "u2",
    "int": "i4",
    "int32": "i4",
    "uint": "u4",
    "uint32": "u4",
    "float": "f4",
    "float32": "f4",
    "double": "f8",
    "float64": "f8",
}
_NAMES = {
    "i1": "char",
    "u1": "uchar",
    "i2": "short",
    "u2": "ushort",
    "i4": "int",
    "u4": "uint",
    "f4": "float",
    "f8": "double",
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}


def read_vertices(path: Path) -> Float32[np.ndarray, "M 3"]:
    """Read x y z of every vertex, in the file's unit.

    Raises ValueError: what is wrong with the file.
    """
    columns = read_columns(path)
    return np.stack([columns[a] for a in "xyz"], 1).astype(np.float32)


def read_columns(path: Path) -> dict[str, Shaped[np.ndarray, " M"]]:
    """Read every property of the vertices by its name; x, y and z must be there.

    Raises ValueError: what is wrong with the file.
    """
    data = path.read_bytes()
    try:
        kind, count, fields, start = _read_header(data)
    except (IndexError, ValueError) as e:
        reason = "a line of its header lacks words" if isinstance(e, IndexError) else e
        raise ValueError(f"{path}: {reason}") from e
    dtype = np.dtype([(name, _ORDERS[kind] + _TYPES[t]) for name, t in fields])
    if kind == "ascii":
        rows = np.array(
            data[start:].split(None, count * len(fields))[: count * len(fields)], np.float64
        )
        if rows.size < count * len(fields):
            raise ValueError(
                f"{path}: cut short, got {rows.size // len(fields)} of {count} vertices"
            )
        return dict(zip((n for n, _ in fields), rows.reshape(count, len(fields)).T, strict=True))
    if len(data) - start < count * dtype.itemsize:
        raise ValueError(
            f"{path}: cut short, got {(len(data) - start) // dtype.itemsize} of {count} vertices"
        )
    table = np.frombuffer(data, dtype, count, start)
    return {name: table[name] for name, _ in fields}


def _read_header(data: bytes) -> tuple[str, int, list[tuple[str, str]], int]:
    """Read a header: format, number of vertices, their properties (name, type), where data begins.

    Raises ValueError or IndexError: it is none, or is not one that can be read.
    """
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("not a PLY file (no 'ply' line or no 'end_header' line)")
    start = data.index(b"\n", end) + 1
    kind, count, fields, first, element = "", 0, [], True, ""
    for line in data[:end].decode("ascii", "replace").split("\n"):
        words = line.split()
        if not words:
            continue
        if words[0] == "format":
            kind = words[1]
        elif words[0] == "element":
            element = words[1]
            if element == "vertex":
                count = int(words[2])
                if not first:
                    raise ValueError(
                        "the element 'vertex' comes after another one; wanted it first"
                    )
            first = False
        elif words[0] == "property" and element == "vertex":
            if words[1] not in _TYPES:
                raise ValueError(
                    f"vertex property {' '.join(words[1:])[:80]!r} cannot be read, wanted one of"
                    f" {', '.join(_TYPES)}"
                )
            fields.append((words[2], words[1]))
    names = [name for name, _ in fields]
    if kind not in _ORDERS or not {"x", "y", "z"} <= set(names) or len(names) != len(set(names)):
        raise ValueError(
            f"got format {kind!r} with vertex properties {names}, wanted one of"
            f" {', '.join(_ORDERS)} with x, y and z, each property once"
        )
    if not 0 <= count <= len(data):  # a vertex has at least one byte
        raise ValueError(f"cut short: {count} vertices in {len(data)} bytes")
    return kind, count, fields, start


def ply_bytes(columns: Mapping[str, Shaped[np.ndarray, " M"]]) -> bytes:
    """Return a binary file of vertices with these properties, in order.

    Columns have equal length.
    """
    count = len(next(iter(columns.values())))
    table = np.empty(count, [(name, c.dtype.newbyteorder("<")) for name, c in columns.items()])
    for name, column in columns.items():
        table[name] = column
    properties = "".join(
        f"property {_NAMES[c.dtype.str[1:]]} {name}\n" for name, c in columns.items()
    )
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{properties}end_header\n"
    )
    return header.encode() + table.tobytes()
