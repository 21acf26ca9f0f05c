"""The networks of a weights file on a device: what the ``meta`` method does to an image, without memory of any frame."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vos_ros.config import ConfigError, MetaConfig
from vos_ros.segmentation.checkpoints import CheckpointError, load
from vos_ros.segmentation.methods.lwl.model import precision_of, scaled, upload, weights_file
from vos_ros.segmentation.methods.meta.inputs import EXTRA, to_cells
from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.meta import MetaNet, MetaSpec
from vos_ros.segmentation.search_window import crop

META_FORMAT = "vos_ros.meta"


def read_network(config: MetaConfig) -> MetaNet:
    """The networks of the configured weights file, in eval mode. ConfigError: no such file, a damaged one, or not of this method."""
    path = weights_file(config.model)
    try:
        weights = load(path, config.sha256)
        if weights.header.get("format") != META_FORMAT:
            got = weights.header.get("format")
            raise CheckpointError(
                f"{path}: its header names no networks of the meta method (format {got!r}, wanted {META_FORMAT!r})"
            )
        spec = MetaSpec.from_json(weights.header.get("spec", ""))
        if spec.extra != EXTRA:
            raise CheckpointError(
                f"{path}: made for {spec.extra} inputs besides the embedding, this version has {EXTRA}: train it again"
            )
        net = MetaNet(spec)
        net.load_state_dict(dict(weights.tensors))
    except (ValueError, RuntimeError) as e:
        raise ConfigError(f"segmentation.meta.model: {e}") from e
    return net.eval().requires_grad_(False)


class MetaModel:
    """Image sizes, precision, and the one call per frame: ``embed``."""

    def __init__(self, config: MetaConfig, device: torch.device) -> None:
        self.device, self._long_side = device, config.long_side
        self.net = read_network(config).to(device)
        fold(self.net.embedding)
        precision = precision_of(config.precision, device)
        self.net.embedding.to(dtype=precision, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._aligned, self._stride = (
            self.net.spec.embedding.aligned,
            self.net.spec.embedding.stride,
        )

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(h, w) px at which the network sees an image of ``shape``."""
        return self.net.embedding.fits(*scaled(shape, self._long_side))

    def masks_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(h, w) at which masks are merged: twice the embedding's cells each way."""
        h, w = self.net.embedding.cells(*self.size(shape))
        return (2 * h - 1, 2 * w - 1) if self._aligned else (2 * h, 2 * w)

    def embed(self, rgb: UInt8[np.ndarray, "H W 3"]) -> Float[torch.Tensor, "1 d h w"]:
        """The embedding of an image."""
        image = upload(rgb, self.device)
        out: torch.Tensor = self.net.embedding(
            self.resized(image, self.size((int(image.shape[2]), int(image.shape[3]))))
        )
        return out

    def resized(
        self, planes: Float[torch.Tensor, "B C H W"], size: tuple[int, int]
    ) -> Float[torch.Tensor, "B C h w"]:
        """Planes interpolated on the network's kind of grid."""
        return crop(planes, None, size, self._aligned)

    def cells(self, planes: Float[torch.Tensor, "N H W"]) -> Float[torch.Tensor, "N h w"]:
        """Means over the embedding's cells, of planes of the image's size."""
        size = self.size((int(planes.shape[1]), int(planes.shape[2])))
        return to_cells(self.resized(planes[None], size)[0], self._stride, self._aligned)

    def boundary_px(self, shape: tuple[int, int]) -> float:
        """How far an outline may be off in an image of ``shape``: a pixel of the merged masks."""
        return shape[1] / self.masks_size(shape)[1]
