"""Data sets with masks, each on a small tree in the layout as it is published."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.moving_squares import draw, write_folder, write_pair

from vos_ros.datasets import synthetic
from vos_ros.datasets.files import frame_numbers
from vos_ros.datasets.interface import Selection, VideoSequence
from vos_ros.datasets.registry import get, open_sequences


def source(kind: str, root: Path, **fields: object) -> list[VideoSequence]:
    """The chosen sequences, each with its annotated frames alone, as training takes them."""
    found = open_sequences(get(kind), root, Selection(**fields))  # type: ignore[arg-type]
    return [s.with_masks() for s in found if s.annotated]


def names(found: list[VideoSequence]) -> list[str]:
    return [f.name for f in found]


def test_davis_2017(tmp_path: Path) -> None:
    for name in ("bear", "judo", "other"):
        for t in range(3):
            write_pair(
                tmp_path / f"JPEGImages/480p/{name}/{t:05d}.jpg",
                tmp_path / f"Annotations/480p/{name}/{t:05d}.png",
                *draw(t, 2),
            )
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/train.txt").write_text("bear\njudo\n")
    found = source("davis", tmp_path)
    assert (
        names(found) == ["bear", "judo"]
        and found[0].times == (0, 1, 2)
        and found[0].dataset == "davis2017"
    )
    rgb, ids = found[1].read(2)
    assert rgb.shape == (48, 64, 3) and np.array_equal(ids, draw(2, 2)[1])
    assert names(source("davis", tmp_path, exclude=("bear",))) == ["judo"]
    assert names(source("davis", tmp_path, only=("davis2017/bear",))) == ["bear"]
    (tmp_path / "ImageSets/2017/train.txt").unlink()
    assert names(source("davis", tmp_path)) == ["bear", "judo", "other"], "all, without a list"
    with pytest.raises(ValueError, match="wanted YEAR/SUBSET"):
        source("davis", tmp_path, split="train")


def test_davis_2016_has_one_object(tmp_path: Path) -> None:
    lines = []
    for t in range(2):
        rgb, ids = draw(t, 1)
        write_pair(
            tmp_path / f"JPEGImages/480p/bear/{t:05d}.jpg",
            tmp_path / f"Annotations/480p/bear/{t:05d}.png",
            rgb,
            ids * 255,
        )
        lines.append(f"/JPEGImages/480p/bear/{t:05d}.jpg /Annotations/480p/bear/{t:05d}.png")
    (tmp_path / "ImageSets/480p").mkdir(parents=True)
    (tmp_path / "ImageSets/480p/train.txt").write_text("\n".join(lines) + "\n")
    (bear,) = source("davis", tmp_path, split="2016/train")
    assert np.array_equal(bear.read(1)[1], draw(1, 1)[1])


def test_youtube_vos_is_annotated_sparsely(tmp_path: Path) -> None:
    base = tmp_path / "train"
    for t in range(0, 25, 5):
        mask = base / f"Annotations/0a1b/{t:05d}.png" if t % 10 == 0 else tmp_path / "elsewhere.png"
        write_pair(base / f"JPEGImages/0a1b/{t:05d}.jpg", mask, *draw(t // 5, 2))
    (base / "meta.json").write_text(
        json.dumps(
            {"videos": {"0a1b": {"objects": {"1": {"category": "box", "frames": ["00000"]}}}}}
        )
    )
    (video,) = source("youtube_vos", tmp_path)
    assert video.times == (0, 10, 20) and set(np.unique(video.read(2)[1])) == {0, 1, 2}


def test_voc(tmp_path: Path) -> None:
    rgb, ids = draw(0, 2)
    ids[0] = 255
    for name in ("2007_01", "2007_02", "2007_03"):
        write_pair(
            tmp_path / f"JPEGImages/{name}.jpg",
            tmp_path / f"SegmentationObject/{name}.png",
            rgb,
            ids,
        )
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text("2007_01\n2007_03\n")
    found = source("voc", tmp_path)
    assert names(found) == ["2007_01", "2007_03"] and len(found[0]) == 1 and found[0].ignore == 255
    assert set(np.unique(found[0].read(0)[1])) == {0, 1, 2, 255}


def test_coco_panoptic(tmp_path: Path) -> None:
    rgb, ids = draw(0, 3)
    segments = np.array([7, 300, 70000, 5])[ids]  # stuff, two things, a crowd
    coded = np.stack([segments % 256, segments // 256 % 256, segments // 65536], -1).astype(
        np.uint8
    )
    write_pair(
        tmp_path / "train2017/000000000009.jpg",
        tmp_path / "annotations/panoptic_train2017/000000000009.png",
        rgb,
        coded,
    )
    info = [
        {"id": 7, "category_id": 200, "iscrowd": 0},
        {"id": 300, "category_id": 1, "iscrowd": 0},
        {"id": 70000, "category_id": 2, "iscrowd": 0},
        {"id": 5, "category_id": 1, "iscrowd": 1},
    ]
    tree = {
        "categories": [{"id": 1, "isthing": 1}, {"id": 2, "isthing": 1}, {"id": 200, "isthing": 0}],
        "annotations": [
            {"file_name": "000000000009.png", "image_id": 9, "segments_info": info},
            {"file_name": "000000000010.png", "image_id": 10, "segments_info": info[:1]},
        ],
    }
    (tmp_path / "annotations/panoptic_train2017.json").write_text(json.dumps(tree))
    (image,) = source("coco_panoptic", tmp_path)  # the second has nothing but stuff
    found = image.read(0)[1]
    assert image.name == "000000000009" and image.ignore == -1
    assert np.array_equal(found, np.array([0, 1, 2, -1])[ids])


def test_folders_of_images_and_masks(tmp_path: Path) -> None:
    found = source("folder", write_folder(tmp_path))
    assert [(f.name, len(f)) for f in found] == [
        ("still0", 1),
        ("still1", 1),
        ("still2", 1),
        ("a", 8),
        ("b", 8),
    ]


def test_scenenet(tmp_path: Path) -> None:
    for t in (0, 25, 100):
        rgb, ids = draw(t // 25, 2)
        wide = ids.astype(np.uint16) * 400 + 3  # 3: a wall, most of the image
        write_pair(
            tmp_path / f"train/0/17/photo/{t}.jpg",
            tmp_path / f"train/0/17/instance/{t}.png",
            rgb,
            wide,
        )
    (trajectory,) = source("scenenet", tmp_path)
    assert trajectory.name == "0/17" and trajectory.times == (0, 25, 100)  # by number, not by name
    assert set(np.unique(trajectory.read(1)[1])) == {0, 403, 803}


@pytest.mark.parametrize("columns", [("image", "mask"), ("path_img", "path_mask")])
def test_packed(tmp_path: Path, columns: tuple[str, str]) -> None:
    rows = []
    for i, (dataset, seq, frame) in enumerate(
        [("duts", "", ""), ("davis", "bear", "00004"), ("davis", "bear", "00000"), ("duts", "", "")]
    ):
        write_pair(tmp_path / f"i/{i}.jpg", tmp_path / f"m/{i}.png", *draw(i, 1))
        rows.append(
            {
                columns[0]: f"i/{i}.jpg",
                columns[1]: f"m/{i}.png",
                "dataset": dataset,
                "seq": seq,
                "frame": frame,
                "licence": "CC",
            }
        )
    with open(tmp_path / "manifest.csv", "w", newline="") as f:
        writer = csv.DictWriter(f, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    found = source("packed", tmp_path)
    assert [(f.dataset, len(f)) for f in found] == [("davis", 2), ("duts", 1), ("duts", 1)] and {
        f.licence for f in found
    } == {"CC"}
    assert found[0].times == (0, 4) and np.array_equal(
        found[0].read(1)[1], draw(1, 1)[1]
    )  # in order of the frames
    assert names(source("packed", tmp_path, only=("duts",))) == ["0", "3"]
    assert names(source("packed", tmp_path, exclude=("duts",))) == ["bear"]
    (tmp_path / "manifest.csv").write_text("image,where\na,b\n")
    with pytest.raises(ValueError, match="no column dataset, mask; it has image, where"):
        source("packed", tmp_path)


def test_synthetic_worlds_are_rendered_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = []

    class Source:
        def __init__(self, spec: object) -> None:
            self.spec = spec

    def render(world: Source, path: Path, *, progress: bool) -> None:
        rendered.append(world.spec.seed)  # type: ignore[attr-defined]
        lines = ["index,stamp,color,depth,mask"]
        for t in range(2):
            write_pair(path / f"color/{t}.jpg", path / f"masks/{t}.png", *draw(t, 2))
            lines.append(f"{t},{t},color/{t}.jpg,depth/{t}.png,masks/{t}.png")
        (path / "frames.csv").write_text("\n".join(lines) + "\n")

    monkeypatch.setattr(synthetic, "SyntheticSource", Source)
    monkeypatch.setattr(synthetic, "write_folder", render)
    for _ in range(2):
        found = source("synthetic", tmp_path / "w", options=synthetic.SyntheticOptions(2, 5, 2))
    assert (
        rendered == [5, 6]
        and names(found) == ["world-00005-2", "world-00006-2"]
        and found[0].read(1)[1].max() == 2
    )
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == names(found)  # nothing half done


def test_frame_numbers() -> None:
    assert frame_numbers(["in000600", "in000606"]) == (0, 6)
    assert frame_numbers(["5117-8_70161", "5117-8_70162"]) == (0, 1)
    assert frame_numbers(["b", "a"]) == (0, 1) and frame_numbers(["2", "1", "7"]) == (0, 1, 2)


def test_files_that_dont_fit(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match="no such folder; wanted folders images/ and masks/"
    ):
        source("folder", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"manifest\.csv: no such file"):
        source("packed", tmp_path)
    rgb, ids = draw()
    write_pair(tmp_path / "images/x.jpg", tmp_path / "masks/x.png", rgb, ids[:-1])
    with pytest.raises(ValueError, match="got a mask of 64x47 px, its image has 64x48"):
        source("folder", tmp_path)[0].read(0)
    Image.fromarray(rgb).save(tmp_path / "masks/x.png")
    with pytest.raises(ValueError, match="mode RGB, wanted a palette or grey image"):
        source("folder", tmp_path)[0].read(0)
    (tmp_path / "masks/x.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="missing, or no image"):
        source("folder", tmp_path)[0].read(0)
