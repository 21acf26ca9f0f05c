"""Specifications of networks as one line of JSON, and back.

A weights file names with it the network that its tensors belong to.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

S = TypeVar("S")


def to_json(spec: Any) -> str:
    """Return one line of JSON, which ``from_json`` reads back; nested specs are nested objects."""
    return json.dumps(dataclasses.asdict(spec), sort_keys=True)


def from_json(cls: type[S], text: str, what: str) -> S:
    """Return the spec of ``to_json``.

    Args:
        cls: class of the spec. Its fields have defaults and are bools, integers and floats above 0,
            texts, tuples of integers above 0, or specs.
        text: the JSON.
        what: name of the network for the error text.

    Raises ValueError: no spec, or one of another version (unknown or mistyped fields).
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"not the specification of {what}: {e}") from e
    return _build(cls(), values, what)


def with_changes(spec: S, changes: Mapping[str, object], what: str) -> S:
    """Return a spec with some fields changed. Raises ValueError as ``from_json``, TypeError."""
    given = {**dataclasses.asdict(spec), **changes}  # type: ignore[call-overload]
    return from_json(type(spec), json.dumps(given), what)


def _build(default: S, values: Any, what: str) -> S:
    if not isinstance(values, Mapping):
        raise ValueError(
            f"not the specification of {what}: got a {type(values).__name__}, wanted an object with"
            " fields"
        )
    known = dataclasses.fields(default)  # type: ignore[arg-type]
    defaults = {f.name: getattr(default, f.name) for f in known}
    if unknown := sorted(set(values) - set(defaults)):
        raise ValueError(
            f"the specification of {what} has unknown fields {unknown}; known are"
            f" {sorted(defaults)}"
        )
    fields: dict[str, Any] = {}
    for name, value in values.items():
        like = defaults[name]
        if dataclasses.is_dataclass(like):
            fields[name] = _build(like, value, f"{what}: {name}")
            continue
        fields[name] = tuple(value) if isinstance(value, list) else value
        if not _fits(fields[name], like):
            raise ValueError(
                f"the specification of {what} says {name} = {value!r}, wanted something like"
                f" {like!r}"
            )
    return dataclasses.replace(default, **fields)  # type: ignore[type-var]


def _fits(value: Any, like: Any) -> bool:
    if isinstance(like, tuple):
        return (
            isinstance(value, tuple) and len(value) == len(like) and all(_fits(v, 1) for v in value)
        )
    if isinstance(like, bool | str):
        return type(value) is type(like)
    kinds = (int, float) if isinstance(like, float) else (int,)
    return type(value) in kinds and value > 0
