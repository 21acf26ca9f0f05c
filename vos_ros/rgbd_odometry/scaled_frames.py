"""What the tracker keeps of a frame: a smaller image, its depth, its camera."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8, UInt16

from vos_ros.geometry.camera import unproject
from vos_ros.rgbd_odometry.config import ImageConfig
from vos_ros.types import Intrinsics

DEPTH_SCALE = 1000.0
"""Units of ``ScaledFrame.depth_mm`` per metre."""
_THUMBNAIL = (32, 24)
"""Width and height of a thumbnail, px."""
_RAY_BLOCK = 8
"""Open3D casts rays by blocks of 8x8 px. Where the image is no whole number of them it reads beyond
its range map, and may never return."""
_MIN_SIDE_PX = 48
"""Smallest side of an image that is tracked: three levels of a pyramid, of 12 px at the top."""
_MAX_DEPTH_STEP = 0.03
"""Relative difference of depth within a pixel beyond which the pixel shows an edge."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ScaledFrame:
    """A frame at the size at which it is tracked."""

    stamp_ns: int
    """Stamp of the frame."""
    rgb: UInt8[np.ndarray, "h w 3"]
    """Colour."""
    gray: UInt8[np.ndarray, "h w"]
    """Intensity."""
    depth_mm: UInt16[np.ndarray, "h w"]
    """Depth, mm; 0 where nothing was measured or it is out of range."""
    intrinsics: Intrinsics
    """Camera of the smaller image."""

    @property
    def depth_share(self) -> float:
        """Share of the pixels with depth."""
        return float(np.count_nonzero(self.depth_mm)) / self.depth_mm.size

    def points(self, xy: Float32[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N 3"]:
        """Lift pixels to points (camera's frame, m); z is 0 where there is no depth.

        The depth is that of the nearest pixel.
        """
        k = self.intrinsics
        u, v = np.rint(xy).astype(int).T
        z = self.depth_mm[np.clip(v, 0, k.height - 1), np.clip(u, 0, k.width - 1)] / DEPTH_SCALE
        return np.stack([(xy[:, 0] - k.cx) / k.fx * z, (xy[:, 1] - k.cy) / k.fy * z, z], 1)

    def point_grid(
        self, spacing_px: int
    ) -> tuple[Float64[np.ndarray, "h w 3"], Float64[np.ndarray, "h w"]]:
        """Lift a grid of pixels to points (camera's frame, m); also return their depth (m)."""
        k, s = self.intrinsics, spacing_px
        z = self.depth_mm[s // 2 :: s, s // 2 :: s] / DEPTH_SCALE
        v, u = np.mgrid[s // 2 : k.height : s, s // 2 : k.width : s]
        return unproject(np.stack([u, v], -1), z, k), z

    def thumbnail(self) -> Float32[np.ndarray, "n"]:
        """Shrink and blur the image to a vector of mean 0 and length 1.

        The product of two vectors says how similar the images are (Klein and Murray 2008,
        section 4).
        """
        shrunk = cv2.resize(self.gray, _THUMBNAIL, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(shrunk, (5, 5), 1.5).astype(np.float32).ravel()
        small -= small.mean()
        return np.asarray(small / max(float(np.linalg.norm(small)), 1e-6), np.float32)


def scale_frame(
    stamp_ns: int,
    rgb: UInt8[np.ndarray, "H W 3"],
    depth: Float32[np.ndarray, "H W"],
    intrinsics: Intrinsics,
    config: ImageConfig,
) -> ScaledFrame:
    """Shrink a rectified frame by a whole number, so that it is no wider than ``width_px``.

    Args:
        stamp_ns: stamp of the frame.
        rgb: colour.
        depth: depth registered to colour, m, 0 unknown.
        intrinsics: camera of both.
        config: width of the smaller image, range of the depth.

    Raises ValueError: the sizes don't fit together, or the image is too small.
    """
    height, width = size = (intrinsics.height, intrinsics.width)
    if rgb.shape[:2] != size or depth.shape != size:
        raise ValueError(
            f"colour is {rgb.shape[1]}x{rgb.shape[0]} px, depth {depth.shape[1]}x{depth.shape[0]}"
            f" px, the camera's calibration for {width}x{height} px: wanted all of one size, depth"
            " registered to colour"
        )
    step = -(-width // config.width_px)
    h, w = (side // step // _RAY_BLOCK * _RAY_BLOCK for side in size)
    if min(h, w) < _MIN_SIDE_PX:
        raise ValueError(
            f"images of {width}x{height} px at 1/{step} of that (image.width_px {config.width_px})"
            f" are too small to be tracked: wanted at least {_MIN_SIDE_PX} px each way"
        )
    known = np.isfinite(depth) & (depth >= config.min_depth_m) & (depth <= config.max_depth_m)
    in_range_mm = np.rint(np.where(known, depth, 0) * DEPTH_SCALE)
    depth_mm = np.where(known, in_range_mm, 0).astype(np.uint16)
    cropped = rgb[: h * step, : w * step]
    small = np.ascontiguousarray(cv2.resize(cropped, (w, h), interpolation=cv2.INTER_AREA))
    middle = (step - 1) / 2  # of the first step x step pixels
    camera = Intrinsics(
        intrinsics.fx / step,
        intrinsics.fy / step,
        (intrinsics.cx - middle) / step,
        (intrinsics.cy - middle) / step,
        w,
        h,
    )
    return ScaledFrame(
        stamp_ns=stamp_ns,
        rgb=small,
        gray=cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
        depth_mm=_shrink_depth(depth_mm[: h * step, : w * step], step),
        intrinsics=camera,
    )


def _shrink_depth(depth_mm: UInt16[np.ndarray, "H W"], step: int) -> UInt16[np.ndarray, "h w"]:
    """Average each step x step pixels, as colour is averaged.

    The result is 0 across an edge, and where one of the pixels is unknown.
    A single one of them would lie off the middle, which biases the tracking. The mean across an
    edge lies on neither side of it.
    """
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
    flat = (low > 0) & (high - low <= _MAX_DEPTH_STEP * low)
    return np.where(flat, (total + len(cells) // 2) // len(cells), 0).astype(np.uint16)
