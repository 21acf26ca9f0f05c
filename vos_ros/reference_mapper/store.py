"""The map on disk: a JSON file, and next to it a folder with the points of each object.

``kitchen.json`` names ``kitchen.objects/000007-5d3f21aa.ply``: id and checksum, so that an
unchanged object is not written again. A vertex has x y z (m, map frame), the number of points that
it is the mean of (``weight``), the number of frames that measured it (``hits``) and of those that
measured something else in its place (``misses``).

A crash while a map is written harms neither the former map nor the new one: points are written to
new files first, then the JSON file is replaced in one step, then unused points are removed.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vos_ros.datasets.ply import ply_bytes, read_columns
from vos_ros.mapping.object_map import merge_circles
from vos_ros.messages.checks import MAX_COORDINATE_M, check_text
from vos_ros.reference_mapper.model import ObjectModel
from vos_ros.reference_mapper.object_mapper import SavedMap
from vos_ros.reference_mapper.voxels import grid_from_means

FORMAT, VERSION = "vos_ros object map", 1
_MAX_ID = 2**32 - 1
"""Largest id of a map object: ids are uint32 in the messages."""
_MAX_REVISION, _MAX_NS = 2**63 - 1, 2**31 * 10**9 - 1
"""Largest revision and time that a message can carry."""
_MAX_SHOWN = 8
"""Ids that an error shows."""


class MapFileError(ValueError):
    """A saved map that can't be used. The text names the file, its fault and the way out."""


def points_folder(path: Path) -> Path:
    """Return the folder of a map's PLY files."""
    return path.with_name(f"{path.stem}.objects")


