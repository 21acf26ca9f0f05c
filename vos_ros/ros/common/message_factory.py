"""Makes messages of rclpy's classes for the builders of ``vos_ros.messages``."""

from __future__ import annotations

import array
import importlib
from functools import cache
from typing import Any, NamedTuple

import numpy as np

_TYPECODES = {
    "float": "f",
    "double": "d",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
}
"""array.array's typecode of each primitive type that a sequence can have."""


class _Layout(NamedTuple):
    kind: Any
    sequences: tuple[tuple[str, str], ...]
    """Fields that are sequences of numbers, each with its typecode."""
    octets: tuple[str, ...]
    """Fields that are one byte, which rclpy has as ``bytes``."""


@cache
def _layout(name: str) -> _Layout:
    package, folder, kind_name = name.split("/")
    kind = getattr(importlib.import_module(f"{package}.{folder}"), kind_name)
    fields: dict[str, str] = kind.get_fields_and_field_types()
    sequences = {
        f: t[len("sequence<") : -1] for f, t in fields.items() if t.startswith("sequence<")
    }
    return _Layout(
        kind,
        tuple((f, _TYPECODES[t]) for f, t in sequences.items() if t in _TYPECODES),
        tuple(f for f, t in fields.items() if t == "octet"),
    )


def make(name: str, /, **fields: Any) -> Any:
    """Make a message of type ``name`` (package/msg/Type) of rclpy's classes.

    Numbers are copied once, as memory. A constructor would copy them once more, and a field that is given
    a NumPy array or bytes would walk through the elements in Python.
    """
    kind, sequences, octets = _layout(name)
    numbers = []
    for field, code in sequences:
        values = array.array(code)
        values.frombytes(
            np.ascontiguousarray(fields.pop(field), code).reshape(-1).view(np.uint8).data
        )
        numbers.append((field, values))
    for field in octets:
        fields[field] = bytes([fields[field]])
    msg = kind(**fields)
    for field, values in numbers:
        setattr(msg, field, values)
    return msg
