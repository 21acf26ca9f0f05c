"""The tasks: what is learned from a clip's first frame, what enters the loss, and that all learns.

The agreement with the reference's training step is in ``test/segmentation/test_golden_lwl.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vos_ros.config import ConfigError
from vos_ros.segmentation.networks.lwl import LwlNet, LwlSpec
from vos_ros.training.config import StageConfig
from vos_ros.training.interface import IGNORE, Batch
from vos_ros.training.losses import lovasz
from vos_ros.training.objects import Objects
from vos_ros.training.tasks import LwlBoxTask, LwlTask, create

GROUPS = ("stem", "backbone", "target_model", "regularization", "label_encoder", "decoder")
TINY = {
    "target_channels": 16,
    "num_filters": 4,
    "label_dims": [4, 6, 8],
    "decoder_channels": [12, 8, 8, 8],
}
OPTIONS = {"network": "mobilenet_v2", "spec": TINY, "cross_entropy": 50.0}


def clips(*, objects: tuple[int, ...] = (1, 1), frames: int = 3, size: int = 65) -> Batch:
    """Bright squares that move over a dark, noisy ground; one clip per entry of ``objects``."""
    draw = torch.Generator().manual_seed(sum(objects))
    images = torch.randint(
        0, 60, (len(objects), frames, 3, size, size), generator=draw, dtype=torch.uint8
    )
    labels = torch.zeros((len(objects), frames, size, size), dtype=torch.uint8)
    for b, n in enumerate(objects):
        for t in range(frames):
            for i in range(n):
                y, x = 6 + 4 * t + 5 * b, 4 + 30 * i + 3 * t
                labels[b, t, y : y + 22, x : x + 22] = i + 1
                color = torch.tensor([180, 60, 20] if i == 0 else [20, 60, 180], dtype=torch.uint8)
                images[b, t, :, y : y + 22, x : x + 22] += color[:, None, None]
    return Batch(images, labels)


def task(**options: object) -> LwlTask:
    made = create("lwl", {**OPTIONS, **options})
    assert isinstance(made, LwlTask)
    return made


def fresh(of: LwlTask) -> LwlNet:
    torch.manual_seed(0)
    return of.build().train()


@pytest.mark.parametrize("refine", [False, True])
def test_every_parameter_of_every_group_learns(refine: bool) -> None:
    lwl = task(refine=refine)
    net = fresh(lwl)
    groups = lwl.parameter_groups(net, StageConfig(rates=dict.fromkeys(GROUPS, 1e-3)))
    assert [g["name"] for g in groups] == list(GROUPS)
    counted = [id(p) for g in groups for p in g["params"]]
    assert sorted(counted) == sorted(id(p) for p in net.parameters())
    with (
        torch.no_grad()
    ):  # residual branches start at nothing, behind which no gradient arrives in the first step
        for p in net.parameters():
            p.add_(0.02 * torch.randn_like(p))
    value, scalars = lwl.loss(net, clips())
    value.backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not still
    assert set(scalars) == {"lovasz", "iou", "cross_entropy"} and all(
        np.isfinite(float(v)) for v in scalars.values()
    )


def test_a_few_steps_overfit_a_clip() -> None:
    lwl, batch = task(), clips(objects=(1,))
    net = fresh(lwl)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(40):
        value, scalars = lwl.loss(net, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert float(scalars["iou"]) > 0.75


def test_clips_with_different_numbers_of_objects_are_as_if_alone() -> None:
    lwl = task(pool="object", cross_entropy=0.0)
    net = fresh(lwl).eval()
    both = clips(objects=(1, 2))
    with torch.no_grad():
        together = float(lwl.loss(net, both)[0])
        alone = [
            float(lwl.loss(net, Batch(both.frames[b : b + 1], both.labels[b : b + 1]))[0])
            for b in range(2)
        ]
    assert together == pytest.approx(sum(alone) / 2, rel=1e-4)


def test_ignored_pixels_do_not_count() -> None:
    lwl = task(cross_entropy=0.0, scale=1.0)
    net = fresh(lwl).eval()
    batch = clips()
    batch.labels[:, 1:, 40:] = IGNORE
    with torch.no_grad():
        value = float(lwl.loss(net, batch)[0])
        probs = torch.sigmoid(lwl.predict(net, batch, Objects.of(batch.labels)))[:, :, :40]
        truth = batch.labels[:, 1:, :40] == 1
        expected = [
            float(lovasz(p.flatten(), y.flatten())) for p, y in zip(probs, truth, strict=True)
        ]
    assert value == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_refinement_changes_later_frames_only() -> None:
    batch = clips()
    objects = Objects.of(batch.labels)
    with torch.no_grad():
        net = fresh(task()).eval()
        first, second = (task(refine=r).predict(net, batch, objects) for r in (False, True))
    assert torch.allclose(first[:, 0], second[:, 0], atol=1e-5)
    assert not torch.allclose(first[:, 1], second[:, 1], atol=1e-4)


def test_a_clip_without_object_is_refused() -> None:
    batch = clips()
    batch.labels[1] = 0
    with pytest.raises(ValueError, match=r"clips \[1\].*no object"):
        task().loss(fresh(task()), batch)


def test_batch_norm_keeps_its_statistics_in_training() -> None:
    lwl = task()
    net = fresh(lwl)
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    lwl.loss(net, clips())
    assert before and all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    assert net.training and not any(
        m.training for m in net.modules() if isinstance(m, nn.BatchNorm2d)
    )


def test_a_group_without_rate_is_left_out_and_an_unknown_one_refused() -> None:
    lwl = task()
    net = fresh(lwl)
    groups = lwl.parameter_groups(net, StageConfig(rates={"decoder": 1e-3, "backbone": 0.0}))
    assert [(g["name"], g["lr"]) for g in groups] == [("decoder", 1e-3)]
    with pytest.raises(ConfigError, match=r"no group decodr.*label_encoder"):
        lwl.parameter_groups(net, StageConfig(rates={"decodr": 1e-3}))


def test_metadata_builds_the_network_again() -> None:
    lwl = task()
    header = lwl.metadata()
    assert header["format"] == "vos_ros.lwl"
    again = LwlNet(LwlSpec.from_json(header["spec"]))
    again.load_state_dict(fresh(lwl).state_dict())
    assert json.loads(header["spec"])["target_channels"] == 16


def test_pictures_have_a_clip_per_row() -> None:
    lwl = task()
    picture = lwl.picture(fresh(lwl).eval(), clips(objects=(1, 2)))
    assert (
        picture.shape == (2 * 65, 3 * 65, 3) and picture.dtype == np.uint8 and picture.max() == 255
    )


def test_the_box_encoder_learns_alone_from_a_trained_network(tmp_path: Path) -> None:
    trained = fresh(task())
    path = tmp_path / "trained.safetensors"
    save_file(trained.state_dict(), path)
    box = create("lwl_box", {**OPTIONS, "weights": str(path)})
    assert isinstance(box, LwlBoxTask)
    net = box.build()
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in trained.state_dict().items())
    (group,) = box.parameter_groups(net, StageConfig(rates={"box_encoder": 1e-3}))
    net.requires_grad_(False)
    for p in group["params"]:
        p.requires_grad_(True)
    batch = clips(objects=(1, 2), frames=1)
    value, scalars = box.loss(net, batch)
    value.backward()
    assert all(p.grad is not None for p in group["params"]) and float(scalars["iou"]) <= 1.0
    assert box.picture(net, batch).shape == (2 * 65, 65, 3)
    assert json.loads(box.metadata()["spec"])["box_encoder"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "vgg"}, "options.network"),
        ({"spec": {"colour": 1}}, "unknown fields.*colour"),
        ({"spec": {"num_filters": "many"}}, "num_filters"),
        ({"iterations_init": 0}, "options.iterations_init"),
        ({"iteration_init": 5}, "did you mean 'iterations_init'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("lwl", options)


def test_missing_files_and_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"options.backbone: no such file"):
        create("lwl", {**OPTIONS, "backbone": str(tmp_path / "none.pt")}).build()
    with pytest.raises(ConfigError, match="needs a trained network"):
        create("lwl_box", OPTIONS).build()
    with pytest.raises(ConfigError, match=r"unknown task 'lwll'.*lwl_box"):
        create("lwll", {})
