"""The method one_point follows its points with the tracker of the options."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from vos_ros.config import Config, from_flat
from vos_ros.segmentation.methods.one_point import segmenter as one_point
from vos_ros.segmentation.point_trackers.interface import Tracked
from vos_ros.types import Frame, Mask, Seed

H, W = 96, 128


def picture(t: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a disc with a texture that moves right by 3 px a frame over a ground, and its mask."""
    rng = np.random.default_rng(2)
    ground, disc = (
        cv2.resize(rng.integers(0, 256, (H // 6, W // 6, 3)).astype(np.uint8), (W, H))
        for _ in range(2)
    )
    mask = np.zeros((H, W), np.uint8)
    cv2.circle(mask, (40 + 3 * t, 48), 22, 1, -1)
    moved = np.roll(disc, 3 * t, axis=1)
    moved[..., 0] = 255
    return np.where(mask[..., None] > 0, moved, ground // 2), mask > 0


def made(tracker: str) -> one_point.OnePoint:
    values = {"segmentation.method": "one_point", "segmentation.one_point.tracker": tracker}
    return one_point.OnePoint(from_flat(values, Config()).segmentation)


@pytest.mark.parametrize("tracker", ["flow", "learned"])
def test_the_point_moves_with_its_object(tracker: str, make_frame: Callable[..., Frame]) -> None:
    segmenter = made(tracker)
    rgb, mask = picture(0)
    segmenter.seed(make_frame(0, H, W, rgb=rgb), [Seed(4, Mask(mask))])
    start = segmenter.tracked_points()[4]
    for t in range(1, 4):
        segmenter.step(make_frame(t, H, W, rgb=picture(t)[0]))
        x, y, visible = segmenter.tracked_points()[4]
        assert visible and np.hypot(x - start[0] - 3 * t, y - start[1]) < 2.5


def test_what_the_tracker_does_not_see_is_searched_in_the_embedding(
    make_frame: Callable[..., Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tracker of ours is started with every mask, and its word counts where it sees the point."""
    starts: list[np.ndarray] = []

    class Told:
        sees = True

        def start(self, rgb: np.ndarray, points: np.ndarray) -> Told:
            starts.append(points)
            return self

        def step(self, rgb: np.ndarray) -> Tracked:
            return Tracked(starts[-1] + [3.0, 0.0], np.array([self.sees]), np.ones(1))

    told = Told()
    asked: list[str] = []

    def create(name: str, device: object, *, options: object) -> Told:
        asked.append(name)
        return told

    monkeypatch.setattr(one_point, "create", create)
    segmenter = made("heatmap")
    frames = [make_frame(t, H, W, rgb=picture(t)[0]) for t in range(3)]
    segmenter.seed(frames[0], [Seed(4, Mask(picture(0)[1]))])
    assert asked == ["heatmap"] and len(starts) == 1
    segmenter.step(frames[1])
    x, y, visible = segmenter.tracked_points()[4]
    assert visible and (x, y) == pytest.approx(tuple(starts[0][0] + [3.0, 0.0]))
    segmenter.update(frames[1], [Seed(4, Mask(picture(1)[1]))])
    assert len(starts) == 2, "a correction starts the point again"
    told.sees = False
    segmenter.step(frames[2])
    x, y, visible = segmenter.tracked_points()[4]
    assert not visible or (x, y) != pytest.approx(tuple(starts[1][0] + [3.0, 0.0]))
