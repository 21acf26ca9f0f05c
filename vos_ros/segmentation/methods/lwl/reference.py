"""``segmentation.lwl.compat: reference``: the published LWL program's stream, rule by rule.

The rules themselves are in ``reference_rules``. Every object is tracked alone: a window, a backbone
pass and a memory of its own, learned from on every frame whatever it shows. What the program leaves
to its data sets is ours: where given masks overlap, the last one has the pixel; a correction
replaces the object's mask of the frame. Weights of seeds are ignored: the program has none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.interface import (
    VideoSegmenter,
    check_known,
    check_new,
    check_shapes,
    check_size,
)
from vos_ros.segmentation.methods.lwl.model import LwlModel
from vos_ros.segmentation.methods.lwl.options import LwlOptions
from vos_ros.segmentation.methods.lwl.reference_rules import (
    OUTSIDE,
    Pair,
    WeightRule,
    box_mask,
    centred,
    first_patch,
    first_scale,
    measure,
    merge,
    new_scale,
    paste,
    sample_patch,
)
from vos_ros.segmentation.network_input import prepare_torch
from vos_ros.segmentation.networks.learner import Samples, apply_filters, steepest_descent
from vos_ros.segmentation.prompts import check_prompt, to_mask
from vos_ros.types import Box, Frame, Prompt, Seed, Segmentation

_ASPECT = 480 / 832
"""Height of the window in widths: the size at which the program was trained."""
_SEARCH_SCALE = 5.0
"""Sides of the window in sides of the object (sec. 3.5)."""


@dataclass(frozen=True, slots=True)
class _Schedule:
    """How an object is learned. The program has other numbers for objects that start from a box."""

    rule: WeightRule
    """Weights of the memory's samples."""
    every: int
    """Frames from one update to the next."""
    iterations: int
    """Iterations of eq. (4) per update."""


