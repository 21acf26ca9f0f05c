"""How certain an alignment of images is, from what they show.

Covariances are of pose errors (see ``geometry.se3``): along the axes of the frame that the pose is
in, the rotation about the camera. With q the vector from the camera to a point, along the axes of
the reference, a small error (d, w) of T_ref_camera moves the point by d + w x q = M(q) (d, w).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3
from vos_ros.geometry.uncertainty import carry_covariance
from vos_ros.rgbd_odometry.scaled_frames import ScaledFrame

_SPACING_PX = 12
"""Spacing of the pixels that are looked at: 540 of an image of 320x240 px."""
_MIN_POINTS = 12
"""Number of points from which on an image constrains the motion."""
_UNCONSTRAINED_SIGMA = 1.0
"""Standard deviation (m, rad) of a pose that nothing constrains."""
_REGULARIZATION = 1e-6
"""Information (1/m^2, 1/rad^2) that keeps the inverse finite: what all points agree on (a rotation
about their middle, for a far and narrow view) must not be certain."""
_MAX_NEIGHBOUR_STEP = 0.1
"""Relative difference of depth beyond which a neighbouring point lies on another surface."""


def _motion_jacobian(q: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 3 6"]:
    """Compute M(q) = [I, -hat(q)] for vectors from the camera to points (m)."""
    return np.concatenate([np.broadcast_to(np.eye(3), (len(q), 3, 3)), -se3.hat(q)], -1)


def point_covariance(
    frame: ScaledFrame, R_ref_camera: Float64[np.ndarray, "3 3"], relative: float
) -> Float64[np.ndarray, "6 6"]:
    """Compute the covariance of an alignment whose error at each point grows with its depth.

    ``relative`` is that error (1 sigma, each axis) over the depth z. With J_i = M(q_i) / z_i and N
    points: C = relative^2 (1/N sum_i J_i^T J_i)^-1. The sum is divided by N since the errors of
    neighbouring pixels are not independent.
    """
    points, z = frame.point_grid(_SPACING_PX)
    points, z = points[z > 0], z[z > 0]
    if len(points) < _MIN_POINTS:
        return np.eye(6) * _UNCONSTRAINED_SIGMA**2
    J = _motion_jacobian(points @ R_ref_camera.T) / z[:, None, None]
    information = np.einsum("nij,nik->jk", J, J) / len(points)
    return np.asarray(relative**2 * np.linalg.inv(information + _REGULARIZATION * np.eye(6)))


def plane_information(
    frame: ScaledFrame, R_ref_camera: Float64[np.ndarray, "3 3"], relative: float
) -> Float64[np.ndarray, "6 6"]:
    """Compute the information of an alignment by point-to-plane distances.

    It is 0 for motions along the surfaces that are visible (Zhang et al. 2016). With n_i the normal
    at a point and J_i = n_i^T M(q_i) / z_i: I = 1/N sum_i J_i^T J_i / relative^2.
    """
    points, z = frame.point_grid(_SPACING_PX)
    corner = points[:-1, :-1]
    across, down = points[:-1, 1:] - corner, points[1:, :-1] - corner
    normals = np.cross(across, down)
    length = np.linalg.norm(normals, axis=-1)
    max_step = _MAX_NEIGHBOUR_STEP * z[:-1, :-1]
    good = (
        (z[:-1, :-1] > 0)
        & (z[:-1, 1:] > 0)
        & (z[1:, :-1] > 0)
        & (length > 0)
        & (np.abs(across[..., 2]) < max_step)
        & (np.abs(down[..., 2]) < max_step)
    )
    if np.count_nonzero(good) < _MIN_POINTS:
        return np.zeros((6, 6))
    n = (normals[good] / length[good][:, None]) @ R_ref_camera.T
    M = _motion_jacobian(corner[good] @ R_ref_camera.T)
    J = np.einsum("ni,nij->nj", n, M) / z[:-1, :-1][good][:, None]
    return np.asarray(J.T @ J / len(J) / relative**2)


def compose_covariance(
    cov_ref: Float64[np.ndarray, "6 6"],
    cov_rel: Float64[np.ndarray, "6 6"],
    R_map_ref: Float64[np.ndarray, "3 3"],
    t_ref_camera: Float64[np.ndarray, "3"],
) -> Float64[np.ndarray, "6 6"]:
    """Compute the covariance of T_map_camera = T_map_ref T_ref_camera.

    C = L C_ref L^T + R C_rel R^T. L adds the lever arm: an error of the reference's rotation moves
    the camera by w x (R_map_ref t_ref_camera). R turns C_rel to the axes of the map.

    Args:
        cov_ref: covariance of T_map_ref, axes of the map.
        cov_rel: covariance of T_ref_camera, axes of the reference.
        R_map_ref: rotation of the reference.
        t_ref_camera: position of the camera in the reference's frame, m.
    """
    out = carry_covariance(cov_ref, R_map_ref @ t_ref_camera)
    out += carry_covariance(cov_rel, np.zeros(3), R_map_ref)
    return np.asarray((out + out.T) / 2)
