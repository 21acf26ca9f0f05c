"""The network of LWL (paper 003).

It has a backbone F, target features, label generator E, weight predictor W, box encoder B and
decoder D. ``LwlNet`` holds what is learned offline, under the parameter names of the published
checkpoints (ResNet-50). It is stateless: what is learned of an object are filters, made by
``learner.steepest_descent`` and kept by the caller. Tensors in, tensors out.

Two kinds of grid. ``aligned`` networks take images of 32k+1 px, cell (i, j) of the stride-s map
sits on pixel (s i, s j) and every interpolation maps corners to corners; the others (the published
one) take 32k px and interpolate between areas.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import nn

from vos_ros.segmentation.networks import resnet
from vos_ros.segmentation.networks.backbones import (
    build_backbone,
    check_fits,
    check_names,
    fits,
    image_input,
    keep_statistics,
)
from vos_ros.segmentation.networks.decoder import STRIDES, Context, Decoder
from vos_ros.segmentation.networks.label_encoder import BoxEncoder, LabelEncoder
from vos_ros.segmentation.networks.learner import apply_filters
from vos_ros.segmentation.networks.target_model import TargetModel

STRIDE = 16  # px of the image per cell of the target model


@dataclass(frozen=True)
class LwlSpec:
    """Architecture of a network. The defaults are the published one."""

    backbone: str = "resnet50"
    """One of ``BACKBONES``."""
    stride_in_1x1: bool = True
    """Whether a ResNet's bottlenecks stride in the first 1x1 convolution."""
    convention: str = "caffe"
    """Input of the backbone, see ``images.normalise``."""
    aligned: bool = False
    """Kind of grid, see above."""
    target_channels: int = 512
    """C, channels of the target models' input."""
    num_filters: int = 16
    """D, filters of a target model."""
    kernel_size: int = 3
    """K, side of a filter, odd."""
    label_dims: tuple[int, int, int] = (16, 32, 64)
    """Channels of the label encoder."""
    decoder_channels: tuple[int, int, int, int] = (256, 128, 128, 64)
    """Channels of the decoder, from stride 32 to 4."""
    encoding_layers: int = 3
    """Convolutions of each TSE."""
    refine_first: bool = True
    """Whether there is a refinement before the channel attention."""
    light_tail: bool = False
    """Whether the decoder ends with ``LightUpsampler``."""
    normalise_maps: bool = False
    """Whether the backbone's maps are scaled to a mean square of 1."""
    box_encoder: bool = False
    """Whether there is a box encoder."""

    def __post_init__(self) -> None:
        check_names(self.backbone, BACKBONES, self.convention)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size}: wanted an odd number")

    def to_json(self) -> str:
        """Return one line of JSON, which ``from_json`` reads back."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> LwlSpec:
        """Return the spec of ``to_json``. Raises ValueError: no spec, or one of another version."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as e:
            raise ValueError(f"not the specification of an LWL network: {e}") from e
        if not isinstance(values, Mapping):
            raise ValueError(
                f"not the specification of an LWL network: got a {type(values).__name__}, wanted an"
                " object with fields"
            )
        defaults = dataclasses.asdict(cls())
        unknown = sorted(set(values) - set(defaults))
        if unknown:
            raise ValueError(
                f"the specification has unknown fields {unknown}; known are {sorted(defaults)}"
            )
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        for k, v in fields.items():
            ok = isinstance(v, type(defaults[k])) and (
                not isinstance(v, bool) or isinstance(defaults[k], bool)
            )
            if ok and isinstance(v, tuple):
                ok = len(v) == len(defaults[k]) and all(isinstance(n, int) and n > 0 for n in v)
            elif ok and type(v) is int:
                ok = v > 0
            if not ok:
                raise ValueError(
                    f"the specification's {k} is {v!r}, wanted something like {defaults[k]!r}"
                )
        return cls(**fields)


BACKBONES = (*(f"resnet{d}" for d in resnet.DEPTHS), "mobilenet_v2")

SPECS: Mapping[str, LwlSpec] = {
    "resnet50": LwlSpec(),
    "resnet50_box": LwlSpec(box_encoder=True),
    "mobilenet_v2": LwlSpec(
        backbone="mobilenet_v2",
        stride_in_1x1=False,
        convention="tensorflow",
        aligned=True,
        target_channels=96,
        num_filters=8,
        label_dims=(8, 16, 32),
        decoder_channels=(64, 32, 24, 16),
        encoding_layers=1,
        refine_first=False,
        light_tail=True,
        normalise_maps=True,
    ),
}


