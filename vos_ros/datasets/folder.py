"""``folder``: anybody's images and masks.

``images/`` and ``masks/`` (PNG, values are ids) with equal names. Files directly in them are
stills, each folder in them is a sequence.
"""

from __future__ import annotations

from pathlib import Path

from vos_ros.datasets.files import pairs_by_stem, require_folder, sequence_of_pairs
from vos_ros.datasets.interface import DataSet, Selection, VideoSequence
from vos_ros.datasets.registry import register


def matches(root: Path) -> bool:
    """Tell whether the folder has images and masks."""
    return (root / "images").is_dir() and (root / "masks").is_dir()


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the stills, then the sequences; there are no splits."""
    images, masks = (
        require_folder(root / name, "folders images/ and masks/") for name in ("images", "masks")
    )
    stills = [
        sequence_of_pairs(root.name, image.stem, [(image, mask)])
        for image, mask in pairs_by_stem(images, masks)
    ]
    videos = [
        sequence_of_pairs(root.name, p.name, pairs_by_stem(p, masks / p.name))
        for p in sorted(images.iterdir())
        if p.is_dir()
    ]
    return stills + videos


register(
    DataSet(
        name="folder",
        title="images and masks",
        layout="images/ + masks/",
        matches=matches,
        sequences=sequences,
    )
)
