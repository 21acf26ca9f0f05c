"""The task point_tracker: what it trains, and that it learns."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support import moving_squares
from support.networks import calibrate

from vos_ros.config import ConfigError
from vos_ros.segmentation.checkpoints import POINT_TRACKER_FORMAT
from vos_ros.segmentation.networks.mobilenet_v2 import MobileNetV2
from vos_ros.segmentation.networks.point_tracker import PointTrackerNet, PointTrackerSpec
from vos_ros.training.config import StageConfig
from vos_ros.training.point_tracker_task import PointTrackerTask
from vos_ros.training.tasks import create

GROUPS = ("stem", "backbone", "head")
OPTIONS = {"width": 8, "frames": 3, "points": 8, "pace": 3.0}

clips = partial(moving_squares.clips, n=3, frames=2, side=25)


def task(**options: object) -> PointTrackerTask:
    made = create("point_tracker", {**OPTIONS, **options})
    assert isinstance(made, PointTrackerTask)
    return made


def fresh(of: PointTrackerTask) -> PointTrackerNet:
    torch.manual_seed(0)
    net = of.build().train()
    calibrate(net.feature_extractor, clips().frames[0, 0].permute(1, 2, 0).numpy())
    return net


def test_every_parameter_of_every_group_takes_part() -> None:
    tracker = task()
    net = fresh(tracker)
    groups = tracker.parameter_groups(net, StageConfig(rates=dict.fromkeys(GROUPS, 1e-3)))
    assert [g["name"] for g in groups] == list(GROUPS)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(
        id(p) for p in net.parameters()
    )
    with pytest.raises(ConfigError, match=r"no group decoder.*head"):
        tracker.parameter_groups(net, StageConfig(rates={"decoder": 1e-3}))
    for seed in range(2):  # a heatmap's convolutions learn once the last of them has moved
        torch.manual_seed(seed)
        net.zero_grad()
        tracker.loss(net, clips())[0].backward()
        with torch.no_grad():
            for p in net.parameters():
                assert p.grad is not None
                p -= 1e-2 * p.grad.sign()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]


def test_a_few_steps_teach_to_follow() -> None:
    tracker, batch = task(noise=0.0), clips()
    net = fresh(tracker)

    def measure() -> dict[str, float]:
        torch.manual_seed(5)
        with torch.no_grad():
            value, scalars = tracker.loss(net.eval(), batch)
        return {"loss": float(value), **{k: float(v) for k, v in scalars.items()}}

    before = measure()
    optimizer = torch.optim.Adam(net.train().parameters(), 2e-3)
    for step in range(18):
        torch.manual_seed(100 + step)
        value, scalars = tracker.loss(net.train(), batch)
        assert set(scalars) == {"heat", "px", "seen", "global", "inside"}
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    after = measure()
    assert after["loss"] < 0.9 * before["loss"] and after["heat"] < 0.93 * before["heat"]
    assert set(after) == {"loss", *scalars, "iou", "visibility"}
    assert 0 < after["iou"] <= 1 and 0 < after["visibility"] <= 1
    assert tracker.picture(net, batch).shape == (3 * 65, 3 * 65, 3)


def test_starts_from_weights(tmp_path: Path) -> None:
    torch.manual_seed(3)
    backbone, path = MobileNetV2(), tmp_path / "backbone.safetensors"
    save_file(backbone.state_dict(), path)
    net = task(backbone=str(path)).build()
    stem = "features.0.0.weight"
    assert torch.equal(net.feature_extractor.state_dict()[stem], backbone.state_dict()[stem])
    header = task().metadata()
    assert header["format"] == POINT_TRACKER_FORMAT
    assert PointTrackerSpec.from_json(header["spec"]) == PointTrackerSpec(dims=8)
    with pytest.raises(ConfigError, match=r"options\.weights: no such file"):
        task(weights="nowhere.safetensors").build()
