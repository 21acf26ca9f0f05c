"""``youtube_vos``: YouTube-VOS (Xu et al., arXiv:1809.03327).

Per split ``JPEGImages/NAME``, ``Annotations/NAME`` with every fifth frame or so, and ``meta.json``
with the objects' categories and frames.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vos_ros.datasets.files import image_and_mask_folders, list_frames, require_folder
from vos_ros.datasets.interface import DataSet, ObjectInfo, Selection, VideoSequence
from vos_ros.datasets.registry import refuse_unknown, register, some

_DATASET = "youtube_vos"


def matches(root: Path) -> bool:
    """Tell whether the folder is a split, or has the split train."""
    return any((p / "meta.json").is_file() and (p / "JPEGImages").is_dir() for p in _splits(root))


def _splits(root: Path) -> tuple[Path, Path]:
    return root, root / "train"


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the videos that are named, or all of the split's ``meta.json``.

    ``split``: folder below the root, default train; "." = the root itself is the split. An object
    starts at the first of its frames. A ``complete`` selection needs ``meta.json``, else the
    folders of images serve. Raises FileNotFoundError, ValueError: files that are missing.
    """
    base = root / (selection.split or "train")
    meta = base / "meta.json"
    if selection.complete or meta.is_file():
        videos = _read_meta(meta)
        names = list(videos) if selection.complete else sorted(videos)
    else:
        require_folder(base, "a split of YouTube-VOS")
        images = require_folder(base / "JPEGImages", "a split's images")
        videos, names = {}, sorted(p.name for p in images.iterdir())
    images, masks = image_and_mask_folders(base, ("",))
    if selection.names:
        refuse_unknown(selection.names, names, meta)
        names = list(selection.names)
    return [
        _sequence(name, images / name, masks / name, videos.get(name, {}), selection.complete)
        for name in names
        if selection.wants(_DATASET, name)
    ]


def _sequence(
    name: str, images: Path, masks: Path, video: Mapping[str, Any], complete: bool
) -> VideoSequence:
    objects = {int(i): o for i, o in video.get("objects", {}).items()}
    starts: dict[str, tuple[int, ...]] = {}
    for i, o in sorted(objects.items()):
        if o.get("frames"):
            first = min(o["frames"])
            starts[first] = (*starts.get(first, ()), i)
    frames = list_frames(name, images, masks, complete=complete)
    unknown = sorted(set(starts) - {f.name for f in frames if f.mask is not None})
    if complete and unknown:
        raise ValueError(
            f"{name}: meta.json starts objects at {some(unknown)}, of which {masks} has no mask"
        )
    return VideoSequence(
        name=name,
        dataset=_DATASET,
        frames=frames,
        objects=tuple(
            ObjectInfo(id=i, category=str(o.get("category", ""))) for i, o in objects.items()
        ),
        first_frames=starts or None,
    )


def _read_meta(path: Path) -> dict[str, Any]:
    """Return the videos of a ``meta.json``. Raises ValueError: no such file, or another content."""
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
    except OSError as e:
        raise ValueError(
            f"{path.parent}: no meta.json; wanted a YouTube-VOS split with meta.json,"
            " JPEGImages/NAME and Annotations/NAME"
        ) from e
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{path}: no JSON object with 'videos' ({type(e).__name__}: {e})") from e
    return dict(videos)


def categories(meta: Path | str) -> frozenset[str]:
    """Return the categories in a ``meta.json``.

    Those of the training split are the ones that YouTube-VOS calls seen.
    Raises ValueError: no such file, or objects without category.
    """
    try:
        videos = json.loads(Path(meta).read_text(encoding="utf-8"))["videos"]
        return frozenset(str(o["category"]) for v in videos.values() for o in v["objects"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError(
            f"{meta}: wanted the meta.json of the training split, its objects with categories"
            f" ({type(e).__name__}: {e})"
        ) from e


register(
    DataSet(
        name=_DATASET,
        title="YouTube-VOS",
        layout="meta.json + JPEGImages",
        matches=matches,
        sequences=sequences,
        priority=1,  # DAVIS has folders of the same names
    )
)
