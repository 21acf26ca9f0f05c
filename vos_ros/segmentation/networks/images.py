"""Convert RGB images to the input that a backbone was trained with. Tensors in, tensors out."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8

CONVENTIONS = ("caffe", "torchvision", "tensorflow")
_CAFFE_MEAN = (102.9801, 115.9465, 122.7717)  # BGR, of Mask R-CNN's Caffe2 models
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalise(
    rgb: UInt8[torch.Tensor, "B 3 H W"] | Float[torch.Tensor, "B 3 H W"], convention: str
) -> Float[torch.Tensor, "B 3 H W"]:
    """Convert RGB of 0..255 to the input of a backbone.

    ``caffe``: BGR of 0..255 minus the mean. ``torchvision``: (x / 255 - mean) / std.
    ``tensorflow``: x / 127.5 - 1.

    Raises ValueError: another ``convention``.
    """
    x = rgb if rgb.is_floating_point() else rgb.float()
    if convention == "tensorflow":
        return x / 127.5 - 1.0
    if convention == "caffe":
        return x.flip(1) - x.new_tensor(_CAFFE_MEAN)[:, None, None]
    if convention == "torchvision":
        mean, std = (
            x.new_tensor(v)[:, None, None] * 255.0 for v in (_IMAGENET_MEAN, _IMAGENET_STD)
        )
        return (x - mean) / std
    raise ValueError(f"input convention {convention!r}: known are {', '.join(CONVENTIONS)}")
