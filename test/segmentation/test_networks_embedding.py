"""The embedding of paper 000: its grid, its metric, its specification."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vos_ros.segmentation.networks.embedding import (
    SPECS,
    EmbeddingNet,
    EmbeddingSpec,
    similarity,
    squared_distance,
)

SMALL = replace(SPECS["mobilenet_v2"], dims=8, width=12)


def net(spec: EmbeddingSpec = SMALL) -> EmbeddingNet:
    torch.manual_seed(0)
    return EmbeddingNet(spec).eval().requires_grad_(False)


def image(h: int, w: int, frames: int = 1) -> torch.Tensor:
    return torch.randint(
        0, 256, (frames, 3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("aligned", [True, False])
def test_an_embedding_has_a_vector_per_cell(stride: int, aligned: bool) -> None:
    made = net(replace(SMALL, stride=stride, aligned=aligned))
    h, w = made.fits(70, 90)
    assert (h, w) == ((65, 97) if aligned else (64, 96))
    out = made(image(h, w, frames=2))
    assert out.shape == (2, 8, *made.cells(h, w)) and made.cells(h, w) == (
        -(-h // stride),
        -(-w // stride),
    )
    assert out.dtype == torch.float32 and bool(torch.isfinite(out).all())


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_resnets_serve_as_backbone(name: str) -> None:
    with torch.device("meta"):
        made = EmbeddingNet(SPECS[name]).eval()
        assert made(torch.zeros(1, 3, 64, 96)).shape == (1, 32, 16, 24)


def test_an_image_off_the_grid_is_refused_with_the_size_that_fits() -> None:
    with pytest.raises(ValueError, match=r"100x70 px.*resize it to 97x65"):
        net()(image(70, 100))


def test_frames_are_embedded_apart_from_each_other() -> None:
    frames = image(65, 65, frames=3)
    made = net()
    assert torch.allclose(made(frames)[1:2], made(frames[1:2]), atol=1e-5)


def test_a_mirrored_image_has_the_mirrored_embedding_of_a_mirrored_network() -> None:
    """Cells of an aligned grid sit on pixels (s i, s j), symmetrically to the image's middle: no
    half-pixel shift anywhere.
    """
    made, mirrored = net(), net()
    for m in mirrored.modules():
        if isinstance(m, nn.Conv2d):
            m.weight.copy_(m.weight.flip(3))
    frame = image(65, 97)
    assert torch.allclose(mirrored(frame.flip(3)), made(frame).flip(3), atol=1e-5)


def test_at_the_start_pixels_are_neither_alike_nor_strangers() -> None:
    x = net(EmbeddingSpec())(image(129, 129)).flatten(2)[0].t()
    assert 0.05 < float(squared_distance(x, x).mean()) < 5.0


def test_half_precision_is_for_the_convolutions_alone() -> None:
    made = net().to(torch.bfloat16)
    out = made(image(65, 65))
    assert made.dtype == torch.bfloat16 and out.dtype == torch.float32
    assert torch.allclose(out, net()(image(65, 65)), atol=0.1 * float(out.std()) + 0.02)


def test_batch_norms_keep_their_statistics_in_training() -> None:
    made = net().train()
    assert made.training and not any(
        m.training for m in made.modules() if isinstance(m, nn.BatchNorm2d)
    )


def test_the_metric_is_one_for_equal_pixels_and_falls_to_nothing() -> None:
    a, b = (torch.randn(n, 5, generator=torch.Generator().manual_seed(n)) for n in (4, 7))
    expected = [
        [2 / (1 + np.exp(np.sum((x - y) ** 2))) for y in b.double().numpy()]
        for x in a.double().numpy()
    ]
    assert torch.allclose(
        similarity(squared_distance(a, b)).double(), torch.tensor(expected), atol=1e-6
    )
    assert torch.allclose(similarity(squared_distance(a, a)).diagonal(), torch.ones(4), atol=1e-5)
    assert float(similarity(torch.tensor(200.0))) == 0.0


def test_a_spec_comes_back_from_json() -> None:
    for spec in (*SPECS.values(), replace(SMALL, stride=8)):
        assert EmbeddingSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, r"unknown fields \['colour'\].*known are.*backbone"),
        ({"dims": 0}, "dims = 0"),
        ({"dims": True}, "dims = True"),
        ({"dims": 3.0}, "dims = 3.0"),
        ({"aligned": 1}, "aligned = 1"),
        ({"stride": 16}, "stride 16.*wanted 4 or 8"),
        ({"backbone": "vgg"}, "backbone 'vgg': known are mobilenet_v2"),
        ({"convention": "matlab"}, "input convention 'matlab'"),
    ],
)
def test_a_wrong_spec_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingSpec.from_json(json.dumps({**json.loads(SMALL.to_json()), **change}))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not the specification of an embedding"), ("[1]", "got a list")]
)
def test_what_is_no_spec_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddingSpec.from_json(text)
