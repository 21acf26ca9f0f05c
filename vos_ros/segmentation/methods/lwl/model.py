"""The network of a weights file on a device: what LWL does to one image, without memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

from vos_ros.segmentation.checkpoints import LWL_FORMAT, read_network
from vos_ros.segmentation.methods.lwl.options import LwlOptions
from vos_ros.segmentation.network_input import resolve_precision, scaled_size, upload
from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.decoder import STRIDES, Context, window
from vos_ros.segmentation.networks.lwl import STRIDE, LwlNet, LwlSpec
from vos_ros.segmentation.search_window import grid_ranges, window_masks

_MIN_WINDOW_UNITS = 6
"""Smallest side of a decoded window, in units of 32 px: the decoder needs an object's surroundings.
"""
_MAX_WINDOW_AREA = 0.35
"""Share of the image: a larger window costs more alone than in one batch of whole images."""


@dataclass(frozen=True, eq=False, slots=True)
class EncodedImage:
    """What the network computes of V windows of a frame, without any object."""

    features: Float[torch.Tensor, "V C h w"]
    """Input of the target models."""
    context: Context
    """The image's part of the decoder's work."""


def read_lwl_network(options: LwlOptions) -> LwlNet:
    """Build the configured network, in eval mode.

    Raises ConfigError: weights that can't be used.
    """
    return read_network(
        "segmentation.lwl.model",
        options.model,
        options.sha256,
        LWL_FORMAT,
        lambda spec: LwlNet(LwlSpec.from_json(spec)),
    )


class LwlModel:
    """Image sizes, precision and the two calls per frame: ``encode_image`` and ``decode``.

    ``compile`` runs them through torch.compile, on CUDA as graphs, which write their results to the
    same place each time: the features, which are remembered, are copied.
    """

    def __init__(self, options: LwlOptions, device: torch.device) -> None:
        self.device, self._long_side = device, options.long_side
        self.max_window_area = _MAX_WINDOW_AREA
        self.min_window_units = _MIN_WINDOW_UNITS
        self.net = read_lwl_network(options)
        fold(self.net)
        self.net.cast(resolve_precision(options.precision, device)).to(
            device=device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        self.aligned = self.net.spec.aligned
        self.is_compiled = options.compile
        self.run_backbone, self.run_decoder = self.backbone_pass, self.net.decode
        if options.compile:
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            self.run_backbone = torch.compile(self.backbone_pass, mode=mode, dynamic=False)
            self.run_decoder = torch.compile(self.net.decode, mode=mode, dynamic=False)

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w), px, of the network's input for an image of ``shape``."""
        return self.net.fits(*scaled_size(shape, self._long_side))

    def decoded_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w) of the masks from ``decode``; a light tail ends at half the size."""
        h, w = self.size(shape)
        return ((h + 1) // 2, (w + 1) // 2) if self.net.spec.light_tail else (h, w)

    def upload(self, rgb: UInt8[np.ndarray, "H W 3"]) -> Float[torch.Tensor, "1 3 H W"]:
        """Copy an image to the device, 0..255."""
        return upload(rgb, self.device)

    def backbone_pass(
        self, images: Float[torch.Tensor, "V 3 h w"]
    ) -> tuple[Float[torch.Tensor, "V C h w"], Context]:
        """Compute the target models' input and the decoder's context of images."""
        maps = self.net.extract(images)
        return self.net.target_features(maps), self.net.context(maps)

    def encode_image(self, images: Float[torch.Tensor, "V 3 h w"]) -> EncodedImage:
        """Compute what is needed of images, or of windows, of the network's size."""
        features, context = self.run_backbone(images)
        return EncodedImage(features.clone() if self.is_compiled else features, context)

    def decode(
        self, scores: Float[torch.Tensor, "V N D h w"], encoded: EncodedImage, size: tuple[int, int]
    ) -> Float[torch.Tensor, "V N H W"]:
        """Return the foreground probabilities of N objects in each window, (H, W) = ``size``."""
        return torch.sigmoid(self.run_decoder(scores, encoded.context, size).float())

    def decode_windows(
        self,
        scores: Float[torch.Tensor, "1 N D h w"],
        encoded: EncodedImage,
        windows: Float[torch.Tensor, "N 3"],
        shape: tuple[int, int],
    ) -> Float[torch.Tensor, "N H W"]:
        """Return the foreground probabilities of N objects, 0 outside their search windows.

        On CPUs the decoder works on the windows alone; on devices that work in batches, on the
        whole image for all objects.

        Args:
            scores: output of the target models on the whole image.
            encoded: the whole image.
            windows: search window of each object.
            shape: (H, W) of the image.

        Returns: probabilities at ``decoded_size(shape)``.
        """
        height, width = self.decoded_size(shape)
        in_window = window_masks(windows, (height, width))
        if self.device.type != "cpu" or self.is_compiled:
            return self.decode(scores, encoded, (height, width))[0] * in_window
        more = 1 if self.aligned else 0
        (h, w), stride = self.size(shape), 2 if self.net.spec.light_tail else 1
        grid = (h // STRIDES[0], w // STRIDES[0])
        out = torch.zeros((len(windows), height, width))
        large: list[int] = []
        for k, (y, x) in enumerate(grid_ranges(windows, grid, self.min_window_units)):
            if (y[1] - y[0]) * (x[1] - x[0]) > self.max_window_area * grid[0] * grid[1]:
                large.append(k)
                continue
            target = window(out[k], y, x, stride, more)
            part = EncodedImage(encoded.features, encoded.context.crop(y, x, more))
            scored = window(scores[:, k : k + 1], y, x, STRIDE, more)
            target.copy_(self.decode(scored, part, (target.shape[0], target.shape[1]))[0, 0])
        if large:
            out[large] = self.decode(scores[:, large], encoded, (height, width))[0]
        return out * in_window

    def encode_masks(
        self,
        masks: Float[torch.Tensor, "V N H W"],
        pixel_weights: Float[torch.Tensor, "V N H W"] | None,
    ) -> tuple[Float[torch.Tensor, "V N D h w"], Float[torch.Tensor, "V N D h w"]]:
        """Return E(y) and W(y)^2 of eq. (3) of masks of the network's size.

        ``pixel_weights`` >= 0 multiply the latter.
        """
        labels, weights = self.net.encode(masks)
        weights = weights.square()
        if pixel_weights is not None:
            weights = weights * self.to_cells(pixel_weights)[:, :, None]
        return labels, weights

    def to_cells(self, planes: Float[torch.Tensor, "V N H W"]) -> Float[torch.Tensor, "V N h w"]:
        """Return the means over the cells of the target model."""
        if self.aligned:
            return F.avg_pool2d(planes, STRIDE + 1, STRIDE, STRIDE // 2, count_include_pad=False)
        return F.avg_pool2d(planes, STRIDE)

    def mask_in_box(
        self, encoded: EncodedImage, box: Float[torch.Tensor, "H W"], size: tuple[int, int]
    ) -> Float[torch.Tensor, "H W"]:
        """Return the foreground probabilities of the object in a box (sec. 3.7).

        ``box`` is 1 inside, of the network's size. Raises ValueError: there is no box encoder.
        """
        scores = self.net.encode_boxes(encoded.features, box[None, None])
        return self.decode(scores, encoded, size)[0, 0]

    def boundary_px(self, shape: tuple[int, int]) -> float:
        """Return the uncertainty of outlines, px of an image of ``shape``: a decoded pixel."""
        return shape[1] / self.decoded_size(shape)[1]
