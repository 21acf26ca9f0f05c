"""Evidence for pairs of tracks and map objects, and their one-to-one assignment."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from vos_ros.association.interface import Evidence, Match, View
from vos_ros.config import AssociationConfig


def evidence(view: View, config: AssociationConfig) -> list[Evidence]:
    """Every pair whose masks meet. Work is one pass over each projection's crop, whatever the number of tracks.

    The tolerant IoU of a mask M and a projection P that may be off by sigma px counts as error only the part of M outside P dilated by
    sigma and the part of P eroded by sigma that M misses: 1 - (|M \\ P+| + |P- \\ M|) / |M u P|, the plain IoU at sigma 0.
    """
    height, width = view.owner.shape
    rows = len(view.track_ids) + 1
    area = np.bincount(view.owner.ravel(), minlength=rows).astype(float)
    known = None if view.depth is None else view.depth > 0
    with_depth = np.full(rows, math.nan) if known is None else np.bincount(view.owner[known], minlength=rows).astype(float)
    out = []
    for p in view.projections:
        reach = round(view.sigma_px.get(p.object_id, 0.0))
        x0, y0, x1, y1 = p.roi
        bx0, by0, bx1, by1 = max(x0 - reach, 0), max(y0 - reach, 0), min(x1 + reach, width), min(y1 + reach, height)
        inner = (slice(y0 - by0, y1 - by0), slice(x0 - bx0, x1 - bx0))
        mask = np.zeros((by1 - by0, bx1 - bx0), np.uint8)
        mask[inner] = p.mask_roi
        crop = view.owner[by0:by1, bx0:bx1]
        grown = shrunk = mask
        if reach:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
            grown = cv2.dilate(mask, kernel)
            # outside the crop lies nothing of the object; outside the image it may go on
            shrunk = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
        near = np.bincount(crop[grown > 0], minlength=rows)
        both = np.bincount(crop[mask > 0], minlength=rows)
        core = np.bincount(crop[shrunk > 0], minlength=rows)
        size, core_size = float(mask.sum()), float(shrunk.sum())
        agree = np.zeros(rows)
        if view.depth is not None:
            predicted = np.zeros(mask.shape, np.float32)
            predicted[inner] = p.depth_roi
            # every depth that the object shows within reach of a pixel
            window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
            farthest = np.asarray(cv2.dilate(predicted, window))
            nearest = np.asarray(cv2.erode(np.where(predicted > 0, predicted, np.float32(1e6)), window))
            measured, tolerance = view.depth[by0:by1, bx0:bx1], view.tolerance_m.get(p.object_id, 0.0)
            ok = (farthest > 0) & (measured > 0) & (measured >= nearest - tolerance) & (measured <= farthest + tolerance)
            agree = np.bincount(crop[ok], minlength=rows).astype(float)
        for row in np.flatnonzero(near[1:]) + 1:
            union = area[row] + size - both[row]
            wrong = (area[row] - near[row]) + (core_size - core[row])
            tolerant = max(0.0, 1.0 - wrong / union)
            inliers = agree[row] / with_depth[row] if with_depth[row] > 0 else math.nan
            score = tolerant if math.isnan(inliers) else config.iou_weight * tolerant + (1 - config.iou_weight) * inliers
            out.append(Evidence(view.track_ids[row - 1], p.object_id, float(score), float(both[row] / union), float(tolerant),
                                float(inliers)))
    return out


class HungarianAssociator:
    """One-to-one assignment of greatest total score (Kuhn 1955), gated; a track keeps its object unless another is clearly
    better."""

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config

    def __call__(self, view: View) -> tuple[Match, ...]:
        config = self._config
        pairs = [e for e in evidence(view, config)
                 if e.tolerant_iou >= config.min_iou and not e.depth_inlier_ratio < config.min_depth_inliers]
        by_track: dict[int, list[Evidence]] = {t: [] for t in view.track_ids}
        for e in pairs:
            by_track[e.track_id].append(e)
        chosen: dict[int, Evidence] = {}
        if pairs:
            objects = sorted({e.map_object_id for e in pairs})
            column = {o: i for i, o in enumerate(objects)}
            cost = np.zeros((len(view.track_ids), len(objects)))  # 0: no object
            for row, t in enumerate(view.track_ids):
                for e in by_track[t]:
                    bonus = config.continuity if view.bound.get(t) == e.map_object_id else 0.0
                    cost[row, column[e.map_object_id]] = -e.score - bonus
            table = {(e.track_id, e.map_object_id): e for e in pairs}
            for row, col in np.column_stack(linear_sum_assignment(cost)).tolist():
                if cost[row, col] < 0.0:
                    chosen[view.track_ids[row]] = table[view.track_ids[row], objects[col]]
        out = []
        for t in view.track_ids:
            best = chosen.get(t)
            others = [e for e in by_track[t] if best is None or e.map_object_id != best.map_object_id]
            out.append(Match(t, best, max(others, key=lambda e: e.score, default=None)))
        return tuple(out)


class SeedAssociator:
    """The null twin: a track is the object that it was seeded from, whatever the image says."""

    def __call__(self, view: View) -> tuple[Match, ...]:
        return tuple(
            Match(t, Evidence(t, view.bound[t], 1.0, math.nan, math.nan, math.nan) if view.bound.get(t) else None, None)
            for t in view.track_ids
        )
