"""The training sets of the target models (paper 003 sec. 3.5): encoded frames, and what each object
learns from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float

from vos_ros.segmentation.networks.learner import Samples


@dataclass(eq=False, slots=True)
class Sample:
    """A frame, or a window of it, as training data of some objects."""

    time: int
    """Frame of the stream."""
    features: Float[torch.Tensor, "C h w"]
    """Input of the target models."""
    labels: dict[int, Float[torch.Tensor, "D h w"]] = field(default_factory=dict)
    """E(y) of eq. (3) of each object."""
    weights: dict[int, Float[torch.Tensor, "D h w"]] = field(default_factory=dict)
    """W(y)^2 of eq. (3) of each object."""
    first_of: set[int] = field(default_factory=set)
    """Objects that were started on this frame."""

    def forget(self, object_id: int) -> None:
        """Remove an object."""
        self.labels.pop(object_id, None)
        self.weights.pop(object_id, None)
        self.first_of.discard(object_id)

    def restrict(self, object_ids: Collection[int]) -> None:
        """Remove all objects but some."""
        for i in set(self.labels).difference(object_ids):
            self.forget(i)

    def bytes_of(self, object_id: int) -> float:
        """Return the bytes of an object: its own tensors, and its share of the features."""
        own = self.labels[object_id].nbytes + self.weights[object_id].nbytes
        return own + self.features.nbytes / len(self.labels)


class Memory:
    """Samples of all objects, bounded per object; an object's first sample is always kept.

    A sample's importance falls by ``decay`` (eta of sec. 3.5) per frame of its age. Importances of
    an object sum to 1.
    """

    def __init__(
        self,
        *,
        size: int,
        decay: float,
        dtype: torch.dtype = torch.float32,
        max_bytes: float = float("inf"),
        first_frame_weight: float = 0.0,
        min_sample_weight: float = 0.0,
        product_dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        """Make an empty memory.

        Args:
            size: largest number of samples of an object; the oldest are removed first.
            decay: importance of a sample relative to that of one a frame younger, 0..1.
            dtype: precision in which samples are kept.
            max_bytes: largest size of an object's samples, see ``Sample.bytes_of``.
            first_frame_weight: least importance of an object's first sample, 0..1.
            min_sample_weight: the least important samples, whose importances sum to less, are kept
                but not learned from: they cost as much as the others and change little.
            product_dtype: precision of the features for the learner; labels and weights are fp32.
            memory_format: order of the features in memory; CPUs convolve channels_last faster.
        """
        self._size, self._max_bytes, self._dtype = size, max_bytes, dtype
        self._decay, self._first_frame_weight = decay, first_frame_weight
        self._min_sample_weight, self._product_dtype = min_sample_weight, product_dtype
        self._memory_format = memory_format
        self.samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Keep a sample; older ones may be removed. Its tensors are converted to ``dtype``."""
        if not sample.labels:
            return
        sample.features = sample.features.to(self._dtype)[None].contiguous(
            memory_format=self._memory_format
        )[0]
        for planes in (sample.labels, sample.weights):
            for i, plane in planes.items():
                planes[i] = plane.to(self._dtype)
        self.samples.append(sample)
        self._trim()

    def drop(self, object_ids: Collection[int]) -> None:
        """Remove all samples of some objects."""
        for i in object_ids:
            for s in self.samples:
                s.forget(i)
        if object_ids:
            self._trim()

    def samples_of(self, object_id: int) -> list[Sample]:
        """Return the samples of an object, oldest first."""
        return [s for s in self.samples if object_id in s.labels]

    def _trim(self) -> None:
        """Remove what exceeds the limits, until nothing does.

        The share of the features that is one object's is more when another one no longer has them.
        """
        changed = True
        while changed:
            changed = False
            for i in {i for s in self.samples for i in s.labels}:
                kept = self.samples_of(i)
                removable = [s for s in kept if i not in s.first_of]
                total = sum(s.bytes_of(i) for s in kept)
                while removable and (len(kept) > self._size or total > self._max_bytes):
                    oldest = removable.pop(0)
                    total -= oldest.bytes_of(i)
                    kept.remove(oldest)
                    oldest.forget(i)
                    changed = True
        self.samples = [s for s in self.samples if s.labels]

    def importance(self, object_id: int, now: int) -> list[tuple[Sample, float]]:
        """Return the samples of an object with their importances at time ``now``."""
        samples = self.samples_of(object_id)
        raw = [self._decay ** (now - s.time) for s in samples]
        first = sum(r for s, r in zip(samples, raw, strict=True) if object_id in s.first_of)
        others = sum(raw) - first
        if not others or not first:
            return [(s, r / (first + others)) for s, r in zip(samples, raw, strict=True)]
        share = max(first / (first + others), self._first_frame_weight)
        return [
            (s, r * share / first if object_id in s.first_of else r * (1 - share) / others)
            for s, r in zip(samples, raw, strict=True)
        ]

    def learned_samples(self, object_id: int, now: int) -> dict[int, float]:
        """Return what an object learns from: positions in ``samples``, with their importances."""
        position = {id(s): k for k, s in enumerate(self.samples)}
        ranked = sorted(self.importance(object_id, now), key=lambda sample: sample[1])
        negligible = self._min_sample_weight
        while ranked and ranked[0][1] < negligible and object_id not in ranked[0][0].first_of:
            negligible -= ranked.pop(0)[1]
        total = sum(v for _, v in ranked)
        return {position[id(s)]: v / total for s, v in ranked}

    def training_sets(self, object_ids: Sequence[int], now: int) -> list[Samples]:
        """Return the training sets of some objects, for the learner.

        Row k of the learner is ``object_ids[k]``. Frames with the same objects are one block.
        """
        learned = [self.learned_samples(i, now) for i in object_ids]
        groups: dict[tuple[int, ...], list[int]] = {}
        for k in range(len(self.samples)):
            rows = tuple(row for row, importances in enumerate(learned) if k in importances)
            if rows:
                groups.setdefault(rows, []).append(k)
        out = []
        for rows, positions in groups.items():
            samples, ids = [self.samples[k] for k in positions], [object_ids[row] for row in rows]
            features = (
                torch.stack([s.features.permute(1, 2, 0) for s in samples])
                .to(self._product_dtype)
                .permute(0, 3, 1, 2)
            )
            labels, weights = (
                torch.stack([torch.stack([planes[i] for i in ids]) for planes in kind]).float()
                for kind in ([s.labels for s in samples], [s.weights for s in samples])
            )
            shares = torch.tensor(
                [[learned[row][k] for row in rows] for k in positions], device=features.device
            )
            out.append(
                Samples(
                    features=features,
                    rows=torch.tensor(rows, device=features.device),
                    labels=labels,
                    weights=weights * shares[:, :, None, None, None],
                )
            )
        return out
