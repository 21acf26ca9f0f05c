"""``coco_panoptic``: COCO with panoptic annotations, stills (Kirillov et al., CVPR 2019).

``SPLIT/*.jpg``, ``annotations/panoptic_SPLIT.json`` and the folder of the same name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vos_ros.datasets.files import require_folder, sequence_of_pairs
from vos_ros.datasets.interface import DataSet, Selection, VideoSequence
from vos_ros.datasets.masks import Ids
from vos_ros.datasets.registry import register

_DATASET = "coco_panoptic"
_CROWD = -1  # id of pixels that show a crowd, which is no single object


@dataclass(frozen=True, eq=False, slots=True)
class _PanopticReader:
    """Read a panoptic image, whose colours are segment ids."""

    segments: Mapping[str, tuple[tuple[int, int], ...]]
    """Pairs of segment id and object id, by file name: things are 1..n, crowds ``_CROWD``."""

    def __call__(self, path: Path) -> Ids:
        """Return object ids; stuff is 0."""
        with Image.open(path) as image:
            rgb = np.asarray(image.convert("RGB")).astype(np.int32)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        out = np.zeros(ids.shape, np.int32)
        for segment, value in self.segments[path.name]:
            out[ids == segment] = value
        return out


def matches(root: Path) -> bool:
    """Tell whether the folder has a table of panoptic annotations."""
    return any((root / "annotations").glob("panoptic_*.json"))


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the stills of the split (default: train2017) that show a thing."""
    split = selection.split or "train2017"
    images = require_folder(root / split, "COCO's images")
    masks = require_folder(root / "annotations" / f"panoptic_{split}", "COCO's panoptic images")
    tree = json.loads((root / "annotations" / f"panoptic_{split}.json").read_text())
    things = {c["id"] for c in tree["categories"] if c["isthing"]}
    segments: dict[str, tuple[tuple[int, int], ...]] = {}
    for entry in tree["annotations"]:
        of_things = [s for s in entry["segments_info"] if s["category_id"] in things]
        alone = [s["id"] for s in of_things if not s.get("iscrowd")]
        crowds = [s["id"] for s in of_things if s.get("iscrowd")]
        if alone:
            segments[entry["file_name"]] = (
                *((s, i) for i, s in enumerate(alone, start=1)),
                *((s, _CROWD) for s in crowds),
            )
    read = _PanopticReader(segments)
    return [
        sequence_of_pairs(
            _DATASET,
            Path(name).stem,
            [(images / f"{Path(name).stem}.jpg", masks / name)],
            read_ids=read,
            ignore=_CROWD,
        )
        for name in sorted(segments)
        if selection.wants(_DATASET, Path(name).stem)
    ]


register(
    DataSet(
        name=_DATASET,
        title="COCO panoptic",
        layout="annotations/panoptic_*.json",
        matches=matches,
        sequences=sequences,
    )
)
