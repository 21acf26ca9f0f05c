"""``davis``: DAVIS 2016 and 2017 (Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv:1704.00675).

``JPEGImages/480p/NAME/*.jpg`` and ``Annotations/480p/NAME/*.png`` (or ``Full-Resolution``, or no
such folder between, or the files of one sequence directly in ``JPEGImages`` and ``Annotations``).
``ImageSets/YEAR/SUBSET.txt`` names the sequences of a subset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vos_ros.config import option
from vos_ros.datasets.files import image_and_mask_folders, list_frames
from vos_ros.datasets.interface import DataSet, Selection, VideoSequence
from vos_ros.datasets.masks import VOID, read_ids, read_mask, read_single_object
from vos_ros.datasets.registry import refuse_unknown, register

_RESOLUTIONS = ("480p", "Full-Resolution", "")
_TRAINING_SPLIT = "2017/train"
_LIST_FOLDERS = {"2016": ("2016", "480p"), "2017": ("2017",), "": ("2017", "2016", "480p")}


@dataclass(frozen=True)
class DavisOptions:
    """Choose between copies of the data."""

    resolution: str = option(
        "", "480p or Full-Resolution; empty = the first of them that is there, or neither"
    )
    """Folder between ``JPEGImages`` and the sequences."""


def matches(root: Path) -> bool:
    """Tell whether the folder has images and masks."""
    return (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir()


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the sequences that are named, or those of the split, or all where it has no list.

    ``split``: YEAR/SUBSET, default 2017/train. 2016: all that is annotated is one object. 2017:
    the objects are the ids. No year: 2016 where no first mask holds anything but 0 and 255, as
    that year's do, else 2017. No subset: val.
    Raises ValueError: another split, no such folders or, for a ``complete`` selection, no list.
    """
    year, subset = _parse(selection.split or _TRAINING_SPLIT)
    resolution = selection.options_as(DavisOptions).resolution
    images, masks = image_and_mask_folders(root, (resolution,) if resolution else _RESOLUTIONS)
    if any(p.suffix == ".png" for p in masks.iterdir()):
        folders = {root.resolve().name: (images, masks)}
    else:
        folders = {p.name: (images / p.name, p) for p in sorted(masks.iterdir()) if p.is_dir()}
    names = selection.names or _listed(root, year, subset, selection.complete)
    if selection.complete or selection.names:
        refuse_unknown(names, tuple(folders), masks)
    elif not names:
        names = tuple(n for n, (of, _) in folders.items() if of.is_dir())
    names = names or tuple(folders)
    if not year:
        binary = all(_is_binary(folders[n][1]) for n in names if n in folders)
        year = "2016" if binary else "2017"
    dataset = f"davis{year}"
    return [
        VideoSequence(
            name=name,
            dataset=dataset,
            frames=list_frames(
                name,
                *folders.get(name, (images / name, masks / name)),
                complete=selection.complete,
            ),
            single_object=year == "2016",
            read_ids=read_single_object if year == "2016" else read_ids,
        )
        for name in names
        if selection.wants(dataset, name)
    ]


def _parse(split: str) -> tuple[str, str]:
    """Return year and subset, either may be empty. Raises ValueError: no such year."""
    year, slash, subset = split.partition("/")
    if year not in _LIST_FOLDERS or not slash:
        raise ValueError(
            f"split of DAVIS: got {split!r}, wanted YEAR/SUBSET, e.g. 2017/train; the year is 2016"
            " (all objects of a sequence are one) or 2017 (every object by itself)"
        )
    return year, subset


def _is_binary(masks: Path) -> bool:
    """Tell whether a sequence is annotated as in 2016.

    Its first mask then holds 255, which in 2017 is no object, and nothing else but 0.
    """
    first = min(masks.glob("*.png"), default=None)
    if first is None:
        return False
    ids = set(np.unique(read_mask(first)).tolist())
    return VOID in ids and ids <= {0, VOID}


def _listed(root: Path, year: str, subset: str, complete: bool) -> Sequence[str]:
    """Return the names in the list of a subset; none where there is no such list.

    A list has one name per line or, in 2016, an image and a mask per line.
    Raises ValueError: a ``complete`` selection names a subset that has no list.
    """
    places = [root / "ImageSets" / f / f"{subset or 'val'}.txt" for f in _LIST_FOLDERS[year]]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        if subset and complete:
            tried = " and ".join(str(p.relative_to(root)) for p in places)
            raise ValueError(f"{root}: no list of subset {subset!r}, looked for {tried}")
        return ()
    lines = found.read_text(encoding="utf-8").splitlines()
    words = [line.split()[0] for line in lines if line.strip()]
    return tuple(dict.fromkeys(Path(w).parent.name if "/" in w else w for w in words))


register(
    DataSet(
        name="davis",
        title="DAVIS",
        layout="JPEGImages + Annotations",
        matches=matches,
        sequences=sequences,
        options=DavisOptions,
    )
)
