"""Benchmark sequences on disk: DAVIS 2016 and 2017, YouTube-VOS. What is in them, which objects start where; no scoring.

DAVIS        ``JPEGImages/480p/NAME/*.jpg`` and ``Annotations/480p/NAME/*.png`` (or ``Full-Resolution``, or no such folder between, or
             the files of one sequence directly in ``JPEGImages`` and ``Annotations``); ``ImageSets/YEAR/val.txt`` names the sequences.
YouTube-VOS  ``JPEGImages/NAME``, ``Annotations/NAME`` with every fifth frame or so, ``meta.json`` with the objects' categories and frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vos_ros.datasets.masks import VOID, read_foreground, read_mask

_RESOLUTIONS = ("480p", "Full-Resolution", "")
_IMAGES = (".jpg", ".jpeg", ".png")
_NAMED = 5  # names in an error


@dataclass(frozen=True, slots=True)
class VideoSequence:
    """One video. ``annotations``: mask file by the name (without suffix) of its frame. ``starts``: ids of the objects whose mask is given
    at a frame. ``binary``: every pixel that isn't 0 is object 1. ``categories``: class name by object id, where known."""

    name: str
    frames: tuple[Path, ...]
    annotations: Mapping[str, Path]
    starts: Mapping[str, tuple[int, ...]]
    binary: bool = False
    categories: Mapping[int, str] = field(default_factory=dict)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """All objects, ascending."""
        return tuple(sorted(i for ids in self.starts.values() for i in ids))

    def mask(self, frame: str) -> UInt8[np.ndarray, "H W"]:
        """Object ids of an annotated frame; 255 (void) only where the sequence isn't binary."""
        path = self.annotations[frame]
        return read_foreground(path).view(np.uint8) if self.binary else read_mask(path)


def davis(
    root: Path | str,
    year: int | None = None,
    names: Sequence[str] = (),
    subset: str = "",
    resolution: str = "",
) -> tuple[VideoSequence, ...]:
    """Sequences of DAVIS: those named, or those of ``ImageSets/YEAR/SUBSET.txt`` (val where there are such lists), or all.

    2017: the objects are the ids in the first annotation. 2016: all of them are one object. None: 2016 where no first annotation holds
    anything but 0 and 255, as that year's do, else 2017. ValueError: no such folders, lists or names, a first frame without annotation
    or object; each names what was looked for.
    """
    if year not in (2016, 2017, None):
        raise ValueError(
            f"year {year}: wanted 2016 (all objects of a sequence are one) or 2017 (every object by itself)"
        )
    images, masks = _layout(Path(root), resolution)
    if any(p.suffix == ".png" for p in masks.iterdir()):
        name = Path(root).resolve().name
        folders = {name: (images, masks)}
    else:
        folders = {p.name: (images / p.name, p) for p in sorted(masks.iterdir()) if p.is_dir()}
    wanted = _chosen(folders, names or _listed(Path(root), year, subset), masks)
    binary = year == 2016 if year else all(_is_binary(folders[name][1]) for name in wanted)
    return tuple(_davis_sequence(name, *folders[name], binary=binary) for name in wanted)


def youtube_vos(root: Path | str, names: Sequence[str] = ()) -> tuple[VideoSequence, ...]:
    """Sequences of a YouTube-VOS split (the folder with ``meta.json``): those named, or all of ``meta.json``. An object starts at the first
    of its frames. ValueError as for ``davis``."""
    path = Path(root) / "meta.json"
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
    except OSError as e:
        raise ValueError(
            f"{root}: no meta.json; wanted a YouTube-VOS split with meta.json, JPEGImages/NAME and Annotations/NAME"
        ) from e
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{path}: no JSON object with 'videos' ({type(e).__name__}: {e})") from e
    images, masks = _layout(Path(root), "")
    out = []
    for name in _chosen(videos, names, path):
        objects = videos[name]["objects"]
        starts: dict[str, tuple[int, ...]] = {}
        for i in sorted(int(o) for o in objects):
            first = min(objects[str(i)]["frames"])
            starts[first] = (*starts.get(first, ()), i)
        frames, annotations = _files(name, images / name, masks / name)
        unknown = sorted(set(starts) - set(annotations))
        if unknown:
            raise ValueError(
                f"{name}: meta.json starts objects at {_some(unknown)}, of which {masks / name} has no mask"
            )
        named = {int(i): str(o.get("category", "")) for i, o in objects.items()}
        out.append(VideoSequence(name, frames, annotations, starts, categories=named))
    return tuple(out)


