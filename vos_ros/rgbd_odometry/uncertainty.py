"""How sure an alignment of images is, from what they show.

All covariances are of pose errors (see ``geometry.se3``): along the axes of the frame that the pose is in, the rotation about the camera.
A small error (d, w) of T_ref_camera moves the point q, seen from the camera along the reference's axes, by d + w x q.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3
from vos_ros.geometry.camera import unproject
from vos_ros.geometry.uncertainty import carry_covariance
from vos_ros.rgbd_odometry.views import DEPTH_SCALE, View

_SPACING_PX = 12
_FEWEST = 12
_MIN_POINTS_SIGMA = 1.0  # m, rad: of a pose that nothing constrains


def _grid(view: View) -> tuple[Float64[np.ndarray, "h w 3"], Float64[np.ndarray, "h w"]]:
    """Points (m, camera's frame) and depth of every so manieth pixel."""
    k, s = view.intrinsics, _SPACING_PX
    z = view.depth_mm[s // 2 :: s, s // 2 :: s] / DEPTH_SCALE
    v, u = np.mgrid[s // 2 : k.height : s, s // 2 : k.width : s]
    return unproject(np.stack([u, v], -1), z, k), z


def _motion(q: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "N 3 6"]:
    return np.concatenate([np.broadcast_to(np.eye(3), (len(q), 3, 3)), -se3.hat(q)], -1)


def point_covariance(
    view: View, R_ref_camera: Float64[np.ndarray, "3 3"], relative: float
) -> Float64[np.ndarray, "6 6"]:
    """Of an alignment that is off, at each point that is seen, by ``relative`` times its depth (one sigma, each axis)."""
    points, z = _grid(view)
    points, z = points[z > 0], z[z > 0]
    if len(points) < _FEWEST:
        return np.eye(6) * _MIN_POINTS_SIGMA**2
    J = _motion(points @ R_ref_camera.T) / z[:, None, None]
    information = np.einsum("nij,nik->jk", J, J) / len(points)
    # What all points agree on (a turn about their middle, for a far and narrow view) is kept from being sure of itself.
    return np.asarray(relative**2 * np.linalg.inv(information + 1e-6 * np.eye(6)))


def plane_information(
    view: View, R_ref_camera: Float64[np.ndarray, "3 3"], relative: float
) -> Float64[np.ndarray, "6 6"]:
    """Of an alignment by point to plane: nothing is known of a motion along the surfaces that are seen (Zhang et al. 2016)."""
    points, z = _grid(view)
    across, down = points[:-1, 1:] - points[:-1, :-1], points[1:, :-1] - points[:-1, :-1]
    normals = np.cross(across, down)
    length = np.linalg.norm(normals, axis=-1)
    near = 0.1 * z[:-1, :-1]  # a neighbour that is much nearer or farther lies on another surface
    good = (
        (z[:-1, :-1] > 0)
        & (z[:-1, 1:] > 0)
        & (z[1:, :-1] > 0)
        & (length > 0)
        & (np.abs(across[..., 2]) < near)
        & (np.abs(down[..., 2]) < near)
    )
    if np.count_nonzero(good) < _FEWEST:
        return np.zeros((6, 6))
    n = (normals[good] / length[good][:, None]) @ R_ref_camera.T
    J = (
        np.einsum("ni,nij->nj", n, _motion(points[:-1, :-1][good] @ R_ref_camera.T))
        / z[:-1, :-1][good][:, None]
    )
    return np.asarray(J.T @ J / len(J) / relative**2)


def carried(
    cov_ref: Float64[np.ndarray, "6 6"],
    cov_rel: Float64[np.ndarray, "6 6"],
    R_map_ref: Float64[np.ndarray, "3 3"],
    t_ref_camera: Float64[np.ndarray, "3"],
) -> Float64[np.ndarray, "6 6"]:
    """The covariance of T_map_ref T_ref_camera from that of both: the turn of the reference moves the camera by its lever arm."""
    out = carry_covariance(cov_ref, R_map_ref @ t_ref_camera)
    out += carry_covariance(cov_rel, np.zeros(3), R_map_ref)
    return np.asarray((out + out.T) / 2)
