"""The networks of a weights file on a device: what ``meta`` does to one image, without memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vos_ros.segmentation.checkpoints import META_FORMAT, read_network
from vos_ros.segmentation.methods.meta.inputs import EXTRA_INPUTS, to_cells
from vos_ros.segmentation.methods.meta.options import MetaOptions
from vos_ros.segmentation.network_input import resolve_precision, scaled_size, upload
from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.meta import MetaNet, MetaSpec
from vos_ros.segmentation.search_window import crop


def read_meta_network(options: MetaOptions) -> MetaNet:
    """Build the configured networks, in eval mode.

    Raises ConfigError: weights that can't be used.
    """

    def build(text: str) -> MetaNet:
        spec = MetaSpec.from_json(text)
        if spec.extra != EXTRA_INPUTS:
            raise ValueError(
                f"{options.model}: made for {spec.extra} inputs besides the embedding, this version"
                f" has {EXTRA_INPUTS}: train it again"
            )
        return MetaNet(spec)

    return read_network(
        "segmentation.meta.model", options.model, options.sha256, META_FORMAT, build
    )


class MetaModel:
    """Image sizes, precision, and the one call per frame: ``embed``."""

    def __init__(self, options: MetaOptions, device: torch.device) -> None:
        self.device, self._long_side = device, options.long_side
        self.net = read_meta_network(options).to(device)
        fold(self.net.embedding)
        precision = resolve_precision(options.precision, device)
        embedding: Any = self.net.embedding
        embedding.to(dtype=precision, memory_format=torch.channels_last)
        spec = self.net.spec.embedding
        self._aligned, self._stride = spec.aligned, spec.stride

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w), px, of the network's input for an image of ``shape``."""
        return self.net.embedding.fits(*scaled_size(shape, self._long_side))

    def masks_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w) at which masks are merged: twice the embedding's cells each way."""
        h, w = self.net.embedding.cells(*self.size(shape))
        return (2 * h - 1, 2 * w - 1) if self._aligned else (2 * h, 2 * w)

    def embed(self, rgb: UInt8[np.ndarray, "H W 3"]) -> Float[torch.Tensor, "1 d h w"]:
        """Compute the embedding of an image (sec. 4.1)."""
        image = upload(rgb, self.device)
        size = self.size((int(image.shape[2]), int(image.shape[3])))
        out: torch.Tensor = self.net.embedding(self.resize(image, size))
        return out

    def resize(
        self, planes: Float[torch.Tensor, "B C H W"], size: tuple[int, int]
    ) -> Float[torch.Tensor, "B C h w"]:
        """Interpolate planes on the network's kind of grid."""
        return crop(planes, None, size, self._aligned)

    def cells(self, planes: Float[torch.Tensor, "N H W"]) -> Float[torch.Tensor, "N h w"]:
        """Return the means over the embedding's cells, of planes of the image's size."""
        size = self.size((int(planes.shape[1]), int(planes.shape[2])))
        return to_cells(self.resize(planes[None], size)[0], self._stride, self._aligned)

    def boundary_px(self, shape: tuple[int, int]) -> float:
        """Return the uncertainty of outlines in an image of ``shape``: a pixel of the masks, px."""
        return shape[1] / self.masks_size(shape)[1]
