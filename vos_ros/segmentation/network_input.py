"""What every network needs before its first layer: a device, a precision, an image of its size."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vos_ros.config import ConfigError, SegmentationConfig

_MAX_ENLARGEMENT = 1.5
"""An image is enlarged by at most this factor: more shows nothing more."""
_ALWAYS_ALLOWED_PX = 480
"""A longer side up to which small images are enlarged by any factor, px."""
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Names of the precisions in options; ``auto`` is one of them, see ``resolve_precision``."""


def resolve_device(name: str) -> torch.device:
    """Return the torch device of a name; ``auto`` is cuda where there is one, else cpu.

    Raises ConfigError: a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as e:
        raise ConfigError(
            f"segmentation.device: {name!r} can't be used here ({e}); use auto or cpu"
        ) from e
    return device


def prepare_torch(config: SegmentationConfig) -> torch.device:
    """Set the number of CPU threads that is configured, and return the device."""
    device = resolve_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the precision of a name.

    ``auto`` is fp16 on CUDA, bf16 on CPUs that multiply it in hardware, fp32 elsewhere.
    """
    if name != "auto":
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.float16
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    has_bf16 = device.type == "cpu" and native is not None and native()
    return torch.bfloat16 if has_bf16 else torch.float32


def scaled_size(shape: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Return the (h, w), px, to which an image of (H, W) ``shape`` is scaled for a network.

    ``long_side`` is its longer side, less for a small image.
    """
    longest = max(shape)
    scale = min(long_side, max(_MAX_ENLARGEMENT * longest, _ALWAYS_ALLOWED_PX)) / longest
    return round(shape[0] * scale), round(shape[1] * scale)


def upload(rgb: UInt8[np.ndarray, "H W 3"], device: torch.device) -> Float[torch.Tensor, "1 3 H W"]:
    """Copy an image to a device, as f32 of 0..255."""
    image = torch.from_numpy(np.ascontiguousarray(rgb) if rgb.flags.writeable else rgb.copy())
    if device.type == "cuda":
        image = image.pin_memory()
    return image.to(device, non_blocking=True).permute(2, 0, 1)[None].float()
