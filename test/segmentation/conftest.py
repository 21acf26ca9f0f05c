"""Networks for tests: the published one with the weights of the golden numbers' recipe, and a
stand-in that follows objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.recipes import fill, lwl_weight
from torch import nn

from vos_ros.segmentation.checkpoints import LWL_FORMAT
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet
from vos_ros.types import Frame


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, and the GPU where there is one."""
    return torch.device(request.param)


@pytest.fixture(params=["fp32", "bf16"])
def precision(request: pytest.FixtureRequest) -> str:
    """The arithmetic of networks, by its name in options."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def published() -> LwlNet:
    """The published network with its box encoder, in eval mode, for inference."""
    net = LwlNet(SPECS["resnet50_box"])
    fill(net, lwl_weight)
    return net.eval().requires_grad_(False)


def stand_in(**fields: object) -> LwlNet:
    """A network that needs no training: random features, the mask itself as the label, and a
    decoder that hands on the score. It follows what differs from its surroundings in colour, at
    the resolution of the target model.
    """
    torch.manual_seed(0)
    small = {
        "target_channels": 32,
        "num_filters": 2,
        "label_dims": (2, 2, 2),
        "decoder_channels": (4, 4, 4, 4),
    }
    net = LwlNet(replace(SPECS["mobilenet_v2"], **{**small, **fields}))  # type: ignore[arg-type]
    net.eval().requires_grad_(False)
    for m in net.feature_extractor.modules():
        if isinstance(m, nn.Conv2d) and m.groups > 1:
            m.weight.fill_(1 / 9)  # what random depthwise convolutions do to colours is no help
    for part in (net.decoder, net.label_encoder):
        for p in part.parameters():
            p.zero_()
    encoder, decoder = net.label_encoder, net.decoder
    for conv in (encoder.conv_block[0], encoder.res1.downsample, encoder.res2.downsample):
        conv.weight[0, 0] = 1 / 9
    encoder.label_pred[0].weight[0, 0, 1, 1] = 1.0
    encoder.samp_w_pred.bias.fill_(1.0)
    for level in ("layer4", "layer3", "layer2", "layer1"):
        encoding = decoder.TSE[level]
        encoding.transform[0].weight[0, encoding.c_out, 1, 1] = 1.0
        for n in range(2, len(encoding.transform), 2):
            encoding.transform[n].weight[0, 0, 1, 1] = 1.0
        decoder.CAB[level].convreluconv[2].bias.fill_(20.0)
        for refinements in (decoder.RRB1, decoder.RRB2):
            if level in refinements:
                refinements[level].conv1x1.weight[0, 0] = 1.0
    if net.box_label_encoder is not None:  # the box itself
        for p in net.box_label_encoder.parameters():
            p.zero_()
        net.box_label_encoder.res[0].downsample.weight[0, -1, 1, 1] = 1.0
        net.box_label_encoder.res[1].downsample.weight[0, 0, 1, 1] = 1.0
        net.box_label_encoder.label_pred[0].weight[0, 0, 1, 1] = 1.0
    decoder.project.conv1.weight[0, 0, 1, 1] = 1.0
    decoder.project.conv2.weight[0, 0, 1, 1] = 12.0
    decoder.project.conv2.bias.fill_(-6.0)
    return net


@pytest.fixture(scope="session")
def stand_in_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``stand_in_file(**fields of the spec)``: the stand-in as a weights file."""
    made: dict[str, Path] = {}

    def write(**fields: object) -> Path:
        key = repr(sorted(fields.items()))
        if key not in made:
            net = stand_in(**fields)
            path = tmp_path_factory.mktemp("lwl") / "stand_in.safetensors"
            save_file(
                net.state_dict(), path, metadata={"format": LWL_FORMAT, "spec": net.spec.to_json()}
            )
            made[key] = path
        return made[key]

    return write


@pytest.fixture
def draw(make_frame: Callable[..., Frame]) -> Callable[..., Frame]:
    """``draw(index, [(mask, colour), ...])`` on grey noise, 128x96 px."""

    def build(index: int, parts: Sequence[tuple[np.ndarray, tuple[int, int, int]]]) -> Frame:
        rng = np.random.default_rng(index)
        rgb = rng.integers(90, 130, (96, 128, 3), np.uint8)
        for mask, color in parts:
            rgb[mask] = np.clip(
                np.array(color) + rng.integers(-15, 15, (int(mask.sum()), 3)), 0, 255
            )
        return make_frame(index, 96, 128, rgb=rgb)

    return build
