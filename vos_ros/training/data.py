"""Footage: images in order with the ids of the objects in them, whatever the layout on disk. A still image is footage of one frame.

Readers only list files; pixels are read when a frame is asked for. Nothing here changes what was recorded.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from vos_ros.datasets.folder import read_color
from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec, write_folder
from vos_ros.training.config import SourceConfig

Ids = Int[np.ndarray, "H W"]
IGNORE_ID = 255
"""In masks of one byte: a pixel of which nothing is known."""


@dataclass(frozen=True, eq=False, slots=True)
class VideoClip:
    """``read(i)`` gives frame i: RGB u8 (H,W,3), and ids (H,W) of any integer type, 0 background, the same id for the same object in all
    frames; ``ignore`` is the id of pixels of which nothing is known. ``times`` are the frames' numbers at the sequence's own rate."""

    name: str
    dataset: str
    licence: str
    times: tuple[int, ...]
    read: Callable[[int], tuple[UInt8[np.ndarray, "H W 3"], Ids]]
    ignore: int = IGNORE_ID

    def __len__(self) -> int:
        return len(self.times)


@dataclass(frozen=True, eq=False, slots=True)
class Files:
    """Frames as pairs of files; callable as ``VideoClip.read``."""

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    read_mask: Callable[[Path], Ids]

    def __call__(self, index: int) -> tuple[UInt8[np.ndarray, "H W 3"], Ids]:
        rgb, ids = read_color(self.images[index]), self.read_mask(self.masks[index])
        if ids.shape != rgb.shape[:2]:
            raise ValueError(
                f"{self.masks[index]}: got a mask of {ids.shape[1]}x{ids.shape[0]} px, its image has"
                f" {rgb.shape[1]}x{rgb.shape[0]}"
            )
        return rgb, ids


def read_ids(path: Path) -> Ids:
    """A mask image: palette index or grey value, 8 or 16 bits. ValueError for anything else."""
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L", "I;16", "I", "1"):
                raise ValueError(
                    f"{path}: got an image of mode {image.mode}, wanted a palette or grey image whose values are ids"
                )
            ids = np.asarray(image)
    except OSError as e:
        raise ValueError(f"{path}: missing, or no image: {e}") from e
    return ids.view(np.uint8) if ids.dtype == bool else ids


def read_binary(path: Path) -> Ids:
    """A mask of one object: what is brighter than half."""
    return (read_ids(path) > 127).view(np.uint8)


def frame_numbers(names: Iterable[str]) -> tuple[int, ...]:
    """The numbers at the end of file names, from 0; their places where they don't rise."""
    names = list(names)
    found = [re.findall(r"\d+", name) for name in names]
    numbers = [int(f[-1]) if f else 0 for f in found]
    if any(b <= a for a, b in pairwise(numbers)):
        numbers = list(range(len(names)))
    return tuple(n - numbers[0] for n in numbers)


def wanted(config: SourceConfig, dataset: str, name: str) -> bool:
    """Whether ``only`` and ``exclude`` leave this sequence in; they name datasets, sequences, or dataset/sequence."""
    names = {dataset, name, f"{dataset}/{name}"}
    return (not config.only or bool(names & set(config.only))) and not names & set(config.exclude)


def folder(path: Path, wants: str) -> Path:
    """The path; FileNotFoundError says what was wanted of it."""
    if not path.is_dir():
        raise FileNotFoundError(
            f"{path}: no such folder; wanted {wants} (data_root and the source's root say where)"
        )
    return path


def footage_of_files(
    config: SourceConfig,
    dataset: str,
    name: str,
    pairs: Iterable[tuple[Path, Path]],
    read_mask: Callable[[Path], Ids] = read_ids,
    ignore: int = IGNORE_ID,
) -> VideoClip:
    """Footage of image and mask files in order."""
    images, masks = zip(*pairs, strict=True)
    return VideoClip(
        name,
        dataset,
        config.licence,
        frame_numbers(p.stem for p in images),
        Files(images, masks, read_mask),
        ignore,
    )


