"""The embedding network of paper 002: dilation in place of stride, head, grid, specification."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.mobilenet_v2 import MobileNetV2
from vos_ros.segmentation.networks.one_point import SPECS, OnePointNet, OnePointSpec
from vos_ros.segmentation.networks.resnet import ResNet

SMALL = replace(SPECS["mobilenet_v2"], dims=8, width=12)


def net(spec: OnePointSpec = SMALL) -> OnePointNet:
    torch.manual_seed(0)
    return OnePointNet(spec).eval().requires_grad_(False)


def image(h: int, w: int, frames: int = 1) -> torch.Tensor:
    return torch.randint(
        0, 256, (frames, 3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )


def backbone(kind: str, stride: int) -> nn.Module:
    torch.manual_seed(1)
    if kind == "mobilenet_v2":
        return MobileNetV2(output_stride=stride).double().eval()
    depth, _, place = kind.removeprefix("resnet").partition("-")
    return ResNet(int(depth), stride_in_1x1=place == "1x1", output_stride=stride).double().eval()


@pytest.mark.parametrize(
    ("kind", "output_stride"),
    [
        ("mobilenet_v2", 8),
        ("mobilenet_v2", 16),
        ("resnet18", 8),
        ("resnet18", 16),
        ("resnet50", 8),
        ("resnet50-1x1", 8),
    ],
)
def test_a_dilated_backbone_is_a_denser_sampling_of_the_strided_one(
    kind: str, output_stride: int
) -> None:
    """Every (32 / s)-th cell of the dense map is a cell of the map of stride 32: the same function
    of the same weights (on a grid of 32k+1 px, where both pad alike).
    """
    x = torch.randn(1, 3, 33, 65, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        strided, dense = backbone(kind, 32)(x), backbone(kind, output_stride)(x)
    step = 32 // output_stride
    assert dense[32].shape[2:] == (32 // output_stride + 1, 64 // output_stride + 1)
    same = float(strided[32].std())
    assert same > 0
    difference = (dense[32][:, :, ::step, ::step] - strided[32]).abs().max()
    assert float(difference) < 1e-9 * same
    for stride in (4, 8):
        assert torch.equal(dense[stride], strided[stride])


@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("aligned", [True, False])
def test_an_embedding_has_a_vector_per_cell(stride: int, aligned: bool) -> None:
    made = net(replace(SMALL, stride=stride, aligned=aligned))
    h, w = made.fits(70, 90)
    assert (h, w) == ((65, 97) if aligned else (64, 96))
    out = made(image(h, w, frames=2))
    assert out.shape == (2, 8, *made.cells(h, w))
    assert made.cells(h, w) == (-(-h // stride), -(-w // stride))
    assert out.dtype == torch.float32 and bool(torch.isfinite(out).all())


def test_resnets_serve_as_backbone() -> None:
    with torch.device("meta"):
        made = OnePointNet(SPECS["resnet101"]).eval()
        assert made(torch.zeros(1, 3, 64, 96)).shape == (1, 128, 8, 12)


def test_the_head_joins_each_cell_with_the_mean_of_the_image() -> None:
    made = net(replace(SMALL, normalize=False))
    frames = image(65, 97, frames=2)
    deepest = made.feature_extractor(frames / 127.5 - 1.0)[32]
    cells = torch.relu(made.aspp0(deepest))
    mean = torch.relu(made.image_pooling(deepest.mean((2, 3), keepdim=True))).expand_as(cells)
    joined = torch.relu(made.concat_projection(torch.cat([mean, cells], 1)))
    assert torch.allclose(made(frames), made.project(joined), atol=1e-3)


def test_embeddings_have_unit_length_where_the_spec_says_so() -> None:
    frames = image(65, 65)
    free = net(replace(SMALL, normalize=False))(frames)
    unit = net(SMALL)(frames)
    assert torch.allclose(unit.norm(dim=1), torch.ones(1, 9, 9), atol=1e-5)
    assert float(free.norm(dim=1).std()) > 1e-3
    assert torch.allclose(free / free.norm(dim=1, keepdim=True), unit, atol=1e-5)


def test_half_precision_is_for_the_convolutions_alone() -> None:
    made = net().cast(torch.bfloat16)
    out = made(image(65, 65))
    assert made.dtype == torch.bfloat16 and out.dtype == torch.float32
    assert made.gamma.dtype == made.log_softness.dtype == torch.float32
    alike = (out * net()(image(65, 65))).sum(1)  # cosine
    assert float(alike.min()) > 0.9


def test_folding_the_batch_norms_changes_nothing() -> None:
    frames, made = image(65, 97), net()
    before = made(frames)
    fold(made.feature_extractor)
    assert not [m for m in made.modules() if isinstance(m, nn.BatchNorm2d)]
    assert torch.allclose(made(frames), before, atol=1e-4)


def test_an_image_off_the_grid_is_refused_with_the_size_that_fits() -> None:
    with pytest.raises(ValueError, match=r"100x70 px.*resize it to 97x65"):
        net()(image(70, 100))


def test_batch_norms_keep_their_statistics_in_training() -> None:
    made = net().train()
    assert made.training and not any(
        m.training for m in made.modules() if isinstance(m, nn.BatchNorm2d)
    )


def test_a_spec_comes_back_from_json() -> None:
    for spec in (*SPECS.values(), replace(SMALL, stride=16)):
        assert OnePointSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, r"unknown fields \['colour'\].*known are.*backbone"),
        ({"dims": 0}, "dims = 0"),
        ({"normalize": 1}, "normalize = 1"),
        ({"stride": 4}, "stride 4.*wanted 8 or 16"),
        ({"backbone": "vgg"}, "backbone 'vgg': known are mobilenet_v2"),
        ({"convention": "matlab"}, "input convention 'matlab'"),
    ],
)
def test_a_wrong_spec_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnePointSpec.from_json(json.dumps({**json.loads(SMALL.to_json()), **change}))
