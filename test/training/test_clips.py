"""Clips from sequences, and the stream of samples."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from vos_ros.datasets.interface import FrameFiles, VideoSequence
from vos_ros.training.clips import (
    Clips,
    Span,
    choose_times,
    collate,
    loader,
    number_objects,
    video_clip,
)
from vos_ros.training.config import AugmentConfig, ClipConfig, SourceConfig, StillsConfig
from vos_ros.training.data import open_source

STILL = AugmentConfig(flip=0.0, rotation_deg=0.0, scale=0.0, brightness=0.0, grayscale=0.0)
CLIP = ClipConfig(
    width=65, height=49, frames=3, gap=4, objects=2, min_px=30, area_factor=3.0, augment=STILL
)


@pytest.fixture(scope="module")
def sequences(clips_folder: Path) -> list[VideoSequence]:
    return open_source(SourceConfig(kind="folder"), clips_folder)


@pytest.fixture(scope="module")
def video(sequences: list[VideoSequence]) -> VideoSequence:
    return next(f for f in sequences if f.name == "a")


def timed(*times: int) -> VideoSequence:
    """A sequence of which only the times are asked."""
    frames = tuple(FrameFiles(name=str(t), number=t, image=Path(f"{t}.jpg")) for t in times)
    return VideoSequence(name="x", dataset="x", frames=frames)


def test_frames_are_in_order_and_within_the_gap() -> None:
    sequence, rng = timed(*range(0, 300, 5)), np.random.default_rng(0)
    config = dataclasses.replace(CLIP, frames=4, gap=60)
    firsts = set()
    for _ in range(200):
        first, *rest = choose_times(sequence, config, rng)
        firsts.add(first)
        assert rest == sorted(set(rest)) or 60 - first < 4
        assert all(first < i <= first + 12 for i in rest)
    assert len(firsts) > 40 and max(firsts) == 58  # never the last one: nothing follows


def test_short_sequences_repeat_frames() -> None:
    rng = np.random.default_rng(0)
    assert choose_times(timed(0, 500), CLIP, rng) == [
        0,
        1,
        1,
    ]  # the next one, where the gap holds none
    assert len(choose_times(timed(0, 1), dataclasses.replace(CLIP, frames=6), rng)) == 6


def test_labels_lie_on_their_objects(video: VideoSequence) -> None:
    for config in (
        CLIP,
        dataclasses.replace(
            CLIP,
            augment=AugmentConfig(flip=0.5, rotation_deg=20, scale=0.3, brightness=0, grayscale=0),
        ),
    ):
        for seed in range(5):
            made = video_clip(video, config, np.random.default_rng(seed))
            assert made is not None
            frames, labels = made
            for f, x in zip(frames.astype(int), labels, strict=True):
                inside = x[(x != 0) & (x != 255)]
                assert len(np.unique(inside)) <= 2
                for value in np.unique(inside):
                    if (x == value).sum() >= 40:
                        assert (
                            np.abs(np.median(f[x == value], 0) - np.median(f[x == 0], 0)).max() > 40
                        )


def test_every_frame_around_the_object_or_all_where_it_was(video: VideoSequence) -> None:
    config = dataclasses.replace(
        CLIP,
        objects=1,
        area_factor=2.0,
        jitter_scale=0.0,
        jitter_center=0.0,
        jitter_scale_test=0.0,
        jitter_center_test=0.0,
        frames=4,
        gap=7,
    )

    def spread(recenter: float) -> float:
        """Of the object's centre over a clip, px of the frame, the largest of some clips."""
        found = []
        for seed in range(8):
            made = video_clip(
                video,
                dataclasses.replace(config, recenter=recenter, width=33, height=33),
                np.random.default_rng(seed),
            )
            assert made is not None
            found.append(np.ptp([np.nonzero(x == 1)[1].mean() for x in made[1] if (x == 1).any()]))
        return float(max(found))

    assert spread(1.0) < 2 and spread(0.0) > 4


def test_flips(video: VideoSequence) -> None:
    together = dataclasses.replace(CLIP, augment=dataclasses.replace(STILL, flip=0.5))
    apart = dataclasses.replace(CLIP, augment=dataclasses.replace(STILL, flip=0.5, flip_apart=True))

    def flips(config: ClipConfig, seed: int) -> tuple[bool, ...]:
        plain, flipped = (
            video_clip(video, c, np.random.default_rng(seed))
            for c in (
                dataclasses.replace(CLIP, augment=dataclasses.replace(config.augment, flip=0.0)),
                config,
            )
        )
        assert plain is not None and flipped is not None
        return tuple(not np.array_equal(a, b) for a, b in zip(plain[0], flipped[0], strict=True))

    assert {flips(together, s) for s in range(12)} == {(True,) * 3, (False,) * 3}
    assert len({flips(apart, s) for s in range(24)}) == 4 and all(
        f[1] == f[2] for f in (flips(apart, s) for s in range(12))
    )


def test_backwards(video: VideoSequence) -> None:
    config = dataclasses.replace(
        CLIP, recenter=0.0, area_factor=20.0, jitter_scale=0.0, jitter_center=0.0
    )

    def way(reverse: float) -> float:
        made = video_clip(
            video,
            dataclasses.replace(config, augment=dataclasses.replace(STILL, reverse=reverse)),
            np.random.default_rng(0),
        )
        assert made is not None
        x = [np.nonzero(labels == 1)[1].mean() for labels in made[1]]
        return x[-1] - x[0]

    assert way(0.0) > 1 and way(1.0) < -1


