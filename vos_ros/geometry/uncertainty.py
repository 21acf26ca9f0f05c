"""What measured depth and an uncertain pose may be off by: the formulas that several rooms share.

Covariances are of pose errors (see ``geometry.se3``): x y z m, then rotation about x y z rad.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Float64

from vos_ros.geometry.se3 import hat

Range = TypeVar("Range", float, Float[np.ndarray, "..."])


def depth_tolerance(z: Range, base_m: float, per_m2: float) -> Range:
    """Compute how far (m) a measurement at range ``z`` (m) may be off: base + per_m2 z^2.

    The noise of structured light and of stereo grows with the square of the range: a disparity is
    read with a constant error (Khoshelham and Elberink 2012). The dtype of ``z`` is kept.

    >>> round(depth_tolerance(2.0, 0.03, 0.01), 9)
    0.07
    >>> depth_tolerance(np.array([1.0, 3.0], np.float32), 0.0, 0.01)
    array([0.01, 0.09], dtype=float32)
    """
    tolerance: Range = base_m + per_m2 * z * z
    return tolerance


def depth_step_limit(z: Range, slope: float, per_m2: float) -> Range:
    """Compute the largest step of depth (m) from pixel to pixel that one surface explains.

    A surface rises by ``slope`` m per m of range between neighbouring pixels, and the sensor adds
    its noise, which grows as in ``depth_tolerance``. The dtype of ``z`` is kept.

    >>> round(depth_step_limit(2.0, 0.01, 0.005), 9)
    0.04
    """
    limit: Range = slope * z + per_m2 * z * z
    return limit


def isotropic_sigma(cov: Float64[np.ndarray, "N N"]) -> float:
    """Compute the standard deviation per axis of a covariance: sqrt(trace / N).

    It is the sigma of the round Gaussian that is as wide in all. 0 where the trace is negative.

    >>> isotropic_sigma(np.diag([1.0, 4.0, 7.0]))
    2.0
    """
    return math.sqrt(max(float(np.trace(cov)), 0.0) / len(cov))


def position_sigma(pose_cov: Float64[np.ndarray, "6 6"]) -> float:
    """Compute the standard deviation per axis (m) of the position of a pose.

    >>> position_sigma(np.diag([0.04, 0.04, 0.04, 1.0, 1.0, 1.0]))
    0.2
    """
    return isotropic_sigma(pose_cov[:3, :3])


def rotation_sigma(pose_cov: Float64[np.ndarray, "6 6"]) -> float:
    """Compute the standard deviation per axis (rad) of the rotation of a pose.

    >>> rotation_sigma(np.diag([1.0, 1.0, 1.0, 0.04, 0.04, 0.04]))
    0.2
    """
    return isotropic_sigma(pose_cov[3:, 3:])


def point_sigma(
    pose_cov: Float64[np.ndarray, "6 6"], distance_m: Float[np.ndarray, "*S"]
) -> Float64[np.ndarray, "*S"]:
    """Compute how far (m, 1 sigma) an error of the camera's pose moves points at a distance (m).

    The rotation has the distance as its lever arm: hypot(sigma of the position, sigma of the
    rotation times the distance).

    >>> point_sigma(np.diag([9e-4] * 3 + [1e-4] * 3), np.array([0.0, 4.0])).round(9)
    array([0.03, 0.05])
    """
    return np.asarray(np.hypot(position_sigma(pose_cov), rotation_sigma(pose_cov) * distance_m))


def pose_covariance(sigma_m: float, sigma_deg: float) -> Float64[np.ndarray, "6 6"]:
    """Make the covariance of a pose from standard deviations per axis: position m, rotation deg.

    >>> np.sqrt(np.diag(pose_covariance(0.1, 180.0))).round(6)
    array([0.1     , 0.1     , 0.1     , 3.141593, 3.141593, 3.141593])
    """
    return np.diag([sigma_m**2] * 3 + [math.radians(sigma_deg) ** 2] * 3)


def carry_covariance(
    cov: Float64[np.ndarray, "6 6"],
    lever_m: Float64[np.ndarray, "3"],
    R_map_parent: Float64[np.ndarray, "3 3"] | None = None,
) -> Float64[np.ndarray, "6 6"]:
    """Carry the covariance of a body's pose to a point fixed to it, ``lever_m`` away (map axes).

    The rotation moves the point: d' = d + w x lever. ``R_map_parent`` turns a covariance that is
    stated along the axes of a parent frame to those of the map; without it they are the map's.

    >>> turn_about_z = np.diag([0.0, 0.0, 0.0, 0.0, 0.0, 0.01])
    >>> np.diag(carry_covariance(turn_about_z, np.array([2.0, 0.0, 0.0])))  # moves it along y
    array([0.  , 0.04, 0.  , 0.  , 0.  , 0.01])
    """
    A = np.eye(6)
    A[:3, 3:] = -hat(lever_m)
    if R_map_parent is not None:
        A[:3, :3] = A[3:, 3:] = R_map_parent
        A[:3, 3:] = A[:3, 3:] @ R_map_parent
    return np.asarray(A @ cov @ A.T)
