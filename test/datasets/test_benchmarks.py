"""DAVIS and YouTube-VOS on disk, as an evaluation opens them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.benchmarks import davis, youtube_vos

from vos_ros.datasets.masks import read_mask, write_mask
from vos_ros.datasets.youtube_vos import categories


def test_davis_by_list_by_name_and_by_year(davis_root: Path) -> None:
    pair, solo = davis(davis_root)
    assert (pair.name, solo.name) == ("pair", "solo")
    assert [f.name for f in pair.frames] == list(pair.annotated) == [f"{t:05d}" for t in range(8)]
    assert pair.object_ids == (1, 2) and pair.starts == {"00000": (1, 2)}
    assert solo.object_ids == (1,) and not solo.single_object
    assert np.unique(pair.mask("00003")).tolist() == [0, 1, 2]
    (only,) = davis(davis_root, "2016", "pair")
    assert only.object_ids == (1,) and only.single_object
    assert np.array_equal(only.mask("00003"), pair.mask("00003") > 0)


def test_named_sequences_come_in_the_order_of_their_names(davis_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(davis_root, root)
    (root / "ImageSets/2017/few.txt").write_text("solo\n")
    assert [s.name for s in davis(root, "", "solo", "pair")] == ["solo", "pair"]
    assert [s.name for s in davis(root, subset="few")] == ["solo"]
    assert [s.name for s in davis(root, "", "pair", subset="few")] == ["pair"]


def test_masks_of_0_and_255_alone_are_those_of_2016(davis_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "old"
    shutil.copytree(davis_root, root)
    for path in (root / "Annotations/480p/pair").iterdir():
        write_mask(path, np.where(read_mask(path) > 0, 255, 0).astype(np.uint8))
    (pair,) = davis(root, "", "pair")
    assert pair.single_object and pair.object_ids == (1,)
    # solo names its object: 2017, where 255 is void
    pair, _ = davis(root, "", "pair", "solo")
    with pytest.raises(ValueError, match="no object in the first frame"):
        _ = pair.starts


@pytest.mark.parametrize("layout", ["Full-Resolution", "none", "single"])
def test_other_layouts(davis_root: Path, tmp_path: Path, layout: str) -> None:
    root = tmp_path / "some_dogs"
    below = {"Full-Resolution": "Full-Resolution/pair", "none": "pair", "single": ""}[layout]
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(davis_root / kind / "480p/pair", root / kind / below)
    (sequence,) = davis(root)
    assert sequence.name == ("some_dogs" if layout == "single" else "pair")
    assert sequence.object_ids == (1, 2) and len(sequence) == 8
    if layout == "Full-Resolution":
        with pytest.raises(ValueError, match="JPEGImages and Annotations with 480p below"):
            davis(root, resolution="480p")


def test_davis_2016_lists_name_files(davis_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "old"
    shutil.copytree(davis_root, root)
    (root / "ImageSets/480p").mkdir()
    lines = [
        f"/JPEGImages/480p/solo/{t:05d}.jpg /Annotations/480p/solo/{t:05d}.png" for t in range(8)
    ]
    (root / "ImageSets/480p/train.txt").write_text("\n".join(lines) + "\n")
    assert [s.name for s in davis(root, "2016", subset="train")] == ["solo"]
    everything = [s.name for s in davis(root, "2016")]
    assert everything == ["pair", "solo"], "no list val of 2016: all there are"
    with pytest.raises(
        ValueError, match=r"no list of subset 'test-dev', looked for ImageSets/2017/test-dev\.txt"
    ):
        davis(root, subset="test-dev")


def test_errors_name_what_is_wrong(davis_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such folder"):
        davis(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no sequence solos; did you mean solo\?"):
        davis(davis_root, "", "solos")
    with pytest.raises(ValueError, match=r"got '2018/', wanted YEAR/SUBSET"):
        davis(davis_root, "2018")
    root = tmp_path / "copy"
    shutil.copytree(davis_root, root)
    (root / "JPEGImages/480p/pair/00004.jpg").unlink()
    with pytest.raises(ValueError, match=r"pair: .* has masks of 00004"):
        davis(root, "", "pair")
    write_mask(root / "Annotations/480p/solo/00000.png", np.full((64, 96), 255, np.uint8))
    (solo,) = davis(root, "2017", "solo")
    with pytest.raises(ValueError, match=r"00000\.png: no object in the first frame"):
        _ = solo.starts
    (root / "Annotations/480p/solo/00000.png").unlink()
    (solo,) = davis(root, "", "solo")
    with pytest.raises(ValueError, match="no annotation of the first frame 00000"):
        _ = solo.object_ids
    with pytest.raises(ValueError, match="the frame 00000 has no mask; annotated are 7 of 8"):
        solo.mask("00000")
    shutil.rmtree(root / "JPEGImages/480p/solo")
    with pytest.raises(ValueError, match="solo: 0 images"):
        davis(root, "", "solo")


def test_youtube_vos_starts_objects_where_its_list_says(davis_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "valid"
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(davis_root / kind / "480p/pair", root / kind / "abc")
    for t in (1, 2, 4, 5):
        (root / f"Annotations/abc/{t:05d}.png").unlink()
    objects = {
        "1": {"category": "dog", "frames": ["00000", "00003", "00006"]},
        "2": {"category": "yak", "frames": ["00006", "00003"]},
    }
    (root / "meta.json").write_text(json.dumps({"videos": {"abc": {"objects": objects}}}))
    (sequence,) = youtube_vos(root)
    assert sequence.starts == {"00000": (1,), "00003": (2,)}
    assert {o.id: o.category for o in sequence.objects} == {1: "dog", 2: "yak"}
    assert sequence.annotated == ("00000", "00003", "00006", "00007") and len(sequence) == 8
    assert categories(root / "meta.json") == {"dog", "yak"}
    with pytest.raises(ValueError, match=r"no meta\.json"):
        youtube_vos(davis_root)
    with pytest.raises(ValueError, match="no sequence xyz"):
        youtube_vos(root, "xyz")
    (root / "Annotations/abc/00003.png").unlink()
    with pytest.raises(ValueError, match="starts objects at 00003"):
        youtube_vos(root)
    (root / "meta.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object with 'videos'"):
        youtube_vos(root)
    with pytest.raises(ValueError, match=r"wanted the meta\.json of the training split"):
        categories(root / "meta.json")
