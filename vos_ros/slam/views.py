"""What the tracker keeps of a frame: a smaller image, its depth, its camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from vos_ros.slam.config import ImageConfig
from vos_ros.types import Intrinsics

DEPTH_SCALE = 1000.0
"""Units of ``View.depth_mm`` per metre."""
_THUMBNAIL = (32, 24)


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
        z = self.depth_mm[np.clip(u[:, 1], 0, k.height - 1), np.clip(u[:, 0], 0, k.width - 1)] / DEPTH_SCALE
        return np.stack([(xy[:, 0] - k.cx) / k.fx * z, (xy[:, 1] - k.cy) / k.fy * z, z], 1)

    def thumbnail(self) -> Float32[np.ndarray, "n"]:
        """The image, small and blurred, as a vector of mean 0 and length 1: the product of two is how alike they are (Klein and Murray
        2008, section 4)."""
        small = cv2.GaussianBlur(cv2.resize(self.gray, _THUMBNAIL, interpolation=cv2.INTER_AREA), (5, 5), 1.5).astype(np.float32).ravel()
        small -= small.mean()
        return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)


def view_of(stamp_ns: int, rgb: UInt8[np.ndarray, "H W 3"], depth: Float32[np.ndarray, "H W"], intrinsics: Intrinsics,
            config: ImageConfig) -> View:
    """A rectified frame (depth in m, 0 unknown, registered to colour) as a view. ValueError: images whose sizes don't fit together."""
    size = (intrinsics.height, intrinsics.width)
    if rgb.shape[:2] != size or depth.shape != size:
        raise ValueError(f"colour is {rgb.shape[1]}x{rgb.shape[0]} px, depth {depth.shape[1]}x{depth.shape[0]} px, the camera's calibration for"
                         f" {size[1]}x{size[0]} px: wanted all of one size, depth registered to colour")
    step = -(-size[1] // config.width_px)
    h, w = size[0] // step, size[1] // step
    known = np.isfinite(depth) & (depth >= config.min_depth_m) & (depth <= config.max_depth_m)
    depth_mm = np.where(known, np.rint(np.where(known, depth, 0) * DEPTH_SCALE), 0).astype(np.uint16)
    # Colour is averaged over step x step pixels; depth is not, because the mean across an edge lies on neither side of it.
    small = np.ascontiguousarray(cv2.resize(rgb[: h * step, : w * step], (w, h), interpolation=cv2.INTER_AREA))
    middle = (step - 1) / 2
    camera = Intrinsics(intrinsics.fx / step, intrinsics.fy / step, (intrinsics.cx - middle) / step, (intrinsics.cy - middle) / step, w, h)
    picked = np.ascontiguousarray(depth_mm[step // 2: h * step: step, step // 2: w * step: step])
    return View(stamp_ns, small, cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), picked, camera)
