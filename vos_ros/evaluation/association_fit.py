"""Fit of the weights of the likelihood on recordings with known truth.

The model is a conditional logit (McFadden 1974), fitted by maximum likelihood over all registered
terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize

from vos_ros.association.assignment import HungarianAssociator
from vos_ros.association.interface import FrameEvidence, Matching
from vos_ros.association.likelihood import design_matrix, fitted_columns
from vos_ros.config import Config
from vos_ros.evaluation.association import Condition, truth_of
from vos_ros.evaluation.metrics import IGNORE, MATCH_IOU, MIN_PIXELS, overlap
from vos_ros.evaluation.score import Truth
from vos_ros.pipeline import Pipeline
from vos_ros.sources.interface import FrameSource
from vos_ros.types import Frame, MapUpdate, Mask

_RIDGE = 1e-4  # penalty on squared weights: keeps them finite where cases separate without error


@dataclass(frozen=True, eq=False, slots=True)
class Case:
    """Hold a track in a frame with the evidence of its candidates and the true one."""

    x: Float64[np.ndarray, "n F"]
    """Evidence, a row per candidate, the columns of ``likelihood.fitted_columns``."""
    right: int
    """Row of the true object, -1: the track is none of the candidates."""


class _RecordingAssociator:
    """Run the configured associator and keep its last input and output."""

    def __init__(self, config: Config) -> None:
        self._associate = HungarianAssociator(config.association)
        self.last: tuple[FrameEvidence, Matching] | None = None

    def __call__(self, evidence: FrameEvidence) -> Matching:
        matching = self._associate(evidence)
        self.last = (evidence, matching)
        return matching


def collect(
    source: FrameSource,
    truth: Truth,
    config: Config,
    condition: Condition,
    seed: int = 0,
    progress: Callable[[FrameSource], Iterable[Frame | MapUpdate]] = iter,
) -> list[Case]:
    """Return the cases that the pipeline's associator had to decide over a recording.

    True objects that the map lacks are started by their masks when they are first large enough, so
    that there are tracks of no map object. A mask is the true object that it overlaps with an IoU
    of MATCH_IOU. It is no object if it overlaps none so and lies mostly on background. All other
    masks (parts, mixtures, unlabelled ones) are left out.

    Args:
        source: the recording.
        truth: its true masks.
        config: configuration of the pipeline.
        condition: how the recording is degraded.
        seed: seed of that degradation.
        progress: wraps the source, to show progress.
    """
    worse, _ = condition.apply(source, seed)
    associator = _RecordingAssociator(config)
    pipeline = Pipeline(config, session_id="fit", associator=associator)
    out: list[Case] = []
    shown: set[int] = set()
    for item in progress(worse):
        if isinstance(item, MapUpdate):
            pipeline.update_map(item)
            continue
        pipeline.step(item)
        mask = truth_of(truth, item, condition)
        if mask is None or associator.last is None:
            continue
        ids, areas = np.unique(mask, return_counts=True)
        new = [
            int(i)
            for i, n in zip(ids, areas, strict=True)
            if i not in (0, IGNORE) and n >= MIN_PIXELS and i not in pipeline.map and i not in shown
        ]
        pipeline.add_objects([(Mask(mask == i), 0) for i in new], item)
        shown.update(new)
        evidence, (_, pairs) = associator.last
        counts = overlap(evidence.instance_index, mask)
        iou = np.where(counts.ids[None] > 0, counts.iou(), 0.0)
        for r, value in enumerate(counts.values.tolist()):
            if not value or 2 * counts.value_area[r] <= counts.total[r]:
                continue
            own = pairs.select(pairs.track_ids == evidence.track_ids[value - 1])
            best = int(iou[r].argmax())
            if iou[r, best] >= MATCH_IOU:
                true = int(counts.ids[best])
            elif counts.ids[0] == 0 and 2 * counts.both[r, 0] > counts.value_area[r]:
                true = 0
            else:
                continue
            if len(own):
                ids = own.object_ids.tolist()
                right = ids.index(true) if true in ids else -1
                out.append(Case(design_matrix(own), right))
    return out


def fit(cases: Sequence[Case]) -> Float64[np.ndarray, "F"]:
    """Return the most probable weights, in the order of ``likelihood.fitted_columns``.

    A weight that may not be negative is bounded by 0: more of such evidence never counts against a
    pair, and terms that tell the same share their weight instead of being played off. Raises
    ValueError: no case.
    """
    columns = fitted_columns()
    if not cases:
        raise ValueError(
            "nothing to fit: no track overlapped an object of the map in any frame with truth"
        )
    most = max(len(c.x) for c in cases)
    x = np.zeros((len(cases), most, len(columns)))
    there = np.zeros((len(cases), most), bool)
    right = np.full(len(cases), -1)
    for k, c in enumerate(cases):
        x[k, : len(c.x)], there[k, : len(c.x)], right[k] = c.x, True, c.right
    known = np.flatnonzero(right >= 0)
    chosen = x[known, right[known]].sum(0)

    def loss(w: Float64[np.ndarray, "F"]) -> tuple[float, Float64[np.ndarray, "F"]]:
        s = np.where(there, x @ w, -np.inf)
        top = np.maximum(s.max(1), 0.0)
        odds = np.exp(s - top[:, None])
        total = np.exp(-top) + odds.sum(1)
        value = (np.log(total) + top).sum() - chosen @ w
        slope = ((odds / total[:, None])[:, :, None] * x).sum((0, 1)) - chosen
        return float(value / len(cases) + 0.5 * _RIDGE * (w @ w)), slope / len(cases) + _RIDGE * w

    bounds = [(None if c.unknown or c.term.any_sign else 0.0, None) for c in columns]
    return np.asarray(
        minimize(loss, np.zeros(len(columns)), jac=True, method="L-BFGS-B", bounds=bounds).x
    )
