"""Data sets by name. The files of this package register theirs and load when one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from vos_ros.config import import_plugins
from vos_ros.datasets.interface import DataSet, Selection, VideoSequence

_DATA_SETS: dict[str, DataSet] = {}
_MAX_NAMED = 5
_MAX_LISTED_FILES = 12


def register(data_set: DataSet) -> None:
    """Add a data set. Raises ValueError: the name is taken."""
    if data_set.name in _DATA_SETS:
        raise ValueError(f"data set {data_set.name!r} is registered twice")
    _DATA_SETS[data_set.name] = data_set


def data_sets(*, has_camera: bool = False, has_masks: bool = False) -> tuple[DataSet, ...]:
    """Return the registered data sets, sorted by name; those that have what is asked for."""
    import_plugins("vos_ros.datasets")
    return tuple(
        d
        for _, d in sorted(_DATA_SETS.items())
        if (d.has_camera or not has_camera) and (d.has_masks or not has_masks)
    )


def get(name: str) -> DataSet:
    """Return a data set by name. Raises ValueError: unknown name, listing the known ones."""
    known = {d.name: d for d in data_sets()}
    if name not in known:
        raise ValueError(f"unknown data set {name!r}: known are {', '.join(known)}")
    return known[name]


def recognise(root: Path, among: Sequence[DataSet]) -> DataSet:
    """Return the data set whose layout the root has.

    Raises FileNotFoundError: no such folder. Raises ValueError: lists what each data set needs, and
    what is there.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    found = [d for d in among if d.matches(root)]
    if found:
        return max(found, key=lambda d: d.priority)
    there = sorted(p.name for p in root.iterdir())
    raise ValueError(
        f"{root}: no layout that is known. Looked for "
        + ", ".join(f"{d.layout} ({d.title})" for d in among)
        + f"; the folder holds {', '.join(there[:_MAX_LISTED_FILES]) or 'nothing'}"
        + (f" and {len(there) - _MAX_LISTED_FILES} more" if len(there) > _MAX_LISTED_FILES else "")
    )


def open_one(root: Path | str, among: Sequence[DataSet], *, layout: str = "auto") -> VideoSequence:
    """Open a folder that holds one sequence of one of the data sets.

    ``layout``: name of the data set; auto = recognise it by its files.
    Raises FileNotFoundError: no folder. Raises ValueError: no known layout, or several sequences.
    """
    root = Path(root)
    if layout == "auto":
        data_set = recognise(root, among)
    else:
        by_name = {d.name: d for d in among}
        if layout not in by_name:
            raise ValueError(
                f"layout {layout!r} is not known: wanted auto or one of {', '.join(by_name)}"
            )
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder")
        data_set = by_name[layout]
    sequences = open_sequences(data_set, root)
    if len(sequences) != 1:
        raise ValueError(
            f"{root}: got {len(sequences)} sequences of {data_set.title}, wanted the folder of one"
            + (f"; they are {some([s.name for s in sequences])}" if sequences else "")
        )
    return sequences[0]


def open_sequences(
    data_set: DataSet, root: Path | str, selection: Selection | None = None
) -> tuple[VideoSequence, ...]:
    """List the chosen sequences of a data set, in its order or in that of ``selection.names``.

    Raises FileNotFoundError, ValueError: files that are missing, or a name that isn't there.
    """
    selection, root = selection or Selection(), Path(root)
    found = tuple(
        s for s in data_set.sequences(root, selection) if selection.wants(s.dataset, s.name)
    )
    if not selection.names:
        return found
    by_name = {s.name: s for s in found}
    refuse_unknown(selection.names, tuple(by_name), root)
    return tuple(by_name[n] for n in selection.names)


def refuse_unknown(names: Sequence[str], known: Sequence[str], root: Path) -> None:
    """Raise ValueError, with the nearest known name, where one of the names isn't known."""
    missing = [n for n in names if n not in known]
    if missing:
        near = get_close_matches(missing[0], known, 1)
        way_out = f"did you mean {near[0]}?" if near else f"there are {some(known)}"
        raise ValueError(f"{root}: no sequence {some(missing)}; {way_out}")


def some(names: Sequence[str]) -> str:
    """Join the first few names for a message, and count the others."""
    return ", ".join(names[:_MAX_NAMED]) + (
        f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    )
