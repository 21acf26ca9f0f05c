"""What the options of every training task say of a network: its spec, and files of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from vos_ros.config import ConfigError
from vos_ros.segmentation.networks import specs

S = TypeVar("S")


def spec_of(preset: S, changes: Mapping[str, object], what: str) -> S:
    """Return the spec of a preset with the changes of ``options.spec``.

    ``what`` names the network in errors. Raises ConfigError: unknown fields or wrong values.
    """
    try:
        return specs.with_changes(preset, changes, what)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"options.spec: {e}") from e


def check_files(options: object, *keys: str) -> None:
    """Check that the files exist that options name. Raises ConfigError: one does not."""
    for key in keys:
        path = getattr(options, key)
        if path and not Path(path).is_file():
            raise ConfigError(f"options.{key}: no such file: {path!r}")
