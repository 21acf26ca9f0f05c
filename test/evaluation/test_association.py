"""The association benchmark on a short rendered sequence, with perfect conditions and with faults
that have known answers.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from vos_ros.cli.main import main
from vos_ros.config import from_flat
from vos_ros.datasets.source import open_recording
from vos_ros.evaluation.association import CONDITIONS, METHODS, Condition, pooled, run
from vos_ros.evaluation.score import read_truth

pytest.importorskip("open3d", reason="the rendered world needs Open3D")

SMALL = {
    "segmentation.device": "cpu",
    "segmentation.lwl.model": "plain",
    "segmentation.features.long_side": 160,
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec, write_folder

    folder = tmp_path_factory.mktemp("world")
    write_folder(SyntheticSource(SyntheticSpec(seed=5, frames=12, width=160, height=120)), folder)
    return folder


def test_given_poses_name_nearly_all_and_switch_nothing(recording: Path) -> None:
    outcome = run(open_recording(recording), read_truth(recording), from_flat(SMALL), Condition())
    figures = pooled([outcome])
    assert set(figures) == set(METHODS)
    ours = figures["vos_ros"]
    assert (
        ours["f1"] > 0.9 and ours["id_switches"] == 0 and ours["idf1"] > 0.9 and ours["hota"] > 0.6
    )
    assert figures["projection"]["f1"] > 0.8 and outcome.calibration.count.sum() > 20
    assert (
        ours["alike_swaps"] == ours["alike_wrong"] == 0
        and outcome.records["vos_ros"].mixed()["mug"].frames > 10
    )
    assert figures["centroid"]["f1_margin"] == ours["f1"] - figures["centroid"]["f1"]
    assert math.isnan(ours["absent_precision"]), "nothing was said to be absent, and nothing was"


def test_noise_hurts_the_projection_more_than_the_image(recording: Path) -> None:
    outcome = run(
        open_recording(recording), read_truth(recording), from_flat(SMALL), CONDITIONS["noise_10cm"]
    )
    figures = pooled([outcome])
    assert figures["projection"]["mean_iou"] < figures["vos_ros"]["mean_iou"] - 0.1


def test_invented_objects_are_told_to_be_absent(recording: Path) -> None:
    config = from_flat({**SMALL, "association.absent_s": 0.2, "association.absent_px": 20})
    outcome = run(open_recording(recording), read_truth(recording), config, CONDITIONS["invented"])
    assert outcome.absences.precision == 1.0 and outcome.absences.said > 0


def test_the_command_writes_flat_figures_and_a_picture(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, picture = tmp_path / "a.json", tmp_path / "a.png"
    sets = [a for k, v in SMALL.items() for a in ("--set", f"{k}={v}")]
    assert (
        main(
            [
                "eval",
                "association",
                "--data",
                str(recording),
                "--conditions",
                "given,drift",
                "--every",
                "2",
                "--json",
                str(report),
                "--plot",
                str(picture),
                *sets,
            ]
        )
        == 0
    )
    figures = json.loads(report.read_text())
    assert {
        "f1",
        "f1_drift",
        "f1_centroid",
        "f1_drift_projection",
        "id_switches",
        "idf1",
        "hota",
        "ece",
        "ece_drift",
    } <= set(figures)
    assert picture.stat().st_size > 5000 and "frame_iou" in capsys.readouterr().out


def test_a_map_of_the_first_frames_alone_and_sheets(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "a.json"
    sets = [a for k, v in SMALL.items() for a in ("--set", f"{k}={v}")]
    arguments = [
        "eval",
        "association",
        "--data",
        str(recording),
        "--conditions",
        "given",
        "--map-from",
        "6",
        *sets,
    ]
    assert main([*arguments, "--json", str(report), "--pictures", str(tmp_path / "sheets")]) == 0
    figures, said = json.loads(report.read_text()), capsys.readouterr().out
    assert figures["precision"] > 0.8 and figures["id_switches"] == 0 and figures["returns"] == 0
    assert (
        "objects after 6 frames" in said
        and "mug (2, 3)" in said
        and (tmp_path / "sheets" / f"{recording.name}_given").is_dir()
    )
    assert main([*arguments, "--map-whole"]) == 0
    assert "the map has 1" in capsys.readouterr().out, (
        "more than ten of the fourteen objects count in the first frames"
    )


def test_drift_without_correction_is_worse_where_depth_corrects(recording: Path) -> None:
    assert CONDITIONS["drift_uncorrected"].configure(from_flat(SMALL)).pose.correction == "off"
    assert CONDITIONS["drift"].configure(from_flat(SMALL)) == from_flat(SMALL)
    drift = {
        n: pooled(
            [run(open_recording(recording), read_truth(recording), from_flat(SMALL), CONDITIONS[n])]
        )["vos_ros"]
        for n in ("drift", "drift_uncorrected")
    }
    assert drift["drift"]["mean_iou"] > drift["drift_uncorrected"]["mean_iou"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--conditions", "given,fog"], "fog: known are given"),
        (["--every", "0"], "wanted 1 or more"),
        (["--map-from", "-1"], "wanted 1 or more"),
        (["--map-whole"], "say of which frames"),
        (["--map-from", "99"], "no frames"),
        (["--map-from", "3", "--fit"], "one or the other"),
    ],
)
def test_wrong_arguments_are_told(
    recording: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "association", "--data", str(recording), *arguments]) != 0
    assert message in capsys.readouterr().err
