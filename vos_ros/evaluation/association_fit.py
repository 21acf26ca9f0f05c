"""Fits the weights of the association's likelihood on recordings whose truth is known: conditional logit by maximum likelihood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import minimize

from vos_ros.association.assignment import HungarianAssociator
from vos_ros.association.interface import Evidence, Verdicts, View
from vos_ros.association.likelihood import FEATURES, features
from vos_ros.config import Config
from vos_ros.evaluation.association import Condition, truth_of
from vos_ros.evaluation.metrics import IGNORE, MATCH_IOU, MIN_PIXELS, overlap
from vos_ros.evaluation.score import Truth
from vos_ros.pipeline import Pipeline
from vos_ros.sources.interface import FrameSource
from vos_ros.types import Frame, MapUpdate, Mask

_RIDGE = 1e-4  # on the weights: keeps them finite where the cases can be told apart without error
_ANY_SIGN = (
    "bias",
    "no_depth",
    "no_similarity",
)  # of the others more is never less: what they share is shared out, not played off


@dataclass(frozen=True, eq=False, slots=True)
class Case:
    """A track in a frame: x of its candidates, and the place of the right one among them, -1 where it is none of them."""

    x: Float64[np.ndarray, "n F"]
    right: int


class _Listener:
    """The configured associator, and what it last saw and what spoke for which pair, gated or not."""

    def __init__(self, config: Config) -> None:
        self._associate = HungarianAssociator(config.association)
        self.last: tuple[View, tuple[Evidence, ...]] | None = None

    def __call__(self, view: View) -> Verdicts:
        verdicts = self._associate(view)
        self.last = (view, verdicts.pairs)
        return verdicts


def collect(
    source: FrameSource,
    truth: Truth,
    config: Config,
    condition: Condition,
    seed: int = 0,
    progress: Callable[[FrameSource], Iterable[Frame | MapUpdate]] = iter,
) -> list[Case]:
    """What the pipeline's associator had to judge over a recording. True objects that the map lacks are started by their masks when they
    first count, so that there are tracks of none of the map's objects. A mask is the true object that it overlaps with an IoU of
    MATCH_IOU; one that overlaps none so, and lies mostly on background, is none; the others (parts, mixtures, unlabelled) teach nothing."""
    worse, _ = condition.apply(source, seed)
    listener = _Listener(config)
    pipeline = Pipeline(config, session_id="fit", associator=listener)
    out: list[Case] = []
    shown: set[int] = set()
    for item in progress(worse):
        if isinstance(item, MapUpdate):
            pipeline.update_map(item)
            continue
        pipeline.step(item)
        mask = truth_of(truth, item, condition)
        if mask is None or listener.last is None:
            continue
        ids, areas = np.unique(mask, return_counts=True)
        new = [
            int(i)
            for i, n in zip(ids, areas, strict=True)
            if i not in (0, IGNORE)
            and n >= MIN_PIXELS
            and i not in pipeline.object_map
            and i not in shown
        ]
        pipeline.add_objects([(Mask(mask == i), 0) for i in new], item)
        shown.update(new)
        view, pairs = listener.last
        counts = overlap(view.owner, mask)
        iou = np.where(counts.ids[None] > 0, counts.iou(), 0.0)
        for r, value in enumerate(counts.values.tolist()):
            if not value or 2 * counts.value_area[r] <= counts.total[r]:
                continue
            own = [e for e in pairs if e.track_id == view.track_ids[value - 1]]
            best = int(iou[r].argmax())
            if iou[r, best] >= MATCH_IOU:
                true = int(counts.ids[best])
            elif counts.ids[0] == 0 and 2 * counts.both[r, 0] > counts.value_area[r]:
                true = 0
            else:
                continue
            if own:
                out.append(
                    Case(
                        features(own),
                        next((k for k, e in enumerate(own) if e.map_object_id == true), -1),
                    )
                )
    return out


def fit(cases: Sequence[Case]) -> Float64[np.ndarray, "F"]:
    """The most probable weights. ValueError: no case."""
    if not cases:
        raise ValueError(
            "nothing to fit: no track overlapped an object of the map in any frame with truth"
        )
    most = max(len(c.x) for c in cases)
    x = np.zeros((len(cases), most, len(FEATURES)))
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

    bounds = [(None if name in _ANY_SIGN else 0.0, None) for name in FEATURES]
    return np.asarray(
        minimize(loss, np.zeros(len(FEATURES)), jac=True, method="L-BFGS-B", bounds=bounds).x
    )
