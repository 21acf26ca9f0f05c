"""LWL: Bhat et al., "Learning What to Learn for Video Object Segmentation", ECCV 2020 (paper 003). Written from the paper; Apache-2.0.

A linear target model per object, T_tau(x) = x * tau (sec. 3.3), maps deep features to an encoding of the object's mask, from which a
decoder makes the mask. It is learned from the seed, and from the method's own masks as it goes, by steepest descent on eq. (3), with the
labels E(y) and weights W(y) that trained networks make of a mask (sec. 3.2). A search window follows each object (sec. 3.5).

Where this differs from the published program (``segmentation.lwl.compat: reference`` is that one): many objects share one backbone
pass, what of the decoder depends on the image alone is computed once, labels are encoded once and not on every frame, the learner carries
its residual, learning is spent where the target model misses, and a frame in which an object was not found with confidence
teaches nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.interface import (
    VideoSegmenter,
    check_known,
    check_new,
    check_shapes,
    check_size,
)
from vos_ros.segmentation.methods.lwl.memory import Memory, Sample
from vos_ros.segmentation.methods.lwl.model import EncodedImage, LwlModel
from vos_ros.segmentation.methods.lwl.options import LwlOptions
from vos_ros.segmentation.network_input import PRECISIONS, prepare_torch
from vos_ros.segmentation.networks.learner import apply_filters, steepest_descent
from vos_ros.segmentation.prompts import check_prompt, to_mask
from vos_ros.segmentation.search_window import (
    contains_mask,
    crop,
    full_image_windows,
    inside,
    overwrite_masks,
    paste,
    update_windows,
)
from vos_ros.types import Box, Frame, Seed, Segmentation

_FAR_PAST = 1 << 30
_MIN_PX = 0.5  # px of the object that a sample must show to teach anything of it
_WORTH = 0.9  # of the image's sides
_MB = 1e6
_LOOK_EVERY = (
    8  # frames between looks for an object of which a correction said that it isn't in view
)


@dataclass(frozen=True, eq=False, slots=True)
class EncodedWindows:
    """A frame as seen for some objects: all in one view (``views`` None), or each in its own, in order."""

    ids: tuple[int, ...]
    encoded: EncodedImage
    views: Float[torch.Tensor, "n 3"] | None


class Lwl(VideoSegmenter):
    """The ``lwl`` method with trained networks."""

    def __init__(self, config: SegmentationConfig) -> None:
        c = self._config = config.methods.of(LwlOptions)
        self._device = prepare_torch(config)
        self._model = LwlModel(c, self._device)
        kept = self._model.net.dtype if c.memory_type == "auto" else PRECISIONS[c.memory_type]
        # what came in bfloat16 is worth no more, and CPUs that have it multiply it several times faster
        products = (
            torch.bfloat16
            if self._device.type == "cpu" and kept == self._model.net.dtype == torch.bfloat16
            else torch.float32
        )
        self._memory = Memory(
            c.memory_size,
            c.memory_mb * _MB,
            c.decay,
            c.first_frame_weight,
            kept,
            min_sample_weight=c.min_sample_weight,
            products=products,
        )
        self._tolerance = (
            c.tolerance if self._device.type == "cpu" else 0.0
        )  # to look at a loss is to wait for the device
        self._filters: dict[int, Float[torch.Tensor, "D C K K"]] = {}
        self._views: dict[int, Float[torch.Tensor, "3"]] = {}
        self._taught: set[int] = set()
        self._corrected: dict[int, int] = {}
        self._absent: set[int] = set()
        self._time = 0
        self._shape: tuple[int, int] | None = None
        self._current: tuple[Frame, Float[torch.Tensor, "1 3 H W"], list[EncodedWindows]] | None = (
            None
        )
        self._last: tuple[Frame, Segmentation] | None = None
        self._pending: list[Sample] = []
        self._doubts: dict[int, Float[torch.Tensor, "2"]] = {}

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self._filters)

    @torch.inference_mode()
    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        check_size(self._shape if self._filters else None, frame)
        check_new(self._filters, seeds, frame.shape)
        masks = {s.object_id: self._mask(s, frame) for s in seeds}
        before = self._result(frame)
        self._shape = frame.shape
        net = self._model.net.spec
        for i, mask in masks.items():
            self._filters[i] = torch.zeros(
                (net.num_filters, net.target_channels, net.kernel_size, net.kernel_size),
                device=self._device,
            )
            self._views[i] = self._around(mask)
        for sample in self._teach(frame, masks, {s.object_id: s.weight for s in seeds}):
            sample.anchors.update(sample.labels)
            self._memory.add(sample)
        self._learn(list(masks), self._config.iterations_init)
        rows = before.probs.new_zeros((len(masks), *frame.shape))
        return self._keep(
            frame,
            overwrite_masks(
                replace(before, object_ids=self.object_ids, probs=torch.cat([before.probs, rows])),
                masks,
            ),
        )

    @torch.inference_mode()
    def step(self, frame: Frame) -> Segmentation:
        check_size(self._shape if self._filters else None, frame)
        self._shape = frame.shape
        self._flush()
        self._time += 1
        return self._segment(frame, annotate=self._time % self._config.update_every == 0)

    @torch.inference_mode()
    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        check_known(self._filters, (s.object_id for s in corrections))
        check_shapes(corrections, frame.shape)
        check_size(self._shape, frame)
        masks = {s.object_id: self._mask(s, frame) for s in corrections}
        before = self._result(frame)
        for i in masks:
            self._forget_pending(i)
            self._corrected[i] = self._time
        self._pending += self._teach(frame, masks, {s.object_id: s.weight for s in corrections})
        for i, mask in masks.items():
            self._views[i] = self._around(mask)
        self._absent = (self._absent - set(masks)) | {
            i for i, mask in masks.items() if not mask.any()
        }
        return self._keep(frame, overwrite_masks(before, masks))

    def drop(self, object_ids: Collection[int]) -> None:
        check_known(self._filters, object_ids)
        for i in set(object_ids):
            del self._filters[i], self._views[i]
            self._taught.discard(i)
            self._corrected.pop(i, None)
            self._absent.discard(i)
            self._forget_pending(i)
        self._memory.drop(set(object_ids))
        self._last = None if object_ids else self._last

    @torch.inference_mode()
    def learn_pending(self) -> None:
        self._flush()

    def features(self, frame: Frame) -> Float[torch.Tensor, "C h w"] | None:
        if self._current is None or self._current[0] is not frame:
            return None
        return next((s.encoded.features[0] for s in self._current[2] if s.views is None), None)

    # -- the frame -------------------------------------------------------------------------------------------------------------

    def _segment(self, frame: Frame, *, annotate: bool) -> Segmentation:
        """Target models -> scores -> masks -> one distribution per pixel; then the search windows move.

        An object that was said not to be in view is searched on one frame in eight, each object on another one: to search the whole image
        for all of them on every frame would cost more than to follow the others.
        """
        ids = tuple(
            i for i in self._filters if i not in self._absent or (self._time + i) % _LOOK_EVERY == 0
        )
        if not ids:
            return self._keep(
                frame, self._for_all(torch.ones((1, *frame.shape), device=self._device), ids)
            )
        seen = self._see(frame, ids)
        filters, views = (torch.stack([d[i] for i in ids]) for d in (self._filters, self._views))
        scores = self._scores(seen, filters)
        known = torch.tensor([float(i in self._taught) for i in ids], device=self._device)[
            :, None, None
        ]
        if seen.views is None:  # merged where it costs least, then interpolated
            merged = soft_aggregate(
                self._model.decode_windows(scores, seen.encoded, views, frame.shape) * known
            )
            probs = crop(merged[None], None, frame.shape, self._model.aligned)[0]
        else:
            found = self._model.decode(scores, seen.encoded, self._model.decoded_size(frame.shape))[
                :, 0
            ]
            merged = probs = soft_aggregate(
                paste(found, seen.views, frame.shape, self._model.aligned) * known
            )
        for i, view in zip(
            ids, update_windows(views, merged[1:], self._config.search_scale), strict=True
        ):
            self._views[i] = view
        if self._absent:
            winners = merged.max(0).indices
            self._absent -= {
                i
                for row, i in enumerate(ids, start=1)
                if i in self._absent and bool((winners == row).any())
            }
        if annotate:
            self._annotate(seen, views, scores, merged)
        return self._keep(frame, self._for_all(probs, ids))

    def _for_all(self, probs: Float[torch.Tensor, "n1 H W"], ids: tuple[int, ...]) -> Segmentation:
        """The frame's segmentation with rows of zeros for the objects that were not looked for."""
        shape = (int(probs.shape[1]), int(probs.shape[2]))
        if len(ids) < len(self._filters):
            rows = [0, *(row for row, i in enumerate(self._filters, start=1) if i in ids)]
            some, probs = probs, probs.new_zeros((len(self._filters) + 1, *shape))
            probs[rows] = some
        return Segmentation(self.object_ids, probs, self._model.boundary_px(shape))

    def _scores(
        self, seen: EncodedWindows, filters: Float[torch.Tensor, "n D C K K"]
    ) -> Float[torch.Tensor, "V N D h w"]:
        """x * tau of every object, in its view."""
        if seen.views is None:
            return apply_filters(seen.encoded.features, filters)
        return torch.cat(
            [
                apply_filters(seen.encoded.features[k : k + 1], filters[k : k + 1])
                for k in range(len(filters))
            ]
        )

    def _keep(self, frame: Frame, result: Segmentation) -> Segmentation:
        self._last = (frame, result)
        return result

    def _result(self, frame: Frame) -> Segmentation:
        """The frame's segmentation as last given, or computed now where objects have changed since."""
        return (
            self._last[1]
            if self._last is not None and self._last[0] is frame
            else self._segment(frame, annotate=False)
        )

    def _open(self, frame: Frame) -> tuple[Float[torch.Tensor, "1 3 H W"], list[EncodedWindows]]:
        """The frame's image on the device, and what has been seen of it: once, however often it is stepped, seeded and updated."""
        if self._current is None or self._current[0] is not frame:
            self._current = (frame, self._model.upload(frame.rgb), [])
        return self._current[1:]

    def _see(
        self,
        frame: Frame,
        ids: tuple[int, ...],
        masks: Mapping[int, Bool[np.ndarray, "H W"]] = MappingProxyType({}),
    ) -> EncodedWindows:
        """The backbone's pass for some objects: over the whole image for all, or over a window for each. With ``masks`` a pass made
        before serves where its windows hold them."""
        image, seen = self._open(frame)
        size = self._model.size(frame.shape)
        views = torch.stack([self._views[i] for i in ids])
        crop_mode = self._config.crop
        if crop_mode == "shared" or (
            crop_mode == "auto" and (len(self._filters) != 1 or self._almost_all(views))
        ):
            return self._see_whole(frame, ids)
        for s in seen if masks else ():
            if (
                s.views is not None
                and s.ids == ids
                and all(contains_mask(v, masks[i]) for i, v in zip(ids, s.views, strict=True))
            ):
                return s
        made = EncodedWindows(
            ids, self._model.encode_image(crop(image, views, size, self._model.aligned)), views
        )
        seen.append(made)
        return made

    def _almost_all(self, views: Float[torch.Tensor, "n 3"]) -> bool:
        """Whether windows are so large that cutting them out is worth nothing. To know it is to wait for the device: on CPUs only."""
        return self._device.type == "cpu" and bool((views[:, 2] > _WORTH).all())

    def _see_whole(self, frame: Frame, ids: tuple[int, ...]) -> EncodedWindows:
        image, seen = self._open(frame)
        for s in seen:
            if s.views is None:
                return replace(s, ids=ids)
        made = EncodedWindows(
            ids,
            self._model.encode_image(
                crop(image, None, self._model.size(frame.shape), self._model.aligned)
            ),
            None,
        )
        seen.append(made)
        return made

    def _mask(self, seed: Seed, frame: Frame) -> Bool[np.ndarray, "H W"]:
        """The pixels that a prompt means. Boxes go through the box encoder where the network has one (sec. 3.7)."""
        if not isinstance(seed.prompt, Box) or self._model.net.box_label_encoder is None:
            return to_mask(seed.prompt, frame)
        check_prompt(seed.prompt, frame.shape)
        x0, y0, x1, y1 = (max(0, round(float(v))) for v in seed.prompt.xyxy)
        box = torch.zeros((1, 1, *frame.shape), device=self._device)
        box[..., y0:y1, x0:x1] = 1
        size = self._model.size(frame.shape)
        inner = crop(box, None, size, self._model.aligned)[0, 0]
        probs = self._model.mask_in_box(self._see_whole(frame, ()).encoded, inner, size)
        mask = np.asarray(
            (crop(probs[None, None], None, frame.shape, self._model.aligned)[0, 0] > 0.5)
            .cpu()
            .numpy()
        )
        return mask if mask.any() else to_mask(seed.prompt, frame)

    def _around(self, mask: Bool[np.ndarray, "H W"]) -> Float[torch.Tensor, "3"]:
        """The search window of an object with this mask."""
        plane = torch.from_numpy(mask.astype(np.float32)).to(self._device)[None]
        return update_windows(
            full_image_windows(1, self._device), plane, self._config.search_scale, at_once=True
        )[0]

    # -- learning --------------------------------------------------------------------------------------------------------------

    def _samples(
        self,
        seen: EncodedWindows,
        ids: Sequence[int],
        masks: Float[torch.Tensor, "V N h w"],
        care: Float[torch.Tensor, "V N h w"] | None,
    ) -> tuple[list[Sample], Float[torch.Tensor, "n D h w"], Float[torch.Tensor, "n D h w"]]:
        """Masks of the network's size as samples: one for all objects of a shared view, or one for each. Also E(y) and W(y)^2."""
        labels, weights = (t.flatten(0, 1) for t in self._model.encode(masks, care))
        if seen.views is None:
            return (
                [
                    Sample(
                        self._time,
                        seen.encoded.features[0],
                        dict(zip(ids, labels, strict=True)),
                        dict(zip(ids, weights, strict=True)),
                    )
                ],
                labels,
                weights,
            )
        return (
            [
                Sample(self._time, seen.encoded.features[seen.ids.index(i)], {i: e}, {i: w})
                for i, e, w in zip(ids, labels, weights, strict=True)
            ],
            labels,
            weights,
        )

    def _teach(
        self,
        frame: Frame,
        masks: Mapping[int, Bool[np.ndarray, "H W"]],
        weights: Mapping[int, Float32[np.ndarray, "H W"] | None],
    ) -> list[Sample]:
        """Given masks as samples, without the objects that they show nothing of."""
        shown = tuple(
            i
            for i, mask in masks.items()
            if float(mask.sum() if (w := weights[i]) is None else w[mask].sum()) >= _MIN_PX
        )
        if not shown:
            return []
        seen = self._see(frame, shown, masks)
        size, per_view = self._model.size(frame.shape), seen.views is not None

        def planes(arrays: Sequence[np.ndarray]) -> Float[torch.Tensor, "V N h w"]:
            stacked = torch.from_numpy(np.stack(arrays)).to(self._device).float()
            return crop(
                stacked[:, None] if per_view else stacked[None],
                seen.views,
                size,
                self._model.aligned,
            )

        care = None
        if any(weights[i] is not None for i in shown):
            ones = np.ones(frame.shape, np.float32)
            care = planes([ones if (w := weights[i]) is None else w for i in shown])
        return self._samples(seen, shown, planes([masks[i] for i in shown]), care)[0]

    def _annotate(
        self,
        seen: EncodedWindows,
        views: Float[torch.Tensor, "N 3"],
        scores: Float[torch.Tensor, "V N D h w"],
        merged: Float[torch.Tensor, "N1 H W"],
    ) -> None:
        """The frame with its own probabilities as the masks (sec. 3.5), for objects that nobody else corrects; and, for when the next
        frame comes, how sure they are and how far the target models are from their labels. What lies outside a search window wasn't
        judged: nothing is learned from it, or look-alikes there would unteach the object."""
        wait = 2 * self._config.update_every
        rows = [
            k
            for k, i in enumerate(seen.ids)
            if i in self._taught and self._time - self._corrected.get(i, -_FAR_PAST) > wait
        ]
        if not rows:
            return
        ids, probs = [seen.ids[k] for k in rows], merged[1:][rows]
        size = self._model.size(self._shape or (0, 0))
        care = None
        if seen.views is None:
            masks = crop(probs[None], None, size, self._model.aligned)
            care = inside(views[rows], size)[None].float()
        else:
            masks = crop(probs[:, None], seen.views[rows], size, self._model.aligned)
        samples, labels, weights = self._samples(seen, ids, masks, care)
        missed = (weights * (scores.flatten(0, 1)[rows] - labels).square()).sum((1, 2, 3))
        error = missed / (weights * labels.square()).sum((1, 2, 3)).clamp_min(1e-12)
        won = merged.max(0).indices == torch.tensor(rows, device=self._device)[:, None, None] + 1
        confidence = (probs * won).sum((1, 2)) / won.sum((1, 2)).clamp_min(1)
        self._pending += samples
        self._doubts = dict(zip(ids, torch.stack([confidence, error], 1), strict=True))

    def _flush(self) -> None:
        """Learns from the frame before, if it was kept; not done with that frame, so that results leave first."""
        pending, doubts = self._pending, self._doubts
        self._pending, self._doubts = [], {}
        wrong = {i for s in pending for i in s.labels if i not in doubts}  # corrected by others
        if doubts:
            for i, (confidence, error) in zip(
                doubts, torch.stack(list(doubts.values())).tolist(), strict=True
            ):
                if confidence < self._config.min_confidence:
                    for s in pending:
                        s.forget(i)
                elif error > self._config.update_error:
                    wrong.add(i)
        for s in pending:
            self._memory.add(s)
        self._learn([i for i in self._filters if i in wrong], self._config.iterations_update)

    def _forget_pending(self, object_id: int) -> None:
        self._doubts.pop(object_id, None)
        for s in self._pending:
            s.forget(object_id)

    def _learn(self, object_ids: Sequence[int], iterations: int) -> None:
        """Eq. (4) for some objects at once, on all that is remembered of them."""
        ids = [i for i in object_ids if self._memory.having(i)]
        if not ids or not iterations:
            return
        learned = steepest_descent(
            torch.stack([self._filters[i] for i in ids]),
            self._memory.blocks(ids, self._time),
            self._model.net.ridge,
            iterations,
            tolerance=self._tolerance,
        )
        self._filters.update(zip(ids, learned, strict=True))
        self._taught.update(ids)
