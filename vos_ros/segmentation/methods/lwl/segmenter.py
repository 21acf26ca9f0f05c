"""LWL with trained networks (paper 003; see the package's docstring).

A linear target model per object, T_tau(x) = x * tau (sec. 3.3), maps deep features to an encoding
of the object's mask, from which a decoder makes the mask. It is learned from the seed, and then
from the method's own masks, by steepest descent on eq. (3), with the labels E(y) and weights W(y)
that trained networks make of a mask (sec. 3.2). A search window follows each object (sec. 3.5).

Differences from the published program (``segmentation.lwl.compat: reference`` is that one): many
objects share one backbone pass; what of the decoder depends on the image alone is computed once;
labels are encoded once and not on every frame; the learner carries its residual; learning is spent
where the target model misses; a frame in which an object was not found with confidence is no
sample.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.methods.lwl.memory import Memory, Sample
from vos_ros.segmentation.methods.lwl.model import EncodedImage, LwlModel
from vos_ros.segmentation.methods.lwl.options import LwlOptions
from vos_ros.segmentation.network_input import PRECISIONS
from vos_ros.segmentation.networks.learner import apply_filters, steepest_descent
from vos_ros.segmentation.online_segmenter import Masks, OnlineSegmenter, Weights
from vos_ros.segmentation.prompts import check_prompt, to_mask
from vos_ros.segmentation.search_window import (
    contains_mask,
    crop,
    full_image_windows,
    paste,
    update_windows,
    window_masks,
)
from vos_ros.types import Box, Frame, Seed, Segmentation

_MIN_SAMPLE_PX = 0.5
"""px of the object that a sample must show: with less there is nothing to learn of it."""
_FULL_IMAGE_SIDE = 0.9
"""Side of a window, as a share of the image's, from which the whole image serves as well."""
_BYTES_PER_MB = 1e6


@dataclass(frozen=True, eq=False, slots=True)
class EncodedWindows:
    """The backbone's output for some objects."""

    ids: tuple[int, ...]
    """The objects."""
    encoded: EncodedImage
    """The whole image for all objects, or a window for each, in their order."""
    windows: Float[torch.Tensor, "n 3"] | None
    """The windows; None: the whole image."""


@dataclass(frozen=True, eq=False, slots=True)
class EncodedFrame:
    """A frame on the device, and the backbone's passes over it so far."""

    image: Float[torch.Tensor, "1 3 H W"]
    """RGB, 0..255."""
    passes: list[EncodedWindows] = field(default_factory=list)
    """What has been computed of it."""


