"""A frame at the pipeline's door: what can't be used is taken out, and said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry.se3 import is_se3
from vos_ros.types import Frame

_MAX_SPEED = 5.0  # m/s and, times a radian, rad/s: a pose that moves faster has jumped


def sanitize_frame(frame: Frame) -> tuple[Frame, list[str]]:
    """The frame without depth, pose or covariance that can't be used, and a sentence for each."""
    warnings = []
    h, w = frame.shape
    depth, pose, cov = frame.depth, frame.T_map_camera, frame.pose_cov
    if depth is not None and depth.shape != frame.shape:
        warnings.append(
            f"depth is {depth.shape[1]}x{depth.shape[0]} px and the image {w}x{h}: depth is not registered to colour and is"
            " not used; publish registered depth (depth_image_proc/register)"
        )
        depth = None
    if depth is not None:
        with np.errstate(all="ignore"):
            known = math.isfinite(float(depth.sum()))
        depth = depth if known else np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0)
    if (frame.intrinsics.width, frame.intrinsics.height) != (w, h):
        warnings.append(
            f"camera_info is for {frame.intrinsics.width}x{frame.intrinsics.height} px and the image {w}x{h}: the map isn't"
            " projected; publish the camera_info of this image"
        )
        pose = None
    if pose is not None and not is_se3(pose, tolerance=1e-3):
        warnings.append(
            "the camera pose is no finite rotation and translation: this frame is treated as one without a pose"
        )
        pose = None
    if cov is not None and not _is_covariance(cov):
        warnings.append(
            "the pose covariance is not finite or has a negative variance in some direction: the default is used"
            " (pose.sigma_m, pose.sigma_deg)"
        )
        cov = None
    return replace(frame, depth=depth, T_map_camera=pose, pose_cov=cov), warnings


def pose_jump_warning(last: Frame, frame: Frame) -> str:
    """A sentence where the camera moved faster than a camera does, else ""."""
    if last.T_map_camera is None or frame.T_map_camera is None:
        return ""
    dt = max((frame.stamp_ns - last.stamp_ns) / 1e9, 0.05)
    moved = float(np.linalg.norm(frame.T_map_camera[:3, 3] - last.T_map_camera[:3, 3]))
    turned = math.acos(
        np.clip((np.trace(last.T_map_camera[:3, :3].T @ frame.T_map_camera[:3, :3]) - 1) / 2, -1, 1)
    )
    if max(moved, turned) < _MAX_SPEED * dt:
        return ""
    return (
        f"the camera pose jumped by {moved:.2f} m and {math.degrees(turned):.0f} deg within {dt:.2f} s: masks are taken from the"
        " map anew"
    )


def _is_covariance(cov: Float64[np.ndarray, "6 6"]) -> bool:
    """Whether a matrix is finite and positive semidefinite, up to rounding."""
    if cov.shape != (6, 6) or not np.isfinite(cov).all():
        return False
    values = np.linalg.eigvalsh(0.5 * (cov + cov.T))
    return bool(values[0] >= -1e-9 * max(values[-1], 1e-9))
