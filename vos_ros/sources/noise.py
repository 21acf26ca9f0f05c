"""Adds noise of a known size to the poses of a source."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from vos_ros.geometry import se3
from vos_ros.sources.interface import FrameSource
from vos_ros.types import Frame, MapUpdate


class PoseNoise:
    """Adds Gaussian noise to the pose of each frame of a source, independent per frame.

    The camera's centre moves by t, and the camera turns about its own centre by the rotation vector
    w, both in the map's axes: R' = exp(w) R, c' = c + t. That is the small motion whose covariance
    ``Frame.pose_cov`` holds; it is set to diag(rms_m^2 / 3, rms^2 / 3 in rad^2) plus the source's.

    A frame's noise depends on ``seed`` and ``Frame.index`` alone, not on the frames before. Frames
    without a pose stay as they are, and all do where both sizes are 0.

    Args:
        source: frames and map updates; the updates stay as they are.
        rms_m: RMS over frames of the length of t, m; each of its three axes has rms_m / sqrt(3).
        rms_deg: the same of w, degrees.
        seed: of the random numbers.

    Raises ValueError: a number is negative.
    """

    def __init__(self, source: FrameSource, rms_m: float, rms_deg: float, seed: int = 0) -> None:
        if rms_m < 0 or rms_deg < 0 or seed < 0:
            raise ValueError(
                f"got rms_m={rms_m}, rms_deg={rms_deg}, seed={seed}: wanted all of them >= 0"
            )
        self.map_frame = source.map_frame
        self.source, self._seed = source, seed
        self._sigma_m, self._sigma_rad = rms_m / np.sqrt(3), np.deg2rad(rms_deg) / np.sqrt(3)

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        for item in self.source:
            yield self.perturb(item) if isinstance(item, Frame) else item

    def perturb(self, frame: Frame) -> Frame:
        """Give the frame with its noisy pose."""
        if frame.T_map_camera is None or not (self._sigma_m or self._sigma_rad):
            return frame
        sigma = np.array([self._sigma_m] * 3 + [self._sigma_rad] * 3)
        delta = sigma * np.random.default_rng((self._seed, frame.index)).normal(size=6)
        pose, cov = se3.perturb(frame.T_map_camera, delta), np.diag(sigma**2)
        if frame.pose_cov is not None:
            cov = cov + frame.pose_cov
        return dataclasses.replace(frame, T_map_camera=pose, pose_cov=cov)
