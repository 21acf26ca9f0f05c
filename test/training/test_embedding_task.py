"""The task embedding: what it trains, from which weights, and following objects by it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import moving_squares

from vos_ros.config import ConfigError
from vos_ros.segmentation.networks.embedding import EmbeddingNet, EmbeddingSpec
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet
from vos_ros.segmentation.networks.mobilenet_v2 import MobileNetV2
from vos_ros.training.config import StageConfig
from vos_ros.training.embedding_task import EmbeddingTask, follow
from vos_ros.training.interface import IGNORE, Batch
from vos_ros.training.tasks import create

GROUPS = ("stem", "backbone", "pyramid")
OPTIONS = {"spec": {"dims": 8, "width": 16}, "pixels": 128}


clips = partial(moving_squares.clips, n=2, frames=3, side=22)


def task(**options: object) -> EmbeddingTask:
    made = create("embedding", {**OPTIONS, **options})
    assert isinstance(made, EmbeddingTask)
    return made


def fresh(of: EmbeddingTask) -> EmbeddingNet:
    torch.manual_seed(0)
    return of.build().train()


def test_every_parameter_of_every_group_learns() -> None:
    embedding = task()
    net = fresh(embedding)
    groups = embedding.parameter_groups(net, StageConfig(rates=dict.fromkeys(GROUPS, 1e-3)))
    assert [g["name"] for g in groups] == list(GROUPS)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(
        id(p) for p in net.parameters()
    )
    value, _ = embedding.loss(net, clips())
    value.backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]
    with pytest.raises(ConfigError, match=r"no group decoder.*pyramid"):
        embedding.parameter_groups(net, StageConfig(rates={"decoder": 1e-3}))


def test_a_few_steps_teach_to_follow() -> None:
    embedding, batch = task(), clips()
    net = fresh(embedding)
    before = {k: float(v) for k, v in embedding.loss(net.eval(), batch)[1].items()}
    optimizer = torch.optim.Adam(net.train().parameters(), 3e-3)
    for _ in range(30):
        value, scalars = embedding.loss(net, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert set(scalars) == {"spread"} and set(before) == {"spread", "iou"}
    after = float(embedding.loss(net.eval(), batch)[1]["iou"])
    assert after > 0.8 and after > before["iou"] + 0.2


def test_following_copies_labels_and_leaves_out_what_is_unknown() -> None:
    labels = torch.zeros(3, 4, 4, dtype=torch.uint8)
    labels[:, :2, :2], labels[:, 3] = 1, 2
    features = torch.nn.functional.one_hot(labels.long(), 3).float()
    assert float(follow(features, labels)) == 1.0
    features[1, :2, :2] = features[
        1, 3, 3
    ]  # the first object looks like the second in one of two frames
    assert float(follow(features, labels)) == pytest.approx((0.0 + 1.0 + 4 / 8 + 1.0) / 4)
    labels[1, :2, :2] = IGNORE
    assert float(follow(features, labels)) == 1.0


def test_the_loss_is_the_mean_over_clips() -> None:
    embedding = task(look_alikes=0.0, pixels=4000)
    net, both = fresh(embedding).eval(), clips()
    with torch.no_grad():
        torch.manual_seed(1)
        together = float(embedding.loss(net, both)[0])
        alone = [
            float(embedding.loss(net, Batch(both.frames[b : b + 1], both.labels[b : b + 1]))[0])
            for b in range(2)
        ]
    assert together == pytest.approx(sum(alone) / 2, rel=0.05)


def test_the_backbone_comes_from_a_file_of_its_own_or_of_a_whole_network(tmp_path: Path) -> None:
    torch.manual_seed(5)
    backbone, whole = MobileNetV2(), LwlNet(SPECS["mobilenet_v2"])
    save_file(backbone.state_dict(), tmp_path / "backbone.safetensors")
    torch.save(backbone.state_dict(), tmp_path / "backbone.pt")
    save_file({k: v.half() for k, v in whole.state_dict().items()}, tmp_path / "lwl.safetensors")
    for name, wanted in (
        ("backbone.safetensors", backbone),
        ("backbone.pt", backbone),
        ("lwl.safetensors", whole.feature_extractor),
    ):
        got = task(backbone=str(tmp_path / name)).build().feature_extractor.state_dict()
        assert all(
            torch.allclose(v.float(), got[k].float(), atol=1e-3)
            for k, v in wanted.state_dict().items()
        )


def test_training_goes_on_from_whole_weights(tmp_path: Path) -> None:
    trained = fresh(task())
    save_file(trained.state_dict(), tmp_path / "all.safetensors")
    again = task(weights=str(tmp_path / "all.safetensors")).build()
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in trained.state_dict().items())


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    for options, message in (
        ({"backbone": "none.pt"}, r"options.backbone: no such file"),
        ({"weights": "none.pt"}, r"options.weights: no such file"),
        (
            {"backbone": str(tmp_path / "broken.safetensors")},
            "broken.safetensors: no safetensors file",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            task(**options).build()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "vgg"}, "options.network"),
        ({"spec": {"stride": 16}}, "options.spec: stride 16"),
        ({"spec": {"colour": 1}}, "unknown fields.*colour"),
        ({"background": 2.0}, "options.background"),
        ({"pixel": 5}, "did you mean 'pixels'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create("embedding", options)


def test_metadata_builds_the_network_again() -> None:
    header = task().metadata()
    assert header["format"] == "vos_ros.embedding" and json.loads(header["spec"])["dims"] == 8
    EmbeddingNet(EmbeddingSpec.from_json(header["spec"])).load_state_dict(
        fresh(task()).state_dict()
    )


def test_pictures_have_two_rows_per_clip() -> None:
    picture = task().picture(fresh(task()).eval(), clips())
    assert picture.shape == (4 * 65, 3 * 65, 3) and picture.dtype == np.uint8
    assert len(np.unique(picture[65:130].reshape(-1, 3), axis=0)) > 20
