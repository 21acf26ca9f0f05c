"""A still image as a clip."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from vos_ros.training.config import ClipConfig, StillsConfig
from vos_ros.training.stills import fill, still_clip

QUIET = StillsConfig(
    shift=0.0,
    turn_deg=0.0,
    grow=0.0,
    bend=0.0,
    background=0.0,
    distractors=0.0,
    twin=0.0,
    occluder=0.0,
    new_background=0.0,
    motion_blur=0.0,
)
CLIP = ClipConfig(
    width=97,
    height=65,
    frames=4,
    objects=1,
    min_px=30,
    jitter_scale=0.0,
    jitter_center=0.0,
    stills=QUIET,
    augment=dataclasses.replace(ClipConfig().augment, rotation_deg=0.0),
)


def scene(
    color: tuple[int, int, int] = (220, 40, 40), n: int = 1
) -> tuple[np.ndarray, np.ndarray, int]:
    """Ellipses of a colour of their own on grey, 160x120."""
    rgb = np.full((120, 160, 3), 110, np.uint8)
    rgb += np.random.default_rng(0).integers(0, 12, rgb.shape, np.uint8)
    ids = np.zeros((120, 160), np.uint8)
    for i in range(n):
        mask = cv2.ellipse(np.zeros_like(ids), (50 + 60 * i, 60), (20, 14), 20, 0, 360, 1, -1) > 0
        rgb[mask], ids[mask] = color if i == 0 else (40, 40, 220), i + 1
    return rgb, ids, 255


def red(frames: np.ndarray) -> np.ndarray:
    return (frames[..., 0].astype(int) - frames[..., 2]) > 90


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def make(config: ClipConfig, seed: int, n: int = 1) -> tuple[np.ndarray, np.ndarray]:
    made = still_clip(scene(n=n), lambda: scene((40, 200, 40)), config, np.random.default_rng(seed))
    assert made is not None
    return made


def with_stills(**fields: float) -> ClipConfig:
    return dataclasses.replace(CLIP, stills=dataclasses.replace(QUIET, **fields))


def test_without_motion_the_clip_stands_still() -> None:
    frames, labels = make(CLIP, 0)
    assert (
        frames.shape == (4, 65, 97, 3)
        and labels.shape == (4, 65, 97)
        and frames.dtype == labels.dtype == np.uint8
    )
    assert all(
        np.array_equal(labels[0], x) and np.array_equal(frames[0], f)
        for x, f in zip(labels, frames, strict=True)
    )
    assert overlap(red(frames), labels == 1) > 0.9


@pytest.mark.parametrize(
    "fields",
    [
        {"shift": 0.5},
        {"turn_deg": 25.0},
        {"grow": 0.3},
        {"bend": 0.1},
        {"shift": 0.4, "motion_blur": 1.0},
        {"shift": 0.3, "turn_deg": 10.0, "grow": 0.1, "bend": 0.03, "background": 1.0},
    ],
)
def test_labels_go_with_the_object(fields: dict[str, float]) -> None:
    config, moved = with_stills(**fields), 0.0
    for seed in range(6):
        frames, labels = make(config, seed)
        seen = (labels == 1).sum((1, 2)) > 60
        least = 0.55 if "motion_blur" in fields else 0.85  # smeared edges are neither red nor grey
        assert all(
            overlap(red(f), x == 1) > least for f, x in zip(frames[seen], labels[seen], strict=True)
        )
        moved = max(moved, 1 - overlap(labels[0] == 1, labels[3] == 1))
    assert moved > 0.1


def test_nothing_remains_where_the_object_was() -> None:
    frames, labels = make(with_stills(shift=3.0, stay=0.0), 3)
    assert (labels[-1] == 1).sum() == 0  # it has left
    assert not red(frames[-1]).any()


def test_occluders_take_pixels_from_the_second_frame_on() -> None:
    taken = 0
    for seed in range(8):
        alone, covered = make(CLIP, seed)[1], make(with_stills(occluder=1.0), seed)[1]
        assert np.array_equal(alone[0], covered[0])
        assert not ((covered == 1) & (alone != 1)).any()
        taken += int((covered != alone).any((1, 2)).sum())
    assert taken >= 8


def test_company_is_followed_only_where_there_is_room() -> None:
    one = with_stills(distractors=1.0, shift=0.1)
    three = dataclasses.replace(one, objects=3)
    for seed in range(5):
        frames, labels = make(one, seed)
        assert set(np.unique(labels)) <= {0, 1}
        assert ((frames[..., 1].astype(int) - frames[..., 0]) > 90).any()  # green, and not followed
    assert max(int(make(three, seed)[1].max()) for seed in range(5)) == 3


def test_two_objects_keep_apart() -> None:
    frames, labels = make(
        dataclasses.replace(with_stills(shift=0.2), objects=2, area_factor=8.0), 1, n=2
    )
    blue = (frames[..., 2].astype(int) - frames[..., 0]) > 90
    number = 1 if overlap(red(frames[0]), labels[0] == 1) > 0.5 else 2
    assert (
        overlap(red(frames), labels == number) > 0.8 and overlap(blue, labels == 3 - number) > 0.8
    )


def test_a_picture_without_objects() -> None:
    rgb, ids, ignore = scene()
    assert (
        still_clip((rgb, np.zeros_like(ids), ignore), scene, CLIP, np.random.default_rng(0)) is None
    )
    assert (
        still_clip((rgb, np.full_like(ids, 255), ignore), scene, CLIP, np.random.default_rng(0))
        is None
    )


@pytest.mark.parametrize("mirror", [False, True])
def test_holes_are_filled_with_what_is_around(mirror: bool) -> None:
    rgb, ids, _ = scene()
    out = fill(rgb, ids > 0, mirror=mirror)
    assert not red(out).any() and np.array_equal(out[:20], rgb[:20])
    assert np.abs(out[ids > 0].astype(int) - 116).max() < 40
    assert fill(rgb, np.zeros_like(ids, bool)) is rgb
