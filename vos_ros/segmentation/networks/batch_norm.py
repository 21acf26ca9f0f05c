"""Batch norm with fixed statistics, folded into the convolution before it. Tensors in, tensors out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn


def conv_bn(x: Float[torch.Tensor, "B c h w"], conv: nn.Conv2d, norm: nn.Module) -> Float[torch.Tensor, "B C H W"]:
    """``norm(conv(x))``. Where the batch norm has fixed statistics its scale and shift go into the convolution's weights: the same
    function with the same gradients, and one pass over the map instead of two. ``norm`` is an Identity where that was done for good.
    """
    if not isinstance(norm, nn.BatchNorm2d) or norm.training:
        y: torch.Tensor = norm(conv(x))
        return y
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    assert not isinstance(conv.padding, str)
    return F.conv2d(x, conv.weight * scale[:, None, None, None], shift, conv.stride, conv.padding, conv.dilation, conv.groups)
