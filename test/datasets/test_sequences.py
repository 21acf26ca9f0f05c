"""Benchmark sequences on disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_ros.datasets.masks import read_foreground, read_mask, write_mask
from vos_ros.datasets.sequences import categories, davis, youtube_vos


def test_davis_by_list_by_name_and_by_year(davis_root: Path) -> None:
    pair, solo = davis(davis_root)
    assert (pair.name, solo.name) == ("pair", "solo") and len(pair.frames) == len(
        pair.annotations
    ) == 8
    assert (
        pair.object_ids == (1, 2) and pair.starts == {"00000": (1, 2)} and solo.object_ids == (1,)
    )
    assert np.unique(pair.mask("00003")).tolist() == [0, 1, 2]
    (only,) = davis(davis_root, 2016, ["pair"])
    assert only.object_ids == (1,) and np.array_equal(only.mask("00003"), pair.mask("00003") > 0)


def test_masks_of_0_and_255_alone_are_those_of_2016(davis_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "old"
    shutil.copytree(davis_root, root)
    for path in (root / "Annotations/480p/pair").iterdir():
        write_mask(path, np.where(read_mask(path) > 0, 255, 0).astype(np.uint8))
    (pair,) = davis(root, names=["pair"])
    assert pair.binary and pair.object_ids == (1,)
    with pytest.raises(ValueError, match="no object in the first frame"):
        davis(root, names=["pair", "solo"])  # solo names its object: 2017, where 255 is void


@pytest.mark.parametrize("layout", ["Full-Resolution", "none", "single"])
def test_other_layouts(davis_root: Path, tmp_path: Path, layout: str) -> None:
    root = tmp_path / "some_dogs"
    below = {"Full-Resolution": "Full-Resolution/pair", "none": "pair", "single": ""}[layout]
    for kind in ("JPEGImages", "Annotations"):
        shutil.copytree(davis_root / kind / "480p/pair", root / kind / below)
    (sequence,) = davis(root)
    assert sequence.name == (
        "some_dogs" if layout == "single" else "pair"
    ) and sequence.object_ids == (1, 2)
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
    assert [s.name for s in davis(root, 2016, subset="train")] == ["solo"]
    assert [s.name for s in davis(root, 2016)] == ["pair", "solo"], (
        "no list val of 2016: all there are"
    )
    with pytest.raises(
        ValueError, match=r"no list of subset 'test-dev', looked for ImageSets/2017/test-dev\.txt"
    ):
        davis(root, subset="test-dev")


def test_errors_name_what_is_wrong(davis_root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such folder"):
        davis(tmp_path / "none")
    with pytest.raises(ValueError, match=r"no sequence solos; did you mean solo\?"):
        davis(davis_root, names=["solos"])
    with pytest.raises(ValueError, match="year 2018"):
        davis(davis_root, 2018)
    root = tmp_path / "copy"
    shutil.copytree(davis_root, root)
    (root / "JPEGImages/480p/pair/00004.jpg").unlink()
    with pytest.raises(ValueError, match=r"pair: .* has masks of 00004"):
        davis(root, names=["pair"])
    write_mask(root / "Annotations/480p/solo/00000.png", np.full((64, 96), 255, np.uint8))
    with pytest.raises(ValueError, match="no object in the first frame"):
        davis(root, 2017, names=["solo"])
    (root / "Annotations/480p/solo/00000.png").unlink()
    with pytest.raises(ValueError, match="no annotation of the first frame 00000"):
        davis(root, names=["solo"])
    shutil.rmtree(root / "JPEGImages/480p/solo")
    with pytest.raises(ValueError, match="solo: 0 images"):
        davis(root, names=["solo"])


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
    assert sequence.starts == {"00000": (1,), "00003": (2,)} and sequence.categories == {
        1: "dog",
        2: "yak",
    }
    assert (
        sorted(sequence.annotations) == ["00000", "00003", "00006", "00007"]
        and len(sequence.frames) == 8
    )
    assert categories(root / "meta.json") == {"dog", "yak"}
    with pytest.raises(ValueError, match=r"no meta\.json"):
        youtube_vos(davis_root)
    with pytest.raises(ValueError, match="no sequence xyz"):
        youtube_vos(root, ["xyz"])
    (root / "Annotations/abc/00003.png").unlink()
    with pytest.raises(ValueError, match="starts objects at 00003"):
        youtube_vos(root)
    (root / "meta.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object with 'videos'"):
        youtube_vos(root)
    with pytest.raises(ValueError, match=r"wanted the meta\.json of the training split"):
        categories(root / "meta.json")


def test_masks_in_all_their_forms(tmp_path: Path) -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(tmp_path / "p.png", ids)
    assert np.array_equal(read_mask(tmp_path / "p.png"), ids)
    with Image.open(tmp_path / "p.png") as image:
        palette = image.getpalette()
        assert image.mode == "P" and palette is not None
    assert palette[:15] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128] and palette[
        -3:
    ] == [224, 224, 192]
    half = ids > 127
    Image.fromarray(half).save(tmp_path / "bit.png")
    assert np.array_equal(read_mask(tmp_path / "bit.png"), half)
    Image.fromarray(np.repeat(half[:, :, None] * np.uint8(255), 3, 2)).save(tmp_path / "rgb.png")
    assert np.array_equal(read_foreground(tmp_path / "rgb.png"), half)
    with pytest.raises(ValueError, match=r"uint8 of shape \(16, 16, 3\)"):
        read_mask(tmp_path / "rgb.png")
    opaque = np.zeros((16, 16, 4), np.uint8)
    opaque[:, :, 3] = 255
    Image.fromarray(opaque).save(tmp_path / "rgba.png")
    assert not read_foreground(tmp_path / "rgba.png").any()