def pairs_by_stem(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Images of a folder that have a mask of the same name, in order of their names; sparse annotation is thereby allowed."""
    by_stem = (
        {p.stem: p for p in masks.iterdir() if p.suffix.lower() == ".png"} if masks.is_dir() else {}
    )
    return [
        (p, by_stem[p.stem])
        for p in sorted(images.iterdir())
        if p.stem in by_stem and p.suffix.lower() in (".jpg", ".jpeg", ".png")
    ]


# -- layouts ------------------------------------------------------------------------------------------------------------------------


def packed(config: SourceConfig, root: Path) -> list[VideoClip]:
    """A ``manifest.csv`` (image, mask, dataset, seq, frame, licence; or path_img, path_mask) beside the files it names. Rows with a
    sequence are its frames, in order; rows without are stills."""
    manifest = root / "manifest.csv"
    if not manifest.is_file():
        raise FileNotFoundError(
            f"{manifest}: no such file; wanted the manifest of a packed data set (data_root and root say where)"
        )
    with open(manifest, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    columns = ("path_img", "path_mask") if rows and "path_img" in rows[0] else ("image", "mask")
    if rows and (missing := {*columns, "dataset"} - rows[0].keys()):
        raise ValueError(
            f"{manifest}: no column {', '.join(sorted(missing))}; it has {', '.join(rows[0])}"
        )

    def key(numbered: tuple[int, Mapping[str, str]]) -> tuple[str, str]:
        index, row = numbered
        return row["dataset"], row.get("seq") or f"#{index}"

    out = []
    for (dataset, name), group in groupby(
        sorted(enumerate(rows), key=lambda r: (*key(r), r[1].get("frame") or "", r[0])), key
    ):
        members = [row for _, row in group]
        name = Path(members[0][columns[0]]).stem if name.startswith("#") else name
        if not wanted(config, dataset, name):
            continue
        times = frame_numbers(row.get("frame") or "" for row in members)
        images, masks = (tuple(root / row[c] for row in members) for c in columns)
        licence = config.licence or members[0].get("licence") or ""
        out.append(VideoClip(name, dataset, licence, times, Files(images, masks, read_ids)))
    return out


def davis(config: SourceConfig, root: Path) -> list[VideoClip]:
    """DAVIS: ``JPEGImages/480p/<sequence>``, ``Annotations/480p/<sequence>`` (or Full-Resolution). ``split`` is 2016/train (one
    object, masks of 0 and 255) or 2017/train (default; ids); its list is read from ImageSets where that is there."""
    year, _, subset = (config.split or "2017/train").partition("/")
    if year not in ("2016", "2017") or not subset:
        raise ValueError(
            f"split of a DAVIS source: got {config.split!r}, wanted YEAR/SUBSET, e.g. 2016/train or 2017/train"
        )
    size = "480p" if (root / "JPEGImages" / "480p").is_dir() else "Full-Resolution"
    images, masks = (
        folder(root / kind / size, "DAVIS' JPEGImages and Annotations")
        for kind in ("JPEGImages", "Annotations")
    )
    lists = [
        p
        for p in (
            root / "ImageSets" / year / f"{subset}.txt",
            root / "ImageSets" / size / f"{subset}.txt",
        )
        if p.is_file()
    ]
    if (
        lists
    ):  # the one of 2016 has a line per frame: /JPEGImages/480p/bear/00000.jpg /Annotations/...
        lines = lists[0].read_text().split("\n")
        names = list(
            dict.fromkeys(
                Path(line.split()[0]).parent.name if "/" in line else line.strip()
                for line in lines
                if line.strip()
            )
        )
    else:
        names = sorted(p.name for p in images.iterdir() if p.is_dir())
    read = read_binary if year == "2016" else read_ids
    return [
        footage_of_files(config, f"davis{year}", name, pairs, read)
        for name in names
        if wanted(config, f"davis{year}", name)
        and (pairs := pairs_by_stem(folder(images / name, "a sequence"), masks / name))
    ]


def youtube_vos(config: SourceConfig, root: Path) -> list[VideoClip]:
    """YouTube-VOS: ``<split>/JPEGImages/<video>``, ``<split>/Annotations/<video>``, ``<split>/meta.json``. Frames without an annotation
    aren't used."""
    base = folder(root / (config.split or "train"), "a split of YouTube-VOS")
    meta = base / "meta.json"
    names = (
        sorted(json.loads(meta.read_text())["videos"])
        if meta.is_file()
        else sorted(p.name for p in (base / "JPEGImages").iterdir())
    )
    return [
        footage_of_files(config, "youtube_vos", name, pairs)
        for name in names
        if wanted(config, "youtube_vos", name)
        and (
            pairs := pairs_by_stem(
                folder(base / "JPEGImages" / name, "a video"), base / "Annotations" / name
            )
        )
    ]


def voc(config: SourceConfig, root: Path) -> list[VideoClip]:
    """Pascal VOC 2012: ``JPEGImages``, ``SegmentationObject`` (ids, 255 around objects), ``ImageSets/Segmentation/<split>.txt``."""
    images, masks = (
        folder(root / "JPEGImages", "Pascal VOC's JPEGImages"),
        folder(root / "SegmentationObject", "instance masks"),
    )
    split = root / "ImageSets" / "Segmentation" / f"{config.split or 'train'}.txt"
    names = (
        split.read_text().split()
        if split.is_file()
        else sorted(p.stem for p in masks.glob("*.png"))
    )
    return [
        footage_of_files(config, "voc", name, [(images / f"{name}.jpg", masks / f"{name}.png")])
        for name in names
        if wanted(config, "voc", name)
    ]


def folders(config: SourceConfig, root: Path) -> list[VideoClip]:
    """Anybody's: ``images/`` and ``masks/`` (PNG, values are ids) with equal names. Files right there are stills, each folder is a
    sequence."""
    images, masks = (
        folder(root / "images", "folders images/ and masks/"),
        folder(root / "masks", "folders images/ and masks/"),
    )
    stills = [
        footage_of_files(config, root.name, i.stem, [(i, m)])
        for i, m in pairs_by_stem(images, masks)
    ]
    videos = [
        footage_of_files(config, root.name, p.name, pairs)
        for p in sorted(images.iterdir())
        if p.is_dir() and (pairs := pairs_by_stem(p, masks / p.name))
    ]
    return [f for f in stills + videos if wanted(config, f.dataset, f.name)]


def scenenet(config: SourceConfig, root: Path) -> list[VideoClip]:
    """SceneNet RGB-D: ``<split>/<part>/<trajectory>/photo/<n>.jpg`` and ``instance/<n>.png`` (16 bits). Walls and floors are instances
    there: ids that cover more than a third of a frame are background."""
    base = folder(root / (config.split or "train"), "a split of SceneNet RGB-D")
    out = []
    for photo in sorted(base.glob("*/*/photo")):
        name = "/".join(photo.parent.parts[-2:])
        pairs = sorted(
            pairs_by_stem(photo, photo.parent / "instance"), key=lambda p: int(p[0].stem)
        )
        if pairs and wanted(config, "scenenet", name):
            out.append(footage_of_files(config, "scenenet", name, pairs, _read_scenenet, ignore=-1))
    return out


def _read_scenenet(path: Path) -> Ids:
    ids = read_ids(path).astype(np.int32)
    values, counts = np.unique(ids, return_counts=True)
    ids[np.isin(ids, values[counts > ids.size / 3])] = 0
    return ids


def synthetic(config: SourceConfig, root: Path) -> list[VideoClip]:
    """Sequences of the synthetic world, 320x240, rendered into the root where they aren't there yet (needs Open3D)."""
    out = []
    for seed in range(config.first_world, config.first_world + config.worlds):
        name = f"world-{seed:05d}-{config.frames}"
        if wanted(config, "synthetic", name):
            render_world(seed, config.frames, root / name)
            with open(root / name / "frames.csv", newline="", encoding="utf-8") as f:
                pairs = [
                    (root / name / r["color"], root / name / r["mask"]) for r in csv.DictReader(f)
                ]
            out.append(footage_of_files(config, "synthetic", name, pairs))
    return out


def render_world(seed: int, frames: int, path: Path) -> None:
    """Renders a world into a folder, whole or not at all."""
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


@dataclass(frozen=True, eq=False, slots=True)
class _Panoptic:
    """Reads a COCO panoptic image: colours are segment ids; things become 1..n, stuff 0, crowds ``ignore``."""

    segments: Mapping[
        str, tuple[tuple[int, int], ...]
    ]  # file name -> (segment id, what it becomes)

    def __call__(self, path: Path) -> Ids:
        with Image.open(path) as image:
            rgb = np.asarray(image.convert("RGB")).astype(np.int32)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        out = np.zeros(ids.shape, np.int32)
        for segment, value in self.segments[path.name]:
            out[ids == segment] = value
        return out


def coco_panoptic(config: SourceConfig, root: Path) -> list[VideoClip]:
    """COCO panoptic: ``<split>/*.jpg``, ``annotations/panoptic_<split>.json`` and the folder of the same name (split: train2017)."""
    split = config.split or "train2017"
    images, masks = (
        folder(root / split, "COCO's images"),
        folder(root / "annotations" / f"panoptic_{split}", "COCO's panoptic images"),
    )
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
                *((s, -1) for s in crowds),
            )
    read = _Panoptic(segments)
    return [
        footage_of_files(
            config,
            "coco_panoptic",
            Path(name).stem,
            [(images / f"{Path(name).stem}.jpg", masks / name)],
            read,
            -1,
        )
        for name in sorted(segments)
        if wanted(config, "coco_panoptic", Path(name).stem)
    ]


READERS: dict[str, Callable[[SourceConfig, Path], list[VideoClip]]] = {
    "packed": packed,
    "davis": davis,
    "youtube_vos": youtube_vos,
    "voc": voc,
    "coco_panoptic": coco_panoptic,
    "folder": folders,
    "scenenet": scenenet,
    "synthetic": synthetic,
}


def open_source(config: SourceConfig, data_root: Path | str) -> list[VideoClip]:
    """All footage of a source. FileNotFoundError or ValueError where the files aren't there, or nothing is left of them."""
    root = Path(data_root) / config.root
    found = READERS[config.kind](config, root)
    if not found:
        raise ValueError(
            f"{root}: no footage of kind {config.kind!r}"
            + (
                f" after only={config.only}, exclude={config.exclude}"
                if config.only or config.exclude
                else ""
            )
        )
    return found
