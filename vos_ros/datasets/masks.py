"""Mask files: images whose pixel values are object ids, and pictures of them that show ids as colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

VOID = 255
"""Value of a pixel that the annotators left open."""


def read_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """A mask image, grey, palette or one bit, as its stored values. ValueError: no such image, or one with colours."""
    mask = _read(path)
    if mask.dtype == bool:
        mask = mask.astype(np.uint8)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(
            f"{path}: got {mask.dtype} of shape {mask.shape}, wanted an 8-bit grey or palette image of object ids"
        )
    return mask


def read_foreground(path: Path) -> Bool[np.ndarray, "H W"]:
    """Whatever is not 0 in a mask image. Some of the binary masks in circulation are stored as colours: there, whatever isn't black."""
    mask = _read(path)
    return np.asarray(mask[:, :, :3].any(2) if mask.ndim == 3 else mask > 0)


def write_mask(path: Path, mask: UInt8[np.ndarray, "H W"]) -> None:
    """A palette PNG with the colours that PASCAL VOC and DAVIS use."""
    image = Image.fromarray(mask, mode="L")
    image.putpalette(_PALETTE)
    image.save(path)


def _read(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.array(image)
    except OSError as e:
        raise ValueError(f"{path}: cannot be read as an image ({e})") from e


def _palette() -> bytes:
    """Colour of every value: the bits of the value dealt out in turn to red, green and blue, the lowest bits weighing most."""
    value = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            if 3 * bit + channel < 8:
                colors[:, channel] |= ((value >> 3 * bit + channel & 1) << 7 - bit).astype(np.uint8)
    return colors.tobytes()


_PALETTE = _palette()
