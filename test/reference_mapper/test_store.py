"""Saved, loaded, continued; and what damaged files say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vos_ros.datasets.ply import read_vertices
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.object_mapper import ObjectMapper
from vos_ros.reference_mapper.store import MapFileError, load, points_folder, save
from vos_ros.types import AssociationStatus as S


@pytest.fixture
def told(run, tmp_path):
    """A run of three objects, of which two became one; its map, and the file."""
    a, b = run.make_object(1, (0, 0, 1), class_id=3), run.make_object(2, (0.12, 0, 1))
    run.make_object(3, (1.0, 0.5, 0.2), size=(0.3, 0.3, 0.3), count=3000)
    held = ObjectMap()
    held.apply(run.mapper.update())
    run.integrate((1, a, S.MERGE, run.surface((0.06, 0, 1)), [b]), times=5)
    held.apply(run.mapper.update())
    file = tmp_path / "kitchen.json"
    save(run.mapper.saved(), file)
    return run, held, file


def test_a_loaded_map_is_the_saved_one_and_goes_on(told):
    run, held, file = told
    again = ObjectMapper(MapperConfig(), load(file))
    assert (again.session_id, again.revision, again.stamp_ns) == (
        run.mapper.session_id,
        run.mapper.revision,
        run.mapper.stamp_ns,
    )
    for i, o in run.mapper.objects.items():
        other = again.objects[i]
        for name in ("observations", "votes", "log_odds", "first_ns", "last_ns", "measured_ns"):
            assert getattr(other, name) == getattr(o, name), name
        np.testing.assert_array_equal(other.information, o.information)
        np.testing.assert_allclose(
            other.points(again.config.model), o.points(again.config.model), atol=1e-6
        )
    # whoever held the map goes on with it: ids, revisions and merges as before, nothing twice
    update = again.update()
    assert (
        update.full
        and update.revision == held.revision + 1
        and held.apply(update).reason == ""
        and held.resolve(2) == 1
    )
    run.mapper = again
    assert run.make_object(7, (0, 2.0, 1)) == 4, "ids go on"
    for k in range(8):
        run.integrate((8, 0, S.NEW, run.surface((1.0, 0.5, 0.2), (0.3, 0.3, 0.3), seed=k)))
    assert set(again.objects) == {1, 3, 4} and held.apply(again.update()).reason == ""


def test_the_points_are_plain_ply_and_old_ones_go(told):
    run, _, file = told
    folder = points_folder(file)
    assert len(list(folder.iterdir())) == len(run.mapper.objects) == 2
    index = json.loads(file.read_text())
    for entry in index["objects"]:
        points = read_vertices(folder / entry["ply"])
        assert len(points) == entry["num_points"]
        np.testing.assert_allclose(points.min(0), entry["bbox_min"], atol=1e-3)
    run.integrate((1, 1, S.MATCHED, run.surface((0.02, 0, 1), seed=9)))
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    save(run.mapper.saved(), file)
    after = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert len(after) == 2 and len(after.items() & before.items()) == 1, (
        "what has not changed is not written again"
    )
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        e["ply"] for e in json.loads(file.read_text())["objects"]
    )
    assert len(load(file).objects) == 2


def test_an_empty_map_is_saved_too(tmp_path):
    mapper = ObjectMapper()
    save(mapper.saved(), tmp_path / "m.json")
    saved = load(tmp_path / "m.json")
    assert saved.objects == () and saved.session_id == mapper.session_id and saved.next_id == 1


def edit(**changes):
    def change(file):
        index = json.loads(file.read_text())
        for key, value in changes.items():
            where = index
            *path, last = key.split("__")
            for step in path:
                where = where[int(step) if step.isdigit() else step]
            if value is None:
                del where[last]
            else:
                where[last] = value
        file.write_text(json.dumps(index))

    return change


def cut_points(file):
    ply = next(points_folder(file).glob("*.ply"))
    ply.write_bytes(ply.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda file: file.write_text(file.read_text()[:200]), "cut short or damaged"),
        (lambda file: file.write_bytes(b"\xff\xfe\x00"), "can't be used"),
        (lambda file: file.write_text("[]"), "is no vos_ros object map"),
        (edit(version=2), "has version 2, and this program reads version 1"),
        (edit(next_id=None), "lacks 'next_id'"),
        (edit(next_id=2), r"ids \[3, 2\], and its next_id is 2"),
        (edit(objects__0__id=3), r"objects \[3\] twice"),
        (edit(objects__0__information=[[1.0]]), "information of shape"),
        (edit(objects__0__voxel_m=-1), "voxel_m -1"),
        (edit(objects__0__ply="../secret.ply"), "wanted the name of a file in"),
        (
            edit(merged={"1": 3}),
            r"objects \[1\], and also that these became part of others",
        ),
        (edit(merged={"2": 2}), "form a circle"),
        (cut_points, "is damaged: its checksum"),
        (lambda file: next(points_folder(file).glob("*.ply")).unlink(), "is missing"),
        (lambda file: file.unlink(), "can't be used"),
    ],
)
def test_damage_is_named_with_the_file_and_the_way_out(told, harm, said):
    file = told[2]
    harm(file)
    with pytest.raises(MapFileError, match=said) as e:
        load(file)
    assert str(file) in str(e.value) and "to start an empty map" in str(e.value)


def test_a_disk_that_refuses_leaves_the_old_map(told, monkeypatch):
    run, _, file = told
    before = file.read_bytes()
    run.integrate((1, 1, S.MATCHED, run.surface((0.02, 0, 1), seed=9)))

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        save(run.mapper.saved(), file)
    assert file.read_bytes() == before and len(load(file).objects) == 2
