"""The streaming method of paper 000 with small random networks: what is kept, what is learned from,
what changes. That it follows objects is for the contract suite, with the weights that come with
the package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.segmenters import segmentation_config

from vos_ros.config import ConfigError
from vos_ros.segmentation.methods.meta.segmenter import Meta
from vos_ros.segmentation.networks.embedding import EmbeddingSpec
from vos_ros.segmentation.networks.meta import MetaNet, MetaSpec
from vos_ros.segmentation.networks.meta_optimizer import OPTIMIZERS
from vos_ros.types import Frame, Mask, Seed

H, W = 96, 128


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random networks, whose optimizer descends and whose generator adds a little."""
    torch.manual_seed(0)
    net = MetaNet(
        MetaSpec(embedding=EmbeddingSpec(dims=8, width=16), hidden=(12, 6), state=4, generator=6)
    )
    with torch.no_grad():
        net.generator.layers[2].bias.fill_(0.01)
        net.initial.mul_(0.5)
    path = tmp_path_factory.mktemp("meta") / "random.safetensors"
    save_file(
        net.state_dict(), path, metadata={"format": "vos_ros.meta", "spec": net.spec.to_json()}
    )
    return path


@pytest.fixture
def make(file: Path) -> Callable[..., Meta]:
    def build(**fields: Any) -> Meta:
        given = {
            "model": str(file),
            "long_side": 192,
            "update_every": 2,
            "samples": 60,
            "memory_size": 2,
            "min_confidence": 0.0,
            **fields,
        }
        return Meta(segmentation_config("meta", meta=given))

    return build


def box(x: int, y: int = 20, side: int = 30) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y : y + side, x : x + side] = True
    return mask


@pytest.fixture
def frame(draw: Callable[..., Frame]) -> Callable[[int], Frame]:
    """Two coloured boxes that move to the right."""
    return lambda t: draw(t, [(box(10 + t), (200, 40, 40)), (box(70 + t, 50), (40, 60, 220))])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_objects_model_is_learned_and_goes_on_being_learned(
    optimizer: str, make: Callable[..., Meta], frame: Callable
) -> None:
    meta = make(optimizer=optimizer)
    meta.seed(frame(0), [Seed(4, Mask(box(10))), Seed(9, Mask(box(70, 50)))])
    before = {i: t.theta.clone() for i, t in meta.models.items()}
    states = {i: {k: v.clone() for k, v in t.state.items()} for i, t in meta.models.items()}
    for t in range(1, 4):  # frame 2 is learned from when frame 3 comes
        meta.step(frame(t))
    for i, t in meta.models.items():
        assert not torch.equal(t.theta, before[i]) and t.theta.shape == (meta.net.head.parameters,)
        assert t.state.keys() == states[i].keys()
        changed = [k for k in t.state if k != "unit" and torch.equal(t.state[k], states[i][k])]
        assert not changed, "the optimizer forgot what it knew of an object"


def test_a_new_object_leaves_the_others_as_they_are(
    make: Callable[..., Meta], frame: Callable
) -> None:
    meta = make()
    meta.seed(frame(0), [Seed(4, Mask(box(10)))])
    theta, hidden = meta.models[4].theta.clone(), meta.models[4].state["h"].clone()
    meta.seed(frame(0), [Seed(9, Mask(box(70, 50)))])
    assert torch.equal(meta.models[4].theta, theta) and torch.equal(
        meta.models[4].state["h"], hidden
    )
    meta.drop([4])
    assert list(meta.models) == [9]


def test_without_iterations_nothing_is_learned(make: Callable[..., Meta], frame: Callable) -> None:
    meta = make(iterations_init=0, iterations_update=0, one_shot=False)
    meta.seed(frame(0), [Seed(4, Mask(box(10)))])
    for t in range(1, 6):
        meta.step(frame(t))
    meta.update(frame(5), [Seed(4, Mask(box(15)))])
    meta.step(frame(6))
    assert torch.equal(meta.models[4].theta, meta.net.initial)
    generated = make(iterations_init=0, one_shot=True)
    generated.seed(frame(0), [Seed(4, Mask(box(10)))])
    assert torch.allclose(generated.models[4].theta, meta.net.initial + 0.01, atol=1e-6)


