"""Rigid motions as 4x4 matrices, float64.

Two kinds of small motion are in use here, told apart by name:

- *twist* xi = (rho x y z m, phi x y z rad), the Lie algebra of SE(3): ``exp``, ``log``, ``adjoint``, ``interpolate``.
- *pose error* delta = (dx dy dz m, rotation vector rad), both along the fixed axes of the parent frame, the rotation about the
  body's own origin: ``perturb``, ``difference``. This is what ROS PoseWithCovariance and ``Frame.pose_cov`` speak of:
  t' = t + delta[:3], R' = Exp(delta[3:]) R. Turning the camera in place doesn't move it, so position and rotation errors
  that are independent stay independent, wherever the map's origin lies (a twist would turn about the origin of the map).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

_SMALL = 1e-6
"""Angle in rad under which series replace the closed forms; their error there is below float64's resolution."""


def hat(v: Float64[np.ndarray, "*B 3"]) -> Float64[np.ndarray, "*B 3 3"]:
    """The matrix whose product with w is the cross product v x w."""
    v = np.asarray(v, np.float64)
    W = np.zeros((*v.shape, 3))
    W[..., 2, 1], W[..., 0, 2], W[..., 1, 0] = v[..., 0], v[..., 1], v[..., 2]
    return W - np.swapaxes(W, -1, -2)


def so3_exp(phi: Float64[np.ndarray, "*B 3"]) -> Float64[np.ndarray, "*B 3 3"]:
    """Rotation matrices of rotation vectors, rad."""
    phi = np.asarray(phi, np.float64)
    angle = np.linalg.norm(phi, axis=-1)[..., None, None]
    W = hat(phi)
    safe = np.maximum(angle, _SMALL)
    # Under _SMALL sin(a)/a is 1 and (1 - cos a)/a^2 is 1/2 to float64's resolution; the half-angle form has no cancellation.
    first = np.where(angle < _SMALL, 1.0, np.sin(safe) / safe)
    second = np.where(angle < _SMALL, 0.5, 0.5 * (np.sin(0.5 * safe) / (0.5 * safe)) ** 2)
    return np.asarray(np.eye(3) + first * W + second * (W @ W))


def so3_log(R: Float64[np.ndarray, "*B 3 3"]) -> Float64[np.ndarray, "*B 3"]:
    """Rotation vectors of rotation matrices, rad, length 0..pi. At pi, where two vectors fit, either is returned."""
    q = quaternion_from_matrix(R)
    n = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    factor = np.where(n < _SMALL, 2.0, 2.0 * np.arctan2(n, q[..., 3:]) / np.maximum(n, _SMALL))
    return np.asarray(factor * q[..., :3])


def _left_jacobian(phi: Float64[np.ndarray, "3"]) -> Float64[np.ndarray, "3 3"]:
    angle = float(np.linalg.norm(phi))
    W = hat(phi)
    if angle < 1e-3:
        return np.asarray(
            np.eye(3) + (0.5 - angle**2 / 24.0) * W + (1.0 / 6.0 - angle**2 / 120.0) * (W @ W)
        )
    return np.asarray(
        np.eye(3)
        + (1.0 - np.cos(angle)) / angle**2 * W
        + (angle - np.sin(angle)) / angle**3 * (W @ W)
    )


def exp(xi: Float64[np.ndarray, "6"]) -> Float64[np.ndarray, "4 4"]:
    """Motion of a twist (rho m, phi rad)."""
    T = np.eye(4)
    T[:3, :3] = so3_exp(xi[3:])
    T[:3, 3] = _left_jacobian(xi[3:]) @ xi[:3]
    return T


def log(T: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "6"]:
    """Twist (rho m, phi rad) of a motion; inverse of ``exp`` for angles below pi."""
    phi = so3_log(T[:3, :3])
    return np.concatenate([np.linalg.solve(_left_jacobian(phi), T[:3, 3]), phi])


def from_rt(
    R: Float64[np.ndarray, "*B 3 3"], t: Float64[np.ndarray, "*B 3"]
) -> Float64[np.ndarray, "*B 4 4"]:
    """Motions of rotation matrices and translations, m."""
    T = np.zeros((*R.shape[:-2], 4, 4))
    T[..., :3, :3] = R
    T[..., :3, 3] = t
    T[..., 3, 3] = 1.0
    return T


