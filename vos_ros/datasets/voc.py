"""``voc``: Pascal VOC 2012, stills with instance masks (Everingham et al., IJCV 2015).

``JPEGImages``, ``SegmentationObject`` (ids, 255 around objects),
``ImageSets/Segmentation/SPLIT.txt``.
"""

from __future__ import annotations

from pathlib import Path

from vos_ros.datasets.files import require_folder, sequence_of_pairs
from vos_ros.datasets.interface import DataSet, Selection, VideoSequence
from vos_ros.datasets.registry import register

_DATASET = "voc"


def matches(root: Path) -> bool:
    """Tell whether the folder has images and instance masks of VOC's names."""
    return (root / "JPEGImages").is_dir() and (root / "SegmentationObject").is_dir()


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the stills of the split (default: train), or all masks where it has no list."""
    images = require_folder(root / "JPEGImages", "Pascal VOC's images")
    masks = require_folder(root / "SegmentationObject", "instance masks")
    split = root / "ImageSets" / "Segmentation" / f"{selection.split or 'train'}.txt"
    names = (
        split.read_text().split()
        if split.is_file()
        else sorted(p.stem for p in masks.glob("*.png"))
    )
    return [
        sequence_of_pairs(_DATASET, name, [(images / f"{name}.jpg", masks / f"{name}.png")])
        for name in names
        if selection.wants(_DATASET, name)
    ]


register(
    DataSet(
        name=_DATASET,
        title="Pascal VOC",
        layout="JPEGImages + SegmentationObject",
        matches=matches,
        sequences=sequences,
        priority=1,  # VOC has a folder Annotations, too, which holds no masks
    )
)
