"""Scores of predicted masks on disk in the protocols of DAVIS and YouTube-VOS.

DAVIS (2016 and 2017, semi-supervised): the first and the last annotated frame of a sequence don't
count. The figures of the whole are means over objects, not over sequences. A prediction with an id
that the first annotation lacks is refused, as by the DAVIS 2017 tool. That tool counts void pixels
as background; here they are left out of both masks unless asked otherwise. DAVIS' own
semi-supervised annotations have none, so its numbers are the same.

YouTube-VOS: an object counts in every annotated frame after its first. J and F are means over
objects, separately for the categories of the training split (seen) and the others (unseen). G is
the mean of the four, or of those for which there are objects.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from tqdm import tqdm

from vos_ros.datasets.interface import VideoSequence
from vos_ros.datasets.masks import read_mask
from vos_ros.evaluation.davis_metrics import (
    Statistics,
    contour_accuracy,
    region_similarity,
    statistics,
)
from vos_ros.evaluation.export import Timing

Figure = int | float | str
_MAX_NAMED = 5  # frames or ids in an error


@dataclass(frozen=True, eq=False, slots=True)
class ObjectCurves:
    """Hold J and F of one object in the frames that count, in order."""

    sequence: str
    """Name of the sequence."""
    object_id: int
    """Id of the object in the annotation."""
    category: str
    """Its class, empty where it isn't known."""
    frames: tuple[str, ...]
    """Names of the frames that count."""
    j: Float64[np.ndarray, "F"]
    """Region similarity (IoU) per frame."""
    f: Float64[np.ndarray, "F"]
    """Contour accuracy per frame."""


Counted = Callable[[VideoSequence, int], tuple[str, ...]]
"""Frames of a sequence in which an object counts."""


def davis_frames(sequence: VideoSequence, object_id: int) -> tuple[str, ...]:
    """Return all annotated frames but the first and the last."""
    return sequence.annotated[1:-1]


def youtube_vos_frames(sequence: VideoSequence, object_id: int) -> tuple[str, ...]:
    """Return the annotated frames after the one where the object starts."""
    start = next(frame for frame, ids in sequence.starts.items() if object_id in ids)
    first = sequence.index(start)
    return tuple(frame for frame in sequence.annotated if sequence.index(frame) > first)


def score(
    sequences: Iterable[VideoSequence],
    predictions: Path | str,
    counted: Counted,
    *,
    void_is_background: bool = False,
) -> tuple[ObjectCurves, ...]:
    """Return J and F of every object of every sequence, from ``predictions/NAME/FRAME.png``.

    Args:
        sequences: what is annotated; of a ``single_object``, all that isn't 0 is the object.
        predictions: folder of the predicted masks.
        counted: names the frames in which an object counts.
        void_is_background: count open pixels as background in place of leaving them out.

    Raises ValueError: names the files: missing frames, another size, an id that is no object.
    """
    todo = [(s, _wanted(s, counted)) for s in sequences]
    for sequence, wanted in todo:
        _check_there(sequence.name, Path(predictions) / sequence.name, wanted)
    out: list[ObjectCurves] = []
    total = sum(len(w) for _, w in todo)
    with tqdm(total=total, unit="frame", desc="scoring", disable=None) as bar:
        for sequence, wanted in todo:
            categories = {o.id: o.category for o in sequence.objects}
            bar.set_postfix_str(sequence.name)
            curves: dict[int, list[tuple[str, float, float]]] = {i: [] for i in sequence.object_ids}
            for frame, ids in wanted.items():
                path = Path(predictions) / sequence.name / f"{frame}.png"
                for i, j, f in _score_frame(sequence, frame, path, ids, void_is_background):
                    curves[i].append((frame, j, f))
                bar.update()
            for i, points in curves.items():
                if points:
                    names, *values = zip(*points, strict=True)
                    out.append(
                        ObjectCurves(
                            sequence.name, i, categories.get(i, ""), names, *map(np.array, values)
                        )
                    )
    return tuple(out)


def _wanted(sequence: VideoSequence, counted: Counted) -> dict[str, list[int]]:
    """Return the ids that count in each frame, by its name. Raises ValueError: no frame counts."""
    wanted: dict[str, list[int]] = {}
    for i in sequence.object_ids:
        for frame in counted(sequence, i):
            wanted.setdefault(frame, []).append(i)
    if not wanted:
        raise ValueError(
            f"{sequence.name}: no frame counts; it has {len(sequence.annotated)} annotated frames,"
            " wanted 3 or more"
        )
    return dict(sorted(wanted.items(), key=lambda w: sequence.index(w[0])))


def _check_there(name: str, folder: Path, frames: Collection[str]) -> None:
    missing = [f for f in frames if not (folder / f"{f}.png").is_file()]
    if missing:
        raise ValueError(
            f"{name}: {len(missing)} of {len(frames)} predictions are missing in {folder}:"
            f" {', '.join(missing[:_MAX_NAMED])}"
            + (", ..." if len(missing) > _MAX_NAMED else "")
            + ". Wanted a PNG of object ids for every frame that counts"
        )


