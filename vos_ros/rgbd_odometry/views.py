"""What the tracker keeps of a frame: a smaller image, its depth, its camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from vos_ros.rgbd_odometry.config import ImageConfig
from vos_ros.types import Intrinsics

DEPTH_SCALE = 1000.0
"""Units of ``View.depth_mm`` per metre."""
_THUMBNAIL = (32, 24)
_BLOCK = 8
"""Open3D casts rays by blocks of 8x8 px; where the image is no whole number of them it reads beyond its range map, and may never return."""
_FEWEST = 48
_EDGE = 0.03  # relative difference of depth within a pixel, beyond which it shows an edge


@dataclass(frozen=True, eq=False, slots=True)
class View:
    """A frame at the size at which it is tracked. ``depth_mm`` is 0 where nothing was measured or it is out of range."""

    stamp_ns: int
    rgb: UInt8[np.ndarray, "h w 3"]
    gray: UInt8[np.ndarray, "h w"]
    depth_mm: UInt16[np.ndarray, "h w"]
    intrinsics: Intrinsics

    @property
    def depth_share(self) -> float:
        """Share of the pixels with depth."""
        return float(np.count_nonzero(self.depth_mm)) / self.depth_mm.size

    def points(self, xy: Float32[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N 3"]:
        """Points in the camera's frame, m, of pixels rounded to whole ones; z is 0 where there is no depth."""
        k = self.intrinsics
        u = np.rint(xy).astype(int)
        z = (
            self.depth_mm[np.clip(u[:, 1], 0, k.height - 1), np.clip(u[:, 0], 0, k.width - 1)]
            / DEPTH_SCALE
        )
        return np.stack([(xy[:, 0] - k.cx) / k.fx * z, (xy[:, 1] - k.cy) / k.fy * z, z], 1)

    def thumbnail(self) -> Float32[np.ndarray, "n"]:
        """The image, small and blurred, as a vector of mean 0 and length 1: the product of two is how alike they are (Klein and Murray
        2008, section 4)."""
        small = (
            cv2.GaussianBlur(
                cv2.resize(self.gray, _THUMBNAIL, interpolation=cv2.INTER_AREA), (5, 5), 1.5
            )
            .astype(np.float32)
            .ravel()
        )
        small -= small.mean()
        return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)


def view_of(
    stamp_ns: int,
    rgb: UInt8[np.ndarray, "H W 3"],
    depth: Float32[np.ndarray, "H W"],
    intrinsics: Intrinsics,
    config: ImageConfig,
) -> View:
    """A rectified frame (depth in m, 0 unknown, registered to colour) as a view. ValueError: images whose sizes don't fit together."""
    size = (intrinsics.height, intrinsics.width)
    if rgb.shape[:2] != size or depth.shape != size:
        raise ValueError(
            f"colour is {rgb.shape[1]}x{rgb.shape[0]} px, depth {depth.shape[1]}x{depth.shape[0]} px, the camera's calibration"
            f" for {size[1]}x{size[0]} px: wanted all of one size, depth registered to colour"
        )
    step = -(-size[1] // config.width_px)
    h, w = size[0] // step // _BLOCK * _BLOCK, size[1] // step // _BLOCK * _BLOCK
    if min(h, w) < _FEWEST:
        raise ValueError(
            f"images of {size[1]}x{size[0]} px at 1/{step} of that (image.width_px {config.width_px}) are too small to be"
            f" tracked: wanted at least {_FEWEST} px each way"
        )
    known = np.isfinite(depth) & (depth >= config.min_depth_m) & (depth <= config.max_depth_m)
    depth_mm = np.where(known, np.rint(np.where(known, depth, 0) * DEPTH_SCALE), 0).astype(
        np.uint16
    )
    small = np.ascontiguousarray(
        cv2.resize(rgb[: h * step, : w * step], (w, h), interpolation=cv2.INTER_AREA)
    )
    middle = (step - 1) / 2
    camera = Intrinsics(
        intrinsics.fx / step,
        intrinsics.fy / step,
        (intrinsics.cx - middle) / step,
        (intrinsics.cy - middle) / step,
        w,
        h,
    )
    return View(
        stamp_ns,
        small,
        cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
        _shrunk(depth_mm[: h * step, : w * step], step),
        camera,
    )


def _shrunk(depth_mm: UInt16[np.ndarray, "H W"], step: int) -> UInt16[np.ndarray, "h w"]:
    """The mean of each step x step pixels, as colour is averaged (one of them would lie beside the middle, which biases the tracking);
    0 across an edge, whose mean lies on neither side of it."""
    if step == 1:
        return np.ascontiguousarray(depth_mm)
    h, w = depth_mm.shape[0] // step, depth_mm.shape[1] // step
    cells = [depth_mm[i::step, j::step] for i in range(step) for j in range(step)]
    low, high = np.full((h, w), 65535, np.uint16), np.zeros((h, w), np.uint16)
    total = np.zeros((h, w), np.uint32)
    for cell in cells:
        np.minimum(low, cell, out=low)
        np.maximum(high, cell, out=high)
        total += cell
    flat = (low > 0) & (high - low <= _EDGE * low)
    return np.where(flat, (total + len(cells) // 2) // len(cells), 0).astype(np.uint16)
