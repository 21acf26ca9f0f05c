"""The meta-loss against its sum written out, what learns from it, and resumed training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vos_ros.config import ConfigError
from vos_ros.segmentation.networks.embedding import EmbeddingNet, EmbeddingSpec
from vos_ros.segmentation.networks.meta import MetaNet, MetaSpec
from vos_ros.segmentation.networks.segmentation_head import Samples
from vos_ros.training.config import StageConfig, TrainConfig, build
from vos_ros.training.interface import Batch
from vos_ros.training.loop import train
from vos_ros.training.meta_task import MetaTask, evaluate, later
from vos_ros.training.tasks import create

OPTIONS: dict[str, Any] = {
    "spec": {"hidden": [6, 4], "state": 4, "generator": 5},
    "iterations": 3,
    "refine": 0,
    "samples": 24,
    "query": 20,
}
GROUPS = ("embedding", "initial", "rates", "optimizer", "generator")


def clips(objects: tuple[int, ...] = (1, 2), frames: int = 3, size: int = 65) -> Batch:
    """Bright squares that move over a dark, noisy ground; one clip per entry of ``objects``."""
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(
        0, 60, (len(objects), frames, 3, size, size), generator=draw, dtype=torch.uint8
    )
    labels = torch.zeros((len(objects), frames, size, size), dtype=torch.uint8)
    for b, n in enumerate(objects):
        for t in range(frames):
            for i in range(n):
                y, x = 6 + 4 * t, 4 + 30 * i + 3 * t
                labels[b, t, y : y + 22, x : x + 22] = i + 1
                color = torch.tensor([180, 60, 20] if i else [20, 60, 180], dtype=torch.uint8)
                images[b, t, :, y : y + 22, x : x + 22] += color[:, None, None]
    return Batch(images, labels)


def task(**options: Any) -> MetaTask:
    made = create("meta", {**OPTIONS, **options})
    assert isinstance(made, MetaTask)
    return made


def fresh(of: MetaTask) -> MetaNet:
    torch.manual_seed(0)
    net = of.build().eval()
    with torch.no_grad():  # an optimizer and a generator that do something of their own
        for p in (*net.optimizer.parameters(), *net.generator.parameters()):
            p.add_(0.02 * torch.randn_like(p))
    return net


def test_equation_5() -> None:
    """The cross-entropy on K frames after each of T iterations, summed over both."""
    meta, batch = task(), clips(objects=(1,))
    net = fresh(meta)
    with torch.no_grad():
        value, scalars = meta.loss(net, batch)
        episode = meta.episode(net, batch, torch.Generator().manual_seed(0))
        theta, state, expected = (
            net.start(episode.support, True),
            net.optimizer.start(net.initial[None]),
            0.0,
        )
        for _ in range(3):  # T
            gradient = net.head.gradient(theta, episode.support)[0]
            g, state = net.optimizer.update(gradient, theta, state, lambda d: d.sum(1))
            theta = theta + g
            p = (
                torch.sigmoid(net.head.logits(theta, episode.queries.inputs))[0]
                .double()
                .numpy()
                .reshape(2, 20)
            )  # K frames
            y = episode.queries.labels[0].numpy().reshape(2, 20)
            w = 2 * episode.queries.weights[0].numpy().reshape(
                2, 20
            )  # they sum to 1 over all frames
            expected += sum(
                -(w[k] * (y[k] * np.log(p[k]) + (1 - y[k]) * np.log(1 - p[k]))).sum()
                for k in range(2)
            )
        first = net.start(episode.support, True)
        before, after = (float(net.head.loss(t, episode.queries)) for t in (first, theta))
        reached = float(evaluate(net, theta, episode).mean())
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(scalars["before"]) == pytest.approx(before, rel=1e-5)
    assert float(scalars["after"]) == pytest.approx(after, rel=1e-5) and before != after
    assert float(scalars["iou"]) == pytest.approx(reached, rel=1e-5)


def test_refinement_adds_the_loss_on_the_frames_that_are_not_learned_from_yet() -> None:
    batch = clips(objects=(1,), frames=4)
    net = fresh(task())
    with torch.no_grad():
        net.optimizer.log_rate.fill_(-15.0)  # no iteration changes anything: losses add up by hand
        values = [float(task(refine=n).loss(net, batch)[0]) for n in (0, 1)]
        episode = task().episode(net, batch, torch.Generator().manual_seed(0))
        theta = net.start(episode.support, True)
        # after frame 1 it is measured on frames 2 and 3, after frame 2 on frame 3
        on_last_two, on_last = (
            float(net.head.loss(theta, later(episode.queries, k, 3))) for k in (1, 2)
        )
    assert values[1] - values[0] == pytest.approx(2 * on_last_two + on_last, rel=1e-4)


def test_later_queries_are_those_of_the_last_frames() -> None:
    inputs = torch.arange(6.0)[None, None].expand(2, 3, 6)
    queries = Samples(inputs, torch.arange(6.0).expand(2, 6), torch.full((2, 6), 1 / 6))
    rest = later(queries, 1, 3)
    assert rest.labels.tolist() == [[2, 3, 4, 5]] * 2 and rest.inputs[1, 2].tolist() == [2, 3, 4, 5]
    assert rest.weights.sum(1).tolist() == pytest.approx([1.0, 1.0])
    assert later(queries, 2, 3).labels.tolist() == [[4, 5]] * 2


def test_an_episode_has_the_objects_of_all_clips_and_their_cells() -> None:
    batch = clips(objects=(1, 2))
    batch.labels[1, 2, :, :16] = 255
    meta = task()
    episode = meta.episode(fresh(meta), batch, torch.Generator().manual_seed(0))
    assert episode.objects.clip.tolist() == [0, 1, 1]
    stride = meta.spec.embedding.stride
    centres = batch.labels[:, 1:, ::stride, ::stride]
    for m, (clip, number) in enumerate(((0, 1), (1, 1), (1, 2))):
        true = centres[clip] == number
        wrong = (episode.truth[m] != true) & (centres[clip] != 255)
        assert float(wrong.float().mean()) < 0.05, "cells on an outline alone may differ"
        assert float((episode.truth[m] & true).sum()) > 0.8 * float(true.sum()) > 0
    assert not episode.valid[1:, 1, :, : 16 // stride - 1].any(), "nothing is known there"
    assert episode.valid[0].all() and episode.valid[1:, 0].all()


def test_every_group_learns() -> None:
    meta = task(refine=1, second_order=True, one_shot=1.0)
    net = fresh(meta).train()
    groups = meta.parameter_groups(net, StageConfig(rates=dict.fromkeys(GROUPS, 1e-3)))
    assert [g["name"] for g in groups] == list(GROUPS)
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(
        id(p) for p in net.parameters()
    )
    value, scalars = meta.loss(net, clips())
    value.backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not still
    assert all(np.isfinite(float(scalars[k])) for k in ("before", "after", "iou"))
    with pytest.raises(ConfigError, match="no group lstm"):
        meta.parameter_groups(net, StageConfig(rates={"lstm": 1e-3}))


def test_a_frozen_embedding_builds_no_graph() -> None:
    meta = task()
    net = fresh(meta).train()
    net.embedding.requires_grad_(False)
    meta.loss(net, clips())[0].backward()
    assert all(p.grad is None for p in net.embedding.parameters()) and net.initial.grad is not None


def test_truncation_cuts_the_path_of_the_gradient_and_nothing_else() -> None:
    batch, values, gradients = clips(), [], []
    for cut in (0, 1):
        meta = task(truncate=cut)
        net = fresh(meta)
        value = meta.loss(net, batch)[0]
        value.backward()
        values.append(value.item())
        gradients.append(net.optimizer.log_rate.grad.clone())
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert not torch.allclose(*gradients, rtol=1e-2)


def test_a_few_steps_of_rmsprop_lower_the_meta_loss() -> None:
    meta, batch = task(iterations=5), clips(objects=(1,))
    net = fresh(meta).train()
    net.embedding.requires_grad_(False)
    optimizer = torch.optim.RMSprop([p for p in net.parameters() if p.requires_grad], 3e-3)
    with torch.no_grad():
        before = float(meta.loss(net.eval(), batch)[0])
    for _ in range(40):
        optimizer.zero_grad()
        meta.loss(net.train(), batch)[0].backward()
        optimizer.step()
    with torch.no_grad():
        value, scalars = meta.loss(net.eval(), batch)
    assert (
        float(value) < 0.3 * before
        and float(scalars["after"]) < float(scalars["before"])
        and float(scalars["iou"]) > 0.4
    )


def test_measuring_draws_the_same_every_time_and_training_does_not() -> None:
    meta = task(one_shot=1.0)
    net = fresh(meta)
    with torch.no_grad():
        assert float(meta.loss(net, clips())[0]) == float(meta.loss(net, clips())[0])
        net.train()
        assert float(meta.loss(net, clips())[0]) != float(meta.loss(net, clips())[0])


def test_objects_start_from_the_generator_with_the_probability_of_the_option() -> None:
    before = {}
    for name, share, training in (
        ("never", 0.0, True),
        ("always", 1.0, True),
        ("eval", 0.0, False),
    ):
        meta = task(one_shot=share)
        net = fresh(meta).train(training)
        with torch.no_grad():
            for p in net.generator.parameters():
                p.mul_(3.0)
        torch.manual_seed(5)
        before[name] = float(meta.loss(net, clips())[1]["before"])
    assert abs(before["never"] - before["always"]) > 1e-3
    assert abs(before["eval"] - before["always"]) < abs(before["eval"] - before["never"])


def test_an_embedding_comes_with_its_specification(tmp_path: Path) -> None:
    spec = EmbeddingSpec(dims=8, width=16)
    trained = EmbeddingNet(spec)
    file = tmp_path / "embedding.safetensors"
    save_file(
        trained.state_dict(), file, metadata={"format": "vos_ros.embedding", "spec": spec.to_json()}
    )
    meta = task(embedding=str(file))
    net = meta.build()
    assert net.spec.embedding == spec and torch.equal(
        net.embedding.project.weight, trained.project.weight
    )
    again = MetaNet(MetaSpec.from_json(meta.metadata()["spec"]))
    again.load_state_dict(net.state_dict())
    assert meta.metadata()["format"] == "vos_ros.meta"
    for options, message in (
        ({"embedding": str(tmp_path / "none.safetensors")}, "no such file"),
        ({"spec": {"hiden": [2, 2]}}, "hiden"),
        ({"spec": {"hidden": [90, 90]}}, "at most"),
        ({"weights": "none.pt"}, "no such file"),
    ):
        with pytest.raises(ConfigError, match=message):
            task(**options).build()


def test_a_picture_shows_the_given_masks_then_predictions_and_true_outlines() -> None:
    meta, batch = task(), clips(objects=(1, 2))
    picture = meta.picture(fresh(meta), batch)
    assert picture.shape == (2 * 65, 3 * 65, 3) and picture.dtype == np.uint8
    tiles = picture.reshape(2, 65, 3, 65, 3).transpose(0, 2, 1, 3, 4)
    frames = batch.frames.permute(0, 1, 3, 4, 2).numpy()
    for b in range(2):
        labels = batch.labels[b].numpy()
        for t in range(3):
            y, x = 6 + 4 * t, 4 + 3 * t
            assert (tiles[b, t, y, x : x + 22] == 255).all(), "the outline of object 1"
            assert (tiles[b, t, y + 1, x + 1] != 255).any(), "and nothing inside it"
        inside = np.zeros((65, 65), bool)
        inside[8:26, 6:24] = True
        assert (tiles[b, 0][inside] != frames[b, 0][inside]).any(1).all(), "tinted, as it is given"
        outside = labels[0] == 0
        assert (tiles[b, 0][outside] == frames[b, 0][outside]).all()
    one, two = (tiles[1, 0][10:20, x : x + 8].mean((0, 1)) for x in (8, 38))
    assert np.abs(one - two).max() > 20, "each object has its colour"


@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, clips_folder: Path) -> None:
    clip = {"width": 65, "height": 65, "frames": 3, "gap": 4, "min_px": 20}
    config = build(
        TrainConfig,
        {
            "task": "meta",
            "name": "meta",
            "data_root": str(clips_folder),
            "workers": 0,
            "ema": 0.9,
            "checkpoint_every": 2,
            "log_every": 1,
            "precision": "bf16-mixed",
            "data": {"all": {"kind": "folder"}},
            "stages": {
                "one": {
                    "steps": 5,
                    "batch": 2,
                    "optimizer": "rmsprop",
                    "mix": {"all": 1.0},
                    "clip": clip,
                    "rates": {"initial": 1e-3, "optimizer": 1e-3, "rates": 1e-3, "generator": 1e-3},
                }
            },
        },
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        meta = task(refine=1)
        train(config, meta, tmp_path / "whole", device="cpu", show=False)
        for leg in (2, 1, 5):
            done = train(
                config,
                meta,
                tmp_path / "legs",
                device="cpu",
                max_steps=leg,
                resume=True,
                show=False,
            )
    finally:
        torch.set_num_threads(threads)
    assert done.finished
    ends = [
        torch.load(tmp_path / name / "checkpoints/step-000000005.pt", weights_only=True)
        for name in ("whole", "legs")
    ]
    for part in ("model", "average"):
        assert all(torch.equal(value, ends[1][part][key]) for key, value in ends[0][part].items())
    torch.manual_seed(config.seed)
    assert not torch.equal(ends[0]["model"]["initial"], task(refine=1).build().initial)
    assert dataclasses.asdict(config)["stages"]["one"]["optimizer"] == "rmsprop"
