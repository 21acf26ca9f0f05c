"""SE(3): the group's laws on drawn motions, and conversions against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vos_ros.geometry import se3


def vectors(size: int, limit: float):
    return arrays(np.float64, size, elements=st.floats(-limit, limit, allow_nan=False, width=64))


@st.composite
def deltas(draw):
    axis = draw(vectors(3, 1.0))
    n = np.linalg.norm(axis)
    angle = draw(st.floats(0.0, 3.1))
    phi = axis / n * angle if n > 1e-3 else 1e-9 * axis
    return np.concatenate([draw(vectors(3, 100.0)), phi])


@given(deltas())
def test_rotation_vectors_agree_with_scipy_and_come_back(delta):
    R = se3.so3_exp(delta[3:])
    np.testing.assert_allclose(R, Rotation.from_rotvec(delta[3:]).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(se3.so3_log(R), delta[3:], atol=1e-7)


@given(deltas(), deltas())
def test_inverse_and_compose(a, b):
    A, B = se3.perturb(np.eye(4), a), se3.perturb(np.eye(4), b)
    np.testing.assert_allclose(
        se3.compose(A, B, se3.inverse(B), se3.inverse(A)), np.eye(4), atol=1e-9 * 1e3
    )
    assert se3.is_se3(se3.compose(A, B))


@given(deltas(), deltas())
def test_difference_is_the_inverse_of_perturb(a, delta):
    T = se3.perturb(np.eye(4), a)
    np.testing.assert_allclose(
        se3.difference(se3.perturb(T, delta), T), delta, atol=1e-8 * (1.0 + np.abs(a[:3]).max())
    )


def test_a_pose_error_turns_the_camera_in_place_about_the_axes_of_the_map():
    T = se3.from_quaternion(
        np.array([100.0, -50.0, 3.0]), Rotation.from_euler("x", 90, degrees=True).as_quat()
    )
    turned = se3.perturb(T, np.array([0.0, 0.0, 0.0, 0.0, 0.0, np.pi / 2]))
    np.testing.assert_allclose(turned[:3, 3], T[:3, 3])
    np.testing.assert_allclose(
        turned[:3, :3],
        Rotation.from_euler("z", 90, degrees=True).as_matrix() @ T[:3, :3],
        atol=1e-12,
    )


def test_batches_are_what_their_members_are():
    rng = np.random.default_rng(0)
    deltas = rng.normal(0.0, 1.0, (5, 6))
    T = se3.perturb(np.eye(4), rng.normal(0.0, 1.0, 6))
    batch = se3.perturb(T, deltas)
    for one, delta in zip(batch, deltas, strict=True):
        np.testing.assert_allclose(one, se3.perturb(T, delta), atol=1e-12)
    np.testing.assert_allclose(
        se3.difference(batch, T), [se3.difference(b, T) for b in batch], atol=1e-12
    )


@given(deltas(), st.floats(0.0, 1.0))
def test_interpolation_keeps_a_constant_rate(a, s):
    A, B = np.eye(4), se3.perturb(np.eye(4), a)
    middle = se3.interpolate(A, B, s)
    np.testing.assert_allclose(middle[:3, 3], s * B[:3, 3], atol=1e-9)
    assert np.linalg.norm(se3.so3_log(middle[:3, :3])) == pytest.approx(
        s * np.linalg.norm(a[3:]), abs=1e-7
    )


@given(deltas())
def test_quaternions_agree_with_scipy_and_come_back(a):
    R = se3.perturb(np.eye(4), a)[:3, :3]
    q = se3.quaternion_from_matrix(R)
    wanted = Rotation.from_matrix(R).as_quat()
    assert q[3] >= 0.0 and abs(float(q @ wanted)) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(se3.matrix_from_quaternion(3.0 * q), R, atol=1e-9)


def test_half_a_turn_has_a_logarithm():
    for axis in np.eye(3):
        phi = se3.so3_log(se3.so3_exp(np.pi * axis))
        np.testing.assert_allclose(np.abs(phi), np.pi * axis, atol=1e-6)


@pytest.mark.parametrize("q", [np.zeros(4), np.array([np.nan, 0.0, 0.0, 1.0])])
def test_no_rotation_in_an_empty_quaternion(q):
    with pytest.raises(ValueError, match="wanted x y z w of length 1"):
        se3.matrix_from_quaternion(q)


@pytest.mark.parametrize(
    "T",
    [
        None,
        np.eye(3),
        np.full((4, 4), np.nan),
        np.zeros((4, 4)),
        np.diag([1.0, 1.0, -1.0, 1.0]),
        np.diag([2.0, 2.0, 2.0, 1.0]),
        np.eye(4, dtype=int),
    ],
)
def test_what_is_no_rigid_motion(T):
    assert not se3.is_se3(T)


def test_normalize_repairs_a_rotation_that_drifted():
    T = se3.perturb(np.eye(4), np.array([1.0, 2.0, 3.0, 0.3, -0.2, 0.9]))
    drifted = T.copy()
    drifted[:3, :3] += 1e-3 * np.random.default_rng(0).normal(size=(3, 3))
    assert not se3.is_se3(drifted)
    assert se3.is_se3(se3.normalize(drifted))
    np.testing.assert_allclose(se3.normalize(drifted), T, atol=5e-3)


def test_transform_moves_points_and_keeps_their_dtype():
    T = se3.perturb(np.eye(4), np.array([1.0, 2.0, 3.0, 0.3, -0.2, 0.9]))
    points = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    moved = se3.transform(T, points)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, [(T @ [*p, 1.0])[:3] for p in points], atol=1e-5)