def categories(meta: Path | str) -> frozenset[str]:
    """The categories in a ``meta.json``: those of the training split are the ones that YouTube-VOS calls seen. ValueError: no such file."""
    try:
        videos = json.loads(Path(meta).read_text(encoding="utf-8"))["videos"]
        return frozenset(str(o["category"]) for v in videos.values() for o in v["objects"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError(
            f"{meta}: wanted the meta.json of the training split, its objects with categories"
            f" ({type(e).__name__}: {e})"
        ) from e


def _layout(root: Path, resolution: str) -> tuple[Path, Path]:
    """Folders of images and masks."""
    tried = [resolution] if resolution else _RESOLUTIONS
    for name in tried:
        images, masks = root / "JPEGImages" / name, root / "Annotations" / name
        if images.is_dir() and masks.is_dir():
            return images, masks
    raise ValueError(
        f"{root}: wanted JPEGImages and Annotations with {' or '.join(n or 'no resolution' for n in tried)} below; it holds"
        f" {_some(sorted(p.name for p in root.iterdir())) if root.is_dir() else 'nothing: no such folder'}"
    )


def _is_binary(masks: Path) -> bool:
    """Whether a sequence is annotated as in 2016: its first mask holds 255, which in 2017 is no object, and no object."""
    first = min(masks.glob("*.png"), default=None)
    return (
        first is not None
        and VOID in (ids := np.unique(read_mask(first)))
        and set(ids.tolist()) <= {0, VOID}
    )


def _listed(root: Path, year: int | None, subset: str) -> tuple[str, ...]:
    """Names in the list of a subset: one per line, or DAVIS 2016's lines of an image and a mask. None without lists and without wish."""
    folders = {2016: ("2016", "480p"), 2017: ("2017",), None: ("2017", "2016", "480p")}[year]
    places = [root / "ImageSets" / folder / f"{subset or 'val'}.txt" for folder in folders]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        if subset:
            raise ValueError(
                f"{root}: no list of subset {subset!r}, looked for {' and '.join(str(p.relative_to(root)) for p in places)}"
            )
        return ()
    words = [
        line.split()[0] for line in found.read_text(encoding="utf-8").splitlines() if line.strip()
    ]
    return tuple(dict.fromkeys(Path(w).parent.name if "/" in w else w for w in words))


def _chosen(known: Iterable[str], names: Sequence[str], place: Path) -> tuple[str, ...]:
    known = tuple(known)
    missing = [n for n in names if n not in known]
    if missing:
        near = get_close_matches(missing[0], known, 1)
        way_out = f"did you mean {near[0]}?" if near else f"there are {_some(known)}"
        raise ValueError(f"{place}: no sequence {_some(missing)}; {way_out}")
    if not known:
        raise ValueError(f"{place}: no sequence there")
    return tuple(names) or known


def _davis_sequence(name: str, images: Path, masks: Path, *, binary: bool) -> VideoSequence:
    frames, annotations = _files(name, images, masks)
    first = frames[0].stem
    if first not in annotations:
        raise ValueError(
            f"{name}: no annotation of the first frame {first}; the objects are taken from it"
        )
    sequence = VideoSequence(name, frames, annotations, {}, binary)
    ids = tuple(int(i) for i in np.unique(sequence.mask(first)) if i != 0 and (binary or i != VOID))
    if not ids:
        raise ValueError(f"{annotations[first]}: no object in the first frame")
    return VideoSequence(name, frames, annotations, {first: ids}, binary)


def _files(name: str, images: Path, masks: Path) -> tuple[tuple[Path, ...], dict[str, Path]]:
    """Images of a sequence in order, and its masks by frame."""
    frames = (
        tuple(
            sorted(
                (p for p in images.iterdir() if p.suffix.lower() in _IMAGES), key=lambda p: p.stem
            )
        )
        if images.is_dir()
        else ()
    )
    annotations = {p.stem: p for p in sorted(masks.glob("*.png"))}
    if not frames or not annotations:
        raise ValueError(
            f"{name}: {len(frames)} images in {images}, {len(annotations)} masks in {masks}; wanted some of both"
        )
    lost = sorted(set(annotations) - {p.stem for p in frames})
    if lost:
        raise ValueError(f"{name}: {masks} has masks of {_some(lost)}, {images} has no such images")
    return frames, annotations


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (
        f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    )
