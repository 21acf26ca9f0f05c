"""Listing of image and mask files, as several data sets need it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from vos_ros.datasets.interface import FrameFiles, VideoSequence
from vos_ros.datasets.masks import VOID, Ids, read_ids
from vos_ros.datasets.registry import some

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def require_folder(path: Path, wanted: str) -> Path:
    """Return the path. Raises FileNotFoundError: no such folder, saying what was wanted of it."""
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path}: no such folder; wanted {wanted} (is this the right root?)"
        )
    return path


def frame_numbers(names: Iterable[str]) -> tuple[int, ...]:
    """Return the numbers at the end of file names, from 0; their positions where they don't rise.

    >>> frame_numbers(["in000600", "in000606"])
    (0, 6)
    """
    names = list(names)
    found = [re.findall(r"\d+", name) for name in names]
    numbers = [int(f[-1]) if f else 0 for f in found]
    if any(b <= a for a, b in pairwise(numbers)):
        numbers = list(range(len(names)))
    return tuple(n - numbers[0] for n in numbers)


def sequence_of_pairs(
    dataset: str,
    name: str,
    pairs: Iterable[tuple[Path, Path]],
    *,
    read_ids: Callable[[Path], Ids] = read_ids,
    ignore: int = VOID,
) -> VideoSequence:
    """Make a sequence of image and mask files in order, numbered by the names of the images."""
    pairs = list(pairs)
    numbers = frame_numbers(image.stem for image, _ in pairs)
    frames = tuple(
        FrameFiles(name=image.stem, number=number, image=image, mask=mask)
        for number, (image, mask) in zip(numbers, pairs, strict=True)
    )
    return VideoSequence(
        name=name, dataset=dataset, frames=frames, read_ids=read_ids, ignore=ignore
    )


def pairs_by_stem(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return the images of a folder that have a mask (PNG) of the same name, in order of name."""
    by_stem = (
        {p.stem: p for p in masks.iterdir() if p.suffix.lower() == ".png"} if masks.is_dir() else {}
    )
    return [
        (p, by_stem[p.stem])
        for p in sorted(images.iterdir())
        if p.stem in by_stem and p.suffix.lower() in IMAGE_SUFFIXES
    ]


def list_frames(name: str, images: Path, masks: Path, *, complete: bool) -> tuple[FrameFiles, ...]:
    """Return all images of a folder in order, with the masks that have the same name.

    ``complete``: raise ValueError where there are no images, no masks, or masks without image.
    Else FileNotFoundError for no folder of images.
    """
    if not complete:
        require_folder(images, "the images of a sequence")
    paths = sorted(
        (p for p in images.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if images.is_dir()
        else (),
        key=lambda p: p.stem,
    )
    by_stem = {p.stem: p for p in sorted(masks.glob("*.png"))}
    if complete and not (paths and by_stem):
        raise ValueError(
            f"{name}: {len(paths)} images in {images}, {len(by_stem)} masks in {masks}; wanted"
            " some of both"
        )
    lost = sorted(set(by_stem) - {p.stem for p in paths})
    if complete and lost:
        raise ValueError(f"{name}: {masks} has masks of {some(lost)}, {images} has no such images")
    numbers = frame_numbers(p.stem for p in paths)
    return tuple(
        FrameFiles(name=p.stem, number=number, image=p, mask=by_stem.get(p.stem))
        for p, number in zip(paths, numbers, strict=True)
    )


def image_and_mask_folders(root: Path, resolutions: Iterable[str]) -> tuple[Path, Path]:
    """Return the first ``JPEGImages/X`` and ``Annotations/X`` that are there, of the given X.

    Raises ValueError: none of them, saying what was looked for and what the root holds.
    """
    tried = tuple(resolutions)
    for name in tried:
        images, masks = root / "JPEGImages" / name, root / "Annotations" / name
        if images.is_dir() and masks.is_dir():
            return images, masks
    there = some(sorted(p.name for p in root.iterdir())) if root.is_dir() else ""
    raise ValueError(
        f"{root}: wanted JPEGImages and Annotations with"
        f" {' or '.join(n or 'no resolution' for n in tried)} below; it holds"
        f" {there or 'nothing' if root.is_dir() else 'nothing: no such folder'}"
    )
