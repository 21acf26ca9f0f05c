"""Rigid motions as 4x4 matrices, float64.

``T_a_b`` maps coordinates of frame b to frame a. A small motion is a *pose error* delta = (dx dy dz
m, rotation vector rad), both along the fixed axes of the parent frame, the rotation about the
body's own origin: ``perturb`` and ``difference``. ROS PoseWithCovariance and ``Frame.pose_cov``
use the same: t' = t + delta[:3], R' = Exp(delta[3:]) R. Turning the camera in place doesn't move
it, so position and rotation errors that are independent stay independent, wherever the map's
origin lies. (A twist of the Lie algebra would turn about the origin of the map.)

scipy's Rotation computes the same conversions, but rounds differently: the last bits of every pose
would change. Its calls also cost two to three times as much for a single pose, as TF needs it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

_SERIES_BELOW_RAD = 1e-6
"""Smaller angles use the first term of the series: its error there is below float64's resolution.
"""


def hat(v: Float64[np.ndarray, "*B 3"]) -> Float64[np.ndarray, "*B 3 3"]:
    """Make the matrix whose product with w is the cross product v x w.

    >>> hat(np.array([1.0, 2.0, 3.0])) @ [0.0, 0.0, 1.0]
    array([ 2., -1.,  0.])
    """
    v = np.asarray(v, np.float64)
    W = np.zeros((*v.shape, 3))
    W[..., 2, 1], W[..., 0, 2], W[..., 1, 0] = v[..., 0], v[..., 1], v[..., 2]
    return W - np.swapaxes(W, -1, -2)


def so3_exp(phi: Float64[np.ndarray, "*B 3"]) -> Float64[np.ndarray, "*B 3 3"]:
    """Convert rotation vectors (rad) to rotation matrices (Rodrigues' formula).

    >>> so3_exp(np.array([0.0, 0.0, np.pi / 2])).round(9) + 0.0
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  1.]])
    """
    phi = np.asarray(phi, np.float64)
    angle = np.linalg.norm(phi, axis=-1)[..., None, None]
    W = hat(phi)
    safe = np.maximum(angle, _SERIES_BELOW_RAD)
    # (1 - cos a) / a^2 by the half angle: no cancellation near zero.
    first = np.where(angle < _SERIES_BELOW_RAD, 1.0, np.sin(safe) / safe)
    half_sinc = np.sin(0.5 * safe) / (0.5 * safe)
    second = np.where(angle < _SERIES_BELOW_RAD, 0.5, 0.5 * half_sinc**2)
    return np.asarray(np.eye(3) + first * W + second * (W @ W))


def so3_log(R: Float64[np.ndarray, "*B 3 3"]) -> Float64[np.ndarray, "*B 3"]:
    """Convert rotation matrices to rotation vectors (rad) of length 0..pi.

    At pi, where two vectors fit, either is returned.

    >>> so3_log(np.diag([1.0, -1.0, -1.0])).round(9) + 0.0
    array([3.14159265, 0.        , 0.        ])
    """
    q = quaternion_from_matrix(R)
    n = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    ratio = 2.0 * np.arctan2(n, q[..., 3:]) / np.maximum(n, _SERIES_BELOW_RAD)
    return np.asarray(np.where(n < _SERIES_BELOW_RAD, 2.0, ratio) * q[..., :3])


def from_rt(
    R: Float64[np.ndarray, "*B 3 3"], t: Float64[np.ndarray, "*B 3"]
) -> Float64[np.ndarray, "*B 4 4"]:
    """Make motions of rotation matrices and translations (m).

    >>> from_rt(np.eye(3), np.array([1.0, 2.0, 3.0]))
    array([[1., 0., 0., 1.],
           [0., 1., 0., 2.],
           [0., 0., 1., 3.],
           [0., 0., 0., 1.]])
    """
    T = np.zeros((*R.shape[:-2], 4, 4))
    T[..., :3, :3] = R
    T[..., :3, 3] = t
    T[..., 3, 3] = 1.0
    return T


def inverse(T: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Invert a motion: T_b_a of T_a_b.

    >>> inverse(from_rt(np.eye(3), np.array([1.0, 2.0, 3.0])))[:3, 3]
    array([-1., -2., -3.])
    """
    return from_rt(T[:3, :3].T, -T[:3, :3].T @ T[:3, 3])


