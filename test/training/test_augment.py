"""What happens to a clip's picture."""

from __future__ import annotations

import numpy as np
import pytest

from vos_ros.training.augment import color_matrix, degrade, recolor, streak
from vos_ros.training.config import AugmentConfig

OFF = AugmentConfig(brightness=0.0, color=0.0, grayscale=0.0, degrade=0.0)


@pytest.fixture
def frames() -> np.ndarray:
    """Three times the same picture."""
    return np.repeat(np.random.default_rng(0).integers(0, 256, (1, 40, 50, 3), np.uint8), 3, 0)


def test_nothing_asked_nothing_done(frames: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    assert np.array_equal(recolor(OFF, rng, frames), frames) and degrade(OFF, rng, frames) is frames


def test_colour_holds_over_the_clip(frames: np.ndarray) -> None:
    out = recolor(
        AugmentConfig(brightness=0.0, color=1.0, grayscale=0.0), np.random.default_rng(1), frames
    )
    assert np.array_equal(out[0], out[1]) and np.array_equal(out[0], out[2])
    assert np.abs(out[0].astype(int) - frames[0]).mean() > 5


def test_brightness_drifts(frames: np.ndarray) -> None:
    out = recolor(AugmentConfig(brightness=0.2, grayscale=0.0), np.random.default_rng(1), frames)
    means = out.mean((1, 2, 3)) / frames.mean()
    assert np.ptp(means) > 0.02 and np.all(np.abs(means - 1) < 0.21)


def test_grey(frames: np.ndarray) -> None:
    out = recolor(AugmentConfig(brightness=0.0, grayscale=1.0), np.random.default_rng(0), frames)
    assert np.ptp(out.astype(int), axis=-1).max() <= 1


def test_a_colour_matrix_keeps_grey_grey_but_for_the_cast() -> None:
    for seed in range(20):
        grey = color_matrix(np.random.default_rng(seed), 0.5) @ np.ones(3)
        assert np.all(np.abs(grey - 1) < 0.08)


def test_degraded_each_frame_alike_but_for_the_noise(frames: np.ndarray) -> None:
    out = degrade(AugmentConfig(degrade=1.0), np.random.default_rng(0), frames)
    assert out.shape == frames.shape and not np.array_equal(out[0], out[1])
    assert np.abs(out.astype(int) - frames).mean() > 3
    changed = [
        degrade(AugmentConfig(degrade=0.3), np.random.default_rng(s), frames) is not frames
        for s in range(60)
    ]
    assert 0.4 < np.mean(changed) < 0.9


@pytest.mark.parametrize(("dx", "dy"), [(8.0, 0.0), (0.0, 8.0), (-6.0, 6.0)])
def test_smeared_along_the_way(dx: float, dy: float) -> None:
    dot = np.zeros((41, 41, 4), np.uint8)
    dot[20, 20] = 255
    out = streak(dot, dx, dy).astype(float)[..., 3]
    assert out.sum() == pytest.approx(255, abs=12)
    ys, xs = np.nonzero(out)
    assert (np.ptp(xs), np.ptp(ys)) == pytest.approx((abs(dx), abs(dy)), abs=2)
    assert np.sign(np.corrcoef(xs, ys)[0, 1]) == -1 if dx * dy < 0 else True
    assert streak(dot, 0.5, 0.5) is dot
