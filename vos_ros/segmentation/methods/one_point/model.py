"""Run the network of a weights file on an image: what ``one_point`` does without memory."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from vos_ros.segmentation.checkpoints import ONE_POINT_FORMAT, read_network
from vos_ros.segmentation.key_points import embeddings_at
from vos_ros.segmentation.methods.one_point.options import OnePointOptions
from vos_ros.segmentation.network_input import resolve_precision, scaled_size, upload
from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.decoder import resize
from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec

Pixels = Float[np.ndarray, "K 2"]
"""(x, y) of points, px of the camera's image."""


class OnePointModel:
    """Image sizes, precision, and the one call per frame: ``embed``."""

    def __init__(self, options: OnePointOptions, device: torch.device) -> None:
        self.device, self._long_side = device, options.long_side
        self.net = read_network(
            "segmentation.one_point.model",
            options.model,
            options.sha256,
            ONE_POINT_FORMAT,
            lambda text: OnePointNet(OnePointSpec.from_json(text)),
        ).to(device)
        fold(self.net.feature_extractor)
        self.precision = resolve_precision(options.precision, device)
        self.net.cast(self.precision)

    @property
    def gamma(self) -> float:
        """Return the threshold of eq. (3.6)."""
        return float(self.net.gamma)

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w), px, of the network's input for an image of ``shape``."""
        return self.net.fits(*scaled_size(shape, self._long_side))

    def embed(self, rgb: UInt8[np.ndarray, "H W 3"]) -> Float[torch.Tensor, "D h w"]:
        """Compute the embedding of an image, eq. (3.2)."""
        image = upload(rgb, self.device)
        size = self.size((int(image.shape[2]), int(image.shape[3])))
        out: torch.Tensor = self.net(self.resize(image, size))
        return out[0]

    def resize(
        self, planes: Float[torch.Tensor, "B C H W"], size: tuple[int, int]
    ) -> Float[torch.Tensor, "B C h w"]:
        """Interpolate planes on the network's kind of grid."""
        return resize(planes, size, self.net.spec.aligned)

    def at(
        self, embedding: Float[torch.Tensor, "D h w"], points: Pixels, shape: tuple[int, int]
    ) -> Float[torch.Tensor, "K D"]:
        """Return the embeddings at pixels of an image of (H, W) ``shape``."""
        scale = self._scale(shape)
        at = torch.tensor(points * scale, dtype=torch.float32, device=self.device)
        return embeddings_at(self.net, embedding, at.reshape(-1, 2))

    def pixels(self, cells: Float[np.ndarray, "K 2"], shape: tuple[int, int]) -> Pixels:
        """Return where (column, row) of cells lie in an image of (H, W) ``shape``."""
        spec = self.net.spec
        first = 0.0 if spec.aligned else (spec.stride - 1) / 2
        return np.asarray((cells * spec.stride + first) / self._scale(shape))

    def inside(
        self, mask: Bool[np.ndarray, "H W"], cells: tuple[int, int]
    ) -> Float[np.ndarray, "h w"]:
        """Return the share of each of (h, w) ``cells`` that a mask covers."""
        planes = torch.from_numpy(mask.astype(np.float32))[None, None]
        size = self.size((mask.shape[0], mask.shape[1]))
        whole = torch.nn.functional.adaptive_avg_pool2d(self.resize(planes, size), cells)
        return np.asarray(whole[0, 0].numpy())

    def boundary_px(self, shape: tuple[int, int]) -> float:
        """Return the uncertainty of outlines in an image of ``shape``: half a cell, px."""
        return self.net.spec.stride / 2 / float(self._scale(shape)[0])

    def _scale(self, shape: tuple[int, int]) -> Float[np.ndarray, "2"]:
        """Return px of the network's input per px of an image of ``shape``, in x and y."""
        (h, w), last = self.size(shape), 1 if self.net.spec.aligned else 0
        return np.array([(w - last) / (shape[1] - last), (h - last) / (shape[0] - last)])