def test_labels_are_numbered_without_gaps() -> None:
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, :10, :10], labels[0, 10:, :10], labels[0, 0, 19] = 3, 7, 5
    labels[1, :, 10:], labels[1, 0, 0], labels[1, 5, 5] = 5, 255, 7
    out = number_objects(labels, CLIP)
    assert out is not None and set(np.unique(out[0])) == {0, 1, 2}
    assert out[1, 0, 0] == 255 and out[1, 5, 5] == 2 and (out[1] == 1).sum() == 0
    one = number_objects(labels, dataclasses.replace(CLIP, objects=1))
    assert one is not None and one.max() == 255 and set(np.unique(one)) == {0, 1, 255}
    assert number_objects(np.zeros_like(labels), CLIP) is None


def test_a_sample_is_a_function_of_seed_and_number(sequences: list[VideoSequence]) -> None:
    clips = Clips({"all": sequences}, {"all": 1.0}, CLIP, (1, 0))
    again = Clips({"all": sequences}, {"all": 1.0}, CLIP, (1, 0))
    other = Clips({"all": sequences}, {"all": 1.0}, CLIP, (1, 1))
    for n in (5, 0, 3):
        frames, labels = clips[n]
        assert frames.shape == (3, 3, 49, 65) and labels.shape == (3, 49, 65)
        assert all(np.array_equal(a, b) for a, b in zip((frames, labels), again[n], strict=True))
        assert not np.array_equal(frames, other[n][0])
        values = set(np.unique(labels[0])) - {0, 255}
        assert values and values == set(range(1, len(values) + 1))


def test_a_plain_still_is_seen_through_windows(sequences: list[VideoSequence]) -> None:
    """Nothing is cut out, moved or pasted: every frame shows the picture, where its labels are."""
    (still, *_) = [s for s in sequences if len(s) == 1]
    rgb, ids = still.read(0)
    config = dataclasses.replace(
        CLIP,
        width=65,
        height=49,
        objects=8,
        area_factor=100.0,
        inside="major",
        recenter=0.0,
        jitter_scale=0.0,
        jitter_center=0.0,
        augment=AugmentConfig(flip=0.0, rotation_deg=0.0, scale=0.0, brightness=0.0, grayscale=0.0),
        stills=StillsConfig(plain=1.0, distractors=1.0, occluder=1.0, new_background=1.0),
    )
    frames, labels = Clips({"a": [still]}, {"a": 1.0}, config, (0,)).clip(np.random.default_rng(0))
    assert np.array_equal(frames[0], frames[1])
    whole = labels[0] != 255
    share = [(labels[0] == i).sum() / whole.sum() for i in (1, 2)]
    expected = [(ids == i).mean() for i in (1, 2)]
    assert sorted(share) == pytest.approx(sorted(expected), abs=0.02)
    assert frames[0][whole].mean() == pytest.approx(rgb.mean(), abs=3)
    moved = dataclasses.replace(config, area_factor=3.0, recenter=1.0, jitter_center_test=1.0)
    frames, labels = Clips({"a": [still]}, {"a": 1.0}, moved, (0,)).clip(np.random.default_rng(0))
    assert not np.array_equal(labels[0], labels[1])
    for t in range(2):  # the object's colours are under its label in every window
        color = [rgb[ids == i].mean(0) for i in (1, 2)]
        found = frames[t][labels[t] == 1].mean(0)
        assert min(np.abs(found - c).max() for c in color) < 12


def test_shares_of_the_mix(sequences: list[VideoSequence], video: VideoSequence) -> None:
    seen: list[str] = []

    def source(name: str) -> list[VideoSequence]:
        def read(path: Path) -> np.ndarray:
            seen.append(name)
            return sequences[0].ids(0)

        return [dataclasses.replace(video, read_ids=read)]

    clips = Clips({"a": source("a"), "b": source("b")}, {"a": 3.0, "b": 1.0}, CLIP, (0,))
    for n in range(150):
        clips[n]
    assert 0.65 < seen.count("a") / len(seen) < 0.85


def test_sequences_without_objects_are_refused(sequences: list[VideoSequence]) -> None:
    empty = [
        dataclasses.replace(
            sequences[0],
            read_ids=lambda _: np.zeros((48, 64), np.uint8),
        )
    ]
    with pytest.raises(
        ValueError, match="no clip with an object of 30 px in its first frame in 50 tries from a"
    ):
        Clips({"a": empty}, {"a": 1.0}, CLIP, (0,))[0]


def test_processes_share_every_step() -> None:
    alone = list(Span(3, 6, batch=8, accumulate=2))
    assert (
        alone[0] == [24, 25, 26, 27]
        and alone[1] == [28, 29, 30, 31]
        and len(alone) == len(Span(3, 6, 8, 2)) == 6
    )
    two = [list(Span(3, 6, 8, 2, rank, 2)) for rank in (0, 1)]
    for part in range(6):
        assert [*two[0][part], *two[1][part]] == alone[part]
    assert list(Span(5, 6, 8, 2)) == alone[4:]  # a run that goes on


def test_workers_give_the_same_as_this_process(sequences: list[VideoSequence]) -> None:
    clips, span = Clips({"all": sequences}, {"all": 1.0}, CLIP, (0,)), Span(0, 2, 2, 1)
    here, there = (list(loader(clips, span, workers, 2)) for workers in (0, 1))
    assert len(here) == len(there) == 2
    for a, b in zip(here, there, strict=True):
        assert a.frames.shape == (2, 3, 3, 49, 65) and a.frames.dtype == torch.uint8
        assert torch.equal(a.frames, b.frames) and torch.equal(a.labels, b.labels)
    assert torch.equal(collate([clips[0], clips[1]]).frames, here[0].frames)
