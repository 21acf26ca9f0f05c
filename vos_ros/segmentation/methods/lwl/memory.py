"""The training sets of the target models (paper 003 sec. 3.5): frames with each object's labels and weights, encoded once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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

    Samples are kept in ``dtype``; the learner gets labels and weights in single precision, and the features too unless ``products``
    names another one to multiply in. ``decay`` is eta of sec. 3.5: a sample's importance grows by 1/eta per frame of youth; importances
    sum to 1, of which the first sample keeps at least ``first_frame_weight``. The least important ones, which sum to less than ``min_sample_weight``,
    are kept but not learned from: they cost as much as the others and change little.
    """

    def __init__(
        self,
        size: int,
        max_bytes: float,
        decay: float,
        first_frame_weight: float,
        dtype: torch.dtype,
        *,
        min_sample_weight: float = 0.0,
        products: torch.dtype = torch.float32,
    ) -> None:
        self._size, self._max_bytes, self._decay, self._first_frame_weight, self._dtype = (
            size,
            max_bytes,
            decay,
            first_frame_weight,
            dtype,
        )
        self._neglect, self._products = min_sample_weight, products
        self.samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Remembers a sample; older ones may have to go. Its tensors are copied where the precision differs."""
        if not sample.labels:
            return
        sample.features = sample.features.to(self._dtype)[None].contiguous(
            memory_format=torch.channels_last
        )[0]
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
        if object_ids:
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
        share = max(anchored / (anchored + others), self._first_frame_weight)
        return [
            (s, r * share / anchored if object_id in s.anchors else r * (1 - share) / others)
            for s, r in zip(having, raw, strict=True)
        ]

    def lessons(self, object_id: int, now: int) -> dict[int, float]:
        """What an object learns from, by position in ``samples``, with importances that sum to 1."""
        place = {id(s): k for k, s in enumerate(self.samples)}
        ranked = sorted(self.importance(object_id, now), key=lambda sample: sample[1])
        spare = self._neglect
        while ranked and ranked[0][1] < spare and object_id not in ranked[0][0].anchors:
            spare -= ranked.pop(0)[1]
        total = sum(v for _, v in ranked)
        return {place[id(s)]: v / total for s, v in ranked}

    def blocks(self, object_ids: Sequence[int], now: int) -> list[Samples]:
        """The training sets of some objects, rows in the given order, for the learner. Frames that teach the same objects are one block."""
        lessons = [self.lessons(i, now) for i in object_ids]
        groups: dict[tuple[int, ...], list[int]] = {}
        for k in range(len(self.samples)):
            rows = tuple(row for row, lesson in enumerate(lessons) if k in lesson)
            if rows:
                groups.setdefault(rows, []).append(k)
        out = []
        for rows, places in groups.items():
            samples, ids = [self.samples[k] for k in places], [object_ids[row] for row in rows]
            features = (
                torch.stack([s.features.permute(1, 2, 0) for s in samples])
                .to(self._products)
                .permute(0, 3, 1, 2)
            )
            labels, weights = (
                torch.stack([torch.stack([planes[i] for i in ids]) for planes in kind]).float()
                for kind in ([s.labels for s in samples], [s.weights for s in samples])
            )
            shares = torch.tensor(
                [[lessons[row][k] for row in rows] for k in places], device=features.device
            )
            out.append(
                Samples(
                    features,
                    torch.tensor(rows, device=features.device),
                    labels,
                    weights * shares[:, :, None, None, None],
                )
            )
        return out
