"""Score a label image with named instances against ground-truth object ids. Pure functions of
arrays.

A ground-truth object counts in a frame where it has at least ``MIN_PIXELS`` labelled pixels. Pixels
of value ``IGNORE`` count nowhere.

mean_iou              mean over (frame, object) of the IoU of the object with all pixels that are
                      given its id; a missing id is 0
j_mean                mean over objects of their mean IoU (DAVIS: region similarity J, every object
                      has the same weight)
association_f1        an instance that names an object is a true positive where its own IoU with
                      that object is >= MATCH_IOU; else it is a false positive, unless it has fewer
                      than MIN_PIXELS pixels, lies mostly on ignored pixels, or lies mostly on that
                      object where the object is too small to count. A counted object without a
                      true positive is a miss
association_accuracy  of the counted objects with an instance on them (IoU >= MATCH_IOU, whatever
                      its name), the share that it names rightly
id_switches           per object: changes of the name of the instance on it, from one frame with
                      such an instance to the next
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Shaped

MIN_PIXELS = 200
IGNORE = 255
MATCH_IOU = 0.5


@dataclass(frozen=True, eq=False, slots=True)
class Overlap:
    """Pixel counts of V label values against O true ids, ignored pixels left out (except in
    ``total``).
    """

    values: Int64[np.ndarray, "V"]
    """Label values, ascending."""
    ids: Int64[np.ndarray, "O"]
    """True ids, ascending."""
    both: Int64[np.ndarray, "V O"]
    """Pixels with the value and the id."""
    value_area: Int64[np.ndarray, "V"]
    """Pixels with the value."""
    id_area: Int64[np.ndarray, "O"]
    """Pixels with the id."""
    total: Int64[np.ndarray, "V"]
    """Pixels with the value, ignored ones included."""

    def iou(self) -> Float64[np.ndarray, "V O"]:
        """Return the IoU of every value with every id, 0 where both are empty."""
        union = self.value_area[:, None] + self.id_area[None, :] - self.both
        return np.asarray(self.both / np.maximum(union, 1))


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """One counted object in one frame."""

    iou: float
    """IoU with all pixels that are given its id."""
    found: bool
    """Whether an instance of its name matches it."""
    named: int | None
    """Id named by the instance on it, 0 for an unnamed one, None without an instance."""


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One frame."""

    objects: Mapping[int, ObjectScore]
    """Score by counted object."""
    false_positives: int
    """Number of instances that name an object that is not there."""


def overlap(
    labels: Shaped[np.ndarray, "H W"], truth: Shaped[np.ndarray, "H W"], ignore: int = IGNORE
) -> Overlap:
    """Count the pixels of every pair of values, 0 included, in one pass.

    Both images hold integers >= 0. Raises ValueError: the sizes differ.
    """
    if labels.shape != truth.shape:
        raise ValueError(
            f"label image of {labels.shape[1]}x{labels.shape[0]} px,"
            f" ground truth of {truth.shape[1]}x{truth.shape[0]} px:"
            " wanted the same size; was the truth made for other images?"
        )
    values, value_of = _compact(labels)
    ids, id_of = _compact(truth)
    table = np.bincount(
        value_of[labels.ravel()] * len(ids) + id_of[truth.ravel()], minlength=len(values) * len(ids)
    )
    table = table.reshape(len(values), len(ids))
    total, valid = table.sum(1), ids != ignore
    both = table[:, valid]
    return Overlap(values, ids[valid], both, both.sum(1), both.sum(0), total)


def _compact(
    image: Shaped[np.ndarray, "H W"],
) -> tuple[Int64[np.ndarray, "V"], Int64[np.ndarray, "T"]]:
    """Return the values of an image, ascending, and a table from value to position among them."""
    present = np.bincount(image.ravel()) > 0
    return np.flatnonzero(present), np.cumsum(present) - 1


