"""``scenenet``: SceneNet RGB-D, rendered rooms (McCormac et al., ICCV 2017).

``SPLIT/PART/TRAJECTORY/photo/N.jpg`` and ``instance/N.png`` (16 bits). Walls and floors are
instances
there: ids that cover more than a third of a frame are background.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vos_ros.datasets.files import pairs_by_stem, require_folder, sequence_of_pairs
from vos_ros.datasets.interface import DataSet, Selection, VideoSequence
from vos_ros.datasets.masks import Ids, read_ids
from vos_ros.datasets.registry import register

_DATASET = "scenenet"
_NO_IGNORE = -1  # every pixel is annotated; this is no id of 16 bits


def matches(root: Path) -> bool:
    """Tell whether a split below the folder has trajectories."""
    return any(root.glob("*/*/*/photo"))


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the trajectories of the split (default: train), frames in order of their numbers."""
    base = require_folder(root / (selection.split or "train"), "a split of SceneNet RGB-D")
    out = []
    for photo in sorted(base.glob("*/*/photo")):
        name = "/".join(photo.parent.parts[-2:])
        if selection.wants(_DATASET, name):
            pairs = sorted(
                pairs_by_stem(photo, photo.parent / "instance"), key=lambda p: int(p[0].stem)
            )
            out.append(
                sequence_of_pairs(_DATASET, name, pairs, read_ids=read_instances, ignore=_NO_IGNORE)
            )
    return out


def read_instances(path: Path) -> Ids:
    """Read the instances of a frame; those that cover more than a third of it become 0."""
    ids = read_ids(path).astype(np.int32)
    values, counts = np.unique(ids, return_counts=True)
    ids[np.isin(ids, values[counts > ids.size / 3])] = 0
    return ids


register(
    DataSet(
        name=_DATASET,
        title="SceneNet RGB-D",
        layout="SPLIT/PART/TRAJECTORY/photo",
        matches=matches,
        sequences=sequences,
    )
)
