"""``vos-ros bench lwl`` as people start it, on a network and images as small as they get."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vos_ros.cli.lwl_cost import STAGES, Meter, Scene
from vos_ros.cli.main import main

SMALL = [
    "bench",
    "lwl",
    "--size",
    "64x96",
    "--backbone",
    "mobilenet_v2",
    "--frames",
    "2",
    "--set",
    "segmentation.lwl.long_side=96",
    "--set",
    "segmentation.lwl.memory_size=3",
    "--set",
    "segmentation.lwl.update_every=2",
]


@pytest.mark.slow
def test_figures_table_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    out, plot = tmp_path / "deep" / "lwl.json", tmp_path / "plots" / "lwl.png"
    assert (
        main(
            [*SMALL, "--objects", "4,1", "--threads", "1", "--json", str(out), "--plot", str(plot)]
        )
        == 0
    )
    assert torch.get_num_threads() == threads
    figures = json.loads(out.read_text())
    assert {
        k: figures[k]
        for k in (
            "lwl_model",
            "lwl_compat",
            "lwl_size",
            "lwl_network_size",
            "lwl_memory_size",
            "torch_threads",
        )
    } == {
        "lwl_model": "mobilenet_v2, random weights",
        "lwl_compat": "paper",
        "lwl_size": "64x96",
        "lwl_network_size": "65x97",
        "lwl_memory_size": 3,
        "torch_threads": 1,
    }
    assert figures["lwl_peak_gflop_per_s"] > 1
    for n in (1, 4):
        at = {
            k.removeprefix(f"lwl_{n}_"): v for k, v in figures.items() if k.startswith(f"lwl_{n}_")
        }
        assert at["samples"] == 3, "the memory was not full"
        assert 0 < at["total_ms_p50"] <= at["total_ms_p95"] and at["fps"] == pytest.approx(
            1e3 / at["total_ms_mean"]
        )
        ms = {s: at[f"{s}_ms"] for s in STAGES}
        assert all(v > 0 for v in ms.values()), (
            ms
        )  # a method of the segmenter that isn't found leaves its stage at 0
        assert ms["other"] < 0.2 * sum(ms.values()), ms
        assert (
            0.2 < sum(ms.values()) / at["total_ms_mean"] < 5
        )  # of other frames, and the machine may have other work
        gflop = {s: at[f"{s}_gflop"] for s in STAGES}
        assert all(gflop[s] > 0 for s in ("backbone", "scores", "decoder", "encode", "learn")), (
            gflop
        )
        assert gflop["upload"] == gflop["merge"] == gflop["other"] == 0
        assert sum(gflop.values()) == pytest.approx(at["total_gflop"])
        assert at["roofline"] == pytest.approx(
            at["total_gflop"] * at["fps"] / figures["lwl_peak_gflop_per_s"]
        )
        assert at["peak_rss_mb"] > 50 and all(at[f"{s}_roofline"] >= 0 for s in STAGES)
    assert figures["lwl_4_total_gflop"] > figures["lwl_1_total_gflop"]
    assert figures["lwl_4_backbone_gflop"] == pytest.approx(figures["lwl_1_backbone_gflop"]), (
        "one pass serves all objects"
    )
    # What the samples of one object share, four objects share too; labels and weights they have
    # each.
    for stage in ("encode", "learn"):
        assert 3 < figures[f"lwl_4_{stage}_gflop"] / figures[f"lwl_1_{stage}_gflop"] < 5
    assert figures["lwl_1_over_1"] == 1
    assert figures["lwl_4_over_1"] == pytest.approx(
        figures["lwl_4_total_ms_mean"] / figures["lwl_1_total_ms_mean"]
    )
    assert plot.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert (
        all(f"\n{s}" in printed for s in STAGES)
        and "lwl_4_over_1" in printed
        and "1 object " in printed
    )


@pytest.mark.slow
def test_rules_of_the_published_program(tmp_path: Path) -> None:
    """A pass of everything per object, learning on every frame: here the work, unlike the time, can
    be foretold.
    """
    out = tmp_path / "lwl.json"
    assert main([*SMALL, "--compat", "reference", "--objects", "1,3", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["lwl_compat"] == "reference" and figures["lwl_precision"] == "float32"
    for n in (1, 3):
        assert figures[f"lwl_{n}_samples"] == 3
        ms = {s: figures[f"lwl_{n}_{s}_ms"] for s in STAGES}
        assert all(v > 0 for v in ms.values()) and ms["other"] < 0.2 * sum(ms.values()), ms
    for stage in ("backbone", "scores", "decoder", "encode", "learn"):
        assert figures[f"lwl_3_{stage}_gflop"] == pytest.approx(3 * figures[f"lwl_1_{stage}_gflop"])


@pytest.mark.slow
def test_settings_reach_the_segmenter(tmp_path: Path) -> None:
    """A gate that stays shut means no learning; without one object there is nothing to compare
    with.
    """
    out = tmp_path / "lwl.json"
    more = [
        "--set",
        "segmentation.lwl.iterations_update=0",
        "--set",
        "segmentation.lwl.precision=fp32",
    ]
    assert main([*SMALL, *more, "--objects", "2", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["lwl_2_learn_gflop"] == 0 and figures["lwl_2_encode_gflop"] > 0
    assert figures["lwl_precision"] == "float32" and "lwl_2_over_1" not in figures


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--objects", "1,x"], 2, "argument --objects: got '1,x', wanted numbers of objects"),
        (["--objects", "0"], 2, "got '0', wanted numbers of objects"),
        (["--size", "480"], 2, "argument --size: got '480', wanted HEIGHTxWIDTH in px"),
        (["--size", "480x8"], 2, "each 32 to 8192"),
        (["--frames", "0"], 2, "argument --frames: got '0', wanted a number from 1 on"),
        (["--threads", "two"], 2, "argument --threads: got 'two'"),
        (["--plot", "lwl.doc"], 2, "wanted a name that ends in .png"),
        (["--backbone", "vgg"], 2, "invalid choice: 'vgg'"),
        (["--compat", "best"], 2, "invalid choice: 'best'"),
        (["--backbone", "resnet50", "--model", "mine.safetensors"], 2, "not allowed with argument"),
        (["--model", "none.safetensors"], 1, "none.safetensors: no such file"),
        (["--model", "plain"], 1, "--model plain has no networks"),
        (["--set", "segmentation.method=other"], 1, "bench lwl measures lwl"),
        (["--set", "segmentation.lwl.decay=7"], 1, "wanted 0.01..1"),
        (
            ["--backbone", "mobilenet_v2", "--size", "32x32", "--objects", "100"],
            1,
            "100 objects don't fit into 32x32 px",
        ),
        (
            ["--backbone", "mobilenet_v2", "--device", "cuda:99"],
            1,
            "segmentation.device: 'cuda:99' can't be used here",
        ),
    ],
)
def test_what_goes_wrong_is_said_in_a_sentence(
    words: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        got: object = main(["bench", "lwl", *words])
    except SystemExit as e:
        got = e.code
    err = capsys.readouterr().err
    assert got == status and text in err and "Traceback" not in err


def test_options_before_the_word_lwl_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--set", "segmentation.lwl.decay=7", "lwl"]) == 1
    assert main(["bench", "--method", "null", "lwl"]) == 1
    err = capsys.readouterr().err
    assert "wanted 0.01..1" in err and "bench lwl measures lwl" in err


def test_the_meter_gives_every_count_to_the_innermost_stage_alone() -> None:
    clock = 0.0

    def work(cost: float) -> None:
        nonlocal clock
        clock += cost

    class Segmenter:
        model = SimpleNamespace(is_compiled=False)

        def step(self) -> None:
            work(1)
            self._segment()

        def _segment(self) -> None:
            work(2)
            self._scores()
            work(4)

        def _scores(self) -> None:
            work(8)

    segmenter, meter = Segmenter(), Meter(lambda: clock)
    with meter.attached(segmenter):
        for _ in range(2):
            work(100)  # between frames: nobody's
            meter.run(segmenter.step)
    segmenter.step()
    assert meter.sums == {**dict.fromkeys(STAGES, 0.0), "other": 2, "merge": 12, "scores": 16}
    assert not vars(segmenter)


def test_the_scene_moves_slowly_and_is_the_same_every_time() -> None:
    one, two = Scene(7, (60, 90)), Scene(7, (60, 90))
    frame, seeds = one.frame(3)
    assert (
        np.array_equal(frame.rgb, two.frame(3)[0].rgb)
        and frame.rgb.shape == (60, 90, 3)
        and frame.rgb.std() > 10
    )
    assert [s.object_id for s in seeds] == [1, 2, 3, 4, 5, 6, 7]
    masks = np.stack([s.prompt.mask for s in seeds])  # type: ignore[union-attr]
    assert masks.sum(0).max() == 1 and (masks.sum((1, 2)) > 20).all()
    later = np.stack([s.prompt.mask for s in one.frame(4)[1]])  # type: ignore[union-attr]
    assert ((masks & later).sum((1, 2)) > 0.7 * masks.sum((1, 2))).all() and not np.array_equal(
        frame.rgb, one.frame(4)[0].rgb
    )


PEAK = """
import torch
from vos_ros.cli.lwl_cost import memory_peak_mb, reset_memory_peak
cpu = torch.device("cpu")
torch.ones(64 << 20, dtype=torch.uint8)
reset_memory_peak(cpu)
name, before = memory_peak_mb(cpu)
torch.ones(128 << 20, dtype=torch.uint8)
print(name, memory_peak_mb(cpu)[1] - before)
"""


def test_the_memory_peak_is_of_what_is_measured() -> None:
    """In a process of its own: in this one, what other tests have freed may serve again."""
    out = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=120, check=True
    ).stdout.split()
    assert out[0] == "peak_rss_mb" and 60 < float(out[1]) < 300