def compose(*motions: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Multiply motions, left to right (T_a_b, T_b_c -> T_a_c), and make the rotation orthonormal.

    >>> step = from_rt(np.eye(3), np.array([1.0, 0.0, 0.0]))
    >>> compose(step, step, step)[:3, 3]
    array([3., 0., 0.])
    """
    T = np.eye(4)
    for m in motions:
        T = T @ m
    return normalize(T)


def normalize(T: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Replace the rotation of T by the closest orthonormal matrix of determinant 1.

    >>> is_se3(normalize(np.diag([1.01, 0.99, 1.0, 1.0])))
    True
    """
    U, _, Vt = np.linalg.svd(T[:3, :3])
    return from_rt(U @ np.diag([1.0, 1.0, np.linalg.det(U @ Vt)]) @ Vt, T[:3, 3])


def interpolate(
    T_a: Float64[np.ndarray, "4 4"], T_b: Float64[np.ndarray, "4 4"], s: float
) -> Float64[np.ndarray, "4 4"]:
    """Interpolate two poses at share s of the way from T_a (0) to T_b (1).

    Positions move on a straight line, the rotation turns at a constant rate (slerp).

    >>> turned = from_rt(so3_exp(np.array([0.0, 0.0, 0.8])), np.array([2.0, 0.0, 0.0]))
    >>> middle = interpolate(np.eye(4), turned, 0.25)
    >>> middle[:3, 3], so3_log(middle[:3, :3]).round(9) + 0.0
    (array([0.5, 0. , 0. ]), array([0. , 0. , 0.2]))
    """
    phi = so3_log(T_a[:3, :3].T @ T_b[:3, :3])
    return from_rt(T_a[:3, :3] @ so3_exp(s * phi), (1.0 - s) * T_a[:3, 3] + s * T_b[:3, 3])


def perturb(
    T: Float64[np.ndarray, "*B 4 4"], delta: Float64[np.ndarray, "*B 6"]
) -> Float64[np.ndarray, "*B 4 4"]:
    """Add pose errors (m, rad; see the head of this file) to T; leading dimensions broadcast.

    >>> far_away = from_rt(np.eye(3), np.array([100.0, 0.0, 0.0]))
    >>> perturb(far_away, np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.5]))[:3, 3]  # turned in place
    array([100.,   0.,   1.])
    """
    return from_rt(so3_exp(delta[..., 3:]) @ T[..., :3, :3], T[..., :3, 3] + delta[..., :3])


def difference(
    T: Float64[np.ndarray, "*B 4 4"], T_reference: Float64[np.ndarray, "*B 4 4"]
) -> Float64[np.ndarray, "*B 6"]:
    """Compute the pose error (m, rad) that leads from the reference to T.

    ``perturb(T_reference, difference(T, T_reference))`` is T.

    >>> T = perturb(np.eye(4), np.array([1.0, 2.0, 3.0, 0.1, 0.0, 0.0]))
    >>> difference(T, np.eye(4)).round(9) + 0.0
    array([1. , 2. , 3. , 0.1, 0. , 0. ])
    """
    turn = T[..., :3, :3] @ np.swapaxes(T_reference[..., :3, :3], -1, -2)
    return np.concatenate([T[..., :3, 3] - T_reference[..., :3, 3], so3_log(turn)], axis=-1)


def quaternion_from_matrix(R: Float64[np.ndarray, "*B 3 3"]) -> Float64[np.ndarray, "*B 4"]:
    """Convert rotation matrices to unit quaternions x y z w (the order of ROS), w >= 0.

    Bar-Itzhack 2000, "New method for extracting the quaternion from a rotation matrix": the
    quaternion is an eigenvector. It is the best fit where R isn't quite orthonormal, and there are
    no cases to tell apart.

    >>> quaternion_from_matrix(np.eye(3)).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
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
    """Convert a quaternion x y z w of any length but zero to a rotation matrix.

    Raises ValueError: its length is zero or not finite.

    >>> matrix_from_quaternion(np.array([0.0, 0.0, 2.0, 2.0])).round(9) + 0.0
    array([[ 0., -1.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  1.]])
    """
    n = float(np.dot(q, q))
    if not np.isfinite(n) or n < 1e-12:
        raise ValueError(
            f"a quaternion of length {np.sqrt(n):g} is no rotation: wanted x y z w of length 1"
            " (identity is 0 0 0 1)"
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
    """Make the motion of a translation (m) and a quaternion x y z w.

    Raises ValueError: as ``matrix_from_quaternion``.

    >>> from_quaternion(np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.0, 1.0]))[0]
    array([1., 0., 0., 1.])
    """
    return from_rt(matrix_from_quaternion(q), np.asarray(t, np.float64))


def is_se3(T: object, *, tolerance: float = 1e-6) -> bool:
    """Test whether T is a finite 4x4 array of a rotation, a translation and a last row 0 0 0 1.

    >>> is_se3(np.eye(4)), is_se3(np.diag([1.0, 1.0, -1.0, 1.0])), is_se3(np.eye(3))
    (True, False, False)
    """
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
    """Move points (N,3) of frame b to frame a; their dtype is kept.

    >>> T = from_rt(so3_exp(np.array([0.0, 0.0, np.pi / 2])), np.array([10.0, 0.0, 0.0]))
    >>> transform(T, np.array([[1.0, 0.0, 0.0]], np.float32))
    array([[10.,  1.,  0.]], dtype=float32)
    """
    return np.asarray(
        points_b @ T_a_b[:3, :3].T.astype(points_b.dtype) + T_a_b[:3, 3].astype(points_b.dtype)
    )
