"""The networks of LWL as modules; their agreement with the reference is in ``test_golden_lwl``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vos_ros.segmentation.networks import resnet
from vos_ros.segmentation.networks.batch_norm import conv_bn, fold
from vos_ros.segmentation.networks.decoder import _bicubic
from vos_ros.segmentation.networks.images import normalise
from vos_ros.segmentation.networks.learner import apply_filters
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet, LwlSpec
from vos_ros.segmentation.networks.resnet import ResNet

SMALL = replace(
    SPECS["mobilenet_v2"],
    target_channels=16,
    num_filters=4,
    label_dims=(4, 6, 8),
    decoder_channels=(12, 8, 8, 8),
    box_encoder=True,
)
LIKE_PUBLISHED = replace(
    SPECS["resnet50"],
    backbone="resnet18",
    target_channels=16,
    num_filters=4,
    label_dims=(4, 6, 8),
    decoder_channels=(12, 8, 8, 8),
    box_encoder=True,
)


def randomised(module: nn.Module) -> nn.Module:
    """In eval mode, with batch norms that do something and no branch that starts at nothing."""
    torch.manual_seed(0)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert m.running_mean is not None and m.running_var is not None
            m.running_mean.uniform_(-0.3, 0.3)
            m.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.uniform_(m.bias, -0.3, 0.3)
    for p in module.parameters():
        p.data.add_(0.01 * torch.randn_like(p))
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[SMALL, LIKE_PUBLISHED], ids=["aligned", "published grid"])
def net(request: pytest.FixtureRequest) -> LwlNet:
    made = randomised(LwlNet(request.param))
    assert isinstance(made, LwlNet)
    return made


def frame(net: LwlNet, frames: int = 1) -> torch.Tensor:
    h, w = net.fits(64, 96)
    return torch.randint(
        0, 256, (frames, 3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )


@pytest.mark.parametrize(
    ("depth", "tensors", "parameters"),
    [(18, 120, 11_176_512), (34, 216, 21_284_672), (50, 318, 23_508_032), (101, 624, 42_500_160)],
)
def test_resnets_have_the_size_of_torchvision_s_without_the_classifier(
    depth: int, tensors: int, parameters: int
) -> None:
    with torch.device("meta"):
        net = ResNet(depth)
    assert (
        len(net.state_dict()) == tensors and sum(p.numel() for p in net.parameters()) == parameters
    )
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer4.1.bn2.bias",
        "layer2.0.downsample.1.weight",
    } <= set(net.state_dict())


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_the_resnet_pyramid_has_its_strides_and_channels(stride_in_1x1: bool) -> None:
    net = ResNet(50, stride_in_1x1=stride_in_1x1).eval()
    strided = [
        name
        for name, m in net.layer2[0].named_modules()
        if isinstance(m, nn.Conv2d) and m.stride == (2, 2)
    ]
    assert strided == ["conv1" if stride_in_1x1 else "conv2", "downsample.0"]
    with torch.no_grad():
        maps = net(torch.zeros(1, 3, 64, 96))
    assert {s: tuple(m.shape[1:]) for s, m in maps.items()} == {
        s: (c, 64 // s, 96 // s) for s, c in resnet.channels(50).items()
    }


def test_an_unknown_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="known depths are 18, 34, 50, 101"):
        ResNet(42)


def test_images_are_normalised_as_each_backbone_wants_them() -> None:
    rgb = torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert normalise(rgb, "tensorflow").flatten().tolist() == pytest.approx(
        [-1.0, 127 / 127.5 - 1, 1.0]
    )
    assert normalise(rgb, "caffe").flatten().tolist() == pytest.approx(
        [255 - 102.9801, 127 - 115.9465, -122.7717], rel=1e-5
    )
    expected = [(0 - 0.485) / 0.229, (127 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert normalise(rgb, "torchvision").flatten().tolist() == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="caffe, torchvision, tensorflow"):
        normalise(rgb, "bgr")


def test_a_fixed_batch_norm_in_the_convolution_is_the_same_function_with_the_same_gradients() -> (
    None
):
    conv, norm = nn.Conv2d(3, 5, 3, 2, 1), nn.BatchNorm2d(5)
    randomised(nn.Sequential(conv, norm))
    for p in (*conv.parameters(), *norm.parameters()):
        p.requires_grad_(True)
    x = torch.randn(2, 3, 9, 9)
    found = []
    for f in (lambda: norm(conv(x)), lambda: conv_bn(x, conv, norm)):
        y = f()
        found.append(
            [y, *torch.autograd.grad(y.square().sum(), [*conv.parameters(), *norm.parameters()])]
        )
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(*found, strict=True))


def test_folding_and_lower_precision_change_little(net: LwlNet) -> None:
    other = LwlNet(net.spec).eval().requires_grad_(False)
    other.load_state_dict(net.state_dict())
    filters = 0.05 * torch.randn(
        2,
        net.spec.num_filters,
        net.spec.target_channels,
        3,
        3,
        generator=torch.Generator().manual_seed(1),
    )
    with torch.no_grad():
        before = net(frame(net), filters)
        fold(other)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in other.modules())
        scale = float(before.abs().max())
        assert float((other(frame(net), filters) - before).abs().max()) < 1e-4 * scale
        lower = other.cast(torch.bfloat16)
        maps = lower.extract(frame(net))
        assert (
            maps[16].dtype == torch.bfloat16 and lower.target_features(maps).dtype == torch.float32
        )
        assert float((lower(frame(net), filters).float() - before).abs().max()) < 0.1 * scale


def test_frames_and_objects_together_are_as_if_alone(net: LwlNet) -> None:
    images, n = frame(net, 2), 3
    filters = 0.05 * torch.randn(
        n,
        net.spec.num_filters,
        net.spec.target_channels,
        3,
        3,
        generator=torch.Generator().manual_seed(1),
    )
    with torch.no_grad():
        together = net(images, filters)
        assert together.shape == (2, n, *images.shape[-2:])
        for s in range(2):
            for i in range(n):
                alone = net(images[s : s + 1], filters[i : i + 1])[0, 0]
                assert torch.allclose(
                    together[s, i], alone, atol=1e-4 * float(together.abs().max())
                )
        masks = torch.rand(2, n, *images.shape[-2:])
        labels, weights = net.encode(masks)
        assert (
            torch.allclose(labels[1, 2], net.encode(masks[1:, 2:])[0][0, 0], atol=1e-5)
            and weights.shape == labels.shape
        )
        features = net.target_features(net.extract(images))
        assert net.encode_boxes(features, (masks > 0.5).float()).shape == labels.shape
        assert (
            labels.shape[-2:] == features.shape[-2:] == net.cells(*images.shape[-2:])
            and float(labels.min()) >= 0
        )


def test_context_of_frames_and_windows(net: LwlNet) -> None:
    images = frame(net, 2)
    with torch.no_grad():
        maps = net.extract(images)
        features, context = net.target_features(maps), net.context(maps)
        filters = 0.05 * torch.randn(
            1,
            net.spec.num_filters,
            net.spec.target_channels,
            3,
            3,
            generator=torch.Generator().manual_seed(1),
        )
        scores = apply_filters(features, filters)
        size = (int(images.shape[-2]), int(images.shape[-1]))
        both = net.decode(scores, context, size)
        swapped = net.decode(scores.flip(0), context.of_frames(torch.tensor([1, 0])), size)
        assert torch.allclose(swapped.flip(0), both, atol=1e-4 * float(both.abs().max()))
        more = 1 if net.spec.aligned else 0
        whole = context.crop((0, 64 // 32), (0, 96 // 32), more)
        assert all(
            torch.equal(whole.shares[s], context.shares[s]) for s in context.shares
        ) and torch.equal(whole.deepest, context.deepest)
        part = context.crop((0, 1), (1, 3), more)
        assert {s: tuple(v.shape[-2:]) for s, v in part.shares.items()} == {
            s: (32 // s + more, 64 // s + more) for s in (32, 16, 8, 4)
        }


@pytest.mark.parametrize("size", [(14, 18), (15, 20)])
def test_bicubic_interpolation_is_torch_s(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 7, 9)
    assert torch.allclose(
        _bicubic(x, size, False), F.interpolate(x, size, mode="bicubic"), atol=1e-5
    )
    assert torch.allclose(
        _bicubic(x, (13, 17), True),
        F.interpolate(x, (13, 17), mode="bicubic", align_corners=True),
        atol=1e-5,
    )


def test_the_small_decoder_costs_an_object_little() -> None:
    """Eight objects cost no more than the backbone, at 673x385."""
    net = LwlNet(SPECS["mobilenet_v2"]).eval()

    def gmac(work: object) -> float:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            work()  # type: ignore[operator]
        return counter.get_total_flops() / 2e9

    image = torch.zeros(1, 3, 385, 673)
    with torch.no_grad():
        context = net.context(net.extract(image))
    scores = torch.zeros(1, 1, 8, 25, 43)
    per_object = gmac(lambda: net.decode(scores, context, (193, 337)))
    assert per_object <= 0.25
    assert 8 * per_object <= 1.2 * gmac(lambda: net.extract(image))


def test_images_that_do_not_fit_the_grid_are_refused(net: LwlNet) -> None:
    h, w = net.fits(64, 96)
    assert (h, w) == ((65, 97) if net.spec.aligned else (64, 96))
    with pytest.raises(ValueError, match=f"resize it to {w}x{h}"):
        net.extract(torch.zeros(1, 3, h + 3, w))
    net.extract(torch.zeros(1, 3, h + 3, w), any_size=True)


def test_without_a_box_encoder_boxes_are_refused() -> None:
    net = LwlNet(replace(SMALL, box_encoder=False))
    with pytest.raises(ValueError, match="no box encoder"):
        net.encode_boxes(torch.zeros(1, 16, 5, 7), torch.zeros(1, 1, 65, 97))


@pytest.mark.parametrize("name", SPECS)
def test_specs_come_back_from_json(name: str) -> None:
    assert LwlSpec.from_json(SPECS[name].to_json()) == SPECS[name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not the specification"),
        ("[1]", "list"),
        ('{"colour": 1}', r"unknown fields \['colour'\]"),
        ('{"num_filters": "8"}', "num_filters is '8'"),
        ('{"num_filters": true}', "num_filters is True"),
        ('{"num_filters": 0}', "num_filters is 0"),
        ('{"aligned": 1}', "aligned is 1"),
        ('{"label_dims": [1, 2]}', "label_dims"),
        ('{"backbone": "vgg"}', "known are resnet18"),
        ('{"convention": "bgr"}', "known are caffe"),
        ('{"kernel_size": 2}', "odd"),
    ],
)
def test_texts_that_are_no_spec_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LwlSpec.from_json(text)


def test_the_weight_predictor_starts_at_one() -> None:
    torch.manual_seed(0)
    net = LwlNet(SMALL)
    assert torch.equal(net.encode(torch.rand(1, 2, 65, 97))[1], torch.ones(1, 2, 4, 5, 7))
