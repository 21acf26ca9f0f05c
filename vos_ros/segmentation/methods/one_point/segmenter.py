"""The streaming method of paper 002 (see the package's docstring).

Every pixel has a learned embedding, computed once per frame for all objects. An object is known by
the embeddings of some key points: a pixel is its own where the nearest of them is nearer than gamma
(eq. 3.5, 3.6). One of the points is tracked, and its embedding on the present frame is a key point,
too ("first frame keypoint tracked", sec. 4.3.3). All objects are one matrix product.

Additions to the paper: several key points per object, chosen far from each other in the embedding;
key points of the background next to it, where its mask is given; key points of the method's own
masks; what is not connected to where the object was is not the object; a window follows each
object; objects compete for a pixel by soft aggregation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

from vos_ros.config import SegmentationConfig
from vos_ros.geometry.masks import inner_point
from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.connectivity import connectivity_gate
from vos_ros.segmentation.key_points import KeyPoints, distances, object_logits, spread
from vos_ros.segmentation.methods.one_point.model import OnePointModel, Pixels
from vos_ros.segmentation.methods.one_point.options import OnePointOptions
from vos_ros.segmentation.online_segmenter import Masks, OnlineSegmenter, Weights
from vos_ros.segmentation.point_tracking import Grey, flow, grey_image, most_similar
from vos_ros.segmentation.prompts import check_prompt, cut_at_depth_edges
from vos_ros.segmentation.search_window import full_image_windows, update_windows, window_masks
from vos_ros.types import Frame, Points, Seed, Segmentation

_MIN_INSIDE = 0.99
"""Share of a cell that must be the object (or the background) for a key point there."""
_RING_CELLS = 4
"""Width of the ring around a given mask, cells, from which the background's key points come."""
_SURE = 0.8
"""Probability from which a cell of the previous frame is surely the object."""
_LOGIT_OUTSIDE = -20.0
"""Logit of cells that cannot be the object."""


@dataclass(frozen=True, eq=False, slots=True)
class Keys:
    """Embeddings of key points of one object."""

    positive: Float[torch.Tensor, "P D"]
    """Of the object."""
    negative: Float[torch.Tensor, "M D"]
    """Of the background next to it."""


@dataclass(eq=False, slots=True, kw_only=True)
class ObjectModel:
    """One object: its key points, the tracked one, and where it was last."""

    given: list[Keys]
    """Of the seed and of the last correction."""
    own: deque[Keys]
    """Of own masks, the most recent ones."""
    previous: Keys | None = None
    """Of the mask on the previous frame; None where the object was not found with confidence."""
    key: Float[torch.Tensor, "D"]
    """Embedding of the tracked point where it was given."""
    point: Pixels
    """(1, 2): the tracked point, px of the image."""
    visible: bool
    """Whether the point was found on the last frame."""
    prior: Float[torch.Tensor, "h w"]
    """Mask on the previous frame, 0..1, per cell."""
    window: Float[torch.Tensor, "3"]
    """Search window."""


