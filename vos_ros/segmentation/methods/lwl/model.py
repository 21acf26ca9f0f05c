"""The network of a weights file on a device: what LWL does to an image, without memory of any frame."""

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
from vos_ros.segmentation.search_window import inside, spans

_LEAST = 6  # units of 32 px: what the decoder sees of an object's surroundings at least
_ENLARGED, _SMALL = (
    1.5,
    480,
)  # an image is enlarged by at most this, or to so many px: more shows nothing more
_WORTH = 0.35  # of the image: a larger window costs more by itself than its share of the whole image in one batch


@dataclass(frozen=True, eq=False, slots=True)
class EncodedImage:
    """V views of a frame: what the target models see, and the image's part of the decoder's work."""

    features: Float[torch.Tensor, "V C h w"]
    context: Context


def read_lwl_network(options: LwlOptions) -> LwlNet:
    """Build the configured network, in eval mode. Raises ConfigError: weights that can't be used."""
    return read_network(
        "segmentation.lwl.model",
        options.model,
        options.sha256,
        LWL_FORMAT,
        lambda spec: LwlNet(LwlSpec.from_json(spec)),
    )


class LwlModel:
    """Image sizes, precision and the two calls per frame: ``encode_image`` and ``decode``.

    ``compile`` runs them through torch.compile, on CUDA as graphs, which write their results to the same place each time: the
    features, which are remembered, are copied.
    """

    def __init__(self, config: LwlOptions, device: torch.device) -> None:
        self.device, self._long_side = device, config.long_side
        self.net = read_lwl_network(config)
        fold(self.net)
        self.net.cast(resolve_precision(config.precision, device)).to(
            device=device, memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        self.aligned = self.net.spec.aligned
        self._look, self._decode, self._compiled = self._see, self.net.decode, config.compile
        if config.compile:
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            self._look = torch.compile(self._see, mode=mode, dynamic=False)
            self._decode = torch.compile(self.net.decode, mode=mode, dynamic=False)

    def size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(h, w) px at which the network sees an image of ``shape``, whole or a window of it."""
        return self.net.fits(*scaled_size(shape, self._long_side))

    def decoded_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the masks that ``decode`` gives; a light tail ends at half the resolution."""
        h, w = self.size(shape)
        return ((h + 1) // 2, (w + 1) // 2) if self.net.spec.light_tail else (h, w)

    def upload(self, rgb: UInt8[np.ndarray, "H W 3"]) -> Float[torch.Tensor, "1 3 H W"]:
        """The image on the device, 0..255."""
        return upload(rgb, self.device)

    def _see(self, images: Float[torch.Tensor, "V 3 h w"]) -> tuple[torch.Tensor, Context]:
        maps = self.net.extract(images)
        return self.net.target_features(maps), self.net.context(maps)

    def encode_image(self, images: Float[torch.Tensor, "V 3 h w"]) -> EncodedImage:
        """The backbone's pass over views of the network's size."""
        features, context = self._look(images)
        return EncodedImage(features.clone() if self._compiled else features, context)

    def decode(
        self, scores: Float[torch.Tensor, "V N D h w"], encoded: EncodedImage, size: tuple[int, int]
    ) -> Float[torch.Tensor, "V N H W"]:
        """Foreground probabilities of N objects in each view."""
        return torch.sigmoid(self._decode(scores, encoded.context, size).float())

    def decode_windows(
        self,
        scores: Float[torch.Tensor, "1 N D h w"],
        encoded: EncodedImage,
        views: Float[torch.Tensor, "N 3"],
        shape: tuple[int, int],
    ) -> Float[torch.Tensor, "N H W"]:
        """Foreground probabilities in the decoded image of ``shape``, each object's inside its search window, 0 elsewhere.

        On CPUs the decoder works on the windows alone; where work comes in batches, on the whole image for all.
        """
        height, width = self.decoded_size(shape)
        visible = inside(views, (height, width))
        if self.device.type != "cpu" or self._compiled:
            return self.decode(scores, encoded, (height, width))[0] * visible
        more = 1 if self.aligned else 0
        (h, w), stride = self.size(shape), 2 if self.net.spec.light_tail else 1
        out = torch.zeros((len(views), height, width))
        everywhere: list[int] = []
        for k, (y, x) in enumerate(spans(views, (h // STRIDES[0], w // STRIDES[0]), _LEAST)):
            if (y[1] - y[0]) * (x[1] - x[0]) > _WORTH * (h // STRIDES[0]) * (w // STRIDES[0]):
                everywhere.append(k)
                continue
            target = window(out[k], y, x, stride, more)
            part = EncodedImage(encoded.features, encoded.context.crop(y, x, more))
            scored = window(scores[:, k : k + 1], y, x, STRIDE, more)
            target.copy_(self.decode(scored, part, (target.shape[0], target.shape[1]))[0, 0])
        if everywhere:
            out[everywhere] = self.decode(scores[:, everywhere], encoded, (height, width))[0]
        return out * visible

    def encode(
        self, masks: Float[torch.Tensor, "V N H W"], care: Float[torch.Tensor, "V N H W"] | None
    ) -> tuple[Float[torch.Tensor, "V N D h w"], Float[torch.Tensor, "V N D h w"]]:
        """E(y) and W(y)^2 of masks of the network's size; ``care`` >= 0 per pixel multiplies the latter."""
        labels, weights = self.net.encode(masks)
        weights = weights.square()
        if care is not None:
            weights = weights * self.to_cells(care)[:, :, None]
        return labels, weights

    def to_cells(self, planes: Float[torch.Tensor, "V N H W"]) -> Float[torch.Tensor, "V N h w"]:
        """Means over the cells of the target model."""
        if self.aligned:
            return F.avg_pool2d(planes, STRIDE + 1, STRIDE, STRIDE // 2, count_include_pad=False)
        return F.avg_pool2d(planes, STRIDE)

    def mask_in_box(
        self, encoded: EncodedImage, box: Float[torch.Tensor, "H W"], size: tuple[int, int]
    ) -> Float[torch.Tensor, "H W"]:
        """Foreground probabilities of the object in a box, given as a mask of the network's size (sec. 3.7). ValueError: the network has
        no box encoder."""
        return self.decode(self.net.encode_boxes(encoded.features, box[None, None]), encoded, size)[
            0, 0
        ]

    def boundary_px(self, shape: tuple[int, int]) -> float:
        """How far an outline may be off in an image of ``shape``: a pixel of what the decoder gives."""
        return shape[1] / self.decoded_size(shape)[1]
