from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.classical import ORIENTATIONS, SCALES, ClassicalFeatures
from vos_ros.segmentation.networks.mobilenet_v2 import CHANNELS, LAST_BLOCK, MobileNetV2

STOCK = "mobilenet_v2_tfslim_imagenet1001_fp32_bnrecal.pt"


@pytest.fixture(scope="module")
def stock(shared_data: Path) -> dict[str, torch.Tensor]:
    path = shared_data / "weights" / STOCK
    if not path.is_file():
        pytest.skip(f"{STOCK} is not on this machine")
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def randomised(max_stride: int = 16) -> MobileNetV2:
    """A network whose batch norms do something."""
    torch.manual_seed(0)
    net = MobileNetV2(max_stride).eval().requires_grad_(False)
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight)
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.uniform_(-0.5, 0.5)
            m.running_var.uniform_(0.5, 2.0)
            m.weight.uniform_(0.5, 1.5)
            m.bias.uniform_(-0.5, 0.5)
    return net


def test_keys_and_shapes_are_those_of_the_stock_weights(stock: dict[str, torch.Tensor]) -> None:
    ours = {k: tuple(v.shape) for k, v in MobileNetV2(32).state_dict().items()}
    theirs = {k: tuple(v.shape) for k, v in stock.items()}
    assert ours == {k: theirs.get(k) for k in ours}
    # all that is left over is the head: the 1280-channel convolution and the classifier
    assert {
        k.rsplit(".", 1)[0].split(".")[0] + "." + k.split(".")[1] for k in set(theirs) - set(ours)
    } <= {"features.18", "classifier.1"}


def test_the_stock_weights_make_sense_of_an_image(
    stock: dict[str, torch.Tensor], shared_data: Path
) -> None:
    """With the head put on, a frame's classes are few, and the same ones where the image is
    mirrored.
    """
    import cv2

    head = nn.Sequential(
        nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3), nn.ReLU6()
    )
    head.load_state_dict(
        {
            k.removeprefix("features.18."): v
            for k, v in stock.items()
            if k.startswith("features.18.")
        }
    )
    net = MobileNetV2(32)
    net.load_state_dict({k: stock[k] for k in net.state_dict()})
    net.eval(), head.eval()
    frame = next(iter(sorted((shared_data / "kitchen" / "color").iterdir())))
    image = (
        torch.from_numpy(cv2.resize(cv2.imread(str(frame))[..., ::-1], (225, 225)).copy()).permute(
            2, 0, 1
        )[None]
        / 127.5
        - 1
    )
    with torch.inference_mode():

        def classes(x: torch.Tensor) -> torch.Tensor:
            logits = (
                head(net(x)[32]).mean((2, 3)) @ stock["classifier.1.weight"].T
                + stock["classifier.1.bias"]
            )
            return logits.softmax(1)[0]

        p, mirrored = classes(image), classes(image.flip(3))
    assert float(-(p * p.log()).sum()) < 0.75 * torch.tensor(1001.0).log()
    assert len(set(p.topk(5).indices.tolist()) & set(mirrored.topk(5).indices.tolist())) >= 3


@pytest.mark.parametrize("max_stride", [8, 16, 32])
def test_the_pyramid_has_its_strides_and_channels(max_stride: int) -> None:
    maps = MobileNetV2(max_stride).eval()(torch.zeros(2, 3, 65, 97))
    assert list(maps) == [s for s in LAST_BLOCK if s <= max_stride]
    for stride, x in maps.items():
        assert x.shape == (2, CHANNELS[stride], 64 // stride + 1, 96 // stride + 1)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 3), (4, 6)])
def test_cell_i_j_is_centred_on_pixel_16i_16j(row: int, column: int) -> None:
    """Symmetric kernels on an impulse see the mirror image where the grid is symmetric: sizes of
    32k+1, centres on pixels 16i.
    """
    net = randomised(16)
    for m in (
        net.modules()
    ):  # make every kernel symmetric, so that only the grid could break the symmetry
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3):
            m.weight.copy_(
                (m.weight + m.weight.flip(2) + m.weight.flip(3) + m.weight.flip((2, 3))) / 4
            )
    image = torch.zeros(1, 3, 65, 97)
    image[0, :, 16 * row, 16 * column] = 1.0
    x = net(image)[16]
    contrast = float(x.std((2, 3)).max())
    assert contrast > 0.01
    for axis in (2, 3):
        assert torch.allclose(net(image.flip(axis))[16].flip(axis), x, atol=1e-3 * contrast)


def test_folding_batch_norm_changes_nothing_but_the_time() -> None:
    net, image = (
        randomised(16),
        torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(1)),
    )
    before = net(image)
    fold(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    after = net(image)
    for stride in before:
        scale = float(before[stride].abs().max())
        assert torch.allclose(before[stride], after[stride], atol=1e-4 * scale)


def test_classical_features_tell_colours_and_textures_apart() -> None:
    net = ClassicalFeatures()
    image = torch.zeros(1, 3, 64, 64)
    image[:, 0, :, 32:] = 0.8  # the right half is redder
    image[:, :, 32:] += (
        0.5 * torch.sin(torch.arange(64) * 2 * torch.pi / 5)[None, None, None]
    )  # the lower half is striped
    x = net(image, (9, 9))
    assert x.shape == (1, net.channels, 9, 9) and bool(torch.isfinite(x).all())
    red, energy = x[0, 1], x[0, 3]
    assert float(red[2, 7]) > float(red[2, 1]) + 0.2
    assert float(energy[7, 2]) > 5 * float(energy[1, 2])


def test_classical_features_of_a_mirrored_image_are_mirrored() -> None:
    net = ClassicalFeatures()
    image = torch.rand(1, 3, 65, 97, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x, flipped = net(image, (9, 13)), net(image.flip(3), (9, 13)).flip(3)
    # colours and upright orientations; the oblique ones swap with each other. Coarser scales
    # pool from the left
    assert torch.allclose(x[:, :4], flipped[:, :4], atol=1e-5)


def test_classical_features_need_no_weights() -> None:
    assert ClassicalFeatures().state_dict() == {}
    assert list(ClassicalFeatures().parameters()) == []


@pytest.mark.parametrize("cell", [(0, 0), (3, 5), (8, 12)])
def test_classical_features_are_centred_on_the_cells_at_every_scale(cell: tuple[int, int]) -> None:
    image = torch.full((1, 3, 65, 97), -1.0)
    image[0, :, 8 * cell[0], 8 * cell[1]] = 1.0
    maps = ClassicalFeatures()(image, (9, 13))[0]
    for scale in range(len(SCALES)):
        luminance = maps[scale * (3 + ORIENTATIONS)]
        assert divmod(int(luminance.argmax()), 13) == cell
