"""The whole configuration: from dotted keys and YAML files, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from vos_ros.config.sections import Config
from vos_ros.config.tree import ConfigError, changed, flat_keys, nested


def from_flat(values: Mapping[str, object], base: Config | None = None) -> Config:
    """Return ``base`` (the defaults) with the given dotted keys replaced.

    Raises ConfigError: a key that is unknown or was renamed, a wrong type, a value out of bounds.
    """
    return changed(base if base is not None else Config(), values)


def load(path: Path | str, base: Config | None = None) -> Config:
    """Read a YAML file: the bare tree, or a ROS 2 parameter file (``<node>: ros__parameters:``).

    Raises ConfigError: names the file, the key, what it got and what it wanted.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeError, yaml.YAMLError) as e:
        raise ConfigError(f"cannot read the configuration {path}: {e}") from e
    if not isinstance(tree, Mapping):
        got = type(tree).__name__
        raise ConfigError(f"{path}: got a {got} at the top, wanted a mapping of parameter names")
    if len(tree) == 1:
        only = next(iter(tree.values()))
        if isinstance(only, Mapping) and "ros__parameters" in only:
            tree = {k: v for k, v in (only["ros__parameters"] or {}).items() if k != "use_sim_time"}
    try:
        return from_flat(flat_keys(tree), base)
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}") from e


def dump(config: Config) -> str:
    """Return the configuration as YAML, every key written out; ``load`` reads it back."""
    return yaml.safe_dump(nested(config), sort_keys=False)
