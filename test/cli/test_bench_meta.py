"""``vos-ros bench meta`` as people start it, on small random networks and a few tiny clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vos_ros.cli.main import main
from vos_ros.segmentation.networks.embedding import EmbeddingSpec
from vos_ros.segmentation.networks.meta import MetaNet, MetaSpec
from vos_ros.training.compare import Curve, best, reached_after


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = MetaNet(
        MetaSpec(embedding=EmbeddingSpec(dims=8, width=16), hidden=(8, 4), state=4, generator=4)
    )
    path = tmp_path_factory.mktemp("meta") / "random.safetensors"
    save_file(
        net.state_dict(), path, metadata={"format": "vos_ros.meta", "spec": net.spec.to_json()}
    )
    return path


def test_table_figures_and_plot(
    model: Path, davis_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "deep" / "meta.json", tmp_path / "plots" / "meta.png"
    threads = torch.get_num_threads()
    words = [
        "bench",
        "meta",
        "--davis",
        str(davis_root),
        "--model",
        str(model),
        "--clips",
        "2",
        "--iterations",
        "0,2,6",
        "--threads",
        "1",
    ]
    assert main([*words, "--json", str(out), "--plot", str(plot)]) == 0, capsys.readouterr().err
    assert torch.get_num_threads() == threads
    figures = json.loads(out.read_text())
    for name in ("lstm", "adam", "rmsprop", "sgd", "steepest_descent"):
        assert figures[f"meta_{name}_0_loss"] == figures["meta_lstm_0_loss"], (
            "not from the same start"
        )
        assert (
            0 <= figures[f"meta_{name}_6_iou"] <= 1 and figures[f"meta_{name}_5_loss"] > 0
        )  # five are always looked at
        assert (
            figures[f"meta_{name}_reaches_lstm5"] == "none"
            or figures[f"meta_{name}_reaches_lstm5"] >= 0
        )
    assert figures["meta_lstm_6_loss"] < figures["meta_lstm_0_loss"]
    for scale in ("x10", "x0.1"):  # to half and single precision's last digits
        assert figures[f"meta_lstm_{scale}_6_loss"] == pytest.approx(
            figures["meta_lstm_6_loss"], rel=1e-3
        )
        assert figures[f"meta_sgd_{scale}_6_loss"] != pytest.approx(
            figures["meta_sgd_6_loss"], rel=1e-3
        )
    assert (
        figures["meta_adam_rate"] in (0.001, 0.003, 0.01, 0.03, 0.1)
        and "meta_lstm_rate" not in figures
    )
    assert plot.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert (
        "steepest_descent" in printed
        and "meta_adam_reaches_lstm5" in printed
        and "meta_adam_6_loss" not in printed
    )


def test_clips_of_a_training_configuration(
    model: Path, davis_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "train.yaml"
    clip = "{width: 65, height: 65, frames: 3, gap: 4, min_px: 20}"
    config.write_text(
        f"task: meta\ndata: {{kept: {{kind: davis, split: 2017/val}}}}\n"
        "stages: {one: {mix: {kept: 1.0}}}\n"
        f"validation: {{mix: {{kept: 1.0}}, clip: {clip}}}\n"
    )
    words = [
        "bench",
        "meta",
        "--config",
        str(config),
        "--model",
        str(model),
        "--clips",
        "1",
        "--iterations",
        "1",
        "--without-one-shot",
    ]
    assert main([*words, "--data-root", str(davis_root)]) == 0, capsys.readouterr().err
    config.write_text(config.read_text().replace("mix: {kept: 1.0}, clip", "clip"))
    assert (
        main([*words, "--data-root", str(davis_root)]) == 1
        and "names no source of held-out clips" in capsys.readouterr().err
    )


def test_wrong_usage(model: Path, davis_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--davis", str(davis_root), "--iterations", "five"], "numbers of iterations"),
        (["--davis", str(davis_root), "--plot", "x.gif"], ".png, .pdf or .svg"),
    ):
        with pytest.raises(SystemExit):
            main(["bench", "meta", "--model", str(model), *words])
        assert message in capsys.readouterr().err
    assert (
        main(["bench", "meta", "--davis", str(davis_root), "--model", str(model), "--scale", "-1"])
        == 1
    )
    assert "--scale -1" in capsys.readouterr().err
    assert main(["bench", "meta", "--davis", str(davis_root), "--model", "none.safetensors"]) == 1
    assert "no such file" in capsys.readouterr().err


def curve(rate: float, *loss: float) -> Curve:
    return Curve("adam", rate, 1.0, (1, 5, 20), loss, loss, loss)


def test_the_best_rate_and_when_a_loss_is_reached() -> None:
    slow, fast = curve(0.001, 0.6, 0.5, 0.2), curve(0.1, 0.3, 0.25, 0.9)
    assert best([slow, fast]) is slow
    assert (
        reached_after([slow, fast], 0.26) == 5
        and reached_after([slow], 0.26) == 20
        and reached_after([slow, fast], 0.1) is None
    )