def test_what_is_remembered(make: Callable[..., Meta], frame: Callable) -> None:
    """The seed for good, the last correction, of the stream the latest two; nothing of frames right
    after a correction.
    """
    meta = make()
    meta.seed(frame(0), [Seed(4, Mask(box(10)))])
    memory = meta.models[4].memory
    for t in range(1, 10):
        meta.step(frame(t))
    assert (len(memory.given), len(memory.own)) == (1, 2)
    first = memory.given[0]
    for t in (10, 12):
        meta.step(frame(t))
        meta.update(frame(t), [Seed(4, Mask(box(10 + t)))])
    assert len(memory.given) == 2 and memory.given[0] is first
    kept = memory.own
    meta.step(frame(13))
    meta.step(frame(14))
    meta.step(frame(15))
    assert memory.own is not kept and len(memory.own) == len(kept)
    assert all(a is b for a, b in zip(memory.own, kept, strict=True))
    assert meta.models[4].references.shape[1] == 2 * 32


def test_an_object_is_learned_anew_before_the_optimizer_has_gone_too_far(
    make: Callable[..., Meta], frame: Callable
) -> None:
    meta = make(iterations_init=5, iterations_update=3, max_iterations=12)
    meta.seed(frame(0), [Seed(4, Mask(box(10)))])
    counts = []
    for t in range(1, 14):
        meta.step(frame(t))
        counts.append(meta.models[4].iterations)
    assert counts == [5, 5, 8, 8, 11, 11, 5, 5, 8, 8, 11, 11, 5]
    meta.drop([4])
    meta.seed(frame(14), [Seed(5, Mask(box(24)), np.zeros((H, W), np.float32))])
    assert meta.models[5].iterations == 0 and not meta.models[5].is_learned
    meta.update(frame(14), [Seed(5, Mask(box(24)))])
    meta.step(frame(15))
    assert meta.models[5].iterations == 5, "first taught by a correction, it is a new object"


def test_a_frame_of_little_confidence_teaches_nothing(
    make: Callable[..., Meta], frame: Callable
) -> None:
    meta = make(min_confidence=1.0)
    meta.seed(frame(0), [Seed(4, Mask(box(10)))])
    theta = meta.models[4].theta.clone()
    for t in range(1, 8):
        meta.step(frame(t))
    assert torch.equal(meta.models[4].theta, theta) and not meta.models[4].memory.own


def test_an_object_out_of_view_is_looked_for_now_and_then(
    make: Callable[..., Meta], frame: Callable
) -> None:
    meta = make()
    meta.seed(frame(0), [Seed(4, Mask(box(10))), Seed(9, Mask(box(70, 50)))])
    meta.step(frame(1))
    meta.update(frame(1), [Seed(4, Mask(np.zeros((H, W), bool)))])
    searched = []
    for t in range(2, 13):
        searched.append(float(meta.step(frame(t)).probs[1].max()) > 1e-3)
        meta.update(frame(t), [Seed(4, Mask(np.zeros((H, W), bool)))])
    assert searched == [(t + 4) % 8 == 0 for t in range(2, 13)]


def test_no_object_and_many(make: Callable[..., Meta], frame: Callable) -> None:
    meta = make()
    assert float(meta.step(frame(0)).probs.min()) == 1.0
    meta.seed(frame(1), [Seed(i + 1, Mask(box(3 * i, i))) for i in range(40)])
    for t in range(2, 6):
        result = meta.step(frame(t))
    assert result.probs.shape == (41, H, W) and torch.allclose(
        result.probs.sum(0), torch.ones(H, W), atol=1e-4
    )
    meta.drop(range(1, 41))
    assert float(meta.step(frame(6)).probs.min()) == 1.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "none.safetensors"}, "no such file"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"model": "lwl-mnv2"}, "names no network of this method"),
    ],
)
def test_weights_that_cannot_be_used(
    fields: dict[str, str], message: str, make: Callable[..., Meta]
) -> None:
    with pytest.raises(ConfigError, match=rf"segmentation\.meta\.model.*{message}"):
        make(**fields)


def test_weights_of_other_inputs_are_refused(tmp_path: Path, make: Callable[..., Meta]) -> None:
    net = MetaNet(
        MetaSpec(
            embedding=EmbeddingSpec(dims=8, width=16), extra=4, hidden=(12, 6), state=4, generator=6
        )
    )
    path = tmp_path / "other.safetensors"
    save_file(
        net.state_dict(), path, metadata={"format": "vos_ros.meta", "spec": net.spec.to_json()}
    )
    with pytest.raises(ConfigError, match="train it again"):
        make(model=str(path))
