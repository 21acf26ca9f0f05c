"""Run a segmenter over the sequences of a benchmark and write its masks to files.

Semi-supervised: the mask of an object's first frame, or one click in it, is given, nothing else.
``PREDICTIONS/NAME/FRAME.png`` are palette images of object ids, ``PREDICTIONS/timing.json`` states
how long each frame took.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from tqdm import tqdm

from vos_ros.datasets.interface import VideoSequence
from vos_ros.datasets.masks import write_mask
from vos_ros.geometry.masks import inner_point
from vos_ros.segmentation.interface import VideoSegmenter
from vos_ros.types import Frame, Intrinsics, Mask, Points, Prompt, Seed

TIMING = "timing.json"
_PERIOD_NS = 1_000_000_000 // 24  # between frames: DAVIS' rate; segmenters use stamps little


@dataclass(frozen=True, slots=True)
class Timing:
    """Hold the milliseconds of one sequence, from decoded image to label image on the host."""

    step_ms: tuple[float, ...]
    """Of every frame in which objects are only followed."""
    seed_ms: tuple[float, ...]
    """Of every frame at which an object starts, its step included."""

    @property
    def fps(self) -> float:
        """Frames per second where objects are followed, NaN where they never are."""
        return 1e3 * len(self.step_ms) / sum(self.step_ms) if self.step_ms else float("nan")


def click(mask: Bool[np.ndarray, "H W"]) -> Points:
    """Return one click on the object of a mask: the point that is farthest from its outline."""
    return Points(np.array([inner_point(mask)], np.float32), np.ones(1, bool))


def export(
    sequences: Iterable[VideoSequence],
    create: Callable[[], VideoSegmenter],
    folder: Path | str,
    prompt: Callable[[Bool[np.ndarray, "H W"]], Prompt] = Mask,
) -> dict[str, Timing]:
    """Predict every sequence with a segmenter of its own, and return the timing by sequence.

    ``prompt`` tells what an object starts from, given its first mask. Masks of an earlier run of
    the same sequences are replaced; the timing is written, too.
    Raises ValueError: an object that its first mask doesn't show.
    """
    folder, timings = Path(folder), {}
    sequences = tuple(sequences)
    # If this run is interrupted, no timing of an older one is next to its masks.
    (folder / TIMING).unlink(missing_ok=True)
    total = sum(len(s) for s in sequences)
    with tqdm(total=total, unit="frame", desc="predicting", disable=None) as bar:
        for sequence in sequences:
            bar.set_postfix_str(sequence.name)
            timings[sequence.name] = _predict(
                sequence, create(), folder / sequence.name, prompt, bar
            )
    table = {
        n: {"fps": t.fps, "step_ms": t.step_ms, "seed_ms": t.seed_ms} for n, t in timings.items()
    }
    (folder / TIMING).write_text(json.dumps(table, indent=1) + "\n")
    return timings


def read_timing(folder: Path | str) -> dict[str, Timing]:
    """Read the timing next to predictions; empty where something else made them.

    Raises ValueError: a file of another content.
    """
    path = Path(folder) / TIMING
    if not path.is_file():
        return {}
    try:
        return {
            str(n): Timing(tuple(t["step_ms"]), tuple(t["seed_ms"]))
            for n, t in json.loads(path.read_text()).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise ValueError(
            f"{path}: not a timing file of vos-ros eval ({type(e).__name__}: {e}); delete it to"
            " score without speed"
        ) from e


def _predict(
    sequence: VideoSequence,
    segmenter: VideoSegmenter,
    folder: Path,
    prompt: Callable[[Bool[np.ndarray, "H W"]], Prompt],
    bar: tqdm[Any],
) -> Timing:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    step_ms: list[float] = []
    seed_ms: list[float] = []
    for index, files in enumerate(sequence.frames):
        rgb = sequence.image(index)
        height, width = rgb.shape[:2]
        # A segmenter uses no camera: one with about 50 degrees of view stands in.
        camera = Intrinsics(width, width, (width - 1) / 2, (height - 1) / 2, width, height)
        frame = Frame(index, index * _PERIOD_NS, rgb, None, camera)
        seeds = _seeds(sequence, files.name, prompt) if files.name in sequence.starts else []
        labels = np.zeros((height, width), np.uint16)
        start = time.perf_counter()
        result = segmenter.step(frame) if segmenter.object_ids else None
        if seeds:
            result = segmenter.seed(frame, seeds)
        if result is not None:
            labels = result.labels()
            (seed_ms if seeds else step_ms).append(1e3 * (time.perf_counter() - start))
        write_mask(folder / f"{files.name}.png", labels.astype(np.uint8))
        bar.update()
    return Timing(tuple(step_ms), tuple(seed_ms))


def _seeds(
    sequence: VideoSequence, frame: str, prompt: Callable[[Bool[np.ndarray, "H W"]], Prompt]
) -> list[Seed]:
    """Return the objects that start at a frame, by prompts; open pixels have no weight."""
    mask = sequence.mask(frame)
    void = mask == sequence.ignore
    weight = (~void).astype(np.float32) if void.any() else None
    empty = [i for i in sequence.starts[frame] if not (mask == i).any()]
    if empty:
        raise ValueError(
            f"{sequence.frames[sequence.index(frame)].mask}: no pixel of object {empty[0]}, which"
            f" should start there; it has {np.unique(mask).tolist()}"
        )
    return [Seed(i, prompt(mask == i), weight) for i in sequence.starts[frame]]
