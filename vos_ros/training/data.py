"""Sequences to train on: a source of the configuration, opened through the registry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vos_ros.config import ConfigError
from vos_ros.datasets.interface import Selection, VideoSequence
from vos_ros.datasets.registry import get, open_sequences
from vos_ros.training.config import SourceConfig


def open_source(config: SourceConfig, data_root: Path | str) -> list[VideoSequence]:
    """List the sequences of a source, each with its annotated frames alone.

    The configuration's licence, where it states one, replaces that of the files.
    Raises FileNotFoundError, ValueError: files that are missing, or no sequence is left.
    """
    root = Path(data_root) / config.root
    selection = Selection(
        split=config.split, only=config.only, exclude=config.exclude, options=config.options
    )
    listed = open_sequences(get(config.kind), root, selection)
    found = [
        replace(s.with_masks(), licence=config.licence or s.licence)
        for s in part_of(listed, config.part)
        if s.annotated
    ]
    if not found:
        raise ValueError(
            f"{root}: no annotated sequence of kind {config.kind!r}"
            + (
                f" after only={config.only}, exclude={config.exclude}, part={config.part!r}"
                if config.only or config.exclude or config.part
                else ""
            )
        )
    return found


def part_of(sequences: Sequence[VideoSequence], part: str) -> list[VideoSequence]:
    """Return a share of sequences, see ``SourceConfig.part``.

    It depends on the order of the list alone. Raises ConfigError: not of the form k/n or !k/n.
    """
    if not part:
        return list(sequences)
    match = re.fullmatch(r"(!?)(\d+)/(\d+)", part)
    if match is None or int(match[2]) >= int(match[3]):
        raise ConfigError(
            f"part: got {part!r}, wanted k/n or !k/n with 0 <= k < n, such as 0/4 and !0/4"
        )
    others, k, n = bool(match[1]), int(match[2]), int(match[3])
    return [s for i, s in enumerate(sequences) if (i % n == k) != others]
