"""Deep features of a frame for the target model: extractor by name, weights from a named file, whitening learned on the spot.

The grid: the image is scaled to (s (h-1) + 1, s (w-1) + 1) px, a multiple of 32 plus 1, so that cell (i, j) is centred on
pixel (s i, s j) of the scaled image; ``to_cells`` and ``to_pixels`` go back and forth (``align_corners`` in torch's words).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from safetensors.torch import load_file

from vos_ros.config import ConfigError, FeaturesConfig
from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.classical import ClassicalFeatures
from vos_ros.segmentation.networks.mobilenet_v2 import MobileNetV2

_GRID = 32  # the coarsest stride that must fit the scaled image


def resolve_device(name: str) -> torch.device:
    """``auto`` is cuda where there is one, else cpu. ConfigError: a device that this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as e:
        raise ConfigError(
            f"segmentation.device: {name!r} can't be used here ({e}); use auto or cpu"
        ) from e
    return device


def load_weights(module: torch.nn.Module, path: Path | str, sha256: str = "") -> None:
    """Loads the tensors that ``module`` has from a .safetensors file or a pickled state dict (``weights_only``); further keys in
    the file (a classifier head, deeper blocks) are ignored. ConfigError: unreadable file, wrong checksum, missing key or shape."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"segmentation.features.weights: no such file: {str(path)!r}; name a .safetensors or .pt state dict, or use"
            " segmentation.features.name: classical, which needs none"
        )
    if sha256:
        got = hashlib.sha256(path.read_bytes()).hexdigest()
        if got != sha256.lower():
            raise ConfigError(
                f"{path}: sha256 is {got}, wanted {sha256}: the file is damaged or another one"
            )
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (
        Exception
    ) as e:  # every reader has its own exceptions, and the user needs the same sentence for all
        raise ConfigError(f"{path}: not a readable state dict ({type(e).__name__}: {e})") from e
    if not isinstance(state, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        raise ConfigError(
            f"{path}: holds a {type(state).__name__} that isn't a state dict, wanted names with tensors"
        )
    wanted = module.state_dict()
    missing = [k for k in wanted if k not in state]
    if missing:
        raise ConfigError(
            f"{path}: {len(missing)} of {len(wanted)} tensors are missing, first {missing[0]!r}: it isn't a checkpoint of "
            f"{type(module).__name__}"
        )
    odd = [k for k, v in wanted.items() if tuple(state[k].shape) != tuple(v.shape)]
    if odd:
        raise ConfigError(
            f"{path}: {odd[0]!r} has shape {tuple(state[odd[0]].shape)}, wanted {tuple(wanted[odd[0]].shape)}"
        )
    module.load_state_dict({k: state[k] for k in wanted})


class FeatureExtractor:
    """One pass per frame: u8 image -> (C, h, w) features, each channel whitened.

    Whitening stands where the paper has a trained 1x1 convolution before the target model (sec. 3.4): the principal components of
    the first frame's features, scaled to unit variance (small ones damped), frozen for the stream. It conditions
    eq. (3), so that a few steepest-descent steps get far.
    """

    _DAMPING = 0.02  # of the mean variance; directions below it are noise of the first frame

    def __init__(self, config: FeaturesConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        if config.stride not in (8, 16):
            raise ConfigError(f"segmentation.features.stride: got {config.stride}, wanted 8 or 16")
        self._network: ClassicalFeatures | MobileNetV2
        if config.name == "classical":
            self._network = ClassicalFeatures()
        else:
            self._network = MobileNetV2(max_stride=16)
            if not config.weights:
                raise ConfigError(
                    f"segmentation.features.name: {config.name} needs segmentation.features.weights, a state dict with "
                    "torchvision's names; or use classical, which needs none"
                )
            load_weights(self._network, config.weights, config.sha256)
        self._network.eval().requires_grad_(False).to(device)
        fold(self._network)
        if device.type == "cpu":
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean: torch.Tensor | None = None
        self._basis: torch.Tensor | None = None

    def scaled_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(H, W) px to which an image of ``shape`` is scaled."""
        scale = self.config.long_side / max(shape)
        h, w = (max(1, round(n * scale / _GRID)) * _GRID + 1 for n in shape)
        return h, w

    def cells(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the feature map of an image of ``shape``."""
        h, w = self.scaled_size(shape)
        return (h - 1) // self.config.stride + 1, (w - 1) // self.config.stride + 1

    @torch.inference_mode()
    def __call__(self, rgb: UInt8[np.ndarray, "H W 3"]) -> Float[torch.Tensor, "C h w"]:
        """Whitened features. The first call fixes the whitening."""
        h, w = self.scaled_size((rgb.shape[0], rgb.shape[1]))
        image = (
            torch.from_numpy(rgb.copy())
            .to(self.device)
            .permute(2, 0, 1)[None]
            .float()
            .div_(127.5)
            .sub_(1.0)
        )
        image = F.interpolate(image, (h, w), mode="bilinear", align_corners=True)
        cells = self.cells((rgb.shape[0], rgb.shape[1]))
        if isinstance(self._network, MobileNetV2):
            maps = self._network(image.contiguous(memory_format=torch.channels_last))
            x = torch.cat(
                [
                    F.interpolate(maps[s], cells, mode="bilinear", align_corners=True)
                    for s in (4, 8, 16)
                ],
                1,
            )[0]
        else:
            x = self._network(image, cells)[0]
        x = x.contiguous()
        if self._mean is None or self._basis is None:
            self._mean, self._basis = _whitening(x, self._DAMPING, self.config.channels)
        return (self._basis @ (x.flatten(1) - self._mean)).reshape(-1, *cells)

    def to_cells(
        self, plane: UInt8[np.ndarray, "H W"] | Float32[np.ndarray, "H W"]
    ) -> Float[torch.Tensor, "h w"]:
        """Mean of an image-sized map over each cell, on the device."""
        height, width = plane.shape
        h, w = self.cells(plane.shape)
        box = (
            max(1, round(width / (w - 1))) // 2 * 2 + 1,
            max(1, round(height / (h - 1))) // 2 * 2 + 1,
        )
        smooth = cv2.boxFilter(plane, cv2.CV_32F, box, borderType=cv2.BORDER_REPLICATE)
        rows = np.rint(np.linspace(0, height - 1, h)).astype(int)
        columns = np.rint(np.linspace(0, width - 1, w)).astype(int)
        return torch.from_numpy(np.ascontiguousarray(smooth[np.ix_(rows, columns)])).to(self.device)

    def to_pixels(
        self, values: Float[torch.Tensor, "n h w"], shape: tuple[int, int]
    ) -> Float[torch.Tensor, "n H W"]:
        """Bilinear interpolation of a cell map at every pixel of an image of ``shape``."""
        return F.interpolate(values[None], shape, mode="bilinear", align_corners=True)[0]


def _whitening(
    x: Float[torch.Tensor, "C h w"], damping: float, keep: int
) -> tuple[Float[torch.Tensor, "C 1"], Float[torch.Tensor, "K C"]]:
    """Mean and whitening matrix of a feature map: its ``keep`` strongest components after each channel was brought to unit variance."""
    flat = x.flatten(1).double()
    mean = flat.mean(1, keepdim=True)
    centred = flat - mean
    inv_std = centred.square().mean(1).add(1e-8).rsqrt()
    normed = centred * inv_std[:, None]
    variance, vectors = torch.linalg.eigh(normed @ normed.T / normed.shape[1])
    variance, vectors = variance[-keep:], vectors[:, -keep:]  # eigh sorts ascending
    basis = (vectors / (variance.clamp_min(0) + damping * variance.mean()).sqrt()).T * inv_std
    return mean.float(), basis.float()
