"""Check a frame at the pipeline's entrance: leave out what can't be used, and find breaks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry.se3 import is_se3
from vos_ros.pipeline.plan import Restart, SegmenterPlan
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Frame

_MAX_SPEED = 5.0
"""Maximum speed of a camera, m/s and rad/s: a pose that moves faster has jumped."""
_MIN_INTERVAL_S = 0.05
"""Minimum time between frames for a speed: stamps closer than this are not that exact."""

_MAX_VARIANCE = 1e12
"""Largest variance, m^2 and rad^2: a pose of 1,000 km and one of more are known equally little, and
squares of more leave the range of numbers."""


class InputChecker:
    """Compare each frame of a stream with the last one."""

    def __init__(self, give_up_s: float) -> None:
        """``give_up_s``: time, s, after which a proposed track that is missing ends."""
        self._give_up_s = give_up_s
        self._last: Frame | None = None
        self.image_size: tuple[int, int] | None = None
        """(H, W) px of the images so far, None before the first."""

    def check(self, frame: Frame, tracks: TrackManager) -> tuple[Frame, SegmenterPlan]:
        """Return the frame without unusable data, and the plan that follows from it.

        The plan says what a break of the stream starts over, which tracks end, and warns.
        """
        restart, warnings, ended = Restart.NOTHING, [], []
        h, w = frame.shape
        if self._last is not None and frame.stamp_ns < self._last.stamp_ns:
            seconds = (self._last.stamp_ns - frame.stamp_ns) / 1e9
            warnings.append(
                f"time went backwards by {seconds:.3f} s (a bag that loops?): all tracks start over"
                " in a new session"
            )
            restart = Restart.SESSION
            self.forget_stream()
        elif self.image_size is not None and self.image_size != frame.shape:
            old_h, old_w = self.image_size
            warnings.append(
                f"image size changed from {old_w}x{old_h} to {w}x{h}: masks start over from the"
                " map, track ids stay"
            )
            restart = Restart.SEGMENTER
            ended = [r.track_id for r in tracks if not r.map_object_id]
        frame, unusable = sanitize_frame(frame)
        warnings.extend(unusable)
        if self._last is not None and (jump := pose_jump_warning(self._last, frame)):
            warnings.append(jump)
            restart = max(restart, Restart.PLACES)
        if restart < Restart.SEGMENTER:
            ended = tracks.expired_proposals(frame.stamp_ns, self._give_up_s)
        self._last, self.image_size = frame, frame.shape
        return frame, SegmenterPlan(restart=restart, end=tuple(ended), warnings=tuple(warnings))

    def forget_stream(self) -> None:
        """Take the next frame as the first of a stream."""
        self._last = self.image_size = None


def sanitize_frame(frame: Frame) -> tuple[Frame, list[str]]:
    """Return the frame without unusable depth, pose or covariance, and a warning for each."""
    warnings = []
    h, w = frame.shape
    depth, pose, cov = frame.depth, frame.T_map_camera, frame.pose_cov
    if depth is not None and depth.shape != frame.shape:
        warnings.append(
            f"depth is {depth.shape[1]}x{depth.shape[0]} px and the image {w}x{h}: depth is not"
            " registered to colour and is not used; publish registered depth"
            " (depth_image_proc/register)"
        )
        depth = None
    if depth is not None:
        with np.errstate(all="ignore"):
            all_finite = math.isfinite(float(depth.sum()))
        depth = depth if all_finite else np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0)
    if (frame.intrinsics.width, frame.intrinsics.height) != (w, h):
        warnings.append(
            f"camera_info is for {frame.intrinsics.width}x{frame.intrinsics.height} px and the"
            f" image {w}x{h}: the map isn't projected; publish the camera_info of this image"
        )
        pose = None
    if pose is not None and not is_se3(pose, tolerance=1e-3):
        warnings.append(
            "the camera pose is no finite rotation and translation: this frame is treated as one"
            " without a pose"
        )
        pose = None
    if cov is not None and not _is_covariance(cov):
        warnings.append(
            "the pose covariance is not finite or has a negative variance in some direction: the"
            " default is used (pose.sigma_m, pose.sigma_deg)"
        )
        cov = None
    if cov is not None and np.abs(cov).max() > _MAX_VARIANCE:
        cov = _MAX_VARIANCE * np.eye(6)
    return replace(frame, depth=depth, T_map_camera=pose, pose_cov=cov), warnings


def pose_jump_warning(last: Frame, frame: Frame) -> str:
    """Return a warning where the pose moved or turned faster than a camera does, else ""."""
    if last.T_map_camera is None or frame.T_map_camera is None:
        return ""
    dt = max((frame.stamp_ns - last.stamp_ns) / 1e9, _MIN_INTERVAL_S)
    moved = float(np.linalg.norm(frame.T_map_camera[:3, 3] - last.T_map_camera[:3, 3]))
    rotation = last.T_map_camera[:3, :3].T @ frame.T_map_camera[:3, :3]
    turned = math.acos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    if max(moved, turned) < _MAX_SPEED * dt:
        return ""
    return (
        f"the camera pose jumped by {moved:.2f} m and {math.degrees(turned):.0f} deg within"
        f" {dt:.2f} s: masks are taken from the map anew"
    )


def _is_covariance(cov: Float64[np.ndarray, "6 6"]) -> bool:
    """Tell whether a matrix is finite and positive semidefinite, up to rounding."""
    if cov.shape != (6, 6) or not np.isfinite(cov).all():
        return False
    values = np.linalg.eigvalsh(0.5 * (cov + cov.T))
    return bool(values[0] >= -1e-9 * max(values[-1], 1e-9))
