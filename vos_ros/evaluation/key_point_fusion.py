"""Segment videos from key points alone (paper 002, sec. 4.3.3, table 4.6).

One key point per object, and eq. (3.5) and (3.6), frame by frame:

perfect      the inner point of the object's true mask on this frame
first_frame  the embedding of the inner point of its first mask
tracked      the embedding, on this frame, of the place where a tracker finds that point
streaming    not of the paper: a segmenter as shipped, from a click on that point
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int
from tqdm import tqdm

from vos_ros.evaluation.point_tracking import Clip
from vos_ros.geometry.masks import inner_point
from vos_ros.segmentation.interface import VideoSegmenter
from vos_ros.segmentation.key_points import KeyPoints, segment
from vos_ros.segmentation.methods.one_point.model import OnePointModel
from vos_ros.segmentation.point_trackers.interface import PointTracker
from vos_ros.types import Frame, Intrinsics, Points, Seed

ROWS = ("perfect", "first_frame", "tracked", "streaming")
_PERIOD_NS = 1_000_000_000 // 24


@dataclass(frozen=True, slots=True)
class FusionScore:
    """One object on one frame after the first."""

    row: str
    """One of ``ROWS``."""
    sequence: str
    """Data set and name of the sequence."""
    frame: str
    """Name of the frame."""
    object_id: int
    """The object."""
    iou: float
    """With its mask; 1 where both are empty."""


def score_fusion(
    model: OnePointModel,
    tracker: PointTracker,
    clips: Sequence[Clip],
    streaming: Callable[[], VideoSegmenter] | None,
) -> list[FusionScore]:
    """Segment clips in every way, and compare.

    Args:
        model: the embedding.
        tracker: finds the points of ``tracked``.
        clips: sequences and their key points.
        streaming: makes the segmenter of the last row; None = leave it out.
    """
    scores: list[FusionScore] = []
    with tqdm(
        total=sum(len(c.frames) for c in clips), desc="segmenting", unit="frame", disable=None
    ) as bar:
        for clip in clips:
            bar.set_postfix_str(clip.sequence.name)
            for part in _score(model, tracker, clip, streaming() if streaming else None):
                scores += part
                bar.update()
    return scores


@torch.inference_mode()
def _score(
    model: OnePointModel, tracker: PointTracker, clip: Clip, streaming: VideoSegmenter | None
) -> Iterator[list[FusionScore]]:
    """Return the scores of one frame after the other."""
    sequence, ids = clip.sequence, clip.object_ids
    rgb = sequence.image(clip.frames[0])
    shape = (int(rgb.shape[0]), int(rgb.shape[1]))
    every = np.arange(len(ids))
    first = _keys(model, model.embed(rgb), clip.points, every, shape)
    track = tracker.start(rgb, clip.points)
    if streaming is not None:
        seeds = [
            Seed(i, Points(p[None].astype(np.float32), np.ones(1, bool)))
            for i, p in zip(ids, clip.points, strict=True)
        ]
        streaming.seed(_frame(rgb, 0), seeds)
    yield []
    for t, index in enumerate(clip.frames[1:], start=1):
        rgb, truth = sequence.read(index)
        embedding = model.embed(rgb)
        rows = [n for n, i in enumerate(ids) if (truth == i).any()]
        inner = np.array([inner_point(truth == ids[n]) for n in rows], np.float64).reshape(-1, 2)
        keys = {
            "perfect": _keys(model, embedding, inner, np.array(rows, int), shape),
            "first_frame": first,
            "tracked": _keys(model, embedding, track.step(rgb).points, every, shape),
        }
        found = {
            row: segment(model.net, embedding, k, len(ids), shape).cpu().numpy()
            for row, k in keys.items()
        }
        if streaming is not None:
            labels = streaming.step(_frame(rgb, t)).labels()
            found["streaming"] = sum((labels == i) * (n + 1) for n, i in enumerate(ids))
        name = f"{sequence.dataset}/{sequence.name}"
        yield [
            FusionScore(
                row,
                name,
                sequence.frames[index].name,
                i,
                _iou((got == n + 1), truth == i, truth != sequence.ignore),
            )
            for row, got in found.items()
            for n, i in enumerate(ids)
        ]


def _keys(
    model: OnePointModel,
    embedding: torch.Tensor,
    points: Float64[np.ndarray, "K 2"],
    owners: Int[np.ndarray, "K"],
    shape: tuple[int, int],
) -> KeyPoints:
    return KeyPoints(
        model.at(embedding, points, shape), torch.from_numpy(owners).to(embedding.device)
    )


def _frame(rgb: np.ndarray, index: int) -> Frame:
    """Return an image as a frame; a segmenter uses no camera, one of 50 degrees stands in."""
    height, width = rgb.shape[:2]
    camera = Intrinsics(width, width, (width - 1) / 2, (height - 1) / 2, width, height)
    return Frame(index, index * _PERIOD_NS, rgb, None, camera)


def _iou(
    found: Bool[np.ndarray, "H W"], truth: Bool[np.ndarray, "H W"], valid: Bool[np.ndarray, "H W"]
) -> float:
    either = ((found | truth) & valid).sum()
    return float((found & truth & valid).sum() / either) if either else 1.0


def fusion_figures(scores: Sequence[FusionScore]) -> dict[str, dict[str, float]]:
    """Return the mean IoU of each row, by sequence, and over the sequences as ``mean``."""
    groups: dict[str, dict[str, list[float]]] = {}
    for s in scores:
        groups.setdefault(s.row, {}).setdefault(s.sequence, []).append(s.iou)
    table = {}
    for row, own in groups.items():
        means = {name: float(np.mean(values)) for name, values in own.items()}
        table[row] = means | {"mean": float(np.mean(list(means.values())))}
    return table
