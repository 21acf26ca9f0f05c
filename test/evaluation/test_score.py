"""Scoring bags: against the independent scorer, and at the door."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vos_ros.evaluation.score import first_tracks, read_truth, score_bag
from vos_ros.evaluation.score_clicks import score_clicks
from vos_ros.messages.factory import make
from vos_ros.sinks.bag import BagSink
from vos_ros.sinks.mcap import McapFile
from vos_ros.types import Frame, FrameResult

Named = dict[int, tuple[int, int]]
Scene = tuple[np.ndarray, np.ndarray, Named]
H, W = 90, 120


def write_truth(root: Path, masks: list[np.ndarray], ids: list[int]) -> Path:
    (root / "masks").mkdir(parents=True)
    rows = ["index,stamp,color,depth,mask"]
    for i, mask in enumerate(masks):
        picture = Image.fromarray(mask.astype(np.uint8), mode="L").convert("P")
        picture.putdata(mask.astype(np.uint8).ravel().tolist())
        picture.save(root / "masks" / f"{i:06d}.png")
        rows.append(f"{i},{i / 10:.6f},c,d,masks/{i:06d}.png")
    (root / "frames.csv").write_text("\n".join(rows) + "\n")
    (root / "objects.json").write_text(json.dumps([{"id": i, "name": f"thing_{i}"} for i in ids]))
    return root


def box(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    out = np.zeros((H, W), np.uint16)
    for value, y0, y1, x0, x1 in boxes:
        out[y0:y1, x0:x1] = value
    return out


def tricky_scenes() -> list[Scene]:
    """(truth, labels, {label value: (track, named id)}) of each frame."""
    truth = box(
        (1, 0, 30, 0, 30),
        (2, 40, 70, 0, 40),
        (3, 0, 30, 60, 100),
        (4, 80, 89, 0, 20),
        (255, 28, 42, 0, 60),
    )
    halves = box((1, 0, 20, 0, 40))
    scenes: list[Scene] = [
        (
            truth,
            box((7, 0, 30, 0, 30), (8, 40, 70, 5, 45), (9, 0, 30, 60, 100)),
            {7: (1, 1), 8: (2, 2), 9: (3, 3)},
        ),
        (
            truth,
            box((7, 0, 30, 0, 20), (8, 0, 30, 20, 30), (9, 0, 30, 60, 100)),
            {7: (1, 1), 8: (4, 1), 9: (3, 2)},
        ),  # one id twice
        (
            truth,
            box((7, 0, 30, 0, 30), (9, 0, 30, 60, 100)),
            {7: (1, 0), 9: (3, 3)},
        ),  # unnamed, and one missing
        (
            truth,
            box((7, 26, 44, 0, 60), (9, 50, 80, 70, 110)),
            {7: (1, 2), 9: (3, 77)},
        ),  # on ignored ground; an id nobody knows
        (
            truth,
            box((65535, 0, 30, 0, 30), (5, 79, 89, 0, 22)),
            {5: (9, 4)},
        ),  # unknown pixels; an object too small to count
        (
            halves,
            box((1, 0, 20, 0, 20), (2, 0, 20, 20, 40)),
            {2: (5, 3), 1: (6, 1)},
        ),  # two with IoU 0.5 each
        (halves, box((1, 0, 20, 0, 20), (2, 0, 20, 20, 40)), {1: (6, 1), 2: (5, 3)}),
        (truth, box(), {}),
        (truth, box((7, 0, 30, 0, 30)), {7: (1, 2), 8: (2, 3)}),  # an instance without pixels
        (np.full((H, W), 255, np.uint16), box((7, 0, 30, 0, 30)), {7: (1, 2)}),
        (box(), box((7, 0, 30, 0, 30)), {7: (1, 1)}),
    ]
    return scenes


def random_scenes(count: int = 30) -> list[Scene]:
    rng = np.random.default_rng(5)

    def scatter(values: list[int]) -> np.ndarray:
        out = np.zeros((H, W), np.uint16)
        for v in values:
            y, x = rng.integers(0, H - 20), rng.integers(0, W - 20)
            out[y : y + rng.integers(5, 40), x : x + rng.integers(5, 60)] = v
        return out

    scenes: list[Scene] = []
    for _ in range(count):
        truth = scatter([1, 2, 3, 4, 5, 255])
        labels = np.where(rng.random((H, W)) < 0.03, 0, np.roll(truth, int(rng.integers(-6, 7)), 1))
        labels[labels == 255] = rng.integers(0, 7)
        values = [int(v) for v in rng.permutation(7)]
        scenes.append(
            (
                truth,
                labels.astype(np.uint16),
                {v: (v + 20, int(rng.choice([v, v, v, 0, 6, 2]))) for v in values if v},
            )
        )
    return scenes


def write_bag(
    path: Path,
    scenes: list[Scene],
    make_frame: Callable[..., Frame],
    make_result: Callable[..., FrameResult],
) -> Path:
    with BagSink(path) as sink:
        for i, (_, labels, named) in enumerate(scenes):
            frame = make_frame(
                i, H, W, stamp_ns=i * 100_000_000 + 400 * i
            )  # within the millisecond that is allowed
            result = make_result(frame, labels, named)
            if not (labels == 65535).any():
                assert (result.labels() == np.where(np.isin(labels, list(named)), labels, 0)).all()
            sink.write(frame, result)
    return path


@pytest.mark.parametrize("scenes", [tricky_scenes(), random_scenes()], ids=["tricky", "random"])
def test_agrees_with_the_independent_scorer(
    scenes: list[Scene],
    tmp_path: Path,
    shared_tools: Path,
    make_frame: Callable[..., Frame],
    make_result: Callable[..., FrameResult],
) -> None:
    truth = write_truth(tmp_path / "truth", [s[0] for s in scenes], [1, 2, 3, 4, 5])
    bag = write_bag(
        tmp_path / "out.mcap", scenes[:-1], make_frame, make_result
    )  # the last frame has no answer
    spec = importlib.util.spec_from_file_location(
        "independent_scorer", shared_tools / "score_bag.py"
    )
    assert spec is not None and spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    want, got = theirs.score(bag, truth), score_bag(bag, read_truth(truth)).figures()
    assert (
        want["frames_scored"] == len(scenes) - 1
        and want["id_switches"] > 0
        and 0 < want["association_f1"] < 1
    )
    for key, value in want.items():
        assert got[key] == pytest.approx(value, abs=1e-9), key


def test_table_of_objects(
    tmp_path: Path, make_frame: Callable[..., Frame], make_result: Callable[..., FrameResult]
) -> None:
    scenes = tricky_scenes()[:2]
    truth = write_truth(tmp_path / "truth", [s[0] for s in scenes], [1, 2, 3, 4])
    score = score_bag(
        write_bag(tmp_path / "out.mcap", scenes, make_frame, make_result), read_truth(truth)
    )
    score.write_csv(tmp_path / "objects.csv")
    lines = (tmp_path / "objects.csv").read_text().splitlines()
    assert lines[0] == "id,name,frames,mean_iou,recall,association_accuracy,id_switches"
    assert lines[1] == "1,thing_1,2,1.000000,1.000000,1.000000,0"
    assert lines[3] == "3,thing_3,2,0.500000,0.500000,0.500000,1"


def test_clicked_objects_are_scored_by_the_track_that_began_on_them(
    tmp_path: Path, make_frame: Callable[..., Frame], make_result: Callable[..., FrameResult]
) -> None:
    truth = box((1, 0, 20, 0, 20), (2, 30, 50, 0, 20), (3, 30, 50, 30, 50))
    nothing = box()
    both = box((7, 0, 20, 0, 20), (8, 30, 50, 0, 20))
    moved = box((7, 0, 20, 0, 10), (8, 30, 50, 30, 50))
    names = {7: (21, 0), 8: (22, 0)}
    scenes = [(truth, nothing, {}), (truth, both, names), (truth, moved, names)]
    folder = read_truth(write_truth(tmp_path / "truth", [truth] * 3, [1, 2, 3]))
    bag = write_bag(tmp_path / "out.mcap", scenes, make_frame, make_result)
    assert first_tracks(bag, folder) == {21: 1, 22: 2}
    assert score_clicks(bag, folder, [1, 2]) == {
        "objects_clicked": 2,
        "objects_followed": 2,
        "mean_iou": pytest.approx(((0 + 1 + 0.5) / 3 + (0 + 1 + 0) / 3) / 2),
        "id_switches": 0,
    }
    assert score_clicks(bag, folder, [3]) == {
        "objects_clicked": 1,
        "objects_followed": 0,
        "mean_iou": 0.0,
        "id_switches": 0,
    }


def test_errors_at_the_door(
    tmp_path: Path, make_frame: Callable[..., Frame], make_result: Callable[..., FrameResult]
) -> None:
    scenes = tricky_scenes()[:1]
    truth = read_truth(write_truth(tmp_path / "truth", [np.zeros((H, W - 1), np.uint8)], [1]))
    bag = write_bag(tmp_path / "out.mcap", scenes, make_frame, make_result)
    with pytest.raises(ValueError, match=r"120x90 px, ground truth of 119x90"):
        score_bag(bag, truth)
    with pytest.raises(FileNotFoundError, match="no such bag"):
        score_bag(tmp_path / "none.mcap", truth)
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(bag.read_bytes()[:-50])
    with pytest.raises(ValueError, match="cut short"):
        score_bag(cut, truth)
    with McapFile(tmp_path / "other.mcap") as file:
        file.write("/chatter", make("std_msgs/msg/String", data="x"), 5)
    with pytest.raises(ValueError, match=r"no topic \*/labels.*it has /chatter"):
        score_bag(tmp_path / "other.mcap", truth)
    with pytest.raises(ValueError, match=r"Looked for .*frames\.csv"):
        read_truth(tmp_path)
    (tmp_path / "truth/masks/000000.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        score_bag(bag, truth)