class OnePoint(OnlineSegmenter[Float[torch.Tensor, "D h w"], Keys]):
    """The ``one_point`` method."""

    def __init__(self, config: SegmentationConfig) -> None:
        o = self._options = config.methods.of(OnePointOptions)
        super().__init__(config, update_every=o.update_every, min_confidence=o.min_confidence)
        self.model = OnePointModel(o, self.device)
        self.net = self.model.net
        self.models: dict[int, ObjectModel] = {}
        self._clicks: dict[int, Points] = {}
        self._grey: Grey | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.models)

    def tracked_points(self) -> dict[int, tuple[float, float, bool]]:
        """Return (x, y), px, of each object's tracked point, and whether it is visible."""
        return {
            i: (float(m.point[0, 0]), float(m.point[0, 1]), m.visible)
            for i, m in self.models.items()
        }

    # -- the frame ---------------------------------------------------------------------------------

    def _encode(self, frame: Frame) -> Float[torch.Tensor, "D h w"]:
        return self.model.embed(frame.rgb)

    def _features_of(self, encoded: Float[torch.Tensor, "D h w"]) -> Float[torch.Tensor, "D h w"]:
        return encoded

    def _segment(self, frame: Frame, *, is_next: bool) -> Segmentation:
        """Compute the log-odds of all objects, and one distribution per pixel."""
        if not self.models:
            if is_next:
                self._grey = None
            return self._background(frame)
        shape, models = frame.shape, list(self.models.values())
        embedding = self._encoding(frame)
        windows = torch.stack([m.window for m in models])
        if is_next:
            self._track(frame, embedding, windows)
        logits = self._logits(embedding, shape)
        priors = torch.stack([m.prior for m in models])
        logits.masked_fill_(connectivity_gate(logits, priors) == 0, _LOGIT_OUTSIDE)
        searched = torch.tensor([self._is_searched(i) for i in self.models], device=self.device)
        probs = torch.sigmoid(self.model.resize(logits[None], shape)[0])
        merged = soft_aggregate(probs * (window_masks(windows, shape) & searched[:, None, None]))
        if is_next:
            self._move(frame, windows, merged)
        return Segmentation(self.object_ids, merged, self.model.boundary_px(shape))

    def _logits(
        self, embedding: Float[torch.Tensor, "D h w"], shape: tuple[int, int]
    ) -> Float[torch.Tensor, "N h w"]:
        """Return the log-odds of every object; row N + n of the distances is n's background."""
        n, parts, owners = len(self.models), [], []
        for row, m in enumerate(self.models.values()):
            keys = [*m.given, *m.own, *([m.previous] if m.previous is not None else [])]
            if m.visible:
                at = self.model.at(embedding, m.point, shape)
                keys.append(Keys(at, at[:0]))
            for k in keys:
                parts += [k.positive, k.negative]
                owners += [row] * len(k.positive) + [n + row] * len(k.negative)
        known = KeyPoints(torch.cat(parts), torch.tensor(owners, device=self.device))
        near, _ = distances(embedding, known, 2 * n)
        return object_logits(self.net, near[:n], near[n:])

    def _track(
        self,
        frame: Frame,
        embedding: Float[torch.Tensor, "D h w"],
        windows: Float[torch.Tensor, "N 3"],
    ) -> None:
        """Move every object's tracked point to this frame."""
        models, shape = list(self.models.values()), frame.shape
        cells = (int(embedding.shape[1]), int(embedding.shape[2]))
        found, near = most_similar(
            embedding, torch.stack([m.key for m in models]), window_masks(windows, cells)
        )
        points = self.model.pixels(found, shape)
        gamma = float(self.net.gamma)
        visible = near <= gamma
        grey = grey_image(frame.rgb)
        if self._options.tracker == "flow" and self._grey is not None:
            followed, held = flow(self._grey, grey, np.concatenate([m.point for m in models]))
            here = self.model.at(embedding, followed, shape)
            keys = torch.stack([m.key for m in models])
            alike = ((here - keys).norm(dim=1) <= gamma).cpu().numpy()
            use = held & alike & np.array([m.visible for m in models])
            points, visible = np.where(use[:, None], followed, points), use | visible
        self._grey = grey
        for m, point, is_visible in zip(models, points, visible, strict=True):
            if is_visible:
                m.point = point[None]
            m.visible = bool(is_visible)

    def _move(
        self,
        frame: Frame,
        windows: Float[torch.Tensor, "N 3"],
        merged: Float[torch.Tensor, "N1 H W"],
    ) -> None:
        """Move priors and windows to where the objects are; keep key points of own masks."""
        models, own = list(self.models.values()), merged[1:]
        cells = (int(models[0].prior.shape[0]), int(models[0].prior.shape[1]))
        priors = self.model.resize(own[None], cells)[0]
        moved = update_windows(windows, own, self._options.search_scale)
        for m, prior, window in zip(models, priors, moved, strict=True):
            m.prior, m.window = prior, window
            m.previous = self._keys_of_previous(frame, prior)
        self._mark_found(self.object_ids, merged)
        if not self._is_update_due() or not self._options.own_points:
            return
        winners = merged.max(0).indices
        for row, i in enumerate(self.models, start=1):
            mask = winners == row
            if not self._may_learn_own_mask(i) or not bool(mask.any()):
                continue
            quality = torch.stack([merged[row][mask].mean(), merged.new_zeros(())])
            at = np.array([inner_point(mask.cpu().numpy())], np.float64)
            embedding = self.model.at(self._encoding(frame), at, frame.shape)
            self.pending.add_own(Keys(embedding, embedding[:0]), [i], quality[None])

    def _keys_of_previous(self, frame: Frame, prior: Float[torch.Tensor, "h w"]) -> Keys | None:
        """Return key points of what is surely the object, and of what surely isn't next to it."""
        count = self._options.previous_points
        sure = (prior >= _SURE).flatten().nonzero()[:, 0]
        if not count or not len(sure):
            return None
        near = F.max_pool2d(prior[None, None], 2 * _RING_CELLS + 1, 1, _RING_CELLS)[0, 0] > 0.5
        others = ((prior <= 1 - _SURE) & near).flatten().nonzero()[:, 0]
        rows = self._encoding(frame).flatten(1).t()
        return Keys(*(rows[_evenly(cells, count)] for cells in (sure, others)))

    # -- given masks and points --------------------------------------------------------------------

    def _mask_of(self, seed: Seed, frame: Frame) -> Bool[np.ndarray, "H W"]:
        """Return the pixels that a prompt means; those of points are segmented from them."""
        self._clicks.pop(seed.object_id, None)
        if not isinstance(seed.prompt, Points):
            return super()._mask_of(seed, frame)
        check_prompt(seed.prompt, frame.shape)
        self._clicks[seed.object_id] = seed.prompt
        keys = self._clicked(frame, seed.prompt)
        known = KeyPoints(
            torch.cat([keys.positive, keys.negative]),
            torch.tensor([0] * len(keys.positive) + [1] * len(keys.negative), device=self.device),
        )
        near, _ = distances(self._encoding(frame), known, 2)
        logits = object_logits(self.net, near[:1], near[1:])
        mask = (self.model.resize(logits[None], frame.shape)[0, 0] >= 0).cpu().numpy()
        if seed.prompt.within is not None:
            mask &= seed.prompt.within
        return cut_at_depth_edges(_touched(mask, seed.prompt), seed.prompt, frame.depth)

    def _clicked(self, frame: Frame, points: Points) -> Keys:
        """Return the key points of clicks."""
        at = self.model.at(self._encoding(frame), points.xy.astype(np.float64), frame.shape)
        positive = torch.from_numpy(points.positive.copy()).to(self.device)
        return Keys(at[positive], at[~positive])

    def _add_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        for i, mask in masks.items():
            self.models[i] = self._new_model(frame, i, mask)

    def _correct_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        for i, mask in masks.items():
            m = self.models[i]
            if not mask.any():
                m.visible, m.prior = False, torch.zeros_like(m.prior)
                m.window = full_image_windows(1, self.device)[0]
                continue
            new = self._new_model(frame, i, mask)
            m.given = [m.given[0], *new.given]
            m.key, m.point, m.visible = new.key, new.point, new.visible
            m.prior, m.window = new.prior, new.window

    def _new_model(
        self, frame: Frame, object_id: int, mask: Bool[np.ndarray, "H W"]
    ) -> ObjectModel:
        """Return what a given mask, or the clicks that it was made of, tell of an object."""
        embedding, shape = self._encoding(frame), frame.shape
        cells = (int(embedding.shape[1]), int(embedding.shape[2]))
        share = self.model.inside(mask, cells)
        points = self._clicks.pop(object_id, None)
        if points is not None:
            keys, point = self._clicked(frame, points), points.xy[points.positive][:1]
        else:
            keys, point = self._keys_of(embedding, mask, share, shape)
        tracked = point.astype(np.float64).reshape(-1, 2)
        visible = bool(len(tracked))
        window = update_windows(
            full_image_windows(1, self.device),
            torch.tensor(mask[None], dtype=torch.float32, device=self.device),
            self._options.search_scale,
            limit_change=False,
        )[0]
        return ObjectModel(
            given=[keys],
            own=deque(maxlen=self._options.own_points),
            key=(
                self.model.at(embedding, tracked, shape)[0] if visible else embedding[:, 0, 0] * 0
            ),
            point=tracked if visible else np.zeros((1, 2)),
            visible=visible,
            prior=torch.from_numpy(share).to(self.device),
            window=window,
        )

    def _keys_of(
        self,
        embedding: Float[torch.Tensor, "D h w"],
        mask: Bool[np.ndarray, "H W"],
        share: Float[np.ndarray, "h w"],
        shape: tuple[int, int],
    ) -> tuple[Keys, Pixels]:
        """Return key points of a mask and of what is next to it, and the one that is tracked."""
        if not mask.any():
            nothing = embedding.new_zeros((0, embedding.shape[0]))
            return Keys(nothing, nothing), np.zeros((0, 2))
        count = self._options.seed_points
        point = np.array([inner_point(mask)], np.float64)
        first = self.model.at(embedding, point, shape)
        rows = embedding.flatten(1).t()
        inside = torch.from_numpy((share >= _MIN_INSIDE).ravel())
        ring = cv2.dilate((share > 0).astype(np.uint8), np.ones((2 * _RING_CELLS + 1,) * 2))
        outside = torch.from_numpy(((share <= 1 - _MIN_INSIDE) & (ring > 0)).ravel())
        positive = spread(torch.cat([first, rows[inside.to(rows.device)]]), count)
        return Keys(positive, spread(rows[outside.to(rows.device)], count)), point

    def _remove_objects(self, object_ids: Collection[int]) -> None:
        for i in object_ids:
            del self.models[i]

    def _learn(
        self, samples: Sequence[tuple[Keys, frozenset[int]]], object_ids: Collection[int]
    ) -> None:
        for keys, ids in samples:
            for i in ids:
                self.models[i].own.append(keys)


def _evenly(cells: Int[torch.Tensor, "K"], count: int) -> Int[torch.Tensor, "k"]:
    """Return at most ``count`` of some cells, evenly over their order."""
    if len(cells) <= count:
        return cells
    return cells[torch.linspace(0, len(cells) - 1, count, device=cells.device).round().long()]


def _touched(mask: Bool[np.ndarray, "H W"], points: Points) -> Bool[np.ndarray, "H W"]:
    """Return the clicks, and the connected parts of a mask that hold a positive one."""
    clicks = np.zeros(mask.shape, np.uint8)
    for x, y in np.rint(points.xy[points.positive]).astype(int).tolist():
        cv2.circle(clicks, (x, y), 1, 1, -1)
    parts = cv2.connectedComponents((mask | (clicks > 0)).astype(np.uint8))[1]
    return np.asarray(np.isin(parts, np.unique(parts[clicks > 0])))
