"""The sources of a training run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.moving_squares import draw, write_pair

from vos_ros.config import ConfigError
from vos_ros.training.config import SourceConfig
from vos_ros.training.data import open_source


def write_packed(root: Path) -> None:
    """A manifest of two data sets, each with a licence, and a frame without a mask elsewhere."""
    rows = ["image,mask,dataset,seq,frame,licence"]
    for dataset, licence in (("duts", "CC BY"), ("davis", "CC BY-NC")):
        write_pair(root / f"{dataset}.jpg", root / f"{dataset}.png", *draw(0, 1))
        rows.append(f"{dataset}.jpg,{dataset}.png,{dataset},,,{licence}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")


def test_the_licence_is_the_files_own_unless_one_is_configured(tmp_path: Path) -> None:
    write_packed(tmp_path / "pack")
    own = open_source(SourceConfig(root="pack"), tmp_path)
    assert {s.name: s.licence for s in own} == {"davis": "CC BY-NC", "duts": "CC BY"}
    configured = open_source(SourceConfig(root="pack", licence="mine"), tmp_path)
    assert {s.licence for s in configured} == {"mine"}


def test_frames_without_a_mask_are_left_out_and_so_are_sequences(tmp_path: Path) -> None:
    for name, masks in (("some", (0, 2)), ("none", ())):
        for t in range(3):
            mask = f"masks/{name}/{t}.png" if t in masks else "elsewhere.png"
            write_pair(tmp_path / f"images/{name}/{t}.jpg", tmp_path / mask, *draw(t, 1))
    (only,) = open_source(SourceConfig(kind="folder"), tmp_path)
    assert only.name == "some" and only.times == (0, 2)
    assert np.array_equal(only.read(1)[1], draw(2, 1)[1])


def test_nothing_left_is_an_error_that_says_why(tmp_path: Path) -> None:
    write_packed(tmp_path)
    with pytest.raises(
        ValueError, match=r"no annotated sequence of kind 'packed' after only=.*'x'"
    ):
        open_source(SourceConfig(only=("x",)), tmp_path)
    with pytest.raises(ValueError, match=r"of kind 'packed' after .*exclude=\('duts', 'davis'\)"):
        open_source(SourceConfig(exclude=("duts", "davis")), tmp_path)
    (tmp_path / "manifest.csv").write_text("image,mask,dataset\n")
    with pytest.raises(ValueError, match=r"no annotated sequence of kind 'packed'$"):
        open_source(SourceConfig(), tmp_path)
    with pytest.raises(ValueError, match="unknown data set 'imagenet': known are 7scenes, coco"):
        open_source(SourceConfig(kind="imagenet"), tmp_path)


def test_two_sources_divide_a_data_set(tmp_path: Path) -> None:
    for t in range(7):
        write_pair(tmp_path / f"images/{t}.jpg", tmp_path / f"masks/{t}.png", *draw(t, 1))

    def names(part: str) -> list[str]:
        return [s.name for s in open_source(SourceConfig(kind="folder", part=part), tmp_path)]

    assert names("1/3") == ["1", "4"] and names("!1/3") == ["0", "2", "3", "5", "6"]
    assert names("") == [str(t) for t in range(7)]
    for wrong in ("3/3", "1", "-1/3", "1/0", "a/b", "1/3 "):
        with pytest.raises(ConfigError, match=r"part: got .*wanted k/n or !k/n"):
            names(wrong)
    with pytest.raises(ValueError, match=r"after only=.*part='7/9'"):
        names("7/9")


def test_the_real_ones(shared_data: Path) -> None:
    stills = open_source(SourceConfig(root="train", only=("duts-tr",)), shared_data)
    videos = open_source(SourceConfig(root="train_video"), shared_data)
    assert len(stills) == 2000 and all(len(f) == 1 for f in stills)
    assert sum(len(f) > 1 for f in videos) == 37 and sum(map(len, videos)) == 1196
    parts = [
        {
            s.name
            for s in open_source(
                SourceConfig(root="train", only=("coco200",), part=part), shared_data
            )
        }
        for part in ("0/4", "!0/4")
    ]
    assert [len(p) for p in parts] == [50, 148] and not set.intersection(*parts)
    bear = next(f for f in videos if f.name == "bear")
    assert bear.times[:3] == (0, 2, 4) and "CC BY" in bear.licence
    rgb, ids = bear.read(0)
    assert rgb.shape == (270, 480, 3) and set(np.unique(ids)) == {0, 1}