def save(saved: SavedMap, path: Path) -> None:
    """Write a map. One of that name is replaced when the new one is complete.

    Raises OSError: the disk can't be written.
    """
    folder = points_folder(path)
    folder.mkdir(parents=True, exist_ok=True)
    entries = [_write_object(o, folder) for o in saved.objects]
    index = {
        "format": FORMAT,
        "version": VERSION,
        "session_id": saved.session_id,
        "revision": saved.revision,
        "stamp_ns": saved.stamp_ns,
        "frame_id": saved.frame_id,
        "next_id": saved.next_id,
        "merged": {str(a): b for a, b in saved.merged.items()},
        "objects": entries,
    }
    fresh = path.with_name(f".{path.name}.part")
    with fresh.open("w") as file:
        json.dump(index, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    named = {e["ply"] for e in entries}
    for old in folder.glob("*.ply"):
        if old.name not in named:
            old.unlink(missing_ok=True)


def _write_object(o: ObjectModel, folder: Path) -> dict[str, Any]:
    grid = o.grid
    points = grid.means()
    data = ply_bytes(
        {
            **{a: points[:, i] for i, a in enumerate("xyz")},
            "weight": grid.weights,
            "hits": grid.hits,
            "misses": grid.misses,
        }
    )
    crc = zlib.crc32(data)
    name = f"{o.id:06d}-{crc:08x}.ply"
    if not (folder / name).is_file():
        fresh = folder / f".{name}.part"
        fresh.write_bytes(data)
        os.replace(fresh, folder / name)
    low, high = (points.min(0), points.max(0)) if len(points) else (grid.origin_m, grid.origin_m)
    return {
        "id": o.id,
        "class_id": o.class_id,
        "bbox_min": np.round(low.astype(float), 4).tolist(),
        "bbox_max": np.round(high.astype(float), 4).tolist(),
        "observations": o.observations,
        "existence_log_odds": o.log_odds,
        "first_seen_ns": o.first_ns,
        "last_seen_ns": o.last_ns,
        "measured_ns": o.measured_ns,
        "class_votes": {str(c): n for c, n in o.votes.items()},
        "information": o.information.tolist(),
        "voxel_m": grid.size_m,
        "origin_m": grid.origin_m.tolist(),
        "num_points": len(grid),
        "ply": name,
        "crc32": crc,
    }


def load(path: Path) -> SavedMap:
    """Read a map.

    Raises MapFileError: a file is missing, cut short, changed, or contradicts itself.
    """
    way_out = f". Put back a copy that is whole, or move {path} away to start an empty map"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise ValueError(f"is no {FORMAT}")
        if index["version"] != VERSION:
            raise ValueError(
                f"has version {index['version']}, and this program reads version {VERSION}"
            )
        objects = tuple(_read_object(e, points_folder(path)) for e in index["objects"])
        saved = SavedMap(
            session_id=str(index["session_id"]),
            revision=int(index["revision"]),
            stamp_ns=int(index["stamp_ns"]),
            frame_id=str(index["frame_id"]),
            next_id=int(index["next_id"]),
            merged={int(a): int(b) for a, b in index["merged"].items()},
            objects=objects,
        )
        _check(saved)
    except json.JSONDecodeError as e:
        raise MapFileError(f"the map {path} is cut short or damaged: {e}{way_out}") from e
    except KeyError as e:
        raise MapFileError(f"the map {path} lacks {e.args[0]!r}{way_out}") from e
    except RecursionError as e:
        raise MapFileError(f"the map {path} is nested too deeply to be one{way_out}") from e
    except (OSError, ValueError, TypeError, AttributeError, OverflowError) as e:
        raise MapFileError(f"the map {path} can't be used: {e}{way_out}") from e
    return saved


def _read_object(entry: Mapping[str, Any], folder: Path) -> ObjectModel:
    """Read an object. Raises ValueError: its entry or its points are damaged."""
    name = str(entry["ply"])
    file = folder / name
    if Path(name).name != name:
        raise ValueError(
            f"object {entry['id']} has its points in {name!r}: wanted the name of a file in"
            f" {folder}"
        )
    if not file.is_file():
        raise ValueError(f"{file}, the points of object {entry['id']}, is missing")
    if zlib.crc32(file.read_bytes()) != entry["crc32"]:
        raise ValueError(
            f"{file}, the points of object {entry['id']}, is damaged: its checksum is another one"
            " than when it was written"
        )
    columns = read_columns(file)
    lacking = {"weight", "hits", "misses"} - columns.keys()
    if lacking:
        raise ValueError(f"{file} lacks the vertex properties {', '.join(sorted(lacking))}")
    points = np.stack([columns[a] for a in "xyz"], 1).astype(np.float32)
    size_m, origin_m = float(entry["voxel_m"]), np.array(entry["origin_m"], np.float64)
    information = np.array(entry["information"], np.float64)
    if (
        not 0 < size_m <= MAX_COORDINATE_M
        or origin_m.shape != (3,)
        or not (np.abs(origin_m) <= MAX_COORDINATE_M).all()
        or information.shape != (6, 6)
        or not np.isfinite(information).all()
    ):
        raise ValueError(
            f"object {entry['id']} has voxel_m {size_m}, origin_m {origin_m}, information of shape"
            f" {information.shape}: wanted a length > 0, three numbers and 6x6 finite ones"
        )
    counts = {n: columns[n].astype(np.float64) for n in ("weight", "hits", "misses")}
    if not (
        (np.abs(points) <= MAX_COORDINATE_M).all()
        and (counts["weight"] > 0).all()
        and all(((c >= 0) & (c < 2**31)).all() for c in counts.values())
    ):
        raise ValueError(
            f"{file}, the points of object {entry['id']}, has points or counts that are not finite,"
            " negative or too large"
        )
    grid = grid_from_means(
        size_m,
        origin_m,
        points,
        counts["weight"],
        counts["hits"].astype(np.int32),
        counts["misses"].astype(np.int32),
    )
    measured_ns = entry["measured_ns"]
    return ObjectModel(
        id=int(entry["id"]),
        grid=grid,
        first_ns=int(entry["first_seen_ns"]),
        last_ns=int(entry["last_seen_ns"]),
        observations=int(entry["observations"]),
        votes={int(c): int(n) for c, n in entry["class_votes"].items()},
        log_odds=float(entry["existence_log_odds"]),
        information=information,
        measured_ns=None if measured_ns is None else int(measured_ns),
    )


def _check(saved: SavedMap) -> None:
    """Raise ValueError: ids, merges or numbers of a map contradict each other or a message."""
    check_text("session_id", saved.session_id)
    check_text("frame_id", saved.frame_id)
    if not 0 <= saved.revision <= _MAX_REVISION:
        raise ValueError(f"its revision is {saved.revision}, wanted 0 to {_MAX_REVISION}")
    times_ns = [saved.stamp_ns]
    for o in saved.objects:
        times_ns += [o.first_ns, o.last_ns, o.measured_ns or 0]
        if not (math.isfinite(o.log_odds) and 0 <= o.observations <= _MAX_ID):
            raise ValueError(
                f"object {o.id} has existence_log_odds {o.log_odds} and {o.observations}"
                f" observations; wanted a finite number and 0 to {_MAX_ID}"
            )
        if not all(0 <= c <= _MAX_ID and n >= 0 for c, n in o.votes.items()):
            raise ValueError(f"object {o.id} has class_votes {o.votes}; wanted class id: count")
    if not 0 <= min(times_ns) <= max(times_ns) <= _MAX_NS:
        raise ValueError(
            f"it has times from {min(times_ns)} to {max(times_ns)} ns, wanted 0 to {_MAX_NS}"
        )
    ids = [o.id for o in saved.objects]
    twice = sorted(i for i, n in Counter(ids).items() if n > 1)
    if twice:
        raise ValueError(f"it holds the objects {twice[:_MAX_SHOWN]} twice")
    wrong = [
        i
        for i in (*ids, *saved.merged, *saved.merged.values())
        if not 1 <= i < saved.next_id <= _MAX_ID
    ]
    if wrong or not 1 <= saved.next_id <= _MAX_ID:
        raise ValueError(
            f"it holds the ids {wrong[:_MAX_SHOWN]}, and its next_id is {saved.next_id}: wanted ids"
            " from 1 to below it"
        )
    if back := sorted(saved.merged.keys() & set(ids)):
        raise ValueError(
            f"it holds the objects {back[:_MAX_SHOWN]}, and also that these became part of others"
        )
    for circle in merge_circles(saved.merged, saved.merged):
        raise ValueError(f"its merges form a circle: {circle[:_MAX_SHOWN]}")
