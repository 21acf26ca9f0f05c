"""Deep features of a frame for plain ``lwl``: an extractor by name, and whitening.

The grid: the image is scaled to (s (h-1) + 1, s (w-1) + 1) px, a multiple of 32 plus 1, so that
cell (i, j) is centred on pixel (s i, s j) of the scaled image. ``to_cells`` and ``to_pixels`` go
back and forth (``align_corners`` in torch's words).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8

from vos_ros.config import ConfigError
from vos_ros.segmentation.checkpoints import load_weights
from vos_ros.segmentation.methods.lwl.options import FeaturesOptions
from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.classical import ClassicalFeatures
from vos_ros.segmentation.networks.mobilenet_v2 import MobileNetV2

_GRID = 32
"""px: the coarsest stride that must fit the scaled image."""
_DAMPING = 0.02
"""Share of the mean variance that is added to each: below it is noise of the first frame."""


class FeatureExtractor:
    """Computes (C, h, w) features of a u8 image in one pass, each channel whitened.

    Whitening stands where the paper has a trained 1x1 convolution before the target model (sec.
    3.4): the principal components of the first frame's features, scaled to unit variance (small
    ones damped), fixed for the stream. It conditions eq. (3), so that a few steepest-descent
    iterations come close to its minimum.
    """

    def __init__(self, options: FeaturesOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        if options.stride not in (8, 16):
            raise ConfigError(f"segmentation.features.stride: got {options.stride}, wanted 8 or 16")
        self.network: ClassicalFeatures | MobileNetV2
        if options.name == "classical":
            self.network = ClassicalFeatures()
        else:
            self.network = MobileNetV2(max_stride=16)
            if not options.weights:
                raise ConfigError(
                    f"segmentation.features.name: {options.name} needs"
                    " segmentation.features.weights, a state dict with torchvision's names; or use"
                    " classical, which needs none"
                )
            try:
                load_weights(self.network, options.weights, options.sha256)
            except ConfigError as e:
                raise ConfigError(f"segmentation.features.weights: {e}") from e
        self.network.eval().requires_grad_(False).to(device)
        fold(self.network)
        if device.type == "cpu":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean: torch.Tensor | None = None
        self._basis: torch.Tensor | None = None

    def scaled_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (H, W), px, to which an image of ``shape`` is scaled."""
        scale = self.options.long_side / max(shape)
        h, w = (max(1, round(n * scale / _GRID)) * _GRID + 1 for n in shape)
        return h, w

    def cells(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w) of the feature map of an image of ``shape``."""
        h, w = self.scaled_size(shape)
        return (h - 1) // self.options.stride + 1, (w - 1) // self.options.stride + 1

    @torch.inference_mode()
    def __call__(self, rgb: UInt8[np.ndarray, "H W 3"]) -> Float[torch.Tensor, "C h w"]:
        """Return the whitened features of an image. The first call fixes the whitening."""
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
        if isinstance(self.network, MobileNetV2):
            maps = self.network(image.contiguous(memory_format=torch.channels_last))
            x = torch.cat(
                [
                    F.interpolate(maps[s], cells, mode="bilinear", align_corners=True)
                    for s in (4, 8, 16)
                ],
                1,
            )[0]
        else:
            x = self.network(image, cells)[0]
        x = x.contiguous()
        if self._mean is None or self._basis is None:
            self._mean, self._basis = _whitening(x, _DAMPING, self.options.channels)
        return (self._basis @ (x.flatten(1) - self._mean)).reshape(-1, *cells)

    def to_cells(
        self, plane: UInt8[np.ndarray, "H W"] | Float32[np.ndarray, "H W"]
    ) -> Float[torch.Tensor, "h w"]:
        """Return the mean of an image-sized map over each cell, on the device."""
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
        """Interpolate a cell map bilinearly at every pixel of an image of ``shape``."""
        return F.interpolate(values[None], shape, mode="bilinear", align_corners=True)[0]


def _whitening(
    x: Float[torch.Tensor, "C h w"], damping: float, keep: int
) -> tuple[Float[torch.Tensor, "C 1"], Float[torch.Tensor, "K C"]]:
    """Return the mean and the whitening matrix of a feature map.

    The matrix keeps the ``keep`` strongest components after each channel has unit variance.
    """
    flat = x.flatten(1).double()
    mean = flat.mean(1, keepdim=True)
    centred = flat - mean
    inv_std = centred.square().mean(1).add(1e-8).rsqrt()
    normed = centred * inv_std[:, None]
    variance, vectors = torch.linalg.eigh(normed @ normed.T / normed.shape[1])
    variance, vectors = variance[-keep:], vectors[:, -keep:]  # eigh sorts ascending
    basis = (vectors / (variance.clamp_min(0) + damping * variance.mean()).sqrt()).T * inv_std
    return mean.float(), basis.float()
