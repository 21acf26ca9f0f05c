"""The streaming method of paper 002 (see the package's docstring).

Every pixel has a learned embedding, computed once per frame for all objects. An object is known by
the embeddings of some key points: a pixel is its own where the nearest of them is nearer than gamma
(eq. 3.5, 3.6). One of the points is tracked, and its embedding on the present frame is a key point,
too ("first frame keypoint tracked", sec. 4.3.3).

Additions to the paper: an object has many key points, those of its first mask (which a click gives
by eq. 3.6), of some of the method's own masks, and those around a cell on the previous frame; the
background next to the object has as many; what is not connected to where the object was is not the
object; a window follows each object; objects compete for a pixel by soft aggregation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int

from vos_ros.config import SegmentationConfig
from vos_ros.geometry.masks import inner_point
from vos_ros.segmentation.aggregation import soft_aggregate
from vos_ros.segmentation.connectivity import connectivity_gate
from vos_ros.segmentation.key_points import (
    Cells,
    nearest,
    nearest_in_previous,
    object_logits,
)
from vos_ros.segmentation.methods.one_point.model import OnePointModel, Pixels
from vos_ros.segmentation.methods.one_point.object_model import Keys, ObjectModel
from vos_ros.segmentation.methods.one_point.options import OnePointOptions
from vos_ros.segmentation.online_segmenter import Masks, OnlineSegmenter, Weights
from vos_ros.segmentation.point_trackers.heatmap import HeatmapOptions
from vos_ros.segmentation.point_trackers.interface import PointTracker
from vos_ros.segmentation.point_trackers.motion import Grey, flow, grey_image, most_similar
from vos_ros.segmentation.point_trackers.registry import create
from vos_ros.segmentation.prompts import check_prompt, cut_at_depth_edges
from vos_ros.segmentation.search_window import (
    full_image_windows,
    grid_ranges,
    update_windows,
    window_masks,
)
from vos_ros.types import Frame, Points, Seed, Segmentation

_SURELY_INSIDE = 0.95
"""Share of a cell that a given mask (or the background) must cover for a key point there."""
_SURE = 0.8
"""Probability from which a cell of an own mask is surely the object, or surely background."""
_RETURN_SHARE = 0.5
"""Share of gamma within which an object that was out of sight must look like its key points."""
_LOGIT_OUTSIDE = -20.0
"""Logit of cells that cannot be the object."""


class OnePoint(OnlineSegmenter[Float[torch.Tensor, "D h w"], Keys]):
    """The ``one_point`` method."""

    def __init__(self, config: SegmentationConfig) -> None:
        o = self._options = config.methods.of(OnePointOptions)
        super().__init__(config, update_every=o.update_every, min_confidence=o.min_confidence)
        self.model = OnePointModel(o, self.device)
        self.net = self.model.net
        # Vectors of any length have distances too large for few bits.
        self._dtype = self.model.precision if self.net.spec.normalize else torch.float32
        self.models: dict[int, ObjectModel] = {}
        self._clicks: dict[int, Points] = {}
        self._grey: Grey | None = None
        self._tracker = _tracker(o, self.device)
        self._previous: Float[torch.Tensor, "D h w"] | None = None

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
        searched = [self._is_searched(i) for i in self.models]
        logits = self._logits(embedding, shape, windows, searched)
        priors = torch.stack([m.prior for m in models])
        logits.masked_fill_(connectivity_gate(logits, priors) == 0, _LOGIT_OUTSIDE)
        # Cells are several px wide: objects compete at half the resolution, a quarter of the work.
        half = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
        probs = torch.sigmoid(self.model.resize(logits[None], half)[0])
        allowed = window_masks(windows, half)
        allowed &= torch.tensor(searched, device=self.device)[:, None, None]
        merged = soft_aggregate(probs * allowed)
        if is_next:
            self._move(frame, windows, merged)
        merged = self.model.resize(merged[None], shape)[0]
        return Segmentation(self.object_ids, merged, self.model.boundary_px(shape))

    def _logits(
        self,
        embedding: Float[torch.Tensor, "D h w"],
        shape: tuple[int, int],
        windows: Float[torch.Tensor, "N 3"],
        searched: Sequence[bool],
    ) -> Float[torch.Tensor, "N h w"]:
        """Return the log-odds of every object, of those searched in their windows."""
        near, cells = self._near_in_previous(embedding), Cells.of(embedding, self._dtype)
        size = (int(embedding.shape[1]), int(embedding.shape[2]))
        ranges = grid_ranges(windows, size, 1)
        for row, (m, (rows, columns)) in enumerate(zip(self.models.values(), ranges, strict=True)):
            if not searched[row]:
                continue
            keys = [*m.given, *m.own]
            if m.visible:
                at = self.model.at(embedding, m.point, shape)
                keys.append(Keys(at, at[:0]))
            known = Keys.joined(keys)
            part = cells.part(slice(*rows), slice(*columns))
            to_keys = part.nearest([known.positive, known.negative])
            least = near[:, row, slice(*rows), slice(*columns)]
            torch.minimum(least, torch.stack(to_keys), out=least)
        logits = torch.full_like(near[0], _LOGIT_OUTSIDE)
        for row, (rows, columns) in enumerate(ranges):
            if searched[row]:
                here = (row, slice(*rows), slice(*columns))
                logits[here] = object_logits(self.net, near[0][here], near[1][here])
        lost = torch.stack([~(m.prior > 0.5).any() for m in self.models.values()])
        stricter = (1 - _RETURN_SHARE) * self.net.gamma * torch.exp(-self.net.log_softness)
        return torch.where(lost[:, None, None], logits - stricter, logits)

    def _near_in_previous(
        self, embedding: Float[torch.Tensor, "D h w"]
    ) -> Float[torch.Tensor, "2 N h w"]:
        """Return the distances to the nearby key points of the previous frame.

        Those of the objects, and those of their backgrounds.
        """
        priors = torch.stack([m.prior for m in self.models.values()])
        radius, previous = self._options.motion_cells, self._previous
        if previous is None or not radius:
            return torch.full_like(priors, torch.inf).expand(2, -1, -1, -1).clone()
        owned = torch.cat([priors >= _SURE, priors <= 1 - _SURE])
        near = nearest_in_previous(embedding, previous, owned, radius)
        return near.reshape(2, *priors.shape)

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
        if self._options.tracker != "embedding":
            followed, held = self._followed(frame)
            here = self.model.at(embedding, followed, shape)
            keys = torch.stack([m.key for m in models])
            alike = ((here - keys).norm(dim=1) <= gamma).cpu().numpy()
            use = held & alike
            points, visible = np.where(use[:, None], followed, points), use | visible
        for m, point, is_visible in zip(models, points, visible, strict=True):
            if is_visible:
                m.point = point[None]
            m.visible = bool(is_visible)

    def _followed(self, frame: Frame) -> tuple[Pixels, Bool[np.ndarray, "N"]]:
        """Return where the tracker of the options finds the points, and which it does find."""
        models = list(self.models.values())
        points = np.concatenate([m.point for m in models])
        if self._options.tracker == "flow":
            seen = np.array([m.visible for m in models])
            before, self._grey = self._grey, grey_image(frame.rgb)
            if before is None:
                return points, np.zeros_like(seen)
            followed, held = flow(before, self._grey, points)
            return followed, held & seen
        held = np.zeros(len(models), bool)
        for n, m in enumerate(models):
            if m.track is not None:
                now = m.track.step(frame.rgb)
                points[n], held[n] = now.points[0], now.visible[0]
        return points, held

    def _move(
        self,
        frame: Frame,
        windows: Float[torch.Tensor, "N 3"],
        merged: Float[torch.Tensor, "N1 H2 W2"],
    ) -> None:
        """Move priors and windows to where the objects are; keep key points of own masks."""
        models, own = list(self.models.values()), merged[1:]
        cells = (int(models[0].prior.shape[0]), int(models[0].prior.shape[1]))
        priors = self.model.resize(own[None], cells)[0]
        moved = update_windows(windows, own, self._options.search_scale)
        embedding = self._previous = self._encoding(frame)
        for m, prior, window in zip(models, priors, moved, strict=True):
            m.prior, m.window = prior, window
        self._mark_found(self.object_ids, merged)
        winners = merged.max(0).indices
        self._keep_points_in_masks(embedding, frame.shape, winners)
        if self._is_update_due() and self._options.own_points:
            for row, (i, m) in enumerate(self.models.items(), start=1):
                mask = winners == row
                if self._may_learn_own_mask(i) and bool(mask.any()):
                    quality = torch.stack([merged[row][mask].mean(), merged.new_zeros(())])
                    keys = Keys.of_shares(embedding, m.prior, _SURE, self._options.own_points)
                    self.pending.add_own(keys, [i], quality[None])

    def _keep_points_in_masks(
        self,
        embedding: Float[torch.Tensor, "D h w"],
        shape: tuple[int, int],
        winners: Int[torch.Tensor, "H2 W2"],
    ) -> None:
        """Move tracked points that left their own mask to its cell that is most like them.

        ``winners`` are the rows of ``merged`` of ``_move``, of an image of (H, W) ``shape``.
        """
        for row, m in enumerate(self.models.values(), start=1):
            scale = np.array(winners.shape[::-1]) / np.array(shape[::-1])
            last = np.array(winners.shape[::-1]) - 1
            x, y = np.clip(np.rint(m.point[0] * scale).astype(int), 0, last).tolist()
            sure = m.prior >= _SURE
            if int(winners[y, x]) != row and bool(sure.any()):
                found, near = most_similar(embedding, m.key[None], sure[None])
                m.point = self.model.pixels(found, shape)
                m.visible = bool(near[0] <= float(self.net.gamma))

    # -- given masks and points --------------------------------------------------------------------

    def _mask_of(self, seed: Seed, frame: Frame) -> Bool[np.ndarray, "H W"]:
        """Return the pixels that a prompt means; those of points are segmented from them."""
        self._clicks.pop(seed.object_id, None)
        if not isinstance(seed.prompt, Points):
            return super()._mask_of(seed, frame)
        check_prompt(seed.prompt, frame.shape)
        self._clicks[seed.object_id] = seed.prompt
        embedding = self._encoding(frame)
        keys = self._clicked(frame, seed.prompt)
        if seed.prompt.extent is not None:
            keys = self._with_extent(embedding, keys, seed.prompt.extent)
        logits = self._click_logits(embedding, keys)
        mask = (self.model.resize(logits[None], frame.shape)[0, 0] >= 0).cpu().numpy()
        for limit in (seed.prompt.within, seed.prompt.extent):
            if limit is not None:
                mask &= limit
        return cut_at_depth_edges(_touched(mask, seed.prompt), seed.prompt, frame.depth)

    def _with_extent(
        self,
        embedding: Float[torch.Tensor, "D h w"],
        clicked: Keys,
        extent: Bool[np.ndarray, "H W"],
    ) -> Keys:
        """Return key points of clicks, of the pixels that are mostly the object, and around."""
        share = self._share(extent, (int(embedding.shape[1]), int(embedding.shape[2])))
        count = self._options.seed_points
        return Keys.joined([clicked, Keys.of_shares(embedding, share, _SURELY_INSIDE, count)])

    def _click_logits(
        self, embedding: Float[torch.Tensor, "D h w"], keys: Keys
    ) -> Float[torch.Tensor, "1 h w"]:
        """Return the log-odds of the object of clicks.

        It is what is near them, or near the mean embedding of what is near them: an object is more
        than what looks like the pixel that was hit.
        """
        to_background = nearest(embedding, keys.negative)
        to_object = nearest(embedding, keys.positive)
        logits = object_logits(self.net, to_object[None], to_background)
        if not bool((logits >= 0).any()):
            return logits
        mean = embedding[:, logits[0] >= 0].mean(1)[None]
        mean = F.normalize(mean, dim=1) if self.net.spec.normalize else mean
        to_object = torch.minimum(to_object, nearest(embedding, mean))
        return object_logits(self.net, to_object[None], to_background)

    def _clicked(self, frame: Frame, points: Points) -> Keys:
        """Return the key points of clicks."""
        at = self.model.at(self._encoding(frame), points.xy.astype(np.float64), frame.shape)
        positive = torch.from_numpy(points.positive.copy()).to(self.device)
        return Keys(at[positive], at[~positive])

    def _add_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        for i, mask in masks.items():
            self.models[i] = self._new_model(frame, i, mask, weights[i])

    def _correct_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        for i, mask in masks.items():
            m = self.models[i]
            if not mask.any():
                m.visible, m.prior = False, torch.zeros_like(m.prior)
                m.window = full_image_windows(1, self.device)[0]
                continue
            new = self._new_model(frame, i, mask, weights[i])
            m.given = [m.given[0], *new.given]
            m.key, m.point, m.visible, m.track = new.key, new.point, new.visible, new.track
            m.prior, m.window = new.prior, new.window

    def _new_model(
        self,
        frame: Frame,
        object_id: int,
        mask: Bool[np.ndarray, "H W"],
        weight: Float[np.ndarray, "H W"] | None,
    ) -> ObjectModel:
        """Return what a given mask, and the clicks that it was made of, tell of an object."""
        embedding = self._previous = self._encoding(frame)
        cells = (int(embedding.shape[1]), int(embedding.shape[2]))
        share = self._share(mask, cells)
        usable = None if weight is None else self._share(weight > 0, cells) > 0.5
        count = self._options.seed_points
        keys = Keys.of_shares(embedding, share, _SURELY_INSIDE, count, usable)
        points = self._clicks.pop(object_id, None)
        if points is not None:
            clicked, point = self._clicked(frame, points), points.xy[points.positive][:1]
            keys = Keys.joined([clicked, keys])
        elif mask.any():
            point = np.array([inner_point(mask)])
            at = self.model.at(embedding, point, frame.shape)
            keys = Keys.joined([Keys(at, at[:0]), keys])
        else:
            point = np.zeros((0, 2))
        window = update_windows(
            full_image_windows(1, self.device),
            torch.tensor(mask[None], dtype=torch.float32, device=self.device),
            self._options.search_scale,
            limit_change=False,
        )[0]
        visible = bool(len(point))
        return ObjectModel(
            given=[keys],
            own=deque(maxlen=self._options.own_masks),
            key=keys.positive[0] if visible else embedding.new_zeros(embedding.shape[0]),
            point=point.astype(np.float64) if visible else np.zeros((1, 2)),
            visible=visible,
            track=self._tracker.start(frame.rgb, point) if self._tracker and visible else None,
            prior=share,
            window=window,
        )

    def _share(
        self, mask: Bool[np.ndarray, "H W"], cells: tuple[int, int]
    ) -> Float[torch.Tensor, "h w"]:
        """Return the share of each of (h, w) ``cells`` that a mask covers."""
        return torch.from_numpy(self.model.inside(mask, cells)).to(self.device)

    def _remove_objects(self, object_ids: Collection[int]) -> None:
        for i in object_ids:
            del self.models[i]

    def _learn(
        self, samples: Sequence[tuple[Keys, frozenset[int]]], object_ids: Collection[int]
    ) -> None:
        for keys, ids in samples:
            for i in ids:
                self.models[i].own.append(keys)


def _tracker(options: OnePointOptions, device: torch.device) -> PointTracker | None:
    """Return the tracker of the options; None where it has no network of its own."""
    if options.tracker in ("embedding", "flow"):
        return None
    own = HeatmapOptions(model=options.model) if options.tracker == "heatmap" else None
    return create(options.tracker, device, options=own)


def _touched(mask: Bool[np.ndarray, "H W"], points: Points) -> Bool[np.ndarray, "H W"]:
    """Return the clicks, and the connected parts of a mask that hold a positive one."""
    clicks = np.zeros(mask.shape, np.uint8)
    for x, y in np.rint(points.xy[points.positive]).astype(int).tolist():
        cv2.circle(clicks, (x, y), 1, 1, -1)
    parts = cv2.connectedComponents((mask | (clicks > 0)).astype(np.uint8))[1]
    return np.asarray(np.isin(parts, np.unique(parts[clicks > 0])))
