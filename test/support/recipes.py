"""Weights for the golden numbers: drawn from each tensor's key and shape alone, by NumPy.

The programs that made the golden numbers had these weights. A network of ours whose state dict
has the same keys and shapes gets the same ones, whatever its layout in memory.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

Shape = tuple[int, ...]


def _generator(key: str) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(key.encode()), 0])


def lwl_weight(key: str, shape: Shape) -> np.ndarray:
    """Draw one tensor of the published LWL network.

    Raises KeyError: the network has no such key.
    """
    rng = _generator(key)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_mean"):
        drawn = rng.standard_normal(shape) * 0.05
    elif key.endswith("running_var"):
        drawn = rng.uniform(0.8, 1.2, shape)
        if key == "feature_extractor.bn1.running_var":
            drawn = drawn * 1e4  # inputs of up to 255
    elif key.endswith("filter_reg"):
        drawn = np.full(shape, 0.03)
    elif key.endswith("samp_w_pred.weight"):
        drawn = rng.standard_normal(shape) * 0.03
    elif key.endswith("samp_w_pred.bias"):
        drawn = 1.0 + rng.standard_normal(shape) * 0.05
    elif len(shape) == 4:
        drawn = rng.standard_normal(shape) * math.sqrt(2.0 / math.prod(shape[1:]))
        if re.fullmatch(r"decoder\.TSE\.layer\d\.transform\.0\.weight", key):
            drawn[:, -16:] *= 60.0  # so that the encoding of the mask matters
        if key == "decoder.project.conv2.weight":
            drawn *= 0.1
    elif key == "decoder.project.conv2.bias":
        drawn = np.full(shape, -6.0)
    elif re.search(r"(bn\d|downsample\.1|bblock\.1)\.weight$", key):
        drawn = rng.uniform(0.8, 1.2, shape)
        if key.endswith("bn3.weight"):
            drawn = drawn * 0.3
    elif key.endswith("bias"):
        drawn = rng.standard_normal(shape) * 0.05
    else:
        raise KeyError(key)
    return np.asarray(drawn.astype(np.float32))


def i3d_weight(key: str, shape: Shape) -> np.ndarray:
    """Draw one tensor of the I3D network.

    Raises KeyError: the network has no such key.
    """
    rng = _generator(key)
    if key.endswith(".num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith(".bn.running_var"):
        drawn = rng.uniform(0.6, 1.4, shape)
    elif key.endswith(".bn.weight"):
        drawn = rng.uniform(0.8, 1.2, shape)
    elif key.endswith(".bn.running_mean"):
        drawn = rng.standard_normal(shape) * 0.1
    elif key.endswith(".bn.bias") or key == "logits.conv3d.bias":
        drawn = rng.standard_normal(shape) * 0.2
    elif key.endswith(".conv3d.weight") and len(shape) == 5:
        drawn = rng.standard_normal(shape) * math.sqrt(2.0 / math.prod(shape[1:]))
        if ".b3b." in key:
            drawn *= 0.5  # pooling raises what these units get
        elif key.startswith("Conv3d_1a_7x7."):
            drawn *= 2.0  # inputs in [-1, 1]
    else:
        raise KeyError(key)
    return np.asarray(drawn.astype(np.float32))


def fill(net: nn.Module, weight: Callable[[str, Shape], np.ndarray]) -> None:
    """Give a network the weights of a recipe."""
    drawn = {k: torch.from_numpy(weight(k, tuple(v.shape))) for k, v in net.state_dict().items()}
    net.load_state_dict(drawn)
