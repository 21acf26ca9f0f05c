"""The training sets of the target models (paper 003 sec. 3.5): frames with each object's labels and weights, encoded once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float

from vos_ros.segmentation.networks.learner import Samples


@dataclass(eq=False, slots=True)
class Sample:
    """A view of a frame: its features, and for every object that learns from it E(y) and W(y)^2 of eq. (3). ``anchors`` are the objects
    that were started here."""

    time: int
    features: Float[torch.Tensor, "C h w"]
    labels: dict[int, Float[torch.Tensor, "D h w"]] = field(default_factory=dict)
    weights: dict[int, Float[torch.Tensor, "D h w"]] = field(default_factory=dict)
    anchors: set[int] = field(default_factory=set)

    def forget(self, object_id: int) -> None:
        """The object doesn't learn from it any more."""
        self.labels.pop(object_id, None)
        self.weights.pop(object_id, None)
        self.anchors.discard(object_id)

    def bytes_of(self, object_id: int) -> float:
        """Bytes that it costs to remember it for an object: its own, and its share of the features."""
        own = self.labels[object_id].nbytes + self.weights[object_id].nbytes
        return own + self.features.nbytes / len(self.labels)


class Memory:
    """At most ``size`` samples and ``max_bytes`` per object, the oldest go first, the first sample of an object never.

    Samples are kept in ``dtype``; the learner gets them in single precision. ``decay`` is eta of sec. 3.5: a sample's importance grows by
    1/eta per frame of youth; importances sum to 1, of which the first sample keeps at least ``anchor_share``.
    """

    def __init__(self, size: int, max_bytes: float, decay: float, anchor_share: float, dtype: torch.dtype) -> None:
        self._size, self._max_bytes, self._decay, self._anchor_share, self._dtype = size, max_bytes, decay, anchor_share, dtype
        self.samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Remembers a sample; older ones may have to go. Its tensors are copied where the precision differs."""
        if not sample.labels:
            return
        sample.features = sample.features.to(self._dtype)
        for planes in (sample.labels, sample.weights):
            for i, plane in planes.items():
                planes[i] = plane.to(self._dtype)
        self.samples.append(sample)
        self._trim()

    def drop(self, object_ids: Collection[int]) -> None:
        """Forgets all of some objects."""
        for i in object_ids:
            for s in self.samples:
                s.forget(i)
        self._trim()

    def having(self, object_id: int) -> list[Sample]:
        """What an object learns from, oldest first."""
        return [s for s in self.samples if object_id in s.labels]

    def _trim(self) -> None:
        """Twice, at least: what one object forgets costs the others more."""
        changed = True
        while changed:
            changed = False
            for i in {i for s in self.samples for i in s.labels}:
                having = self.having(i)
                spare = [s for s in having if i not in s.anchors]
                total = sum(s.bytes_of(i) for s in having)
                while spare and (len(having) > self._size or total > self._max_bytes):
                    oldest = spare.pop(0)
                    total -= oldest.bytes_of(i)
                    having.remove(oldest)
                    oldest.forget(i)
                    changed = True
        self.samples = [s for s in self.samples if s.labels]

    def importance(self, object_id: int, now: int) -> list[tuple[Sample, float]]:
        """The samples of an object with their importances, which sum to 1."""
        having = self.having(object_id)
        raw = [self._decay ** (now - s.time) for s in having]
        anchored = sum(r for s, r in zip(having, raw, strict=True) if object_id in s.anchors)
        others = sum(raw) - anchored
        if not others or not anchored:
            return [(s, r / (anchored + others)) for s, r in zip(having, raw, strict=True)]
        share = max(anchored / (anchored + others), self._anchor_share)
        return [(s, r * share / anchored if object_id in s.anchors else r * (1 - share) / others)
                for s, r in zip(having, raw, strict=True)]

    def blocks(self, object_ids: Sequence[int], now: int) -> list[Samples]:
        """The training sets of some objects, rows in the given order, for the learner. Frames that teach the same objects are one block."""
        row_of = {i: row for row, i in enumerate(object_ids)}
        share = {(id(s), i): v for i in object_ids for s, v in self.importance(i, now)}
        groups: dict[tuple[int, ...], list[Sample]] = {}
        for s in self.samples:
            ids = tuple(i for i in object_ids if i in s.labels)
            if ids:
                groups.setdefault(ids, []).append(s)
        out = []
        for ids, samples in groups.items():
            features = _stack(s.features for s in samples)
            labels = _stack(torch.stack([s.labels[i] for i in ids]) for s in samples)
            weights = _stack(torch.stack([s.weights[i] for i in ids]) for s in samples)
            shares = torch.tensor([[share[id(s), i] for i in ids] for s in samples], device=features.device)
            rows = torch.tensor([row_of[i] for i in ids], device=features.device)
            out.append(Samples(features, rows, labels, weights * shares[:, :, None, None, None]))
        return out


def _stack(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """In single precision."""
    return torch.stack(list(tensors)).float()
