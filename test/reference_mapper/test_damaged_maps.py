"""Map files that are damaged in every way: refused by name, or usable to the last message."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vos_ros.messages.factory import make, serialize
from vos_ros.messages.map_objects import map_objects_message
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.object_mapper import ObjectMapper
from vos_ros.reference_mapper.store import MapFileError, load, points_folder, save

_VALUES = (
    *(0, -1, 1, 2**31, 2**32, 2**63, 2**64, -(2**63), 10**30, -(10**30)),
    *(0.5, -0.0, 1e308, math.inf, -math.inf, math.nan),
    *("", "x" * 300, "../../etc/passwd", "a\nb", "12", None, True, [], {}, [[]], [1, 2], {"1": 1}),
)
_HEADER_LINES = (
    b"element vertex 999999999999999999999999999999",
    b"element vertex -1",
    b"element vertex",
    b"element",
    b"property",
    b"property float",
    b"property float x",
    b"property list uchar int z",
    b"format",
    b"format ascii 1.0",
    b"format binary_big_endian 1.0",
    b"\xff\xfe",
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [p for k, v in inner for p in ((*path, k), *places(v, (*path, k)))]


def change_json(index: Any, rng: np.random.Generator) -> str:
    """Replace or remove a value; or damage the text."""
    where = places(index)
    path = where[int(rng.integers(len(where)))]
    owner = index
    for key in path[:-1]:
        owner = owner[key]
    if rng.random() < 0.2:
        del owner[path[-1]]
    else:
        owner[path[-1]] = _VALUES[int(rng.integers(len(_VALUES)))]
    text = json.dumps(index)
    if rng.random() < 0.1:
        text = text[: int(rng.integers(len(text)))]
    if rng.random() < 0.03:
        text = "[" * 100_000 + text
    return text


def change_points(data: bytes, rng: np.random.Generator) -> bytes:
    """Change bytes or a line of the header of a PLY file, or cut it."""
    kind = rng.random()
    if kind < 0.4:
        out = bytearray(data)
        for at in rng.integers(0, len(out), 8):
            out[at] = int(rng.integers(256))
        return bytes(out)
    if kind < 0.8:
        lines = data.split(b"\n")
        lines[int(rng.integers(1, 11))] = _HEADER_LINES[int(rng.integers(len(_HEADER_LINES)))]
        return b"\n".join(lines)
    return data[: int(rng.integers(len(data)))]


def try_damaged(run: Any, folder: Path, count: int) -> int:
    """Load so many damaged maps; return how many could be used all the same."""
    run.make_object(1, (0, 0, 1), class_id=3)
    run.make_object(2, (1.0, 0.5, 0.2))
    file = folder / "map.json"
    save(run.mapper.saved(), file)
    right = json.loads(file.read_text())
    points = {p.name: p.read_bytes() for p in points_folder(file).glob("*.ply")}
    rng, usable = np.random.default_rng(0), 0
    for _ in range(count):
        index = json.loads(json.dumps(right))
        for name, data in points.items():
            (points_folder(file) / name).write_bytes(data)
        if rng.random() < 0.5:
            entry = index["objects"][int(rng.integers(len(index["objects"])))]
            data = change_points(points[entry["ply"]], rng)
            (points_folder(file) / entry["ply"]).write_bytes(data)
            entry["crc32"] = zlib.crc32(data)  # whoever made it knows the checksum too
            file.write_text(json.dumps(index))
        else:
            file.write_text(change_json(index, rng))
        try:
            saved = load(file)
        except MapFileError as e:
            assert str(file) in str(e) and "move" in str(e)
            continue
        usable += 1
        update = ObjectMapper(MapperConfig(), saved).update(full=True)
        serialize(map_objects_message(make, update))
    return usable


def test_a_damaged_map_is_refused_by_name_or_can_be_used(run: Any, tmp_path: Path) -> None:
    assert 20 < try_damaged(run, tmp_path, 300) < 280


@pytest.mark.slow
def test_many_damaged_maps(run: Any, tmp_path: Path) -> None:
    assert 200 < try_damaged(run, tmp_path, 3000) < 2800
