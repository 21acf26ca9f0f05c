from __future__ import annotations

import math

import numpy as np
import pytest

from vos_ros.association.motion import MotionModel
from vos_ros.association.surfaces import Samples


def at(x: float, *, track_id: int = 5, spread: float = 0.1, y: float = 0.0) -> Samples:
    """One track whose points have the given mean and spread (m)."""
    points = np.array([[x - spread, y, 1], [x + spread, y, 1]], np.float32)
    return Samples.of(points, np.ones(2, int), (track_id,))


ZERO = np.zeros(1)


def test_a_track_that_is_new_is_consistent() -> None:
    assert MotionModel().consistency(at(3.0), ZERO) == {5: 1.0}


@pytest.mark.parametrize(("x", "y"), [(0.3, 0.0), (0.0, 0.3), (-0.3, 0.0)])
def test_a_step_counts_against_the_size_of_the_track(x: float, y: float) -> None:
    """exp(-d^2 / 2 s^2) with s = spread 0.1 m + 0.05 m + sigma of the pose."""
    for sigma in (0.0, 0.15):
        motion = MotionModel()
        motion.consistency(at(0.0), ZERO)
        got = motion.consistency(at(x, y=y), np.array([sigma]))[5]
        assert got == pytest.approx(math.exp(-0.5 * (0.3 / (0.15 + sigma)) ** 2), rel=1e-4)


def test_a_jump_counts_once_and_only_against_its_own_track() -> None:
    motion = MotionModel()
    motion.consistency(at(0.0), ZERO)
    motion.consistency(at(9.0, track_id=6), ZERO)
    assert motion.consistency(at(1.0), ZERO)[5] < 1e-4
    assert motion.consistency(at(1.0), ZERO)[5] == 1.0, "it is there now"
    assert motion.consistency(at(9.0, track_id=6), ZERO) == {6: 1.0}


def test_a_track_without_measurement_for_a_frame_is_compared_with_where_it_was_before() -> None:
    """Else a track that jumps to a look-alike while it is not measured counts as consistent."""
    motion = MotionModel()
    motion.consistency(at(0.0), ZERO)
    motion.consistency(at(9.0, track_id=6), ZERO)
    motion.keep_only([5, 6])
    assert motion.consistency(at(1.0), ZERO)[5] < 1e-4


def test_a_track_that_ended_is_forgotten() -> None:
    motion = MotionModel()
    motion.consistency(at(0.0), ZERO)
    motion.keep_only([6])
    assert motion.consistency(at(1.0), ZERO) == {5: 1.0}
