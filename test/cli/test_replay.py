"""Replay and evaluation from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from support import squares

from vos_ros.cli.main import main, parser
from vos_ros.cli.replay import configuration, replay
from vos_ros.config import from_flat, load
from vos_ros.datasets.source import open_recording
from vos_ros.evaluation.score import read_findings
from vos_ros.sinks.mcap import McapFile
from vos_ros.sinks.recording import Recorder
from vos_ros.types import Frame, FrameResult, MapUpdate


def labels_of(bag: Path) -> list[tuple[int, bytes]]:
    with AnyReader([bag]) as reader:
        connections = [c for c in reader.connections if c.topic == "/vos_ros/labels"]
        return [
            (t, bytes(reader.deserialize(raw, c.msgtype).data))
            for c, t, raw in reader.messages(connections)
        ]


@pytest.mark.parametrize("method", ["null", "lwl"])
def test_two_runs_are_identical_and_score(
    world: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = ["--pose-noise-m", "0.01", "--pose-noise-deg", "0.3", "--seed", "4"]
    bags = [tmp_path / "a.mcap", tmp_path / "b.mcap"]
    assert main(["convert", str(world), str(tmp_path / "in.mcap")]) == 0
    for source, bag in zip(
        (tmp_path / "in.mcap", world), bags, strict=True
    ):  # a bag and its folder are the same recording
        words = [
            "replay",
            str(source),
            str(bag),
            "--method",
            method,
            *noise,
            "--set",
            "segmentation.device=cpu",
            "--json",
            str(bag.with_suffix(".json")),
            "--overlays",
            str(tmp_path / "pictures"),
        ]
        assert main(words) == 0
    first, second = map(labels_of, bags)
    assert first == second and [t for t, _ in first] == [10**9 + i * 10**8 for i in range(6)]
    assert all(np.frombuffer(data, np.uint16).any() for _, data in first)
    figures = json.loads((tmp_path / "a.json").read_text())
    assert (
        figures["frames"] == 6
        and figures["frames_dropped"] == 0
        and figures["map_updates"] == 1
        and figures["tracks"] == 2
    )
    assert {"fps", "latency_ms_p50", "latency_ms_p95", "segmentation_ms_p50", "wall_s"} <= set(
        figures
    )
    assert (tmp_path / "pictures/contact_sheet.png").is_file() and len(
        list((tmp_path / "pictures/overlay").iterdir())
    ) == 6
    capsys.readouterr()
    out = {k: str(tmp_path / f"score.{k}") for k in ("json", "csv", "png")}
    assert (
        main(
            [
                "eval",
                "bag",
                str(bags[0]),
                "--truth",
                str(world),
                "--json",
                out["json"],
                "--csv",
                out["csv"],
                "--plot",
                out["png"],
            ]
        )
        == 0
    )
    assert "mean_iou" in capsys.readouterr().out
    score = json.loads((tmp_path / "score.json").read_text())
    assert score["frames_scored"] == 6 and score["objects_counted"] == 12
    assert (
        score["mean_iou"] > 0.6
        and score["association_accuracy"] == 1.0
        and score["id_switches"] == 0
    )
    assert (tmp_path / "score.png").read_bytes().startswith(b"\x89PNG")


def test_with_the_true_masks_little_remains_wrong(world: Path, tmp_path: Path) -> None:
    bag, score = tmp_path / "truth.mcap", tmp_path / "truth.json"
    assert (
        main(["replay", str(world), str(bag), "--truth", str(world), "--pose-noise-deg", "1"]) == 0
    )
    assert main(["eval", "bag", str(bag), "--truth", str(world), "--json", str(score)]) == 0
    figures = json.loads(score.read_text())
    assert figures["mean_iou"] > 0.8 and figures["association_accuracy"] == 1.0


def test_eval_of_another_recording_says_so(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["replay", str(world), str(tmp_path / "a.mcap"), "--method", "null", "--stop", "1"])
        == 0
    )
    other = tmp_path / "other"
    other.mkdir()
    (other / "objects.json").write_text((world / "objects.json").read_text())
    (other / "frames.csv").write_text("stamp,mask\n99.0,m.png\n")
    assert main(["eval", "bag", str(tmp_path / "a.mcap"), "--truth", str(other)]) == 1
    assert "is it the bag of another recording?" in capsys.readouterr().err


def test_inputs_that_contradict_each_other_are_named_in_replay_and_eval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the words of the node."""
    recording, out = tmp_path / "in.mcap", tmp_path / "out.mcap"
    with McapFile(recording, {}) as file:
        recorder = Recorder(file, "camera_optical", "map")
        recorder.map_update(MapUpdate(squares.START, "map", 1, True, squares.map_objects()))
        for index in range(25):
            frame = squares.frame_at(squares.START + index * squares.STEP, index)
            assert frame.depth is not None
            recorder.frame(replace(frame, depth=frame.depth * 10))
    assert main(["replay", str(recording), str(out), "--method", "null"]) == 0
    sentence = "it looks like depth in 0.1 mm, read as mm"
    assert sentence in "".join(capsys.readouterr())
    ((text, count),) = read_findings(out).items()
    assert sentence in text and 10 <= count <= 25
    main(["eval", "bag", str(out), "--truth", str(tmp_path)])
    assert f"{count} x {text}" in capsys.readouterr().err