class LwlNet(nn.Module):
    """The network of a spec, freshly initialised: see ``Decoder.initialise``.

    Batch norms keep their statistics in training too, as in the published training: ``train()``
    leaves them in eval mode.
    """

    def __init__(self, spec: LwlSpec) -> None:
        super().__init__()
        self.spec = spec
        self.feature_extractor, channels = build_backbone(
            spec.backbone, stride_in_1x1=spec.stride_in_1x1
        )
        self.target_model = TargetModel(channels[STRIDE], spec.target_channels, spec.kernel_size)
        self.decoder = Decoder(
            channels,
            dict(zip(STRIDES, spec.decoder_channels, strict=True)),
            spec.num_filters,
            layers=spec.encoding_layers,
            refine_first=spec.refine_first,
            light=spec.light_tail,
            normalise=spec.normalise_maps,
            align_corners=spec.aligned,
        )
        self.label_encoder = LabelEncoder(spec.label_dims, spec.num_filters)
        self.box_label_encoder = (
            BoxEncoder(spec.target_channels, spec.num_filters) if spec.box_encoder else None
        )
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_in")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        self.label_encoder.initialise()
        self.decoder.initialise()
        self.train(self.training)

    def train(self, mode: bool = True) -> LwlNet:
        super().train(mode)
        keep_statistics(self)
        return self

    def cast(self, dtype: torch.dtype) -> LwlNet:
        """Convert the convolutions to another precision, for inference.

        The learner's input (target features, labels, weights, lambda) stays fp32.
        """
        parts = (
            self.feature_extractor,
            self.target_model.feature_extractor,
            self.decoder,
            self.label_encoder,
            self.box_label_encoder,
        )
        for part in parts:
            if part is not None:
                part.to(dtype)
        return self

    @property
    def dtype(self) -> torch.dtype:
        """Return the precision of the parts that work on images."""
        return next(self.decoder.parameters()).dtype

    def fits(self, height: int, width: int) -> tuple[int, int]:
        """Return the nearest (h, w), px, that the network takes: 32k, or 32k+1 if aligned."""
        return fits(height, width, self.spec.aligned)

    def cells(self, height: int, width: int) -> tuple[int, int]:
        """Return the (h, w) of the target model's map for an image of a size that fits."""
        return -(-height // STRIDE), -(-width // STRIDE)

    def extract(
        self,
        rgb: UInt8[torch.Tensor, "S 3 H W"] | Float[torch.Tensor, "S 3 H W"],
        *,
        any_size: bool = False,
    ) -> dict[int, torch.Tensor]:
        """Compute backbone features by stride (4, 8, 16, 32) of RGB images of 0..255.

        Raises ValueError: a size that doesn't fit the grid, unless ``any_size`` accepts cells that
        extend over the border.
        """
        if not any_size:
            check_fits(rgb, self.spec.aligned)
        image = image_input(rgb, self.spec.convention, self.dtype)
        maps: dict[int, torch.Tensor] = self.feature_extractor(image)
        return {s: maps[s] for s in STRIDES}

    def target_features(self, maps: Mapping[int, torch.Tensor]) -> Float[torch.Tensor, "S C h w"]:
        """Return the target models' input for S frames, in fp32, in which the learner works."""
        out: torch.Tensor = self.target_model(maps[STRIDE])
        return out.float()

    @property
    def ridge(self) -> Float[torch.Tensor, "1"]:
        """Return lambda of eq. (3)."""
        return self.target_model.ridge

    def encode(
        self, masks: Float[torch.Tensor, "S N H W"]
    ) -> tuple[Float[torch.Tensor, "S N D h w"], Float[torch.Tensor, "S N D h w"]]:
        """Return E(y) and W(y) of soft masks; eq. (3) weights by W squared."""
        labels, weights = (
            t.float() for t in self.label_encoder(masks.flatten(0, 1)[:, None].to(self.dtype))
        )
        n = masks.shape[:2]
        return labels.reshape(*n, *labels.shape[1:]), weights.reshape(*n, *weights.shape[1:])

    def encode_boxes(
        self, features: Float[torch.Tensor, "S C h w"], boxes: Float[torch.Tensor, "S N H W"]
    ) -> Float[torch.Tensor, "S N D h w"]:
        """Return B of N boxes in each of S frames, given as masks of the image's size.

        Raises ValueError: the network has no box encoder.
        """
        if self.box_label_encoder is None:
            raise ValueError(
                "this network has no box encoder: give a mask, or use a checkpoint with one"
            )
        n = boxes.shape[1]
        shared, planes = (
            features.to(self.dtype).repeat_interleave(n, 0),
            boxes.flatten(0, 1)[:, None].to(self.dtype),
        )
        out: torch.Tensor = self.box_label_encoder(shared, planes, self.spec.aligned)
        return out.reshape(*boxes.shape[:2], *out.shape[1:])

    def context(self, maps: dict[int, torch.Tensor]) -> Context:
        """Compute the image's part of the decoder's work, once per frame."""
        return self.decoder.context(maps)

    def decode(
        self, scores: Float[torch.Tensor, "S N D h w"], context: Context, size: tuple[int, int]
    ) -> Float[torch.Tensor, "S N H W"]:
        """Return mask logits, (H, W) = ``size``, from target models' scores or box encodings."""
        out: torch.Tensor = self.decoder(scores.to(self.dtype), context, size)
        return out

    def forward(
        self, rgb: UInt8[torch.Tensor, "S 3 H W"], filters: Float[torch.Tensor, "N D C K K"]
    ) -> Float[torch.Tensor, "S N H W"]:
        """Return the mask logits of N target models in S frames: all but the learning."""
        maps = self.extract(rgb)
        scores = apply_filters(self.target_features(maps), filters)
        return self.decode(scores, self.context(maps), (int(rgb.shape[-2]), int(rgb.shape[-1])))
