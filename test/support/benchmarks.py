"""Benchmark sequences, chosen as ``vos-ros eval`` chooses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vos_ros.datasets.davis import DavisOptions
from vos_ros.datasets.interface import Selection, VideoSequence
from vos_ros.datasets.registry import get, open_sequences


def davis(
    root: Path, year: str = "", *names: str, subset: str = "", resolution: str = ""
) -> tuple[VideoSequence, ...]:
    selection = Selection(
        split=f"{year}/{subset}",
        names=names,
        complete=True,
        options=DavisOptions(resolution=resolution),
    )
    return open_sequences(get("davis"), root, selection)


def youtube_vos(root: Path, *names: str) -> tuple[VideoSequence, ...]:
    selection = Selection(split=".", names=names, complete=True)
    return open_sequences(get("youtube_vos"), root, selection)


def annotated_only_at(sequence: VideoSequence, *names: str) -> VideoSequence:
    """The sequence with the masks of these frames alone."""
    frames = tuple(f if f.name in names else replace(f, mask=None) for f in sequence.frames)
    return replace(sequence, frames=frames)
