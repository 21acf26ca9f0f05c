"""Sequences to train on: a source of the configuration, opened through the registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
    found = [
        replace(s.with_masks(), licence=config.licence or s.licence)
        for s in open_sequences(get(config.kind), root, selection)
        if s.annotated
    ]
    if not found:
        raise ValueError(
            f"{root}: no annotated sequence of kind {config.kind!r}"
            + (
                f" after only={config.only}, exclude={config.exclude}"
                if config.only or config.exclude
                else ""
            )
        )
    return found
