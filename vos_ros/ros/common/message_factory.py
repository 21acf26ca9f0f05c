"""Make messages of rclpy's classes for the builders of ``vos_ros.messages``."""

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


_MAX_SMALL_BYTES = 4096
"""Largest array for which copying it twice is faster than making a view of it."""


class _Layout(NamedTuple):
    kind: Any
    """rclpy's class."""
    names: frozenset[str]
    """Names of all fields."""
    sequences: tuple[tuple[str, str], ...]
    """Fields that are sequences of numbers, each with its typecode."""
    octets: tuple[str, ...]
    """Fields that are one byte, which rclpy has as ``bytes``."""
    check_fields: bool | None
    """Whether setters check values (ROS_PYTHON_CHECK_FIELDS); None: rclpy has no such switch."""


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
        frozenset(fields),
        tuple((f, _TYPECODES[t]) for f, t in sequences.items() if t in _TYPECODES),
        tuple(f for f, t in fields.items() if t == "octet"),
        getattr(kind(), "_check_fields", None),
    )


def _sequence(code: str, values: Any) -> array.array[Any]:
    """Copy numbers as memory to the array type that rclpy has for sequences."""
    out, numbers = array.array(code), np.ascontiguousarray(values, code)
    small = numbers.nbytes <= _MAX_SMALL_BYTES
    out.frombytes(numbers.tobytes() if small else numbers.view(np.uint8).data)
    return out


def make(name: str, /, **fields: Any) -> Any:
    """Make a message of type ``name`` (package/msg/Type) of rclpy's classes from all of its fields.

    Numbers are copied once, as memory: a field that is given a NumPy array or bytes would walk
    through the elements in Python. Raises TypeError where a field is missing or unknown.
    """
    kind, names, sequences, octets, check_fields = _layout(name)
    if len(fields) != len(names):  # an unknown one in place of another fails when it is set
        wrong = ", ".join(sorted(names ^ fields.keys()))
        raise TypeError(f"{name}: missing or unknown fields: {wrong}")
    for field, code in sequences:
        fields[field] = _sequence(code, fields[field])
    for field in octets:
        fields[field] = bytes([fields[field]])
    # The constructor would make the default of every field first, and copy the numbers once more: a
    # frame's messages would take three times as long.
    msg = kind.__new__(kind)
    if check_fields is not None:
        msg._check_fields = check_fields
    for field, value in fields.items():
        setattr(msg, field, value)
    return msg