def _score_frame(
    sequence: VideoSequence, frame: str, path: Path, ids: Sequence[int], void_is_background: bool
) -> Iterable[tuple[int, float, float]]:
    truth, predicted = sequence.mask(frame), read_prediction(sequence, path)
    open_pixels = truth == sequence.ignore
    void = open_pixels if open_pixels.any() and not void_is_background else None
    try:
        for i in ids:
            ours, theirs = predicted == i, truth == i
            yield i, region_similarity(ours, theirs, void), contour_accuracy(ours, theirs, void)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def read_prediction(sequence: VideoSequence, path: Path) -> UInt8[np.ndarray, "H W"]:
    """Read the ids of a predicted mask. Raises ValueError: one is no object of the sequence."""
    mask = read_mask(path)
    if sequence.single_object:
        return (mask > 0).view(np.uint8)
    unknown = sorted(
        set(np.flatnonzero(np.bincount(mask.ravel())).tolist()) - {0, *sequence.object_ids}
    )
    if unknown:
        raise ValueError(
            f"{path}: ids {', '.join(map(str, unknown[:_MAX_NAMED]))} are no objects of"
            f" {sequence.name}, which has {', '.join(map(str, sequence.object_ids))}"
        )
    return mask


# -- figures --


@dataclass(frozen=True, slots=True)
class Row:
    """Hold the figures of a sequence or of all; they are means over the objects."""

    name: str
    """Name of the sequence, or "all"."""
    objects: int
    """Number of objects that count."""
    frames: int
    """Number of frames that count."""
    j: Statistics
    """Of the region similarity."""
    f: Statistics
    """Of the contour accuracy."""
    fps: float
    """Frames per second, NaN where it wasn't measured."""

    @property
    def jf_mean(self) -> float:
        """The mean of J's mean and F's mean."""
        return (self.j.mean + self.f.mean) / 2


def rows(curves: Sequence[ObjectCurves], timings: Mapping[str, Timing]) -> tuple[Row, ...]:
    """Return one row per sequence, in the order of the curves, and a last one of everything."""
    names = tuple(dict.fromkeys(c.sequence for c in curves))
    steps = [timings[n] for n in names if n in timings]
    together = (
        Timing(tuple(ms for t in steps for ms in t.step_ms), ())
        if len(steps) == len(names)
        else Timing((), ())
    )
    return (
        *(
            _row(n, [c for c in curves if c.sequence == n], timings.get(n, Timing((), ())))
            for n in names
        ),
        _row("all", curves, together),
    )


def _row(name: str, curves: Sequence[ObjectCurves], timing: Timing) -> Row:
    frames = {(c.sequence, f) for c in curves for f in c.frames}
    j, f = (_mean([statistics(getattr(c, measure)) for c in curves]) for measure in "jf")
    return Row(name, len(curves), len(frames), j, f, timing.fps)


def _mean(each: Sequence[Statistics]) -> Statistics:
    """Return the mean over objects of every statistic."""
    return Statistics(
        *(
            float(np.mean([getattr(s, name) for s in each]))
            for name in Statistics.__dataclass_fields__
        )
    )


def totals(table: Sequence[Row]) -> dict[str, Figure]:
    """Return flat figures of everything, from ``rows``: ``jf_mean``, ``f_recall``, ..., ``fps``."""
    *sequences, total = table
    out: dict[str, Figure] = {
        "sequences": len(sequences),
        "objects": total.objects,
        "frames": total.frames,
        "jf_mean": total.jf_mean,
    }
    for measure, s in (("j", total.j), ("f", total.f)):
        out |= {f"{measure}_{name}": getattr(s, name) for name in Statistics.__dataclass_fields__}
    return {**out, "fps": total.fps}


def by_sequence(table: Sequence[Row]) -> dict[str, Figure]:
    """Return flat figures of every sequence: ``{j,f,jf}_mean_NAME`` and ``fps_NAME``."""
    return {
        f"{key}_{row.name}": value
        for row in table[:-1]
        for key, value in (
            ("j_mean", row.j.mean),
            ("f_mean", row.f.mean),
            ("jf_mean", row.jf_mean),
            ("fps", row.fps),
        )
    }


def overall(curves: Sequence[ObjectCurves], seen: Collection[str]) -> dict[str, Figure]:
    """Return YouTube-VOS' ``g`` and ``j_seen f_seen j_unseen f_unseen``.

    A figure is NaN where no object is of that kind. An object without category counts as unseen.
    """
    out: dict[str, float] = {}
    for kind, wanted in (("seen", True), ("unseen", False)):
        chosen = [c for c in curves if (c.category in seen) == wanted]
        for measure in ("j", "f"):
            values = [float(np.mean(getattr(c, measure))) for c in chosen]
            out[f"{measure}_{kind}"] = float(np.mean(values)) if values else float("nan")
    return {"g": float(np.nanmean(list(out.values()))), **out}


def write_csv(path: Path | str, curves: Sequence[ObjectCurves]) -> None:
    """Write a table of the objects: sequence, object, category, frames, statistics of J and F."""
    names = Statistics.__dataclass_fields__
    with open(path, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(
            [
                "sequence",
                "object",
                "category",
                "frames",
                "jf_mean",
                *(f"{m}_{n}" for m in "jf" for n in names),
            ]
        )
        for c in curves:
            j, contour = statistics(c.j), statistics(c.f)
            values = [
                (j.mean + contour.mean) / 2,
                *(getattr(s, n) for s in (j, contour) for n in names),
            ]
            writer.writerow(
                [c.sequence, c.object_id, c.category, len(c.frames), *(f"{v:.6f}" for v in values)]
            )
