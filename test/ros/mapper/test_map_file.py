"""The mapper's map file: what it opens with, what it saves and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.saved_maps import saved_map

from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.object_mapper import ObjectMapper
from vos_ros.reference_mapper.store import MapFileError, load, save
from vos_ros.ros.mapper import map_file
from vos_ros.ros.mapper.map_file import MapFile, SaveOutcome

CLOUD = np.random.default_rng(0).uniform(0, 0.1, (50, 3)).astype(np.float32)


def config(path: Path | str, **node: object) -> MapperConfig:
    default = MapperConfig()
    return replace(default, node=replace(default.node, map_file=str(path), **node))


def a_map(revision: int = 3):
    return saved_map({4: CLOUD}, session_id="kept", revision=revision)


def test_without_a_file_the_map_is_empty_and_never_saved() -> None:
    file = MapFile(config("", autosave_s=0.001))
    mapper, message = file.open()
    assert (len(mapper.objects), message) == (0, "")
    assert not file.is_due() and file.save(mapper) == SaveOutcome(False, "")


def test_a_map_is_continued_and_saved_where_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    save(a_map(), path)
    file = MapFile(config(path))
    mapper, message = file.open()
    assert (mapper.session_id, list(mapper.objects)) == ("kept", [4])
    assert message == f"{path}: 1 objects, session kept, revision 3"
    before = path.read_bytes()
    outcome = file.save(mapper)
    assert outcome.saved and "holds the map already (revision 3)" in outcome.message
    assert path.read_bytes() == before

    changed = ObjectMapper(config(path), a_map(revision=8))
    outcome = file.save(changed)
    assert outcome == SaveOutcome(True, f"1 objects saved to {path} (revision 8)")
    assert load(path).revision == 8
    assert "holds the map already" in file.save(changed).message
    path.unlink()
    assert file.save(changed).saved and path.is_file(), "a file that was removed is written again"


def test_a_new_file_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    file = MapFile(config(path))
    mapper, message = file.open()
    assert len(mapper.objects) == 0 and message.startswith(f"{path} does not exist yet")
    assert file.save(mapper).saved and load(path).session_id == mapper.session_id


def test_what_can_not_be_opened_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    save(a_map(), path)
    with pytest.raises(MapFileError, match="there is no folder"):
        MapFile(config(tmp_path / "nowhere/map.json")).open()
    with pytest.raises(MapFileError, match=r"in frame 'map', node\.map_frame is 'world'"):
        MapFile(config(path, map_frame="world")).open()
    path.write_text("{")
    with pytest.raises(MapFileError, match="damaged"):
        MapFile(config(path)).open()
    assert path.read_text() == "{"


def test_a_failed_save_is_reported_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.json"
    file = MapFile(config(path))
    mapper, _ = file.open()

    def full(*args: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(map_file, "save", full)
        outcome = file.save(mapper)
    assert not outcome.saved and outcome.message.endswith(f"{path}: no space left on device")
    assert file.save(mapper).saved and path.is_file()


def test_it_is_due_once_per_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(map_file.time, "monotonic", lambda: now[0])
    file = MapFile(config(tmp_path / "map.json", autosave_s=60.0))
    now[0] = 160.0
    assert not file.is_due()
    now[0] = 160.1
    assert file.is_due() and not file.is_due()
    now[0] = 221.0
    assert file.is_due()
    never = MapFile(config(tmp_path / "map.json", autosave_s=0.0))
    now[0] = 1e6
    assert not never.is_due()