def score_frame(counts: Overlap, names: Mapping[int, int]) -> FrameScore:
    """Score one frame.

    ``names`` maps a label value to the object id named, 0 = none, in the order of the instances.
    Values without pixels may be in it.
    """
    counted = [
        int(i)
        for i, area in zip(counts.ids, counts.id_area, strict=True)
        if i and area >= MIN_PIXELS
    ]
    row = {int(v): r for r, v in enumerate(counts.values)}
    column = {int(i): c for c, i in enumerate(counts.ids)}
    iou = counts.iou()
    painted = {v: row[v] for v in names if v in row}  # without pixels an instance overlaps nothing
    objects = {
        o: _score_object(counts, iou[:, column[o]], names, painted, o, column[o]) for o in counted
    }
    false = sum(
        _is_false(counts, iou, r, name, column.get(name), name in objects)
        for v, r in painted.items()
        if (name := names[v])
    )
    return FrameScore(objects, false)


def _score_object(
    counts: Overlap,
    iou: Float64[np.ndarray, "V"],
    names: Mapping[int, int],
    painted: Mapping[int, int],
    o: int,
    c: int,
) -> ObjectScore:
    mine = [r for v, r in painted.items() if names[v] == o]
    both = int(counts.both[mine, c].sum())
    union = int(counts.value_area[mine].sum() + counts.id_area[c]) - both
    on = [v for v, r in painted.items() if iou[r] >= MATCH_IOU]
    return ObjectScore(
        both / union, bool((iou[mine] >= MATCH_IOU).any()), names[on[0]] if on else None
    )


def _is_false(
    counts: Overlap,
    iou: Float64[np.ndarray, "V O"],
    r: int,
    name: int,
    c: int | None,
    is_counted: bool,
) -> bool:
    area = counts.value_area[r]
    if is_counted and c is not None and iou[r, c] >= MATCH_IOU:
        return False
    if area < MIN_PIXELS or 2 * area <= counts.total[r]:
        return False
    return is_counted or 2 * (counts.both[r, c] if c is not None else 0) <= area


def only_known(names: Mapping[int, int], known: Collection[int]) -> dict[int, int]:
    """Return ``names`` with 0 in place of ids that the truth doesn't have: these are no claims."""
    return {v: name if name in known else 0 for v, name in names.items()}


def summarise(frames: Iterable[FrameScore]) -> dict[str, float | int]:
    """Return the figures of a sequence, in order of time; see the head of this file."""
    frames = list(frames)
    scores = [s for f in frames for s in f.objects.values()]
    judged = [(o, s) for f in frames for o, s in f.objects.items() if s.named is not None]
    hits, false = sum(s.found for s in scores), sum(f.false_positives for f in frames)
    per_object = by_object(frames)
    return {
        "objects_counted": len(scores),
        "mean_iou": float(np.mean([s.iou for s in scores])) if scores else 0.0,
        "j_mean": float(np.mean([o["mean_iou"] for o in per_object.values()]))
        if per_object
        else 0.0,
        "association_f1": 2 * hits / max(len(scores) + hits + false, 1),
        "association_precision": hits / max(hits + false, 1),
        "association_recall": hits / max(len(scores), 1),
        "association_accuracy": sum(s.named == o for o, s in judged) / max(len(judged), 1),
        "id_switches": sum(int(o["id_switches"]) for o in per_object.values()),
    }


def by_object(frames: Iterable[FrameScore]) -> dict[int, dict[str, float]]:
    """Return the figures of each object that ever counts.

    By id: frames, mean_iou, recall, association_accuracy (NaN without any instance on it),
    id_switches.
    """
    history: dict[int, list[ObjectScore]] = {}
    for frame in frames:
        for o, s in frame.objects.items():
            history.setdefault(o, []).append(s)
    out = {}
    for o, scores in sorted(history.items()):
        named = [s.named for s in scores if s.named is not None]
        out[o] = {
            "frames": len(scores),
            "mean_iou": float(np.mean([s.iou for s in scores])),
            "recall": float(np.mean([s.found for s in scores])),
            "association_accuracy": sum(n == o for n in named) / len(named)
            if named
            else float("nan"),
            "id_switches": switches(named),
        }
    return out


def switches(named: Iterable[int]) -> int:
    """Count the changes of a name over time.

    An unnamed instance (0) keeps the previous name; from none to a first name is a change too.
    """
    count, last = 0, None
    for name in named:
        count += bool(name) and last is not None and last != name
        last = name or last or 0
    return count
