from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vos_ros.config import ConfigError
from vos_ros.segmentation.checkpoints import load_weights
from vos_ros.segmentation.methods.lwl.features import FeatureExtractor
from vos_ros.segmentation.methods.lwl.options import FeaturesOptions
from vos_ros.segmentation.network_input import resolve_device
from vos_ros.segmentation.networks.mobilenet_v2 import MobileNetV2

CPU = torch.device("cpu")


def extractor(**fields: object) -> FeatureExtractor:
    return FeatureExtractor(FeaturesOptions(**{"long_side": 128, "channels": 12, **fields}), CPU)


def noise(height: int = 72, width: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    save_file(MobileNetV2(16).state_dict(), path)
    return path


# -- devices ---


def test_devices() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="auto or cpu"):
        resolve_device("cuda:99")
    with pytest.raises(ConfigError, match="warp"):
        resolve_device("warp")


# -- the grid ---


@pytest.mark.parametrize("shape", [(480, 640), (72, 96), (37, 211), (400, 60)])
@pytest.mark.parametrize("stride", [8, 16])
def test_the_scaled_image_is_a_multiple_of_32_plus_1(shape: tuple[int, int], stride: int) -> None:
    e = extractor(stride=stride)
    h, w = e.scaled_size(shape)
    assert h % 32 == w % 32 == 1 and h > 1 and w > 1
    assert e.cells(shape) == ((h - 1) // stride + 1, (w - 1) // stride + 1)
    assert abs(max(h, w) - 129) <= 32


def test_cells_and_pixels_are_aligned() -> None:
    """A ramp survives the way to the cells and back: no half-pixel anywhere."""
    e, shape = extractor(), (97, 129)
    ramp = np.tile(np.arange(129, dtype=np.float32), (97, 1))
    back = e.to_pixels(e.to_cells(ramp)[None], shape)[0].numpy()
    assert np.abs(back - ramp)[:, 12:-12].max() < 0.5
    down = np.tile(np.arange(97, dtype=np.float32)[:, None], (1, 129))
    assert np.abs(e.to_pixels(e.to_cells(down)[None], shape)[0].numpy() - down)[12:-12].max() < 0.5


def test_a_cell_holds_the_mean_of_its_pixels() -> None:
    e = extractor()
    half = np.zeros((96, 128), np.uint8)
    half[:, 64:] = 1
    cells = e.to_cells(half)
    assert cells.shape == e.cells((96, 128))
    assert set(np.round(cells[:, :7].numpy().ravel(), 3)) == {0.0} and set(
        np.round(cells[:, -7:].numpy().ravel(), 3)
    ) == {1.0}
    assert float(cells.mean()) == pytest.approx(0.5, abs=0.05)


# -- features ---


def test_features_of_the_first_frame_are_white_and_the_whitening_stays() -> None:
    e = extractor()
    first = e(noise())
    assert first.shape == (12, *e.cells((72, 96)))
    flat = first.flatten(1).double()
    cov = flat @ flat.T / flat.shape[1]
    assert torch.allclose(flat.mean(1), torch.zeros(12, dtype=torch.float64), atol=1e-4)
    off = cov - torch.diag(cov.diag())
    assert (
        float(off.abs().max()) < 1e-3
        and float(cov.diag().min()) > 0.3
        and float(cov.diag().max()) < 1.01
    )
    e(noise(seed=1))
    assert torch.equal(e(noise()), first)


def test_a_uniform_first_frame_leaves_finite_features() -> None:
    for value in (0, 128, 255):
        e = extractor()
        assert bool(torch.isfinite(e(np.full((72, 96, 3), value, np.uint8))).all())
        assert bool(torch.isfinite(e(noise())).all())


def test_fewer_channels_than_asked_for_are_given_where_there_are_no_more() -> None:
    assert extractor(channels=512)(noise()).shape[0] == 21


def test_mobilenet_features(checkpoint: Path) -> None:
    e = extractor(name="mobilenet_v2", weights=str(checkpoint), channels=32)
    x = e(noise())
    assert x.shape == (32, *e.cells((72, 96))) and bool(torch.isfinite(x).all())
    assert not any(p.requires_grad for p in e.network.parameters())


def test_mobilenet_without_weights_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"segmentation\.features\.weights.*classical"):
        extractor(name="mobilenet_v2")


def test_strides_between_are_refused() -> None:
    with pytest.raises(ConfigError, match="8 or 16"):
        extractor(stride=12)


# -- weights ---


def test_weights_load_from_both_formats_and_further_keys_are_ignored(
    tmp_path: Path, checkpoint: Path
) -> None:
    torch.manual_seed(1)
    source, target = MobileNetV2(32), MobileNetV2(16)
    torch.save(
        {**source.state_dict(), "classifier.1.weight": torch.zeros(3)}, tmp_path / "deeper.pt"
    )
    load_weights(target, tmp_path / "deeper.pt")
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in target.state_dict().items())
    load_weights(target, checkpoint, hashlib.sha256(checkpoint.read_bytes()).hexdigest().upper())


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (Path.touch, (self.marker,))


def test_a_hostile_pickle_is_refused_and_does_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for name, write in (
        ("torch.pt", lambda p: torch.save({"features.0.0.weight": Hostile(marker)}, p)),
        ("plain.pt", lambda p: p.write_bytes(pickle.dumps(Hostile(marker)))),
    ):
        write(tmp_path / name)
        with pytest.raises(ConfigError, match="not a readable state dict"):
            load_weights(MobileNetV2(16), tmp_path / name)
    assert not marker.exists()


def test_files_that_are_no_checkpoint(tmp_path: Path, checkpoint: Path) -> None:
    net = MobileNetV2(16)
    with pytest.raises(ConfigError, match="no such file"):
        load_weights(net, tmp_path / "missing.pt")
    with pytest.raises(ConfigError, match="sha256 is"):
        load_weights(net, checkpoint, "0" * 64)
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    for name in ("text.pt", "text.safetensors"):
        with pytest.raises(ConfigError, match="not a readable state dict"):
            load_weights(net, tmp_path / name)
    state = net.state_dict()
    short = {k: v for k, v in state.items() if not k.startswith("features.3")}
    torch.save(short, tmp_path / "short.pt")
    with pytest.raises(ConfigError, match=r"missing, first 'features\.3"):
        load_weights(net, tmp_path / "short.pt")
    torch.save({**state, "features.0.0.weight": torch.zeros(32, 1, 3, 3)}, tmp_path / "odd.pt")
    with pytest.raises(
        ConfigError,
        match=r"'features.0.0.weight' has shape \(32, 1, 3, 3\), wanted \(32, 3, 3, 3\)",
    ):
        load_weights(net, tmp_path / "odd.pt")


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [1, 2],
        {"state_dict": {}},
        dict.fromkeys(MobileNetV2(16).state_dict(), "text"),
    ],
)
def test_files_that_hold_something_else(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ConfigError):
        load_weights(MobileNetV2(16), tmp_path / "other.pt")


def test_a_refused_file_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    net = MobileNetV2(16)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = {k: v + 1 for k, v in net.state_dict().items()}
    state["features.13.conv.2.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(ConfigError):
        load_weights(net, tmp_path / "odd.pt")
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
