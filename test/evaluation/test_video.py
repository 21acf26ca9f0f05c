"""Predictions on disk, and their scores in the protocols of DAVIS and YouTube-VOS."""

from __future__ import annotations

import csv
import math
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.benchmarks import annotated_only_at, davis

from vos_ros.datasets.masks import read_mask, write_mask
from vos_ros.evaluation.davis_metrics import contour_accuracy, region_similarity, statistics
from vos_ros.evaluation.export import Timing, click, export, read_timing
from vos_ros.evaluation.pictures import strip
from vos_ros.evaluation.video import (
    ObjectCurves,
    by_sequence,
    davis_frames,
    overall,
    rows,
    score,
    totals,
    write_csv,
    youtube_vos_frames,
)
from vos_ros.segmentation.interface import VideoSegmenter
from vos_ros.segmentation.prompts import to_mask
from vos_ros.types import Frame, Points, Seed, Segmentation


def shifted(root: Path, out: Path, dx: int = 3) -> Path:
    """Predictions shifted from the truth by ``dx`` px every two frames."""
    for path in sorted((root / "Annotations/480p").rglob("*.png")):
        target = out / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_mask(target, np.roll(read_mask(path), dx * int(path.stem) // 2, 1))
    return out


class Sticky(VideoSegmenter):
    """Says of every frame what it was shown last, and keeps what it was given."""

    def __init__(self) -> None:
        self.masks: dict[int, np.ndarray] = {}
        self.seeds: list[tuple[int, Seed]] = []
        self.steps: list[int] = []

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.masks)

    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        for s in seeds:
            self.masks[s.object_id] = to_mask(s.prompt, frame)
            self.seeds.append((frame.index, s))
        return self._result(frame)

    def step(self, frame: Frame) -> Segmentation:
        self.steps.append(frame.index)
        return self._result(frame)

    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        raise AssertionError("nothing is corrected in a benchmark")

    def drop(self, object_ids: Collection[int]) -> None:
        raise AssertionError("nothing is dropped in a benchmark")

    def _result(self, frame: Frame) -> Segmentation:
        planes = [m.astype(np.float32) for m in self.masks.values()]
        return Segmentation(
            self.object_ids, torch.from_numpy(np.stack([1 - np.maximum.reduce(planes), *planes]))
        )


def test_the_protocol_worked_out_another_way(davis_root: Path, tmp_path: Path) -> None:
    predictions = shifted(davis_root, tmp_path)
    curves = score(davis(davis_root), predictions, davis_frames)
    assert [(c.sequence, c.object_id, c.frames) for c in curves] == [
        (n, i, tuple(f"{t:05d}" for t in range(1, 7)))
        for n, i in (("pair", 1), ("pair", 2), ("solo", 1))
    ]
    means = []
    for c in curves:
        for k, frame in enumerate(c.frames):
            truth = (
                read_mask(davis_root / f"Annotations/480p/{c.sequence}/{frame}.png") == c.object_id
            )
            ours = read_mask(predictions / f"{c.sequence}/{frame}.png") == c.object_id
            assert c.j[k] == region_similarity(ours, truth) and c.f[k] == contour_accuracy(
                ours, truth
            )
        means.append((statistics(c.j), statistics(c.f)))
    table = rows(curves, {})
    figures = totals(table) | by_sequence(table)
    assert figures["j_mean"] == pytest.approx(sum(j.mean for j, _ in means) / 3), (
        "over objects, not sequences"
    )
    assert figures["j_mean_pair"] == pytest.approx((means[0][0].mean + means[1][0].mean) / 2)
    assert figures["f_mean_solo"] == pytest.approx(means[2][1].mean)
    assert figures["f_recall"] == pytest.approx(sum(f.recall for _, f in means) / 3)
    assert figures["jf_mean"] == pytest.approx(
        (float(figures["j_mean"]) + float(figures["f_mean"])) / 2
    )
    assert (
        float(figures["j_decay"]) > 0.1
        and figures["objects"] == 3
        and figures["frames"] == 12
        and math.isnan(float(figures["fps"]))
    )
    write_csv(tmp_path / "objects.csv", curves)
    with open(tmp_path / "objects.csv", newline="") as f:
        table_rows = list(csv.DictReader(f))
    assert [r["sequence"] + r["object"] for r in table_rows] == ["pair1", "pair2", "solo1"]
    assert float(table_rows[1]["f_decay"]) == pytest.approx(means[1][1].decay, abs=1e-6)


def test_the_truth_scores_1_and_nothing_scores_0(davis_root: Path, tmp_path: Path) -> None:
    sequences = davis(davis_root)
    perfect = totals(rows(score(sequences, davis_root / "Annotations/480p", davis_frames), {}))
    assert (
        perfect["j_mean"] == perfect["f_mean"] == perfect["j_recall"] == 1.0
        and perfect["j_decay"] == 0.0
    )
    for path in (davis_root / "Annotations/480p").rglob("*.png"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        write_mask(tmp_path / path.parent.name / path.name, np.zeros((64, 96), np.uint8))
    nothing = totals(rows(score(sequences, tmp_path, davis_frames), {}))
    assert nothing["j_mean"] == nothing["f_mean"] == nothing["f_recall"] == 0.0


def test_void_pixels(davis_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "void"
    shutil.copytree(davis_root, root)
    predictions = tmp_path / "predictions"
    shutil.copytree(davis_root / "Annotations/480p", predictions)
    for path in (root / "Annotations/480p/solo").glob("*.png"):
        mask = read_mask(path)
        write_mask(
            path, np.where((mask == 1) & (np.arange(64)[:, None] < 16), 255, mask).astype(np.uint8)
        )
    sequences = davis(root, "", "solo")
    assert totals(rows(score(sequences, predictions, davis_frames), {}))["j_mean"] == 1.0
    as_background = totals(
        rows(score(sequences, predictions, davis_frames, void_is_background=True), {})
    )
    assert as_background["j_mean"] == pytest.approx(14 / 18)


def test_bad_predictions_are_refused(davis_root: Path, tmp_path: Path) -> None:
    predictions = shifted(davis_root, tmp_path)
    sequences = davis(davis_root)
    write_mask(predictions / "solo/00003.png", np.full((64, 96), 2, np.uint8))
    with pytest.raises(ValueError, match=r"00003\.png: ids 2 are no objects of solo, which has 1"):
        score(sequences, predictions, davis_frames)
    assert score(davis(davis_root, "2016", "solo"), predictions, davis_frames)[0].object_id == 1, (
        "in 2016 any value is the object"
    )
    write_mask(predictions / "solo/00003.png", np.zeros((32, 48), np.uint8))
    with pytest.raises(
        ValueError, match=r"00003\.png: the prediction is 48x32 px, the annotation 96x64"
    ):
        score(sequences, predictions, davis_frames)
    (predictions / "solo/00003.png").unlink()
    (predictions / "solo/00007.png").unlink()
    with pytest.raises(ValueError, match=r"solo: 1 of 6 predictions are missing in .*: 00003\."):
        score(sequences, predictions, davis_frames)
    short = annotated_only_at(sequences[0], "00000", "00001")
    with pytest.raises(ValueError, match="no frame counts; it has 2 annotated frames"):
        score([short], predictions, davis_frames)


def test_export_seeds_objects_where_they_start(davis_root: Path, tmp_path: Path) -> None:
    (pair,) = davis(davis_root, "", "pair")
    late = replace(pair, first_frames={"00001": (1,), "00004": (2,)})
    mask = pair.mask("00004").copy()
    mask[:4] = 255
    void = tmp_path / "void.png"
    write_mask(void, mask)
    frames = [replace(f, mask=void) if f.name == "00004" else f for f in late.frames]
    late = replace(late, frames=tuple(frames))
    made: list[Sticky] = []

    def create() -> Sticky:
        made.append(Sticky())
        return made[-1]

    (tmp_path / "out/pair").mkdir(parents=True)
    (tmp_path / "out/pair/99999.png").write_bytes(b"of an older run")
    timing = export([late], create, tmp_path / "out")["pair"]
    (segmenter,) = made
    assert [(t, s.object_id) for t, s in segmenter.seeds] == [
        (1, 1),
        (4, 2),
    ] and segmenter.steps == [2, 3, 4, 5, 6, 7]
    assert segmenter.seeds[0][1].weight is None
    weight = segmenter.seeds[1][1].weight
    assert weight is not None and not weight[:4].any() and (weight[4:] == 1).all()
    written = sorted((tmp_path / "out/pair").glob("*.png"))
    assert [p.stem for p in written] == [f"{t:05d}" for t in range(8)]
    assert [np.unique(read_mask(p)).tolist() for p in written] == [
        [0],
        *[[0, 1]] * 3,
        *[[0, 1, 2]] * 4,
    ]
    assert len(timing.step_ms) == 5 and len(timing.seed_ms) == 2 and timing.fps > 0
    assert read_timing(tmp_path / "out") == {"pair": timing} and read_timing(tmp_path) == {}
    export([late], create, tmp_path / "clicked", click)
    starts = {s.object_id: (late.mask(f"{t:05d}"), s) for t, s in made[-1].seeds}
    for i, (ids, seed) in starts.items():
        assert isinstance(seed.prompt, Points) and seed.prompt.positive.tolist() == [True]
        x, y = seed.prompt.xy[0].astype(int).tolist()
        assert ids[y, x] == i
    assert sorted(starts) == [1, 2]
    with pytest.raises(ValueError, match="no pixel of object 5"):
        export([replace(pair, first_frames={"00000": (5,)})], create, tmp_path / "out")
    (tmp_path / "out/timing.json").write_text("[1]")
    with pytest.raises(ValueError, match="not a timing file"):
        read_timing(tmp_path / "out")


def test_speed_counts_following_only() -> None:
    curves = score_of("a"), score_of("b")
    table = rows(curves, {"a": Timing((10.0, 30.0), (500.0,)), "b": Timing((20.0,) * 2, ())})
    assert [r.fps for r in table] == [50.0, 50.0, 50.0]
    assert math.isnan(rows(curves, {"a": Timing((10.0,), ())})[-1].fps), (
        "the whole has no speed where a part has none"
    )


def score_of(name: str, category: str = "", j: float = 0.5, f: float = 0.7) -> ObjectCurves:
    return ObjectCurves(name, 1, category, ("00001", "00002"), np.full(2, j), np.full(2, f))


def test_g_of_youtube_vos() -> None:
    curves = [
        score_of("a", "dog", 0.8, 0.6),
        score_of("b", "dog", 0.6, 0.4),
        score_of("c", "yak", 0.2, 0.1),
    ]
    got = overall(curves, {"dog"})
    assert {k: round(float(v), 6) for k, v in got.items()} == {
        "g": 0.375,
        "j_seen": 0.7,
        "f_seen": 0.5,
        "j_unseen": 0.2,
        "f_unseen": 0.1,
    }
    only_seen = overall(curves[:2], {"dog"})
    assert only_seen["g"] == pytest.approx(0.6) and math.isnan(float(only_seen["j_unseen"]))


def test_objects_of_youtube_vos_count_after_their_first_frame(davis_root: Path) -> None:
    (pair,) = davis(davis_root, "", "pair")
    sparse = replace(
        annotated_only_at(pair, *(f"{t:05d}" for t in (0, 3, 6, 7))),
        first_frames={"00000": (1,), "00006": (2,)},
    )
    curves = score([sparse], davis_root / "Annotations/480p", youtube_vos_frames)
    assert {c.object_id: c.frames for c in curves} == {
        1: ("00003", "00006", "00007"),
        2: ("00007",),
    }
    last = replace(sparse, first_frames={"00000": (1,), "00007": (2,)})
    assert [
        c.object_id for c in score([last], davis_root / "Annotations/480p", youtube_vos_frames)
    ] == [1], "nothing to score of object 2"


def test_picture_shows_first_middle_and_last(davis_root: Path, tmp_path: Path) -> None:
    predictions = shifted(davis_root, tmp_path, dx=0)
    (pair,) = davis(davis_root, "", "pair")
    picture = strip(pair, predictions)
    assert picture.shape[1] == 3 * 640 + 2 * 4 and picture.dtype == np.uint8
    first = picture[:, :640]
    inside, ground = (
        first[20 * 7 : 24 * 7, 28 * 7 : 32 * 7],
        first[50 * 7 : 55 * 7, 10 * 7 : 15 * 7],
    )
    assert np.ptp(ground.mean((0, 1))) < 10 < np.ptp(inside.mean((0, 1)))
    assert (first > 200).all(2).any(), "the truth's outline is white"
    with pytest.raises(ValueError, match="no prediction of a frame of pair"):
        strip(pair, tmp_path / "none")
