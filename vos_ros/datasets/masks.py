"""Mask files: images whose pixel values are object ids; pictures show the ids as colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

Ids = Int[np.ndarray, "H W"]
"""Object ids of any integer type, 0 background."""

VOID = 255
"""Value of a pixel that the annotators left open, in masks of 8 bits."""

_ID_MODES = ("P", "L", "I;16", "I", "1")


def read_mask(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read a mask image (grey, palette or one bit) as its stored values.

    Raises ValueError: no such image, or one with colours.
    """
    mask = _read(path)
    if mask.dtype == bool:
        mask = mask.astype(np.uint8)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(
            f"{path}: got {mask.dtype} of shape {mask.shape}, wanted an 8-bit grey or palette"
            " image of object ids"
        )
    return mask


def read_ids(path: Path) -> Ids:
    """Read a mask image: palette index or grey value, 8 or 16 bits.

    Raises ValueError: no such image, or one with colours.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in _ID_MODES:
                raise ValueError(
                    f"{path}: got an image of mode {image.mode}, wanted a palette or grey image"
                    " whose values are ids"
                )
            ids = np.asarray(image)
    except OSError as e:
        raise ValueError(f"{path}: missing, or no image: {e}") from e
    return ids.view(np.uint8) if ids.dtype == bool else ids


def read_foreground(path: Path) -> Bool[np.ndarray, "H W"]:
    """Read a binary mask: pixels that aren't 0, or not black where the file stores colours.

    Some copies of DAVIS 2016 store colours. Raises ValueError: no such image.
    """
    mask = _read(path)
    return np.asarray(mask[:, :, :3].any(2) if mask.ndim == 3 else mask > 0)


def read_single_object(path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read a binary mask as ids: 1 where ``read_foreground`` is true, else 0."""
    return read_foreground(path).view(np.uint8)


def write_mask(path: Path, mask: UInt8[np.ndarray, "H W"]) -> None:
    """Write a palette PNG with the colours that PASCAL VOC and DAVIS use."""
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
    """Return the RGB colour of every value, 256x3 bytes.

    The bits of a value go in turn to red, green and blue; the lowest bits weigh most.
    """
    value = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            if 3 * bit + channel < 8:
                colors[:, channel] |= ((value >> 3 * bit + channel & 1) << 7 - bit).astype(np.uint8)
    return colors.tobytes()


_PALETTE = _palette()