def inverse(T: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """T_b_a of a T_a_b."""
    return from_rt(T[:3, :3].T, -T[:3, :3].T @ T[:3, 3])


def compose(*motions: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Product of motions, left to right (T_a_b, T_b_c -> T_a_c), its rotation made orthonormal again."""
    T = np.eye(4)
    for m in motions:
        T = T @ m
    return normalize(T)


def normalize(T: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """The motion nearest to T: its rotation replaced by the closest orthonormal matrix of determinant 1."""
    U, _, Vt = np.linalg.svd(T[:3, :3])
    return from_rt(U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt, T[:3, 3])


def adjoint(T: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "6 6"]:
    """Ad with T exp(xi) T^-1 = exp(Ad xi), twists ordered (rho, phi)."""
    A = np.zeros((6, 6))
    A[:3, :3] = A[3:, 3:] = T[:3, :3]
    A[:3, 3:] = hat(T[:3, 3]) @ T[:3, :3]
    return A


def interpolate(
    T_a: Float64[np.ndarray, "4 4"], T_b: Float64[np.ndarray, "4 4"], s: float
) -> Float64[np.ndarray, "4 4"]:
    """The pose at share s of the way from T_a (0) to T_b (1): straight line of positions, constant rate of turning."""
    phi = so3_log(T_a[:3, :3].T @ T_b[:3, :3])
    return from_rt(T_a[:3, :3] @ so3_exp(s * phi), (1.0 - s) * T_a[:3, 3] + s * T_b[:3, 3])


def perturb(
    T: Float64[np.ndarray, "*B 4 4"], delta: Float64[np.ndarray, "*B 6"]
) -> Float64[np.ndarray, "*B 4 4"]:
    """T with pose errors (m, rad; see the head of this file) added; leading dimensions broadcast."""
    return from_rt(so3_exp(delta[..., 3:]) @ T[..., :3, :3], T[..., :3, 3] + delta[..., :3])


def difference(
    T: Float64[np.ndarray, "*B 4 4"], T_reference: Float64[np.ndarray, "*B 4 4"]
) -> Float64[np.ndarray, "*B 6"]:
    """The pose error that leads from the reference to T: ``perturb(T_reference, difference(T, T_reference))`` is T."""
    turn = T[..., :3, :3] @ np.swapaxes(T_reference[..., :3, :3], -1, -2)
    return np.concatenate([T[..., :3, 3] - T_reference[..., :3, 3], so3_log(turn)], axis=-1)


def quaternion_from_matrix(R: Float64[np.ndarray, "*B 3 3"]) -> Float64[np.ndarray, "*B 4"]:
    """Unit quaternions x y z w (the order of ROS) of rotation matrices, w >= 0."""
    # Bar-Itzhack: the eigenvector is the best fit where R is not quite orthonormal, and there are no cases to tell apart.
    R = np.asarray(R, np.float64)
    K = np.empty((*R.shape[:-2], 4, 4))
    K[..., :3, :3] = R + np.swapaxes(R, -1, -2)
    trace = np.trace(R, axis1=-2, axis2=-1)
    for i in range(3):
        K[..., i, i] -= trace
    K[..., 3, 3] = trace
    for i, (j, k) in enumerate(((2, 1), (0, 2), (1, 0))):
        K[..., 3, i] = K[..., i, 3] = R[..., j, k] - R[..., k, j]
    q = np.linalg.eigh(K)[1][..., -1]
    return np.asarray(np.where(q[..., 3:] < 0.0, -q, q))


def matrix_from_quaternion(q: Float64[np.ndarray, "4"]) -> Float64[np.ndarray, "3 3"]:
    """Rotation matrix of a quaternion x y z w of any length but zero (ValueError)."""
    n = float(np.dot(q, q))
    if not np.isfinite(n) or n < 1e-12:
        raise ValueError(
            f"a quaternion of length {np.sqrt(n):g} is no rotation: wanted x y z w of length 1 (identity is 0 0 0 1)"
        )
    x, y, z, w = np.asarray(q, np.float64) / np.sqrt(n)
    return np.array(
        [
            [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
            [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
            [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
        ]
    )


def from_quaternion(
    t: Float64[np.ndarray, "3"], q: Float64[np.ndarray, "4"]
) -> Float64[np.ndarray, "4 4"]:
    """Motion of a translation (m) and a quaternion x y z w."""
    return from_rt(matrix_from_quaternion(q), np.asarray(t, np.float64))


def is_se3(T: object, *, tolerance: float = 1e-6) -> bool:
    """Whether T is a finite (4,4) array with an orthonormal rotation of determinant 1 and a last row 0 0 0 1."""
    if (
        not isinstance(T, np.ndarray)
        or T.shape != (4, 4)
        or not np.issubdtype(T.dtype, np.floating)
        or not np.isfinite(T).all()
    ):
        return False
    R, last = T[:3, :3], np.array([0.0, 0.0, 0.0, 1.0])
    return bool(
        np.abs(R @ R.T - np.eye(3)).max() <= tolerance
        and np.linalg.det(R) > 0.0
        and np.abs(T[3] - last).max() <= tolerance
    )


def transform(T_a_b: Float64[np.ndarray, "4 4"], points_b: np.ndarray) -> np.ndarray:
    """Points (N,3) of frame b in frame a; dtype of the points kept."""
    return np.asarray(
        points_b @ T_a_b[:3, :3].T.astype(points_b.dtype) + T_a_b[:3, 3].astype(points_b.dtype)
    )
