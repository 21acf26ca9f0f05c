"""``objects.json`` with PLY files: the object map and the names of a recorded folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy.spatial import cKDTree

from vos_ros.datasets.interface import ObjectInfo
from vos_ros.datasets.ply import read_vertices
from vos_ros.messages.stamps import NS_PER_S
from vos_ros.types import MapObject

_DEFAULT_POINT_RADIUS_M = 0.005  # of an object with too few points to measure their spacing
_MAX_MEASURED_POINTS = 2000  # of an object, whose spacing is measured


def read_object_infos(path: Path) -> tuple[ObjectInfo, ...]:
    """Read id, name, class, alike_group and removed_s (s) of every object of an ``objects.json``.

    Raises ValueError: an object without id.
    """
    entries = _entries(path)
    if any("id" not in e for e in entries):
        raise ValueError(f"{path}: an object has no id; wanted a list of objects with id and name")
    return tuple(
        ObjectInfo(
            id=int(e["id"]),
            name=str(e.get("name", "")),
            category=str(e.get("class", "")),
            alike_group=str(e.get("alike_group") or ""),
            removed_ns=(
                None if e.get("removed_s") is None else round(float(e["removed_s"]) * NS_PER_S)
            ),
        )
        for e in entries
    )


def read_map_objects(path: Path) -> tuple[MapObject, ...]:
    """Read the map objects of an ``objects.json``: id, class, bbox_min, bbox_max (m), ply.

    ``ply`` is relative to the file. ``T_map_object`` is the box's centre with identity rotation,
    ``size`` the box's extents. ``class_id`` is the entry's own where it has one, else 1 + the
    position of its class in the alphabet of the file's classes.
    Raises ValueError: a missing key, or a PLY file that can't be read.
    """
    entries = _entries(path)
    classes = sorted({e["class"] for e in entries})
    return tuple(
        _read_object(path, e, int(e.get("class_id", 1 + classes.index(e["class"]))))
        for e in entries
    )


def _entries(path: Path) -> list[dict[str, Any]]:
    entries = json.loads(path.read_text())
    found: list[dict[str, Any]] = entries["objects"] if isinstance(entries, dict) else entries
    return found


def _read_object(path: Path, entry: Mapping[str, Any], class_id: int) -> MapObject:
    try:
        low, high = (np.asarray(entry[k], np.float64) for k in ("bbox_min", "bbox_max"))
        points = read_vertices(path.parent / str(entry["ply"]))
        object_id = int(entry["id"])
    except KeyError as e:
        raise ValueError(
            f"{path}: object {entry.get('id', '?')} has no {e}; wanted id, class, bbox_min,"
            " bbox_max, ply"
        ) from e
    T_map_object = np.eye(4)
    T_map_object[:3, 3] = (low + high) / 2
    return MapObject(
        id=object_id,
        class_id=class_id,
        T_map_object=T_map_object,
        size=high - low,
        points=points,
        point_radius=point_radius(points),
        revision=1,
    )


def point_radius(points: Float32[np.ndarray, "M 3"]) -> float:
    """Return the radius in m of disks that close the surface sampled by ``points``.

    It is half the diagonal of their spacing. Spacing is the median over points of the mean
    distance to the 4 nearest neighbours: exact on a square grid, and within 5 % on the vertices
    of a mesh, whose very nearest neighbour is nearer than the spacing.
    """
    if len(points) < 5:
        return _DEFAULT_POINT_RADIUS_M
    some = points[:: max(1, len(points) // _MAX_MEASURED_POINTS)]
    distances = np.asarray(cKDTree(points).query(some, k=5)[0])[:, 1:]
    return float(np.median(distances.mean(1)) * np.sqrt(2) / 2)
