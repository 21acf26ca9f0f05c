"""``synthetic``: rendered rooms, 320x240, as recorded folders below the root.

Worlds that aren't there yet are rendered, which needs Open3D.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from vos_ros.config import option
from vos_ros.datasets.interface import DataSet, Selection, VideoSequence
from vos_ros.datasets.ours import read_recorded_folder
from vos_ros.datasets.registry import register
from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec, write_folder

_DATASET = "synthetic"


@dataclass(frozen=True)
class SyntheticOptions:
    """Choose the worlds."""

    worlds: int = option(8, "how many worlds", low=1, high=10000)
    """Number of worlds, each a sequence."""
    first_world: int = option(0, "seed of the first world", low=0, high=2**31)
    """Seed of the first; the others follow."""
    frames: int = option(60, "frames of a world", low=2, high=10000)
    """Length of each sequence."""


def matches(root: Path) -> bool:
    """Tell whether worlds have been rendered into the folder."""
    return any(root.glob("world-*-*/frames.csv"))


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the worlds of the options, rendered where they aren't there; there are no splits."""
    options = selection.options_as(SyntheticOptions)
    out = []
    for seed in range(options.first_world, options.first_world + options.worlds):
        name = f"world-{seed:05d}-{options.frames}"
        if selection.wants(_DATASET, name):
            render_world(seed, options.frames, root / name)
            world = read_recorded_folder(root / name)
            out.append(replace(world, name=name, dataset=_DATASET))
    return out


def render_world(seed: int, frames: int, path: Path) -> None:
    """Render a world into a folder, whole or not at all; do nothing where the folder exists."""
    if path.is_dir():
        return
    spec = SyntheticSpec(seed=seed, frames=frames, width=320, height=240)
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        write_folder(SyntheticSource(spec), part, progress=True)
        with suppress(FileExistsError, OSError):
            os.rename(part, path)  # fails where another process was faster
    finally:
        shutil.rmtree(part, ignore_errors=True)


register(
    DataSet(
        name=_DATASET,
        title="synthetic worlds",
        layout="world-SEED-FRAMES/frames.csv",
        matches=matches,
        sequences=sequences,
        options=SyntheticOptions,
    )
)
