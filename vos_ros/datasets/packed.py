"""``packed``: a collection with a table, ``manifest.csv``.

Columns: image, mask (or path_img, path_mask; files relative to the table), dataset, seq, frame,
licence. Rows with a sequence are its frames, in order; rows without are stills.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from vos_ros.datasets.files import frame_numbers
from vos_ros.datasets.interface import DataSet, FrameFiles, Selection, VideoSequence
from vos_ros.datasets.registry import register


def matches(root: Path) -> bool:
    """Tell whether the folder has a manifest."""
    return (root / "manifest.csv").is_file()


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return sequences and stills by data set and name; there are no splits.

    Raises FileNotFoundError: no manifest. Raises ValueError: a column that is missing.
    """
    manifest = root / "manifest.csv"
    if not manifest.is_file():
        raise FileNotFoundError(
            f"{manifest}: no such file; wanted the manifest of a packed data set (is this the"
            " right root?)"
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
        if not selection.wants(dataset, name):
            continue
        numbers = frame_numbers(row.get("frame") or "" for row in members)
        frames = tuple(
            FrameFiles(
                name=Path(row[columns[0]]).stem,
                number=number,
                image=root / row[columns[0]],
                mask=root / row[columns[1]],
            )
            for number, row in zip(numbers, members, strict=True)
        )
        licence = members[0].get("licence") or ""
        out.append(VideoSequence(name=name, dataset=dataset, frames=frames, licence=licence))
    return out


register(
    DataSet(
        name="packed",
        title="packed",
        layout="manifest.csv",
        matches=matches,
        sequences=sequences,
    )
)