class Lwl(OnlineSegmenter[EncodedFrame, Sample]):
    """The ``lwl`` method with trained networks."""

    def __init__(self, config: SegmentationConfig) -> None:
        o = self._options = config.methods.of(LwlOptions)
        super().__init__(
            config,
            update_every=o.update_every,
            min_confidence=o.min_confidence,
            max_error=o.update_error,
        )
        self.model = LwlModel(o, self.device)
        on_cpu, net_dtype = self.device.type == "cpu", self.model.net.dtype
        kept = net_dtype if o.memory_type == "auto" else PRECISIONS[o.memory_type]
        # features that came in bf16 are no more precise, and CPUs that have it multiply it faster
        is_bf16 = on_cpu and kept == net_dtype == torch.bfloat16
        self.memory = Memory(
            size=o.memory_size,
            max_bytes=o.memory_mb * _BYTES_PER_MB,
            decay=o.decay,
            first_frame_weight=o.first_frame_weight,
            dtype=kept,
            min_sample_weight=o.min_sample_weight,
            product_dtype=torch.bfloat16 if is_bf16 else torch.float32,
        )
        # to read a loss is to wait for the device
        self._tolerance = o.tolerance if on_cpu else 0.0
        self.filters: dict[int, Float[torch.Tensor, "D C K K"]] = {}
        self.windows: dict[int, Float[torch.Tensor, "3"]] = {}
        self._learned: set[int] = set()

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.filters)

    def network_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the (h, w), px, of the network's input for an image of ``shape``."""
        return self.model.size(shape)

    def memory_length(self, object_id: int) -> int:
        """Return the number of samples of an object."""
        return len(self.memory.samples_of(object_id))

    # -- the frame ---------------------------------------------------------------------------------

    def _segment(self, frame: Frame, *, is_next: bool) -> Segmentation:
        """Apply the target models, decode, merge, and move the search windows (sec. 3.5)."""
        ids = tuple(i for i in self.filters if self._is_searched(i))
        if not ids:
            background = torch.ones((1, *frame.shape), device=self.device)
            return self._with_absent(background, ids)
        encoded = self._encode_windows(frame, ids)
        filters, windows = (torch.stack([d[i] for i in ids]) for d in (self.filters, self.windows))
        scores = self._scores(encoded, filters)
        is_learned = torch.tensor([float(i in self._learned) for i in ids], device=self.device)[
            :, None, None
        ]
        if encoded.windows is None:  # merged at the decoder's size, where it costs least
            masks = self.model.decode_windows(scores, encoded.encoded, windows, frame.shape)
            merged = soft_aggregate(masks * is_learned)
            probs = crop(merged[None], None, frame.shape, self.model.aligned)[0]
        else:
            size = self.model.decoded_size(frame.shape)
            masks = self.model.decode(scores, encoded.encoded, size)[:, 0]
            pasted = paste(masks, encoded.windows, frame.shape, self.model.aligned)
            merged = probs = soft_aggregate(pasted * is_learned)
        moved = update_windows(windows, merged[1:], self._options.search_scale)
        self.windows.update(zip(ids, moved, strict=True))
        self._mark_found(ids, merged)
        if is_next and self._is_update_due():
            self._keep_own_masks(encoded, windows, scores, merged)
        return self._with_absent(probs, ids)

    def _with_absent(
        self, probs: Float[torch.Tensor, "n1 H W"], ids: tuple[int, ...]
    ) -> Segmentation:
        """Return the segmentation with rows of zeros for the objects that were not searched."""
        shape = (int(probs.shape[1]), int(probs.shape[2]))
        if len(ids) < len(self.filters):
            rows = [0, *(row for row, i in enumerate(self.filters, start=1) if i in ids)]
            some, probs = probs, probs.new_zeros((len(self.filters) + 1, *shape))
            probs[rows] = some
        return Segmentation(self.object_ids, probs, self.model.boundary_px(shape))

    def _scores(
        self, encoded: EncodedWindows, filters: Float[torch.Tensor, "n D C K K"]
    ) -> Float[torch.Tensor, "V N D h w"]:
        """Return x * tau of every object, in its window."""
        features = encoded.encoded.features
        if encoded.windows is None:
            return apply_filters(features, filters)
        return torch.cat(
            [apply_filters(features[k : k + 1], filters[k : k + 1]) for k in range(len(filters))]
        )

    def _encode(self, frame: Frame) -> EncodedFrame:
        return EncodedFrame(self.model.upload(frame.rgb))

    def _features_of(self, encoded: EncodedFrame) -> Float[torch.Tensor, "C h w"] | None:
        whole = (p.encoded.features[0] for p in encoded.passes if p.windows is None)
        return next(whole, None)

    def _encode_windows(
        self,
        frame: Frame,
        ids: tuple[int, ...],
        masks: Mapping[int, Bool[np.ndarray, "H W"]] = MappingProxyType({}),
    ) -> EncodedWindows:
        """Run the backbone for some objects: on the whole image for all, or on a window for each.

        With ``masks`` an earlier pass serves where its windows contain them.
        """
        encoded = self._encoding(frame)
        windows = torch.stack([self.windows[i] for i in ids])
        crop_mode = self._options.crop
        if crop_mode == "shared" or (
            crop_mode == "auto" and (len(self.filters) != 1 or self._are_nearly_full(windows))
        ):
            return self._encode_full_image(frame, ids)
        for earlier in encoded.passes if masks else ():
            if (
                earlier.windows is not None
                and earlier.ids == ids
                and all(
                    contains_mask(window, masks[i])
                    for i, window in zip(ids, earlier.windows, strict=True)
                )
            ):
                return earlier
        size = self.model.size(frame.shape)
        cropped = crop(encoded.image, windows, size, self.model.aligned)
        made = EncodedWindows(ids, self.model.encode_image(cropped), windows)
        encoded.passes.append(made)
        return made

    def _are_nearly_full(self, windows: Float[torch.Tensor, "n 3"]) -> bool:
        """Return whether all windows are nearly the whole image.

        To know it is to wait for the device: on CPUs only.
        """
        return self.device.type == "cpu" and bool((windows[:, 2] > _FULL_IMAGE_SIDE).all())

    def _encode_full_image(self, frame: Frame, ids: tuple[int, ...]) -> EncodedWindows:
        """Run the backbone on the whole image, once per frame."""
        encoded = self._encoding(frame)
        for earlier in encoded.passes:
            if earlier.windows is None:
                return replace(earlier, ids=ids)
        scaled = crop(encoded.image, None, self.model.size(frame.shape), self.model.aligned)
        made = EncodedWindows(ids, self.model.encode_image(scaled), None)
        encoded.passes.append(made)
        return made

    def _mask_of(self, seed: Seed, frame: Frame) -> Bool[np.ndarray, "H W"]:
        """Return the pixels that a prompt means.

        Boxes go through the box encoder where the network has one (sec. 3.7).
        """
        if not isinstance(seed.prompt, Box) or self.model.net.box_label_encoder is None:
            return to_mask(seed.prompt, frame)
        check_prompt(seed.prompt, frame.shape)
        x0, y0, x1, y1 = (max(0, round(float(v))) for v in seed.prompt.xyxy)
        box = torch.zeros((1, 1, *frame.shape), device=self.device)
        box[..., y0:y1, x0:x1] = 1
        size = self.model.size(frame.shape)
        scaled = crop(box, None, size, self.model.aligned)[0, 0]
        encoded = self._encode_full_image(frame, ()).encoded
        probs = self.model.mask_in_box(encoded, scaled, size)
        at_pixels = crop(probs[None, None], None, frame.shape, self.model.aligned)[0, 0]
        mask = np.asarray((at_pixels > 0.5).cpu().numpy())
        return mask if mask.any() else to_mask(seed.prompt, frame)

    def _window_around(self, mask: Bool[np.ndarray, "H W"]) -> Float[torch.Tensor, "3"]:
        """Return the search window of an object with this mask."""
        plane = torch.from_numpy(mask.astype(np.float32)).to(self.device)[None]
        return update_windows(
            full_image_windows(1, self.device),
            plane,
            self._options.search_scale,
            limit_change=False,
        )[0]

    # -- learning ----------------------------------------------------------------------------------

    def _add_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        spec = self.model.net.spec
        shape = (spec.num_filters, spec.target_channels, spec.kernel_size, spec.kernel_size)
        for i, mask in masks.items():
            self.filters[i] = torch.zeros(shape, device=self.device)
            self.windows[i] = self._window_around(mask)
        for sample in self._samples_of_given_masks(frame, masks, weights):
            sample.first_of.update(sample.labels)
            self.memory.add(sample)
        self._descend(list(masks), self._options.iterations_init)

    def _correct_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        for sample in self._samples_of_given_masks(frame, masks, weights):
            self.pending.add_given(sample, sample.labels)
        for i, mask in masks.items():
            self.windows[i] = self._window_around(mask)

    def _remove_objects(self, object_ids: Collection[int]) -> None:
        for i in object_ids:
            del self.filters[i], self.windows[i]
            self._learned.discard(i)
        self.memory.drop(object_ids)

    def _samples(
        self,
        encoded: EncodedWindows,
        ids: Sequence[int],
        masks: Float[torch.Tensor, "V N h w"],
        pixel_weights: Float[torch.Tensor, "V N h w"] | None,
    ) -> tuple[list[Sample], Float[torch.Tensor, "n D h w"], Float[torch.Tensor, "n D h w"]]:
        """Make samples: one for all objects of a shared image, or one for each window.

        Args:
            encoded: the frame.
            ids: objects, in the order of the masks; some of ``encoded.ids``.
            masks: soft masks of the network's size.
            pixel_weights: weights of their pixels, None: all 1.

        Returns: the samples, and E(y) and W(y)^2 of each object.
        """
        labels, weights = (t.flatten(0, 1) for t in self.model.encode_masks(masks, pixel_weights))
        features = encoded.encoded.features
        if encoded.windows is None:
            label_of = dict(zip(ids, labels, strict=True))
            weight_of = dict(zip(ids, weights, strict=True))
            return [Sample(self.time, features[0], label_of, weight_of)], labels, weights
        samples = [
            Sample(self.time, features[encoded.ids.index(i)], {i: label}, {i: weight})
            for i, label, weight in zip(ids, labels, weights, strict=True)
        ]
        return samples, labels, weights

    def _samples_of_given_masks(self, frame: Frame, masks: Masks, weights: Weights) -> list[Sample]:
        """Make samples of given masks, without the objects of which they show nothing."""
        shown = tuple(
            i
            for i, mask in masks.items()
            if float(mask.sum() if (w := weights[i]) is None else w[mask].sum()) >= _MIN_SAMPLE_PX
        )
        if not shown:
            return []
        encoded = self._encode_windows(frame, shown, masks)
        size, per_window = self.model.size(frame.shape), encoded.windows is not None

        def at_network_size(arrays: Sequence[np.ndarray]) -> Float[torch.Tensor, "V N h w"]:
            stacked = torch.from_numpy(np.stack(arrays)).to(self.device).float()
            images = stacked[:, None] if per_window else stacked[None]
            return crop(images, encoded.windows, size, self.model.aligned)

        pixel_weights = None
        if any(weights[i] is not None for i in shown):
            ones = np.ones(frame.shape, np.float32)
            pixel_weights = at_network_size(
                [ones if (w := weights[i]) is None else w for i in shown]
            )
        given = at_network_size([masks[i] for i in shown])
        return self._samples(encoded, shown, given, pixel_weights)[0]

    def _keep_own_masks(
        self,
        encoded: EncodedWindows,
        windows: Float[torch.Tensor, "N 3"],
        scores: Float[torch.Tensor, "V N D h w"],
        merged: Float[torch.Tensor, "N1 H W"],
    ) -> None:
        """Keep the frame with its own probabilities as the masks (sec. 3.5), and their quality.

        What lies outside a search window was not segmented: it weighs 0, or look-alikes there would
        be learned as background.

        Args:
            encoded: the frame.
            windows: the search windows in which it was segmented.
            scores: output of the target models.
            merged: the probabilities.
        """
        rows = [
            k
            for k, i in enumerate(encoded.ids)
            if i in self._learned and self._may_learn_own_mask(i)
        ]
        if not rows:
            return
        ids, probs = [encoded.ids[k] for k in rows], merged[1:][rows]
        size = self.model.size(self._shape or (0, 0))
        pixel_weights = None
        if encoded.windows is None:
            masks = crop(probs[None], None, size, self.model.aligned)
            pixel_weights = window_masks(windows[rows], size)[None].float()
        else:
            masks = crop(probs[:, None], encoded.windows[rows], size, self.model.aligned)
        samples, labels, weights = self._samples(encoded, ids, masks, pixel_weights)
        missed = (weights * (scores.flatten(0, 1)[rows] - labels).square()).sum((1, 2, 3))
        error = missed / (weights * labels.square()).sum((1, 2, 3)).clamp_min(1e-12)
        won = merged.max(0).indices == torch.tensor(rows, device=self.device)[:, None, None] + 1
        confidence = (probs * won).sum((1, 2)) / won.sum((1, 2)).clamp_min(1)
        quality = dict(zip(ids, torch.stack([confidence, error], 1), strict=True))
        for sample in samples:
            own = list(sample.labels)
            self.pending.add_own(sample, own, torch.stack([quality[i] for i in own]))

    def _learn(
        self, samples: Sequence[tuple[Sample, frozenset[int]]], object_ids: Collection[int]
    ) -> None:
        for sample, ids in samples:
            sample.restrict(ids)
            self.memory.add(sample)
        learned = [i for i in self.filters if i in object_ids]
        self._descend(learned, self._options.iterations_update)

    def _descend(self, object_ids: Sequence[int], iterations: int) -> None:
        """Run iterations of eq. (4) for some objects at once, on their memory."""
        ids = [i for i in object_ids if self.memory.samples_of(i)]
        if not ids or not iterations:
            return
        filters = steepest_descent(
            torch.stack([self.filters[i] for i in ids]),
            self.memory.training_sets(ids, self.time),
            self.model.net.ridge,
            iterations,
            tolerance=self._tolerance,
        )
        self.filters.update(zip(ids, filters, strict=True))
        self._learned.update(ids)
