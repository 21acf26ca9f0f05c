"""The task one_point: what it trains, from which weights, and the masks that key points give."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import moving_squares

from vos_ros.config import ConfigError
from vos_ros.segmentation.networks.mobilenet_v2 import MobileNetV2
from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec
from vos_ros.training.config import StageConfig
from vos_ros.training.interface import IGNORE, Batch
from vos_ros.training.one_point_task import OnePointTask
from vos_ros.training.tasks import create

GROUPS = ("stem", "backbone", "head", "threshold")
OPTIONS = {"spec": {"dims": 8, "width": 16}, "triplets": 32, "every_object": True}


clips = partial(moving_squares.clips, n=2, frames=2, side=25)


def task(**options: object) -> OnePointTask:
    made = create("one_point", {**OPTIONS, **options})
    assert isinstance(made, OnePointTask)
    return made


def fresh(of: OnePointTask) -> OnePointNet:
    torch.manual_seed(0)
    return of.build().train()


def gradients(of: OnePointTask, batch: Batch) -> dict[str, torch.Tensor | None]:
    net = fresh(of)
    torch.manual_seed(1)
    of.loss(net, batch)[0].backward()
    return {n: p.grad for n, p in net.named_parameters()}


def test_every_parameter_of_every_group_learns() -> None:
    one_point = task()
    net = fresh(one_point)
    groups = one_point.parameter_groups(net, StageConfig(rates=dict.fromkeys(GROUPS, 1e-3)))
    assert [g["name"] for g in groups] == list(GROUPS)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(
        id(p) for p in net.parameters()
    )
    assert not [n for n, g in gradients(one_point, clips()).items() if g is None or not g.any()]
    with pytest.raises(ConfigError, match=r"no group pyramid.*threshold"):
        one_point.parameter_groups(net, StageConfig(rates={"pyramid": 1e-3}))


def test_the_threshold_learns_from_masks_and_the_embedding_only_if_asked() -> None:
    batch = clips()
    quiet = replace(task().options, margin=0.0)
    with_masks = gradients(OnePointTask(replace(quiet, mask_loss=5.0)), batch)
    without = gradients(OnePointTask(quiet), batch)
    for name in ("gamma", "log_softness"):
        got, wanted = with_masks[name], without[name]
        assert got is not None and wanted is not None and float(wanted) != 0
        assert float(got) == pytest.approx(float(wanted), rel=1e-4)
    a, b = with_masks["project.weight"], without["project.weight"]
    assert a is not None and b is not None and float((a - b).norm()) > 1e-3


def test_a_few_steps_teach_instances() -> None:
    one_point, batch = task(mask_loss=10.0), clips()
    net = fresh(one_point)
    net.feature_extractor.requires_grad_(False)
    before = {k: float(v) for k, v in one_point.loss(net.eval(), batch)[1].items()}
    learned = [p for p in net.train().parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, 1e-2)
    for _ in range(25):
        value, scalars = one_point.loss(net, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert set(scalars) == {"triplet", "masks", "gamma", "softness"}
    after = {k: float(v) for k, v in one_point.loss(net.eval(), batch)[1].items()}
    assert set(after) == {"iou", "iou_later", "gamma"}
    assert after["iou"] > 0.6 and after["iou"] > before["iou"] + 0.2
    assert after["iou_later"] > 0.5


class FixedNet(OnePointNet):
    """Its embedding is the colour of the cell's pixel, in full precision always."""

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        cells = rgb[:, :, ::8, ::8].float() / 255
        return torch.cat([cells, torch.zeros_like(cells)], 1) + 0 * self.project.bias[0]


def test_distances_are_in_full_precision_whatever_the_convolutions_are() -> None:
    one_point, batch = task(), clips()
    net = FixedNet(one_point.spec).train()
    losses = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            value, scalars = one_point.loss(net, batch)
        losses.append((float(value), float(scalars["masks"])))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_pixels_to_be_ignored_do_not_count() -> None:
    one_point, batch = task(), clips(n=1)
    net = fresh(one_point).eval()
    labels = batch.labels.clone()
    labels[:, :, 40:][labels[:, :, 40:] == 0] = IGNORE
    known = one_point.loss(net, Batch(batch.frames, labels))[1]
    all_pixels = one_point.loss(net, batch)[1]
    assert float(known["iou"]) >= float(all_pixels["iou"])
    changed = batch.frames.clone()
    everything = torch.full_like(labels, IGNORE)
    everything[:, :, 6:31, 4:29] = 1
    torch.manual_seed(0)
    value, _ = one_point.loss(net.train(), Batch(changed, everything))
    assert bool(torch.isfinite(value))  # no negative anywhere: no triplet


def test_backbone_and_head_come_from_a_deeplab(tmp_path: Path) -> None:
    torch.manual_seed(5)
    donor = OnePointNet(OnePointSpec(width=16))
    tensors = {
        k.removeprefix("feature_extractor."): v
        for k, v in donor.state_dict().items()
        if not k.startswith(("project", "gamma", "log_softness"))
    }
    torch.save({**tensors, "logits.bias": torch.zeros(21)}, tmp_path / "deeplab.pt")
    got = task(deeplab=str(tmp_path / "deeplab.pt")).build()
    for name in ("feature_extractor", "aspp0", "image_pooling", "concat_projection"):
        for k, v in donor.get_submodule(name).state_dict().items():
            assert torch.equal(v, got.get_submodule(name).state_dict()[k]), (name, k)
    with pytest.raises(ConfigError, match=r"options.deeplab: .*resnet50, wanted mobilenet_v2"):
        task(network="resnet50", deeplab=str(tmp_path / "deeplab.pt")).build()


def test_training_goes_on_from_whole_weights_or_a_backbone(tmp_path: Path) -> None:
    trained, backbone = fresh(task()), MobileNetV2()
    save_file(trained.state_dict(), tmp_path / "all.safetensors")
    again = task(weights=str(tmp_path / "all.safetensors")).build()
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in trained.state_dict().items())
    save_file(backbone.state_dict(), tmp_path / "backbone.safetensors")
    got = task(backbone=str(tmp_path / "backbone.safetensors")).build().feature_extractor
    assert all(torch.equal(v, got.state_dict()[k]) for k, v in backbone.state_dict().items())


@pytest.mark.parametrize("key", ["backbone", "deeplab", "weights"])
def test_files_that_cannot_be_used_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"options.{key}: no such file"):
        task(**{key: "none.pt"}).build()
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match=r"broken\.safetensors: no safetensors file"):
        task(**{key: str(tmp_path / "broken.safetensors")}).build()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "vgg"}, "options.network"),
        ({"spec": {"stride": 4}}, "options.spec: stride 4"),
        ({"spec": {"colour": 1}}, "unknown fields.*colour"),
        ({"across": 2.0}, "options.across"),
        ({"triplet": 5}, "did you mean 'triplets'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("one_point", options)


def test_metadata_builds_the_network_again() -> None:
    header = task().metadata()
    assert header["format"] == "vos_ros.one_point" and json.loads(header["spec"])["dims"] == 8
    OnePointNet(OnePointSpec.from_json(header["spec"])).load_state_dict(fresh(task()).state_dict())


def test_pictures_have_two_rows_per_clip() -> None:
    picture = task().picture(fresh(task()).eval(), clips(frames=3))
    assert picture.shape == (4 * 65, 3 * 65, 3) and picture.dtype == np.uint8
    assert len(np.unique(picture[65:130].reshape(-1, 3), axis=0)) > 20
