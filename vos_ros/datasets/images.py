"""Image files of a frame: colour and depth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

_NO_DEPTH = 65535  # written by sensors for a pixel without measurement; so is 0


def read_color(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image file as RGB, its pixels as stored. Raises ValueError: no such image.

    An EXIF orientation is not applied: it would break the calibration.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError(f"{path}: missing, or not an image that OpenCV reads")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def read_depth(path: Path, depth_scale: float) -> Float32[np.ndarray, "H W"]:
    """Read a 16-bit depth image in metres; 0 and 65535 (no measurement) become 0.

    ``depth_scale`` is units per metre. Raises ValueError: no such image.
    """
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.ndim != 2 or raw.dtype != np.uint16:
        got = "nothing that OpenCV reads" if raw is None else f"{raw.dtype} of shape {raw.shape}"
        raise ValueError(f"{path}: got {got}, wanted a 16-bit single-channel depth image")
    depth = raw.astype(np.float32)
    depth *= np.float32(1.0 / depth_scale)
    depth[raw == _NO_DEPTH] = 0.0
    return depth
