"""Pose noise: of the stated size, reproducible, independent of the order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vos_ros.geometry import se3
from vos_ros.sources.interface import FrameSource
from vos_ros.sources.noise import PoseNoise
from vos_ros.types import Frame, MapUpdate

TRUE = se3.from_rt(se3.so3_exp(np.array([0.3, -1.0, 2.0])), np.array([10.0, -20.0, 5.0]))


class Source:
    map_frame = "world"

    def __init__(self, items: list[Frame | MapUpdate]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@pytest.fixture
def frames(make_frame: Callable[..., Frame]) -> list[Frame]:
    return [make_frame(i, 2, 2, T_map_camera=TRUE) for i in range(3000)]


def deltas(source: PoseNoise) -> np.ndarray:
    return np.array(
        [
            se3.difference(f.T_map_camera, TRUE)
            for f in source
            if isinstance(f, Frame) and f.T_map_camera is not None
        ]
    )


def test_size_and_covariance(frames: list[Frame]) -> None:
    noisy = PoseNoise(Source(list(frames)), 0.05, 2.0, seed=3)
    assert isinstance(noisy, FrameSource) and noisy.map_frame == "world" and len(noisy) == 3000
    d = deltas(noisy)
    assert np.sqrt((d[:, :3] ** 2).sum(1).mean()) == pytest.approx(0.05, rel=0.03)
    assert np.rad2deg(np.sqrt((d[:, 3:] ** 2).sum(1).mean())) == pytest.approx(2.0, rel=0.03)
    stated = next(f.pose_cov for f in noisy if isinstance(f, Frame))
    assert stated is not None
    scale = np.sqrt(np.diag(stated))
    np.testing.assert_allclose(np.cov(d.T) / np.outer(scale, scale), np.eye(6), atol=0.08)


def test_a_frame_has_its_noise_whatever_comes_before(frames: list[Frame]) -> None:
    one = PoseNoise(Source(list(frames[:20])), 0.05, 2.0, seed=3)
    other = PoseNoise(Source(list(frames[10:20][::-1])), 0.05, 2.0, seed=3)
    assert (deltas(one)[10:][::-1] == deltas(other)).all()
    assert (deltas(one) == deltas(one)).all()
    assert (deltas(one) != deltas(PoseNoise(Source(list(frames[:20])), 0.05, 2.0, seed=4))).any()


def test_stated_covariance_adds_up_and_nothing_stays_nothing(
    make_frame: Callable[..., Frame],
) -> None:
    known, unknown = make_frame(0, 2, 2, pose_cov=np.eye(6)), make_frame(1, 2, 2, T_map_camera=None)
    update = MapUpdate(0, "", 1, True, ())
    noise = PoseNoise(Source([update, known, unknown]), 0.3, 0.0)
    first, second, third = list(noise)
    assert first is update and third is unknown and isinstance(second, Frame)
    np.testing.assert_allclose(second.pose_cov, np.eye(6) + np.diag([0.03] * 3 + [0.0] * 3))
    assert list(PoseNoise(Source([known]), 0.0, 0.0)) == [known]


def test_noise_of_one_kind_leaves_the_other_alone(frames: list[Frame]) -> None:
    moved = deltas(PoseNoise(Source(list(frames[:20])), 0.05, 0.0))
    turned = deltas(PoseNoise(Source(list(frames[:20])), 0.0, 2.0))
    assert (np.abs(moved[:, :3]) > 0).all() and np.allclose(moved[:, 3:], 0.0, atol=1e-12)
    assert (np.abs(turned[:, 3:]) > 0).all() and np.allclose(turned[:, :3], 0.0, atol=1e-12)


@pytest.mark.parametrize("sizes", [(-0.1, 0.0, 0), (0.0, -0.1, 0), (0.0, 0.0, -1)])
def test_negative_sizes_are_refused(sizes: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="wanted all of them >= 0"):
        PoseNoise(Source([]), *sizes)
