"""Poses over time: interpolated, never extrapolated."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.geometry import se3
from vos_ros.geometry.pose_track import PoseTrack

S = 1_000_000_000


def pose(x: float, degrees: float = 0.0) -> np.ndarray:
    rotation = se3.so3_exp(np.array([0.0, 0.0, np.deg2rad(degrees)]))
    return se3.from_rt(rotation, np.array([x, -2.0 * x, 0.0]))


@pytest.fixture
def track() -> PoseTrack:
    """Two poses, 1 s apart, added in the wrong order."""
    track = PoseTrack()
    track.add(2 * S, pose(3.0, 90.0), np.eye(6) * 2)
    track.add(1 * S, pose(1.0, 0.0), np.eye(6))
    return track


def test_a_pose_is_interpolated_with_the_covariance_of_the_nearer_neighbour(
    track: PoseTrack,
) -> None:
    for share, cov in ((0.25, 1.0), (0.5, 1.0), (0.75, 2.0)):
        found = track.at(S + int(share * S))
        assert found is not None
        np.testing.assert_allclose(found[0], pose(1.0 + 2 * share, 90.0 * share), atol=1e-12)
        np.testing.assert_array_equal(found[1], np.eye(6) * cov)


def test_a_stamp_of_the_track_gives_its_pose(track: PoseTrack) -> None:
    for stamp, x, cov in ((S, 1.0, 1.0), (2 * S, 3.0, 2.0)):
        found = track.at(stamp)
        assert found is not None and found[0][0, 3] == x
        np.testing.assert_array_equal(found[1], np.eye(6) * cov)


def test_a_pose_is_never_extrapolated(track: PoseTrack) -> None:
    assert track.at(S - 1) is None and track.at(2 * S + 1) is None
    assert PoseTrack().at(S) is None
    assert track.span_ns == (S, 2 * S) and PoseTrack().span_ns is None and len(track) == 2


def test_a_gap_that_is_too_long_has_no_pose(track: PoseTrack) -> None:
    half = int(1.5 * S)
    assert track.at(half, max_gap_ns=S - 1) is None
    assert track.at(half, max_gap_ns=S) is not None
    assert track.at(half) is not None, "1 s is not too long"
    track.add(3 * S + 1, pose(0.0))
    assert track.at(2 * S + 5) is None


def test_of_two_poses_with_one_stamp_the_later_one_is_kept(track: PoseTrack) -> None:
    track.add(2 * S, pose(-1.0))
    found = track.at(2 * S)
    assert found is not None and found[0][0, 3] == -1.0 and found[1] is None
    assert len(track) == 2


def test_old_poses_are_forgotten() -> None:
    track = PoseTrack(keep_ns=10 * S)
    for i in range(21):
        track.add(i * S, pose(float(i)), np.eye(6))
    assert track.span_ns == (0, 20 * S), "twice the span is kept before the first cut"
    track.add(21 * S, pose(21.0))
    assert track.span_ns == (11 * S, 21 * S) and len(track) == 11
    assert track.at(10 * S) is None
    found = track.at(11 * S)
    assert found is not None and found[0][0, 3] == 11.0 and found[1] is not None
