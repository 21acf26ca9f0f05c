"""What holds for every registered data set, and how one is chosen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.davis import write_davis
from support.moving_squares import write_folder

from vos_ros.datasets.interface import DataSet, Selection, VideoSequence
from vos_ros.datasets.registry import (
    data_sets,
    get,
    open_one,
    open_sequences,
    recognise,
    register,
)

ALL = data_sets()


@pytest.mark.parametrize("data_set", ALL, ids=lambda d: d.name)
class TestEveryDataSet:
    """These are the checks that a new file gets by registering."""

    def test_an_empty_folder_is_none_of_its_roots(self, data_set: DataSet, tmp_path: Path) -> None:
        assert not data_set.matches(tmp_path) and not data_set.matches(tmp_path / "none")

    def test_missing_files_are_named(self, data_set: DataSet, tmp_path: Path) -> None:
        selection = Selection(only=("nothing",))
        try:
            found = open_sequences(data_set, tmp_path, selection)
        except (OSError, ValueError) as e:
            assert str(tmp_path) in str(e)
        else:
            assert found == ()

    def test_it_serves_something(self, data_set: DataSet) -> None:
        assert data_set.has_camera or data_set.has_masks
        assert data_set.title and data_set.layout

    def test_its_options_have_defaults_and_help(self, data_set: DataSet) -> None:
        assert dataclasses.is_dataclass(data_set.options) and data_set.options() is not None
        assert all(f.metadata["help"] for f in dataclasses.fields(data_set.options))

    def test_its_options_leave_the_common_keys_alone(self, data_set: DataSet) -> None:
        own = {f.name for f in dataclasses.fields(data_set.options)}
        assert not own & {"kind", "root", "split", "only", "exclude", "licence", "options"}


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return root


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("7scenes", ("frame-000000.color.png",)),
        ("coco_panoptic", ("annotations/panoptic_train2017.json",)),
        ("davis", ("JPEGImages/480p/a/0.jpg", "Annotations/480p/a/0.png")),
        ("folder", ("images/a.jpg", "masks/a.png")),
        ("ours", ("frames.csv", "camera.json")),
        ("ours", ("frames.csv", "frame-000000.color.png", "rgb.txt", "depth.txt")),
        ("packed", ("manifest.csv",)),
        ("scenenet", ("train/0/17/photo/0.jpg",)),
        ("synthetic", ("world-00000-24/frames.csv",)),
        ("tum", ("rgb.txt", "depth.txt")),
        ("voc", ("JPEGImages/a.jpg", "SegmentationObject/a.png", "Annotations/a.xml")),
        ("youtube_vos", ("meta.json", "JPEGImages/a/0.jpg", "Annotations/a/0.png")),
        ("youtube_vos", ("train/meta.json", "train/JPEGImages/a/0.jpg")),
    ],
)
def test_roots_are_recognised_by_their_files(
    name: str, files: tuple[str, ...], tmp_path: Path
) -> None:
    assert recognise(touch(tmp_path, *files), ALL).name == name


def test_half_of_a_layout_is_not_recognised(tmp_path: Path) -> None:
    for name, files in (
        ("tum", ("rgb.txt",)),
        ("davis", ("JPEGImages/a.jpg",)),
        ("folder", ("images/a.jpg",)),
        ("voc", ("SegmentationObject/a.png",)),
        ("youtube_vos", ("meta.json",)),
    ):
        assert not get(name).matches(touch(tmp_path / name, *files))


def test_a_root_that_nothing_recognises(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i:02d}.txt" for i in range(14)))
    with pytest.raises(ValueError, match=r"manifest\.csv \(packed\).*holds 00\.txt.* and 2 more"):
        recognise(tmp_path, ALL)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        recognise(tmp_path / "none", ALL)


def test_data_sets_by_name_and_by_what_they_have() -> None:
    assert [d.name for d in ALL] == sorted(d.name for d in ALL) and len(ALL) >= 11
    cameras, masks = (
        {d.name for d in data_sets(**{has: True})} for has in ("has_camera", "has_masks")
    )
    assert {"ours", "tum", "7scenes"} <= cameras and "davis" not in cameras
    assert {"ours", "davis", "voc", "synthetic"} <= masks and "tum" not in masks
    assert get("tum").title == "TUM RGB-D"
    with pytest.raises(ValueError, match="unknown data set 'kitti': known are 7scenes, coco"):
        get("kitti")
    with pytest.raises(ValueError, match="'tum' is registered twice"):
        register(get("tum"))


def names(sequences: tuple[VideoSequence, ...]) -> list[str]:
    return [s.name for s in sequences]


def test_sequences_are_chosen_whether_or_not_the_data_set_asks(tmp_path: Path) -> None:
    folder, root = get("folder"), write_folder(tmp_path / "mine")
    everything = ["still0", "still1", "still2", "a", "b"]
    assert names(open_sequences(folder, root)) == everything
    for fields, wanted in (
        ({"only": ("a", "still1")}, ["still1", "a"]),
        ({"only": ("mine",), "exclude": ("mine/a",)}, ["still0", "still1", "still2", "b"]),
        ({"exclude": ("mine",)}, []),
        ({"names": ("b", "still0")}, ["b", "still0"]),
    ):
        assert names(open_sequences(folder, root, Selection(**fields))) == wanted
    with pytest.raises(ValueError, match=r"no sequence stil1; did you mean still1\?"):
        open_sequences(folder, root, Selection(names=("a", "stil1")))
    with pytest.raises(ValueError, match="no sequence xyz; there are still0, still1"):
        open_sequences(folder, root, Selection(names=("xyz",)))


def test_a_folder_of_one_sequence(tmp_path: Path) -> None:
    write_davis(tmp_path / "two")
    with pytest.raises(
        ValueError, match="got 2 sequences of DAVIS, wanted the folder of one; they"
    ):
        open_one(tmp_path / "two", [get("davis"), get("folder")])
    (tmp_path / "two/ImageSets/2017/train.txt").write_text("solo\n")
    assert open_one(tmp_path / "two", [get("davis")], layout="davis").name == "solo"
    with pytest.raises(ValueError, match="layout 'tum' is not known: wanted auto or one of davis"):
        open_one(tmp_path / "two", [get("davis")], layout="tum")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_one(tmp_path / "none", [get("davis")], layout="davis")
    touch(tmp_path / "empty", "frame-x.color.png.txt")
    with pytest.raises(ValueError, match="got 0 sequences of images and masks, wanted the folder"):
        (tmp_path / "empty/images").mkdir()
        (tmp_path / "empty/masks").mkdir()
        open_one(tmp_path / "empty", [get("folder")])
