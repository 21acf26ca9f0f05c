"""Sequences made by hand: what they read, where their objects start."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.moving_squares import draw, write_folder

from vos_ros.datasets.interface import FrameFiles, Selection, VideoSequence
from vos_ros.datasets.registry import get, open_sequences
from vos_ros.types import Intrinsics


def by_name(path: Path) -> np.ndarray:
    """Ids that a file's name spells: 01_2 is a row of 0, 1, 255 (void), 2."""
    values = {"_": 255}
    return np.array([[values.get(c, ord(c) - ord("0")) for c in path.stem]], np.uint8)


def sequence(*masks: str, **fields: object) -> VideoSequence:
    """Frames f0, f10, f20, ...; a mask that is "" is missing."""
    frames = tuple(
        FrameFiles(name=f"f{10 * i}", number=10 * i, image=Path("x"), mask=Path(m) if m else None)
        for i, m in enumerate(masks)
    )
    made = VideoSequence(name="s", dataset="d", frames=frames, read_ids=by_name)
    return replace(made, **fields)  # type: ignore[arg-type]


def test_objects_start_in_the_first_frame_unless_the_data_set_says_where() -> None:
    assert sequence("002_1", "0334").starts == {"f0": (1, 2)}
    given = {"f10": (3,), "f0": (2, 1)}
    said = sequence("0021", "0334", first_frames=given)
    assert said.starts == given and said.object_ids == (1, 2, 3)
    assert sequence("0034", ignore=3).starts == {"f0": (4,)}
    with pytest.raises(ValueError, match="no annotation of the first frame f0"):
        _ = sequence("", "01").starts
    with pytest.raises(ValueError, match="00__: no object in the first frame"):
        _ = sequence("00__", "01").starts


def test_annotated_frames() -> None:
    made = sequence("01", "", "02")
    assert made.annotated == ("f0", "f20") and len(made) == 3 and made.times == (0, 10, 20)
    only = made.with_masks()
    assert only.times == (0, 20) and only.index("f20") == 1 and made.index("f20") == 2
    assert only.ids(1).tolist() == [[0, 2]] and made.mask("f20").tolist() == [[0, 2]]
    with pytest.raises(ValueError, match="the frame f10 has no mask; annotated are 2 of 3 frames"):
        made.ids(1)
    with pytest.raises(KeyError):
        made.index("f30")


def test_masks_for_an_evaluation_have_8_bits() -> None:
    wide = sequence("01", read_ids=lambda path: by_name(path).astype(np.int32))
    assert wide.ids(0).dtype == np.int32
    with pytest.raises(ValueError, match="01: got ids of int32, wanted an 8-bit"):
        wide.mask("f0")


def test_image_and_ids_have_one_size() -> None:
    made = sequence("012", read_image=lambda _: np.zeros((1, 3, 3), np.uint8))
    rgb, ids = made.read(0)
    assert rgb.shape == (1, 3, 3) and ids.tolist() == [[0, 1, 2]]
    for shape, said in (((1, 4, 3), "4x1"), ((2, 3, 3), "3x2")):
        other = replace(made, read_image=lambda _, shape=shape: np.zeros(shape, np.uint8))
        with pytest.raises(ValueError, match=f"got a mask of 3x1 px, its image has {said}"):
            other.read(0)


def test_a_frame_without_image_or_depth(tmp_path: Path) -> None:
    made = sequence("01", "02", depth_scale=500.0)
    assert made.depth(0) is None
    blind = replace(made, frames=tuple(replace(f, image=None) for f in made.frames))
    with pytest.raises(ValueError, match="s: the frame f10 has no image"):
        blind.image(1)
    cv2.imwrite(str(tmp_path / "d.png"), np.array([[0, 250, 65535]], np.uint16))
    deep = replace(made, frames=(replace(made.frames[0], depth=tmp_path / "d.png"),))
    depth = deep.depth(0)
    assert depth is not None and depth.tolist() == [[0.0, 0.5, 0.0]]


def test_sequences_go_to_processes_that_prepare_clips(tmp_path: Path) -> None:
    sequences = open_sequences(get("folder"), write_folder(tmp_path))
    _ = sequences[-1].starts
    there = pickle.loads(pickle.dumps(sequences))
    assert np.array_equal(there[-1].ids(2), draw(5, 2)[1])
    assert there[-1].starts == sequences[-1].starts


@dataclass(frozen=True)
class Mine:
    """Options of a data set."""

    size: int = 3


def test_a_selection_gives_the_options_of_the_data_set() -> None:
    assert Selection().options_as(Mine) == Mine(3)
    assert Selection(options=Mine(5)).options_as(Mine) == Mine(5)
    camera = Intrinsics(1.0, 1.0, 0.0, 0.0, 2, 2)
    assert Selection(options=camera).options_as(Mine) == Mine(3)


def test_what_a_selection_wants() -> None:
    for only, exclude, wanted in (
        ((), (), True),
        (("d",), (), True),
        (("s",), (), True),
        (("d/s",), (), True),
        (("d/other", "x"), (), False),
        ((), ("s",), False),
        ((), ("d",), False),
        (("d",), ("d/s",), False),
    ):
        assert Selection(only=only, exclude=exclude).wants("d", "s") == wanted
