"""``vos-ros train``, with the configurations that come along."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from vos_ros.cli.main import main
from vos_ros.datasets import synthetic
from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "config" / "train"


def frame(t: int) -> tuple[np.ndarray, np.ndarray]:
    """A textured square that moves, 96x72."""
    rng = np.random.default_rng(0)
    rgb, ids = rng.integers(60, 100, (72, 96, 3), np.uint8), np.zeros((72, 96), np.uint8)
    rgb[20:50, 20 + t : 54 + t], ids[20:50, 20 + t : 54 + t] = (
        rng.integers(120, 255, (30, 34, 3)),
        1,
    )
    return rgb, ids


def write(image: Path, mask: Path, t: int) -> None:
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    rgb, ids = frame(t)
    assert cv2.imwrite(str(image), rgb)
    Image.fromarray(ids).save(mask)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data_root with something in every place that the configurations name."""
    root = tmp_path / "data"
    for seq in ("bear", "boat"):
        for t in range(5):
            write(
                root / f"DAVIS/JPEGImages/480p/{seq}/{t:05d}.jpg",
                root / f"DAVIS/Annotations/480p/{seq}/{t:05d}.png",
                t,
            )
            write(
                root / f"YouTubeVOS/train/JPEGImages/{seq}/{t:05d}.jpg",
                root / f"YouTubeVOS/train/Annotations/{seq}/{t:05d}.png",
                t,
            )
            write(
                root / f"SceneNetRGBD/train/0/{seq}/photo/{25 * t}.png",
                root / f"SceneNetRGBD/train/0/{seq}/instance/{25 * t}.png",
                t,
            )
    for split, name in (("train", "a"), ("val", "b")):
        voc = root / "VOC2012"
        write(voc / f"JPEGImages/{name}.jpg", voc / f"SegmentationObject/{name}.png", 0)
        (voc / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (voc / f"ImageSets/Segmentation/{split}.txt").write_text(f"{name}\n")
    shutil.copytree(root / "SceneNetRGBD/train", root / "SceneNetRGBD/val")
    for world in ("worlds/world-00000-40", "worlds/world-00100-40"):
        for t in range(5):
            write(root / world / f"{t}.png", root / world / f"{t}-mask.png", t)
        (root / world / "frames.csv").write_text(
            "color,mask\n" + "".join(f"{t}.png,{t}-mask.png\n" for t in range(5))
        )
    for pack, sequences in (
        (
            "train",
            {"duts-tr": ("", ""), "ycbv": ("0001",), "coco200": ("",) * 4, "voc2007": ("",)},
        ),
        ("train_video", {"DAVIS16train": ("bear", "bus")}),
    ):
        rows = []
        for dataset, names in sequences.items():
            for i, seq in enumerate(names):
                for t in range(5 if seq else 1):
                    image, mask = f"{dataset}/{seq}{i}-{t}.jpg", f"{dataset}/{seq}{i}-{t}.png"
                    write(root / pack / image, root / pack / mask, t)
                    rows.append(
                        {
                            "image": image,
                            "mask": mask,
                            "dataset": dataset,
                            "seq": seq,
                            "frame": f"{t}" if seq else "",
                        }
                    )
        with open(root / pack / "manifest.csv", "w", newline="") as f:
            writer = csv.DictWriter(f, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return root


def small(name: str, **sides: int) -> list[str]:
    """Options that make a run tiny: two steps of one clip, one of each of the first stages."""
    tree = yaml.safe_load((CONFIGS / name).read_text())
    words = ["workers=0", "log_every=1", "validation.clips=1"]
    for i, stage in enumerate(tree["stages"]):
        words += [
            f"stages.{stage}.batch=1",
            f"stages.{stage}.clip.frames=2",
            f"stages.{stage}.clip.min_px=10",
            *(f"stages.{stage}.clip.{side}={px}" for side, px in sides.items()),
        ]
        if i == 0 and len(tree["stages"]) > 1:
            words += [f"stages.{stage}.steps=1"]
    words += [f"validation.clip.{side}={px}" for side, px in sides.items()]
    return [w for word in words for w in ("--set", word)]


@pytest.mark.parametrize(
    ("name", "side", "more"),
    [
        ("lwl_mnv2.yaml", 65, ()),
        pytest.param("lwl_resnet50.yaml", 64, (), marks=pytest.mark.slow),
        ("embedding_mnv2.yaml", 65, ("data.rooms.worlds=1",)),
        pytest.param("embedding_scenenet.yaml", 64, (), marks=pytest.mark.slow),
        ("meta_mnv2.yaml", 65, ("data.rooms.worlds=1",)),
        pytest.param("meta_davis.yaml", 64, ("options.iterations=3",), marks=pytest.mark.slow),
        ("one_point_mnv2.yaml", 65, ()),
        pytest.param("one_point_paper.yaml", 64, (), marks=pytest.mark.slow),
    ],
)
def test_two_steps_of_each_schedule(
    name: str,
    side: int,
    more: tuple[str, ...],
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    task = yaml.safe_load((CONFIGS / name).read_text())["task"]
    words = [
        "train",
        task,
        "--config",
        str(CONFIGS / name),
        "--out",
        str(out),
        "--set",
        f"data_root={root}",
        "--device",
        "cpu",
        "--quiet",
        *small(name, width=side, height=side),
        *(w for word in more for w in ("--set", word)),
    ]
    assert main([*words, "--steps", "1"]) == 0, capsys.readouterr().err
    assert "stopped at step 1 of" in capsys.readouterr().out
    assert main([*words, "--steps", "1"]) == 1 and "go on with --resume" in capsys.readouterr().err
    assert main([*words, "--steps", "1", "--resume"]) == 0
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [r for r in rows if r["kind"] == "train"]
    assert [r["step"] for r in steps] == [1, 2] and all(np.isfinite(r["loss"]) for r in steps)
    assert {k for k in steps[0] if k.startswith("rate/")} != set() and (out / "curve.png").is_file()
    assert {f"{Path(name).stem}{end}" for end in (".safetensors", "-fp16.safetensors", ".md")} <= {
        p.name for p in out.iterdir()
    }
    shutil.rmtree(out)  # a gigabyte of ResNet-50


@pytest.mark.parametrize(
    ("task", "name"), [("lwl", "tiny.yaml"), ("one_point", "one_point_tiny.yaml")]
)
def test_the_first_run_of_a_fresh_clone(
    task: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It needs nothing but Open3D; here three steps in one small room."""
    pytest.importorskip("open3d")
    small_world = SyntheticSpec(seed=0, frames=3, width=160, height=120)
    monkeypatch.setattr(synthetic, "SyntheticSource", lambda _: SyntheticSource(small_world))
    words = [
        "train",
        task,
        "--config",
        str(CONFIGS / name),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--quiet",
        "--set",
        f"data_root={tmp_path}",
        "--set",
        "data.worlds.worlds=1",
        "--set",
        "data.worlds.frames=3",
        "--set",
        "data.held_out.frames=3",
        *small(name, width=65, height=65),
    ]
    assert main([*words, "--steps", "3"]) == 0, capsys.readouterr().err
    assert (tmp_path / "out/curve.png").is_file() and (
        tmp_path / "world-00000-3/frames.csv"
    ).is_file()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_installed_command_prepares_data_in_processes_of_its_own(
    root: Path, tmp_path: Path
) -> None:
    """They read the script that was started, and must not run it."""
    words = [
        "train",
        "lwl",
        "--config",
        str(CONFIGS / "lwl_mnv2.yaml"),
        "--out",
        str(tmp_path / "out"),
        "--set",
        f"data_root={root}",
        "--device",
        "cpu",
        "--quiet",
        "--steps",
        "1",
        *small("lwl_mnv2.yaml", width=65, height=65),
        "--set",
        "workers=1",
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "vos-ros"), *words],
        capture_output=True,
        text=True,
        timeout=110,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("stopped at step 1 of")


def test_wrong_usage(tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(CONFIGS / "lwl_mnv2.yaml")

    def fails(*words: str) -> str:
        assert (
            main(["train", "lwl", "--out", str(tmp_path / "out"), "--device", "cpu", *words]) == 1
        )
        err = capsys.readouterr().err
        assert err.startswith("vos-ros train: ") and "Traceback" not in err
        return err

    assert "cannot read the training configuration" in fails(
        "--config", str(tmp_path / "none.yaml")
    )
    assert "wanted KEY=VALUE" in fails("--config", config, "--set", "seed")
    assert "did you mean 'seed'" in fails("--config", config, "--set", "sed=1")
    assert "manifest.csv: no such file" in fails(
        "--config", config, "--set", f"data_root={tmp_path}"
    )
    assert "options.backbone: no such file" in fails(
        "--config", config, "--set", f"data_root={root}", "--set", "options.backbone=x.pt"
    )
    assert "no group" in fails(
        "--config", config, "--set", f"data_root={root}", "--set", "stages.stills.rates.head=1.0"
    )
    assert (
        main(["train", "meta", "--config", config]) == 1
        and "is for the task 'lwl', not 'meta'" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()