def test_configuration_comes_from_file_set_and_options(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(
        "tracking: {lost_s: 3.5, min_px: 7}\nsegmentation: {method: lwl}\n"
    )
    out = tmp_path / "a.mcap"
    assert (
        main(
            [
                "replay",
                str(world),
                str(out),
                "--config",
                str(tmp_path / "c.yaml"),
                "--set",
                "tracking.min_px=9",
                "--method",
                "null",
                "--start",
                "1",
                "--stop",
                "3",
            ]
        )
        == 0
    )
    assert [t for t, _ in labels_of(out)] == [1_100_000_000, 1_200_000_000]
    from mcap.reader import make_reader

    with open(out, "rb") as f:
        saved = next(m for m in make_reader(f).iter_metadata() if m.name == "rosbag2").metadata[
            "serialized_metadata"
        ]
    import yaml

    (tmp_path / "saved.yaml").write_text(yaml.safe_load(saved)["custom_data"]["config"])
    config = load(tmp_path / "saved.yaml")
    assert config == from_flat(
        {"tracking.lost_s": 3.5, "tracking.min_px": 9, "segmentation.method": "null"}
    )
    capsys.readouterr()
    for words, text in (
        (["--set", "tracking.lost=1"], "did you mean 'tracking.lost_s'?"),
        (["--set", "oops"], "wanted KEY=VALUE"),
        (["--method", "no_such"], "no_such"),
        (["--features", "no_such"], "wanted one of"),
        (["--pose-noise-m", "-1"], "wanted all of them >= 0"),
        (["--start", "50"], "no frame to replay"),
    ):
        kept = out.read_bytes()
        assert main(["replay", str(world), str(out), *words]) == 1
        err = capsys.readouterr().err
        assert text in err and "Traceback" not in err
        assert out.read_bytes() == kept, "a run that fails leaves the older bag"
    assert main(["replay", str(out), str(out)]) == 1
    assert "same file" in capsys.readouterr().err


def test_list_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as e:
        main(["replay", "--list-config"])
    assert e.value.code == 0
    assert "tracking.lost_s = 1.0 s [0 .. 600]" in capsys.readouterr().out


class Fake:
    """A pipeline that says nothing, but not quietly."""

    def __init__(self, make_result: Callable[..., FrameResult]) -> None:
        self.seen: list[int] = []
        self.make_result = make_result

    def update_map(self, update: MapUpdate) -> str:
        return "revision gap"

    def step(self, frame: Frame) -> FrameResult:
        import dataclasses

        self.seen.append(frame.index)
        empty = self.make_result(frame, np.zeros(frame.shape, np.uint16), {})
        return dataclasses.replace(empty, warnings=(f"trouble {frame.index}", "always"))


def test_warnings_are_counted_and_cut(
    world: Path, make_result: Callable[..., FrameResult], capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline: Any = Fake(make_result)
    figures = replay(pipeline, open_recording(world), [], slice(0, -1))
    assert pipeline.seen == [0, 1, 2, 3, 4] and figures["frames"] == 5
    err = capsys.readouterr().err
    assert "5 x always" in err and "1 x revision gap" in err


@pytest.mark.parametrize(
    ("given", "model"),
    [
        ([], "lwl-mnv2"),
        (["--features", "classical"], "plain"),
        (["--set", "segmentation.features.long_side=320"], "plain"),
        (
            ["--features", "classical", "--set", "segmentation.lwl.model=mine.safetensors"],
            "mine.safetensors",
        ),
    ],
)
def test_features_that_are_named_are_used(given: list[str], model: str) -> None:
    """Trained networks have features of their own; they would ignore these."""
    args = parser("replay").parse_args(["replay", "in.mcap", "out.mcap", *given])
    assert configuration(args).segmentation.methods["lwl"].model == model
