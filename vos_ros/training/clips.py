"""Training samples: Q frames of a sequence (paper 003, sec. 3.6), or made from a still image.

Sample n is a function of the seed and n alone. A resumed run, and a run on another number of
devices, gets the same clips.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch.utils.data import DataLoader, Dataset, Sampler

from vos_ros.datasets.interface import VideoSequence
from vos_ros.training.augment import degrade, recolor
from vos_ros.training.config import ClipConfig
from vos_ros.training.interface import IGNORE, Batch
from vos_ros.training.stills import Picture, still_clip
from vos_ros.training.windows import (
    box_of,
    number,
    objects_of,
    place,
    resample,
    resample_labels,
    window,
)

Clip = tuple[UInt8[np.ndarray, "Q H W 3"], UInt8[np.ndarray, "Q H W"]]
"""Frames (RGB) and labels."""
_MAX_TRIES = 50  # draws without a large enough object, before a mix is refused
_MAX_LABELS = 254  # labels of one byte: 0 is background, 255 is IGNORE


def choose_times(
    sequence: VideoSequence, config: ClipConfig, rng: np.random.Generator
) -> list[int]:
    """Draw the positions of Q frames in order.

    The first is any but the last of the sequence; the others lie within ``gap`` after it, each at
    most once where there are enough. A still image is its only frame Q times.
    """
    if len(sequence) == 1:
        return [0] * config.frames
    times = np.asarray(sequence.times)
    first = int(rng.integers(len(times) - 1))
    after = np.flatnonzero((times > times[first]) & (times <= times[first] + config.gap))
    if not len(after):
        after = np.array([first + 1])
    n = config.frames - 1
    return [first, *sorted(int(i) for i in rng.choice(after, n, replace=len(after) < n))]


def video_clip(
    sequence: VideoSequence, config: ClipConfig, rng: np.random.Generator
) -> Clip | None:
    """Make a clip of a sequence; None where its first frame shows no large enough object."""
    order = choose_times(sequence, config, rng)
    if rng.random() < config.augment.reverse:
        order.reverse()
    rgb, ids = sequence.read(order[0])
    enough = objects_of(ids, sequence.ignore, config.min_px)
    if not enough:
        return None
    rng.shuffle(enough)
    enough = enough[:_MAX_LABELS]
    a, size = config.augment, (config.width, config.height)
    recenter = rng.random() < config.recenter
    mirrored = [rng.random() < a.flip] * config.frames
    if a.flip_apart:
        mirrored[1:] = [rng.random() < a.flip] * (config.frames - 1)
    turn, grow = np.radians(a.rotation_deg) * rng.uniform(-1, 1), a.scale * rng.uniform(-1, 1)
    box, cut = None, None
    frames, labels = (
        np.empty((config.frames, size[1], size[0], 3), np.uint8),
        np.empty((config.frames, size[1], size[0]), np.uint8),
    )
    for t, index in enumerate(order):
        if t:
            rgb, ids = sequence.read(index)
        if t == 0 or recenter:
            box = box_of(ids == enough[0]) or box
            assert box is not None
            cut = _search_area(box, rgb.shape[1::-1], config, t > 0, rng)
        assert cut is not None
        share = 1.0 if recenter else 0.2  # a camera that doesn't follow the object moves little
        if t:
            turn = (1 - share) * turn + share * np.radians(a.rotation_deg) * rng.uniform(-1, 1)
            grow = (1 - share) * grow + share * a.scale * rng.uniform(-1, 1)
        matrix = window(cut[:2], cut[2] * np.exp(-grow), size, turn, mirrored[t])
        frames[t] = resample(rgb, matrix, size)
        labels[t] = resample_labels(number(ids, enough, sequence.ignore), matrix, size)
    return frames, labels


def _search_area(
    box: tuple[float, float, float, float],
    image: tuple[int, ...],
    config: ClipConfig,
    later: bool,
    rng: np.random.Generator,
) -> tuple[float, float, float]:
    """Place a window around a box with an error, as a tracker makes it.

    Args:
        box: centre x, centre y, width, height, px.
        image: (W, H), px.
        config: sizes and errors.
        later: whether the frame is to be predicted; the first one has errors of its own.
        rng: draws the errors.

    Returns centre x, centre y and image px per frame px.
    """
    scale, center = (
        (config.jitter_scale_test, config.jitter_center_test)
        if later
        else (config.jitter_scale, config.jitter_center)
    )
    side = max(8.0, float(np.sqrt(box[2] * box[3] * np.prod(np.exp(rng.normal(0, scale, 2))))))
    x, y = box[:2] + side * center * rng.uniform(-0.5, 0.5, 2)
    return place(
        (x, y),
        side * config.area_factor / np.sqrt(config.width * config.height),
        (config.width, config.height),
        (image[0], image[1]),
        config.inside,
    )


def number_objects(
    labels: UInt8[np.ndarray, "Q H W"], config: ClipConfig
) -> UInt8[np.ndarray, "Q H W"] | None:
    """Keep the objects that the first frame shows, at most ``config.objects``, numbered 1..n.

    None where it shows none of at least ``min_px``.
    """
    counts = np.bincount(labels[0].ravel(), minlength=256)
    kept = [i for i in range(1, IGNORE) if counts[i] >= config.min_px][: config.objects]
    if not kept:
        return None
    table = np.zeros(256, np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    table[IGNORE] = IGNORE
    return np.asarray(table[labels])


@dataclass(eq=False)
class Clips(Dataset[tuple[UInt8[np.ndarray, "Q 3 H W"], UInt8[np.ndarray, "Q H W"]]]):
    """Make clips by number: sample n is a function of (seed, n).

    Raises ValueError: no draw shows an object that is large enough.
    """

    sources: Mapping[str, Sequence[VideoSequence]]
    """Sequences by source; within a source they are equally likely."""
    mix: Mapping[str, float]
    """Share of the clips by source."""
    config: ClipConfig
    """Size, length and changes of a clip."""
    seed: tuple[int, ...]
    """Seed of the whole stream."""

    def __getitem__(
        self, index: int
    ) -> tuple[UInt8[np.ndarray, "Q 3 H W"], UInt8[np.ndarray, "Q H W"]]:
        rng = np.random.default_rng((*self.seed, index))
        frames, labels = self.clip(rng)
        planes = np.empty((len(frames), 3, *frames.shape[1:3]), np.uint8)
        for out, frame in zip(planes, frames, strict=True):
            out[:] = cv2.split(frame)  # several times faster than a transposed copy
        return planes, labels

    def clip(self, rng: np.random.Generator) -> Clip:
        """Draw one clip."""
        names = list(self.mix)
        shares = np.array([self.mix[n] for n in names])
        for _ in range(_MAX_TRIES):
            source = self.sources[names[int(rng.choice(len(names), p=shares / shares.sum()))]]
            sequence = source[int(rng.integers(len(source)))]
            made = (
                video_clip(sequence, self.config, rng)
                if len(sequence) > 1
                else self._still(sequence, source, rng)
            )
            labels = None if made is None else number_objects(made[1], self.config)
            if made is not None and labels is not None:
                frames = degrade(
                    self.config.augment,
                    rng,
                    recolor(self.config.augment, rng, np.ascontiguousarray(made[0])),
                )
                return frames, np.ascontiguousarray(labels)
        raise ValueError(
            f"no clip with an object of {self.config.min_px} px in its first frame in {_MAX_TRIES}"
            f" tries from {', '.join(names)}: are the masks empty, or min_px too large?"
        )

    def _still(
        self, sequence: VideoSequence, source: Sequence[VideoSequence], rng: np.random.Generator
    ) -> Clip | None:
        plain = self.config.stills.plain
        if plain and rng.random() < plain:
            return video_clip(sequence, self.config, rng)
        made = still_clip(
            _picture(sequence, rng),
            lambda: _picture(source[int(rng.integers(len(source)))], rng),
            self.config,
            rng,
        )
        if made is None or rng.random() >= self.config.augment.flip:
            return made
        return made[0][:, :, ::-1], made[1][:, :, ::-1]


def _picture(sequence: VideoSequence, rng: np.random.Generator) -> Picture:
    rgb, ids = sequence.read(int(rng.integers(len(sequence))))
    return rgb, ids, sequence.ignore


@dataclass(frozen=True)
class Span(Sampler[list[int]]):
    """List the sample numbers of each batch that one process loads: its share of every step."""

    first: int
    """Step to begin with."""
    steps: int
    """Steps of the stage."""
    batch: int
    """Clips of a step, over all processes."""
    accumulate: int
    """Batches per step and process."""
    rank: int = 0
    """Number of the process."""
    world: int = 1
    """Number of processes."""

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch // (self.accumulate * self.world)
        for step in range(self.first, self.steps):
            for part in range(self.accumulate):
                start = step * self.batch + (part * self.world + self.rank) * share
                yield list(range(start, start + share))

    def __len__(self) -> int:
        return max(0, self.steps - self.first) * self.accumulate


def collate(samples: Sequence[tuple[np.ndarray, np.ndarray]]) -> Batch:
    """Stack clips to a batch."""
    return Batch(*(torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples, strict=True)))


def _prepare_worker(_number: int) -> None:
    """Set up a worker: one thread; Ctrl-C is for the training process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def loader(
    clips: Clips, span: Iterable[list[int]], workers: int, prefetch: int, pin: bool = False
) -> DataLoader[Batch]:
    """Return batches in order.

    Args:
        clips: makes the samples.
        span: numbers of the samples of each batch.
        workers: processes that prepare them; 0 = this one does. They are spawned: a fork of a
            process that has used OpenCV's or CUDA's threads may hang.
        prefetch: batches that each worker prepares ahead.
        pin: whether batches lie in memory from which a GPU copies fast.
    """
    return DataLoader(
        cast(Dataset[Batch], clips),
        batch_sampler=span,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        worker_init_fn=_prepare_worker,
        prefetch_factor=prefetch if workers else None,
        multiprocessing_context="spawn" if workers else None,
    )
