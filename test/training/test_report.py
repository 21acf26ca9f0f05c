"""The loss curve and the card."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from vos_ros.training.data import open_source
from vos_ros.training.report import card, draw_curve, smoothed


@pytest.fixture
def rows() -> list[dict]:
    train = [{"step": s, "kind": "train", "loss": 10.0 / s, "iou": s / 20} for s in range(1, 15)]
    return [
        {"step": 0, "kind": "start", "git": "abc", "torch": "2", "device": "a CPU", "world": 1},
        *train,
        {"step": 7, "kind": "validation", "loss": 3.0, "iou": 0.5},
        {"step": 14, "kind": "validation", "loss": 3.0, "iou": 0.4},
    ]


def test_smoothed() -> None:
    assert smoothed(np.full(50, 3.0)) == pytest.approx(np.full(50, 3.0))
    assert smoothed(np.array([4.0])).tolist() == [4.0]
    step = smoothed(np.repeat([0.0, 1.0], 100))
    assert step[99] == 0 and 0.9 < step[199] <= 1 and np.all(np.diff(step) >= 0)


def test_a_curve_is_drawn(
    rows: list[dict], tmp_path: Path, runner: ModuleType, clips_folder: Path
) -> None:
    config = runner.config(clips_folder)
    draw_curve(rows, config, tmp_path / "curve.png")
    draw_curve(rows[:1], config, tmp_path / "empty.png")  # a run that was stopped before it logged
    full, empty = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("curve", "empty"))
    assert full.shape[0] > 400 and (full != 255).sum() > (empty != 255).sum()


def test_the_card_says_what_went_in(
    rows: list[dict], runner: ModuleType, clips_folder: Path
) -> None:
    config = runner.config(clips_folder)
    sources = {n: open_source(c, clips_folder) for n, c in config.data.items()}
    text = card("tiny", config, sources, rows, 14, 7200.0)
    assert (
        "steps: all (14); device hours: 2.00 on a CPU (1 at once)" in text
        and "seed 3; source tree abc" in text
    )
    assert (
        f"| all | {clips_folder.name} | 5 | 19 | CC0 |" in text
        and "| kept (held out)" in text
        and "not stated" in text
    )
    assert "| training, mean of the last tenth | 14 | 0.7143 | 0.7000 |" in text
    assert "| held-out clips, last | 14 | 3.0000 | 0.4000 |" in text
    assert "| held-out clips, best (`tiny-best.safetensors`) | 7 | 3.0000 | 0.5000 |" in text
    assert "steps: 5 of 14" in card("tiny", config, sources, rows, 5, 0.0)
