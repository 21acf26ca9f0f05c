"""Scores of trackers of points: coverage, and true places in a static scene."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from support.moving_squares import draw, sequence

from vos_ros.datasets.interface import FrameFiles, VideoSequence
from vos_ros.evaluation.point_tracking import (
    RADII_PX,
    Clip,
    clips_of,
    coverage,
    curves,
    score_trackers,
    tracking_figures,
)
from vos_ros.segmentation.point_trackers.interface import Tracked
from vos_ros.segmentation.point_trackers.simple import FirstFrame
from vos_ros.types import Intrinsics

FRAMES = 5


class Told:
    """A tracker that says what it was told."""

    def __init__(self, *steps: np.ndarray, visible: bool = True) -> None:
        self._steps, self._visible = steps, visible

    def start(self, rgb: np.ndarray, points: np.ndarray) -> Told:
        self._left = list(self._steps)
        return self

    def step(self, rgb: np.ndarray) -> Tracked:
        points = self._left.pop(0)
        k = len(points)
        return Tracked(points, np.full(k, self._visible), np.ones(k))


def test_key_points_and_clips() -> None:
    whole = clips_of([sequence(n=2, frames=FRAMES)], 0, 50)
    assert [c.frames for c in whole] == [range(FRAMES)]
    assert whole[0].object_ids == (1, 2)
    ids = draw(0, 2)[1]
    x, y = whole[0].points.astype(int).T
    assert ids[y, x].tolist() == [1, 2]
    assert [c.frames for c in clips_of([sequence(n=2, frames=FRAMES)], 2, 50)] == [
        range(2),
        range(2, 4),
    ]
    with pytest.raises(ValueError, match="no object of 5000 px or more"):
        clips_of([sequence(n=2, frames=FRAMES)], 0, 5000)


def test_coverage_is_the_share_inside_the_mask() -> None:
    clip = clips_of([sequence(n=1, frames=FRAMES)], 0, 50)[0]
    inside = [np.add(clip.points, [2.0 * t, 0]) for t in range(1, FRAMES)]
    half = [p if t % 2 else p * 0 for t, p in enumerate(inside)]
    far = [np.array([[0.0, 40.0]])] * (FRAMES - 1)
    trackers = {"right": Told(*inside), "half": Told(*half), "far": Told(*far)}
    scores, speed = score_trackers(trackers, [clip])
    table = tracking_figures(scores, speed)
    assert [table[n]["coverage"] for n in trackers] == [1.0, 0.5, 0.0]
    assert np.isnan(table["right"]["pck_4"]) and np.isnan(table["right"]["visibility"])
    assert (speed["far"].starts, speed["far"].steps) == (1, FRAMES - 1)
    # the square is 13 rows from 4 on: row 40 is 24 rows below, and x is left of it from frame 1 on
    ids = draw(1, 1)[1]
    rows, columns = np.nonzero(ids)
    wanted = np.hypot(columns - 0, rows - 40).min()
    assert next(s for s in scores if s.tracker == "far").outside_px == pytest.approx(wanted, 1e-3)
    near, pck = curves(scores, "half")
    assert near[0] == 0.5 and near[-1] == 1.0 and np.isnan(pck).all()
    assert len(near) == len(RADII_PX)
    assert coverage([s for s in scores if s.tracker == "far"]) == {"made/squares": 0.0}


def test_an_object_that_is_not_seen_does_not_count() -> None:
    clip = clips_of([sequence(n=1, frames=3)], 0, 50)[0]
    empty = VideoSequence(
        name="gone",
        dataset="made",
        frames=clip.sequence.frames,
        read_image=clip.sequence.read_image,
        read_ids=lambda path: draw(0, 1)[1] * (int(path.name) != 2),
    )
    gone = Clip(empty, clip.frames, clip.object_ids, clip.points)
    scores, speed = score_trackers({"still": FirstFrame()}, [gone])
    assert [s.object_seen for s in scores] == [True, False]
    assert np.isnan(scores[1].outside_px)
    assert tracking_figures(scores, speed)["still"]["coverage_frames"] == 1.0


def test_pck_of_a_static_scene_with_depth_and_poses(tmp_path: Path) -> None:
    """A wall at 2 m; the camera moves right by 0.1 m a frame: pixels move left by 5 px."""
    camera = Intrinsics(100.0, 100.0, 31.5, 23.5, 64, 48)
    files = []
    for t in range(4):
        depth = np.full((48, 64), 2000, np.uint16)
        if t == 2:
            depth[:, :] = 1000  # something stands in front of all of it
        assert cv2.imwrite(str(tmp_path / f"{t}.png"), depth)
        pose = np.eye(4)
        pose[0, 3] = 0.1 * t
        files.append(
            FrameFiles(name=str(t), number=t, image=Path(str(t)), mask=Path(str(t)),
                       depth=tmp_path / f"{t}.png", T_map_camera=pose)
        )  # fmt: skip
    base = sequence(n=1, frames=FRAMES)
    scene = VideoSequence(
        name="wall", dataset="made", frames=tuple(files), intrinsics=camera,
        read_image=base.read_image, read_ids=base.read_ids,
    )  # fmt: skip
    clip = clips_of([scene], 0, 50)[0]
    x, y = clip.points[0]
    places = [np.array([[x - 5.0 * t, y]]) for t in (1, 2, 3)]
    trackers = {
        "right": Told(*places),
        "off": Told(*(np.add(p, [0, 6.0]) for p in places), visible=False),
    }
    scores, speed = score_trackers(trackers, [clip])
    right = [s for s in scores if s.tracker == "right"]
    inside = [x - 5.0 * t >= 0 for t in (1, 2, 3)]
    assert inside[0] and [s.truly_visible for s in right] == [True, False, inside[2]]
    assert right[0].error_px == pytest.approx(0, abs=1e-6)
    table = tracking_figures(scores, speed)
    assert (table["right"]["pck_4"], table["off"]["pck_4"], table["off"]["pck_8"]) == (1, 0, 1)
    seen = sum(bool(s.truly_visible) for s in right)
    assert table["right"]["visibility"] == pytest.approx(seen / 3)
    assert table["off"]["visibility"] == pytest.approx(1 - seen / 3)