_FROM_MASK = _Schedule(WeightRule(), 1, 3)
_FROM_BOX = _Schedule(WeightRule(rate=0.2, min_first=0.0, even_start=True), 5, 5)
_ITERATIONS_INIT = 20
"""Iterations of eq. (4) on an object's first frame."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Target:
    """One object."""

    schedule: _Schedule
    """How it is learned."""
    centre: Pair
    """Its centre (row, column), px."""
    scale: float
    """px of the image per px of its window."""
    base: Pair
    """Its sides at scale 1, px."""
    filters: Float[torch.Tensor, "1 D C K K"]
    """Its target model."""
    features: Float[torch.Tensor, "K C h w"]
    """Its memory: input of the target model."""
    labels: Float[torch.Tensor, "K 1 D h w"]
    """Its memory: E(y) of eq. (3)."""
    weights: Float[torch.Tensor, "K 1 D h w"]
    """Its memory: W(y) of eq. (3)."""
    shares: list[float]
    """Its memory: weight of each sample."""
    age: int = 1
    """Frames since it was started, that one included."""
    stored: int = 1
    """Samples in the memory."""
    slot: int | None = None
    """Position of the last sample in the memory, None for the first."""
    window: tuple[Pair, float] = ((0.0, 0.0), 1.0)
    """Centre and scale of the window of the last frame."""
    last_features: Float[torch.Tensor, "1 C h w"] = field(default_factory=lambda: torch.empty(0))
    """Input of the target model on the last frame."""


class ReferenceLwl(VideoSegmenter):
    """The ``lwl`` method with the published program's rules.

    In fp32 unless the configuration names another precision.
    """

    def __init__(self, config: SegmentationConfig) -> None:
        self._device = prepare_torch(config)
        options = config.methods.of(LwlOptions)
        if options.precision == "auto":
            options = replace(options, precision="fp32")
        self.model = LwlModel(options, self._device)
        self._net, self._slots = self.model.net, options.memory_size
        self._out = self._net.fits(round(options.long_side * _ASPECT), options.long_side)
        self.targets: dict[int, _Target | None] = {}  # None: given with an empty mask so far
        self._shape: tuple[int, int] | None = None
        self._current: Frame | None = None
        self._scores: dict[int, Float[torch.Tensor, "H W"]] = {}
        self._probs: Float[torch.Tensor, "N1 H W"] = torch.empty(0)

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.targets)

    def network_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w), px, of the network's input, whatever the ``shape`` of the image."""
        return self._out

    def memory_length(self, object_id: int) -> int:
        """Return the number of samples of an object."""
        target = self.targets[object_id]
        return 0 if target is None else target.stored

    @torch.inference_mode()
    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        check_size(self._shape if self.targets else None, frame)
        check_new(self.targets, seeds, frame.shape)
        image = self.model.upload(frame.rgb)
        given = {s.object_id: self._given(s.prompt, frame, image) for s in seeds}
        if self._current is not frame:
            self._track(frame, image)
        for s in seeds:
            scores, box = given[s.object_id]
            self._overwrite(s.object_id, scores)
            self.targets[s.object_id] = (
                self._start(image, torch.sigmoid(scores), box, isinstance(s.prompt, Box))
                if box
                else None
            )
        return self._merged()

    @torch.inference_mode()
    def step(self, frame: Frame) -> Segmentation:
        check_size(self._shape if self.targets else None, frame)
        self._track(frame, self.model.upload(frame.rgb))
        return self._merged()

    @torch.inference_mode()
    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        check_known(self.targets, (s.object_id for s in corrections))
        check_shapes(corrections, frame.shape)
        check_size(self._shape, frame)
        image = self.model.upload(frame.rgb)
        given = {s.object_id: self._given(s.prompt, frame, image) for s in corrections}
        if self._current is not frame:
            self._track(frame, image)
        for s in corrections:
            scores, box = given[s.object_id]
            self._overwrite(s.object_id, scores)
            if self.targets[s.object_id] is None and box:
                self.targets[s.object_id] = self._start(
                    image, torch.sigmoid(scores), box, isinstance(s.prompt, Box)
                )
        return self._merged()

    def drop(self, object_ids: Collection[int]) -> None:
        check_known(self.targets, object_ids)
        if not object_ids:  # before the first frame there is no background either
            return
        rows = [
            0,
            *(row for row, i in enumerate(self.targets, start=1) if i not in set(object_ids)),
        ]
        for i in set(object_ids):
            del self.targets[i]
            self._scores.pop(i, None)
        self._probs = self._probs[rows]

    # -- the frame ---------------------------------------------------------------------------------

    def _track(self, frame: Frame, image: Float[torch.Tensor, "1 3 H W"]) -> None:
        """Track every object alone, from the merged probabilities of the previous frame."""
        self._shape, self._current = frame.shape, frame
        self._scores = {
            i: torch.full(frame.shape, -OUTSIDE, device=self._device)
            if t is None
            else self._track_one(t, image, before)
            for (i, t), before in zip(self.targets.items(), self._probs[1:], strict=True)
        }

    def _track_one(
        self,
        target: _Target,
        image: Float[torch.Tensor, "1 3 H W"],
        before: Float[torch.Tensor, "H W"],
    ) -> Float[torch.Tensor, "H W"]:
        """Learn from the previous frame, move the window, and return the image's logits."""
        target.age += 1
        if target.age > 2:
            self._learn(target, before)
        found = measure(before)
        if found is not None:
            target.centre, sides = found
            target.scale = new_scale(sides, target.base, target.scale)
        cells = (target.features.shape[-2], target.features.shape[-1])
        at = centred(target.centre, target.scale, self._out, cells, self._net.spec.kernel_size)
        patch, corners = sample_patch(image, at, self._side(target.scale), self._out, inside=True)
        target.window = (at, target.scale)
        maps = self._net.extract(patch)
        target.last_features = self._net.target_features(maps)
        logits = self._net.decode(
            apply_filters(target.last_features, target.filters), self._net.context(maps), self._out
        ).float()
        return paste(logits, corners, (image.shape[-2], image.shape[-1]))

    def _side(self, scale: float) -> Pair:
        h, w = (float(np.float32(scale) * np.float32(n)) for n in self._out)
        return h, w

    def _merged(self) -> Segmentation:
        """Merge the frame's scores by soft aggregation; the next frame is tracked from it."""
        if not self.targets:
            shape = self._shape or (0, 0)
            self._probs = torch.ones((1, *shape), device=self._device)
        else:
            self._probs = merge(torch.stack([self._scores[i] for i in self.targets]))
        return Segmentation(self.object_ids, self._probs)

    def _overwrite(self, object_id: int, scores: Float[torch.Tensor, "H W"]) -> None:
        """Set an object's scores of the frame; pixels given to others before go to it."""
        for other in self._scores.values():
            other[(scores >= OUTSIDE) & (other >= OUTSIDE)] = -OUTSIDE
        self._scores[object_id] = scores

    # -- seeds and learning ------------------------------------------------------------------------

    def _given(
        self, prompt: Prompt, frame: Frame, image: Float[torch.Tensor, "1 3 H W"]
    ) -> tuple[Float[torch.Tensor, "H W"], tuple[float, float, float, float] | None]:
        """Return the logits of a prompt, and its box x y w h, None where it is an empty mask.

        Boxes go through the box encoder where there is one, on the whole image (sec. 3.7).
        """
        if isinstance(prompt, Box) and self._net.box_label_encoder is not None:
            check_prompt(prompt, frame.shape)
            x0, y0, x1, y1 = (float(v) for v in prompt.xyxy)
            box = (x0, y0, x1 - x0, y1 - y0)
            maps = self._net.extract(image, any_size=True)
            plane = box_mask(box, frame.shape).to(self._device)[None, None]
            encoding = self._net.encode_boxes(self._net.target_features(maps), plane)
            return self._net.decode(encoding, self._net.context(maps), frame.shape)[
                0, 0
            ].float(), box
        mask = to_mask(prompt, frame)
        scores = torch.from_numpy(np.where(mask, np.float32(OUTSIDE), np.float32(-OUTSIDE))).to(
            self._device
        )
        return scores, _box(mask)

    def _start(
        self,
        image: Float[torch.Tensor, "1 3 H W"],
        mask: Float[torch.Tensor, "H W"],
        box: tuple[float, float, float, float],
        from_box: bool,
    ) -> _Target:
        """Start an object: its window, its first sample, its filters."""
        x, y, w, h = box
        sides = (max(h, 1.0), max(w, 1.0))
        whole = (image.shape[-2], image.shape[-1])
        scale, shrunk = first_scale(sides, _SEARCH_SCALE, self._out, whole)
        centre = (y + (sides[0] - 1) / 2, x + (sides[1] - 1) / 2)
        features = self._net.target_features(
            self._net.extract(first_patch(image, centre, shrunk, self._out))
        )
        labels, weights = self._net.encode(
            first_patch(mask[None, None], centre, shrunk, self._out, mask=True)
        )
        spec = self._net.spec
        filters = features.new_zeros(
            (1, spec.num_filters, spec.target_channels, spec.kernel_size, spec.kernel_size)
        )
        stores = [
            torch.cat([t, t.new_zeros((self._slots - 1, *t.shape[1:]))])
            for t in (features, labels, weights)
        ]
        target = _Target(
            schedule=_FROM_BOX if from_box else _FROM_MASK,
            centre=centre,
            scale=scale,
            base=(sides[0] / scale, sides[1] / scale),
            filters=filters,
            features=stores[0],
            labels=stores[1],
            weights=stores[2],
            shares=[1.0] + [0.0] * (self._slots - 1),
        )
        target.filters = self._descend(target, _ITERATIONS_INIT)
        return target

    def _learn(self, target: _Target, before: Float[torch.Tensor, "H W"]) -> None:
        """Remember the previous frame with its merged probabilities; update where it is due."""
        at, scale = target.window
        mask, _ = sample_patch(
            before[None, None], at, self._side(scale), self._out, inside=True, mask=True
        )
        labels, weights = self._net.encode(mask)
        rule = target.schedule.rule
        slot = rule.slot(target.shares, target.stored)
        target.shares = rule.update(target.shares, slot, target.slot)
        target.slot, target.stored = slot, min(target.stored + 1, self._slots)
        target.features[slot], target.labels[slot], target.weights[slot] = (
            target.last_features[0],
            labels[0],
            weights[0],
        )
        if (target.age - 1) % target.schedule.every == 0:
            target.filters = self._descend(target, target.schedule.iterations)

    def _descend(self, target: _Target, iterations: int) -> Float[torch.Tensor, "1 D C K K"]:
        """Run iterations of eq. (4); a sample's share multiplies the residual, as W does."""
        n = target.stored
        shares = torch.tensor(target.shares[:n], device=self._device)[:, None, None, None, None]
        rows = torch.zeros(1, dtype=torch.long, device=self._device)
        block = Samples(
            target.features[:n], rows, target.labels[:n], (target.weights[:n] * shares).square()
        )
        return steepest_descent(target.filters, [block], self._net.ridge, iterations)


def _box(mask: Bool[np.ndarray, "H W"]) -> tuple[float, float, float, float] | None:
    """Return the box x y w h of a mask's pixels, None where it has none.

    The last row and column are not counted, as in the program.
    """
    ys, xs = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    if ys.size == 0:
        return None
    return float(xs[0]), float(ys[0]), float(xs[-1] - xs[0]), float(ys[-1] - ys[0])
