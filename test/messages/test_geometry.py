"""Stamps, poses and covariances, to messages and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vos_ros.geometry import se3
from vos_ros.messages.geometry import (
    covariance_from_message,
    matrix_from_pose,
    pose_message,
    pose_with_covariance_message,
    transform_stamped_message,
)
from vos_ros.messages.stamps import header_message, ns_from_stamp

NS = 1_234_567_890_123_456_789
T = se3.perturb(np.eye(4), np.array([0.1, -0.2, 0.3, 0.4, 0.5, -0.6]))
Make = Callable[..., Any]


def test_stamps_are_exact(make: Make, transport: Callable[[Any], Any]) -> None:
    header = transport(header_message(make, NS, "camera"))
    assert (header.stamp.sec, header.stamp.nanosec) == (1_234_567_890, 123_456_789)
    assert ns_from_stamp(header.stamp) == NS and header.frame_id == "camera"


def test_poses_come_back(make: Make, transport: Callable[[Any], Any]) -> None:
    np.testing.assert_allclose(matrix_from_pose(transport(pose_message(make, T))), T, atol=1e-15)
    sent = transport(transform_stamped_message(make, header_message(make, 5, "map"), "cam", T))
    assert (sent.header.frame_id, sent.child_frame_id) == ("map", "cam")
    np.testing.assert_allclose(matrix_from_pose(sent.transform), T, atol=1e-15)


@pytest.mark.parametrize("length", [0.0, 0.89, 1.11, np.nan, np.inf])
def test_a_quaternion_of_another_length_is_refused(make: Make, length: float) -> None:
    broken = pose_message(make, np.eye(4))
    broken.orientation.w = length
    with pytest.raises(ValueError, match=r"of length .*; wanted finite numbers .* and a unit quat"):
        matrix_from_pose(broken)


@pytest.mark.parametrize("length", [0.91, 1.09])
def test_a_quaternion_of_nearly_unit_length_is_normalized(make: Make, length: float) -> None:
    rounded = pose_message(make, np.eye(4))
    rounded.orientation.w = length
    np.testing.assert_allclose(matrix_from_pose(rounded), np.eye(4))


@pytest.mark.parametrize("axis", "xyz")
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_position_that_is_not_finite_is_refused(make: Make, axis: str, value: float) -> None:
    broken = pose_message(make, T)
    setattr(broken.position, axis, value)
    with pytest.raises(ValueError, match="wanted finite"):
        matrix_from_pose(broken)


def test_covariances_come_back(make: Make, transport: Callable[[Any], Any]) -> None:
    cov = np.arange(1.0, 37.0).reshape(6, 6)
    sent = transport(pose_with_covariance_message(make, T, cov))
    np.testing.assert_array_equal(covariance_from_message(sent.covariance), cov)


@pytest.mark.parametrize(
    "values",
    [[0.0] * 36, [-1.0, *[0.0] * 34, 5.0], [1.0, np.nan, *[0.0] * 34], [np.inf, *[1.0] * 35]],
)
def test_a_covariance_that_is_not_known_is_none(values: list[float]) -> None:
    assert covariance_from_message(np.array(values)) is None


def test_a_zero_variance_of_x_is_known_where_another_is_given() -> None:
    assert covariance_from_message([0.0] * 35 + [1.0]) is not None


def test_an_unknown_pose_has_a_nan_position_and_no_covariance(make: Make) -> None:
    unknown = pose_with_covariance_message(make, None, None)
    position = unknown.pose.position
    assert np.isnan([position.x, position.y, position.z]).all()
    turned = unknown.pose.orientation
    assert (turned.x, turned.y, turned.z, turned.w) == (0, 0, 0, 1)
    assert covariance_from_message(unknown.covariance) is None
    with pytest.raises(ValueError, match="wanted finite"):
        matrix_from_pose(unknown.pose)
