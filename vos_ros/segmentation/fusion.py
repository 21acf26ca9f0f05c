"""Fuse image and map per pixel by Bayes' rule.

The projection of a map object is the prior, the segmenter's probability the likelihood. For a
followed object n with the projection M_n (a 0/1 mask) under a pose whose uncertainty moves it by
about sigma_n px, the prior of pixel x is E[M_n(x)] = (M_n * G_sigma)(x). Where measured depth
contradicts every depth that the object shows within 2 sigma of the pixel, the prior is reduced to
the share that outliers have. The segmenter's outline is itself uncertain by b px
(``Segmentation.boundary_px``), and the errors of neighbouring pixels are correlated. Its odds
against the background therefore count with the exponent beta_n = sigma_n^2 / (sigma_n^2 + b^2), the
weight that one of two measurements of the same outline deserves:

    posterior_n(x)  ~  prior_n(x) (p_n(x) / p_0(x))^beta_n,
    posterior_0(x)  ~  1 - sum_n prior_n(x).

A certain pose thus makes the projection win, and an uncertain one the image. There are two limits.
A blur as wide as the object would leave it no pixel, so a core of the prior is kept. Where sigma_n
is so large that the projection probably misses its object, the segmenter was seeded next to the
object too, and beta_n is 0 (``projection_is_reliable``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int

from vos_ros.types import Projection, Segmentation

LAST_PLACE_PRIOR = 0.05
"""Prior of an object around its place in the last frame. With ``MIN_LIKELIHOOD`` it wins only
pixels that others claim with as little."""
MIN_LIKELIHOOD = 0.1
"""A segmenter's probability counts as at least this: near outlines it errs about that often."""
MIN_BACKGROUND_PRIOR = 0.02
"""Minimum prior of the background where priors of objects overlap."""

_OUTLIER_SHARE = 0.05
"""Share of the prior that is kept where depth contradicts the object."""
_MAX_CORE_BLUR = 0.25
"""Maximum blur that leaves an object its core, as a share of the root of its area."""
_MAX_OFFSET = 0.5
"""Maximum uncertainty of a projection that is reliable, as a share of the root of its area."""
_MIN_LAST_PLACE_BETA = 0.3
"""Minimum beta with which the prior around the last place can win a pixel: below, it has at most
LAST_PLACE_PRIOR / MIN_LIKELIHOOD^beta = 0.1, less than the background or another object."""
_MIN_BLUR_PX = 0.3
"""Minimum blur, px, that changes a mask at all."""
_MAX_MASK_SHARE = 0.5
"""Maximum share of the image that a mask may cover all at once."""
_RUNAWAY_PRIOR = 0.5
"""Prior of a runaway mask around its last place: as probable as not."""
_BOX_ODDS = 4.0
"""Odds of an object against the background in its box: four of five points seen in the box around
an object are its own, the rest is what it stands on or leans at."""
_MIN_FOUND = 0.5
"""Share of the visible part of an object's box that a segmenter finds at least, unless it has lost
the object."""
_MIN_ODDS_BASE = 1e-6
"""Minimum probability of the background in odds against it."""
_MAX_BYTE_ROWS = 256
"""Maximum number of rows that one byte can tell apart."""
_NEVER_M = np.float32(1e6)
"""Depth, m, of pixels off the silhouette where the nearest depth is looked up."""

_Box = tuple[int, int, int, int]
_Plane = tuple[int, _Box, Float32[np.ndarray, "h w"] | None, float]
"""Row, box of its pixels, prior in the box (None: no constraint), exponent of its odds."""


@dataclass(frozen=True, eq=False, slots=True)
class Prior:
    """P(pixel belongs to the object), in a crop of the image; 0 outside the crop."""

    roi: tuple[int, int, int, int]
    """x0 y0 x1 y1, px, exclusive upper corner."""
    sigma_px: float
    """Uncertainty of the projection, from which beta follows; 0 where the image is not used."""
    prob: Float32[np.ndarray, "h w"]
    """Probability 0..1 of each pixel of ``roi``."""


class PixelRows(NamedTuple):
    """The most probable row of each pixel (0 background, n the n-th object), on the device."""

    row: Int[torch.Tensor, "H W"]
    """Row, in the smallest type that holds all: everything done with it later is then faster."""
    prob: Float[torch.Tensor, "H W"]
    """Probability of that row."""


def most_probable_rows(segmentation: Segmentation) -> PixelRows:
    """Return the most probable row of each pixel according to the image alone."""
    prob, row = segmentation.probs.max(0)
    return PixelRows(row.to(_row_type(len(segmentation.probs))), prob)


def followed_pixels(segmentation: Segmentation) -> Bool[np.ndarray, "H W"]:
    """Return the pixels of any object, according to the image alone."""
    return np.asarray((most_probable_rows(segmentation).row > 0).cpu().numpy())


def projection_prior(
    projection: Projection,
    sigma_px: float,
    depth: Float32[np.ndarray, "H W"] | None,
    tolerance_m: float,
) -> Prior:
    """Return the prior of one object: its visible projection, blurred by the pose's uncertainty.

    Args:
        projection: the object as predicted in the image.
        sigma_px: how far the pose's uncertainty moves the projection, px, 1 sigma.
        depth: measured depth, m, 0 unknown. Where it contradicts the object the prior is reduced.
        tolerance_m: difference of depths, m, up to which they agree.
    """
    height, width = projection.shape
    pad = int(np.ceil(3 * sigma_px)) + 1
    x0, y0, x1, y1 = projection.roi
    px0, py0 = max(x0 - pad, 0), max(y0 - pad, 0)
    px1, py1 = min(x1 + pad, width), min(y1 + pad, height)

    def padded(a: np.ndarray) -> np.ndarray:
        out = np.zeros((py1 - py0, px1 - px0), a.dtype)
        out[y0 - py0 : y1 - py0, x0 - px0 : x1 - px0] = a
        return out

    prob = padded(projection.mask_roi.astype(np.float32))
    # Blurred away, a small object would lose every pixel to the background: its core stays more
    # probable than not.
    core_px = min(sigma_px, _MAX_CORE_BLUR * float(np.sqrt(projection.area_px)))
    if core_px >= _MIN_BLUR_PX:
        mask = prob
        prob = _blurred(mask, core_px)
        if core_px < sigma_px:
            np.maximum(prob, _blurred(mask, sigma_px), out=prob)
    if depth is not None:
        predicted = padded(projection.depth_roi)
        reach = int(np.clip(round(2 * sigma_px), 1, 40))
        kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        farthest = cv2.dilate(predicted, kernel)
        nearest = cv2.erode(np.where(predicted > 0, predicted, _NEVER_M), kernel)
        measured = depth[py0:py1, px0:px1]
        contradicts = (measured > 0) & (
            (measured < nearest - tolerance_m) | (measured > farthest + tolerance_m)
        )
        prob[contradicts] *= _OUTLIER_SHARE
    reliable = projection_is_reliable(projection, sigma_px)
    return Prior((px0, py0, px1, py1), sigma_px if reliable else 0.0, prob)


def box_priors(
    projections: Sequence[Projection],
    sigma_px: Mapping[int, float],
    depth: Float32[np.ndarray, "H W"] | None,
    tolerance_m: Mapping[int, float],
) -> dict[int, Prior]:
    """Return the priors of objects that are known by their boxes alone, by object id.

    Which part of its box an object fills is not known, so the image decides there. An object's odds
    against the background are ``_BOX_ODDS`` in the visible part of its box, 1 where another object
    has the same pixels, and next to nothing outside and where depth contradicts it. Of boxes with
    the odds o_i at a pixel, an object has the prior o_i / (1 + sum o).

    Args:
        projections: of these objects.
        sigma_px: uncertainty of their places, px, by object id.
        depth: measured depth, m, 0 unknown.
        tolerance_m: difference of depths, m, up to which they agree, by object id.
    """
    priors, boxes = {}, np.ones(projections[0].shape if projections else (0, 0), np.float32)
    for p in projections:
        filled = replace(p, mask_roi=p.silhouette_roi)
        prior = projection_prior(filled, sigma_px[p.object_id], depth, tolerance_m[p.object_id])
        (left, top, _, _), (x0, y0, x1, y1) = prior.roi, p.roi
        prior.prob[y0 - top : y1 - top, x0 - left : x1 - left][p.mask_roi] = _BOX_ODDS
        # An uncertainty as wide as the image: there, the image decides.
        priors[p.object_id] = replace(prior, sigma_px=float(p.shape[1]))
        x0, y0, x1, y1 = prior.roi
        boxes[y0:y1, x0:x1] += prior.prob
    for prior in priors.values():
        x0, y0, x1, y1 = prior.roi
        np.divide(prior.prob, boxes[y0:y1, x0:x1], out=prior.prob)
    return priors


def follows_box(segmentation: Segmentation, row: int, projection: Projection) -> bool:
    """Tell whether the segmenter still follows an object that is known by its box alone.

    It has lost the object where it finds less than half of what is seen in the box.

    Args:
        segmentation: the objects according to the image.
        row: of the object.
        projection: of the object.
    """
    x0, y0, x1, y1 = projection.roi
    found = (segmentation.probs[row, y0:y1, x0:x1] > 0.5).cpu().numpy() & projection.mask_roi
    return bool(np.count_nonzero(found) >= _MIN_FOUND * projection.area_px)


def projection_is_reliable(projection: Projection, sigma_px: float) -> bool:
    """Tell whether a projection that is off by ``sigma_px`` is likely to overlap its object.

    Where it is not, a segmenter that was seeded with it follows something else, and its evidence
    is worth nothing.
    """
    return sigma_px <= _MAX_OFFSET * float(np.sqrt(projection.area_px))


def fuse(
    segmentation: Segmentation,
    priors: Mapping[int, Prior | None],
    previous: Mapping[int, tuple[int, int, int, int]],
    sigma_px: float,
) -> PixelRows:
    """Return the most probable row of each pixel under the objects' priors, and its posterior.

    The posterior of the other rows is not kept: to write it, mostly zeros, takes longer than all
    the rest.

    Args:
        segmentation: the objects according to the image.
        priors: by object id. None: the map predicts the object nowhere in the image. An id without
            an entry: the map does not constrain the object, which keeps its odds.
        previous: boxes (x0 y0 x1 y1 px) of the objects in the last frame, around which they keep a
            small prior whatever the map predicts.
        sigma_px: the pose's uncertainty, for objects that the map predicts nowhere.
    """
    probs = segmentation.probs
    if not segmentation.object_ids or not priors:
        return most_probable_rows(segmentation)
    height, width = probs.shape[1:]
    background = np.ones((height, width), np.float32)
    claims = [prior for i in segmentation.object_ids if (prior := priors.get(i)) is not None]
    for prior in claims:
        x0, y0, x1, y1 = prior.roi
        cv2.subtract(background[y0:y1, x0:x1], prior.prob, background[y0:y1, x0:x1])
    x0, y0, x1, y1 = _hull([prior.roi for prior in claims])
    region = background[y0:y1, x0:x1]
    np.maximum(region, np.float32(MIN_BACKGROUND_PRIOR), out=region)
    # An object has nothing outside the boxes of its prior and of its last place: all that follows
    # works in these boxes only.
    planes: list[_Plane] = []
    for row, i in enumerate(segmentation.object_ids, start=1):
        if i not in priors:
            planes.append((row, (0, 0, width, height), None, 1.0))
            continue
        claim = priors[i]
        sigma = claim.sigma_px if claim is not None else sigma_px
        beta = sigma**2 / (sigma**2 + segmentation.boundary_px**2) if sigma > 0 else 0.0
        stays = i in previous and beta > _MIN_LAST_PLACE_BETA
        plane = _with_last_place(claim, _grown(previous[i], height, width) if stays else None)
        if plane is not None:
            planes.append((row, plane.roi, plane.prob, beta))
    on_cpu = probs.device.type == "cpu" and probs.dtype == torch.float32
    return (_posterior_cpu if on_cpu else _posterior)(probs, planes, background)


def _posterior(
    probs: Float[torch.Tensor, "N1 H W"],
    planes: Sequence[_Plane],
    background: Float32[np.ndarray, "H W"],
) -> PixelRows:
    """Return the most probable row of each pixel, on the device of ``probs``."""
    total = torch.from_numpy(background).to(probs)
    best = total.clone()
    winner = torch.zeros(total.shape, dtype=_row_type(len(probs)), device=probs.device)
    nothing = probs[0].clamp_min(MIN_LIKELIHOOD)
    for row, (x0, y0, x1, y1), prior, beta in planes:
        if prior is None:
            own = probs[row] / probs[0].clamp_min(_MIN_ODDS_BASE)
        else:
            likelihood = probs[row, y0:y1, x0:x1].clamp_min(MIN_LIKELIHOOD)
            own = (likelihood / nothing[y0:y1, x0:x1]).pow_(beta)
            own *= torch.from_numpy(prior).to(probs)
        total[y0:y1, x0:x1] += own
        best_so_far = best[y0:y1, x0:x1]
        winner[y0:y1, x0:x1].masked_fill_(own > best_so_far, row)
        torch.maximum(best_so_far, own, out=best_so_far)
    return PixelRows(winner, best.div_(total))


def _posterior_cpu(
    probs: Float32[torch.Tensor, "N1 H W"],
    planes: Sequence[_Plane],
    background: Float32[np.ndarray, "H W"],
) -> PixelRows:
    """Compute ``_posterior`` on the CPU, in place of ``background``.

    Of operations on small crops, torch takes twice as long, and NumPy too for rows of crops.
    """
    p, total = probs.numpy(), background
    best = background.copy()
    winner = torch.zeros(background.shape, dtype=_row_type(len(p))).numpy()
    x0, y0, x1, y1 = _hull([box for _, box, _, _ in planes])
    nothing = np.empty_like(background)
    np.maximum(p[0, y0:y1, x0:x1], np.float32(MIN_LIKELIHOOD), out=nothing[y0:y1, x0:x1])
    for row, (left, top, right, bottom), prior, beta in planes:
        here = (slice(top, bottom), slice(left, right))
        if prior is None:
            own = p[row] / np.maximum(p[0], np.float32(_MIN_ODDS_BASE))
        else:
            own = np.maximum(p[row][here], np.float32(MIN_LIKELIHOOD))
            cv2.divide(own, nothing[here], own)
            cv2.pow(own, beta, own)
            cv2.multiply(own, prior, own)
        total_here, best_so_far = total[here], best[here]
        cv2.add(total_here, own, total_here)
        better = cv2.compare(own, best_so_far, cv2.CMP_GT)
        cv2.copyTo(np.full(own.shape, row, winner.dtype), better, winner[here])
        cv2.max(best_so_far, own, best_so_far)
    # Elsewhere, all is the background's.
    cv2.divide(best[y0:y1, x0:x1], total[y0:y1, x0:x1], best[y0:y1, x0:x1])
    return PixelRows(torch.from_numpy(winner), torch.from_numpy(best))


def limit_runaway_masks(
    segmentation: Segmentation, previous: Mapping[int, _Box]
) -> dict[int, Prior]:
    """Return priors that keep masks which all at once cover half of the image to their last place.

    Only objects whose box in the last frame filled less than half of that are limited.

    Args:
        segmentation: the objects according to the image.
        previous: boxes in the last frame (x0 y0 x1 y1 px) of the objects to check.
    """
    height, width = segmentation.probs.shape[1:]
    max_px, out = _MAX_MASK_SHARE * height * width, {}
    rows = {row: i for row, i in enumerate(segmentation.object_ids, start=1) if i in previous}
    if not rows:
        return {}
    areas = (segmentation.probs[list(rows)] > 0.5).sum((1, 2)).tolist()
    for i, area in zip(rows.values(), areas, strict=True):
        x0, y0, x1, y1 = previous[i]
        if 2 * (x1 - x0) * (y1 - y0) < max_px < area:
            x0, y0, x1, y1 = box = _grown(previous[i], height, width)
            prob = np.full((y1 - y0, x1 - x0), _RUNAWAY_PRIOR, np.float32)
            # An uncertainty as wide as the image: there, the image decides.
            out[i] = Prior(box, float(width), prob)
    return out


def _row_type(rows: int) -> torch.dtype:
    """Return the smallest integer type that numbers so many rows."""
    return torch.uint8 if rows <= _MAX_BYTE_ROWS else torch.int16


def _blurred(mask: Float32[np.ndarray, "h w"], sigma_px: float) -> Float32[np.ndarray, "h w"]:
    """Blur a mask, which at the image's border is taken to go on outside."""
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE))


def _hull(boxes: Sequence[_Box]) -> _Box:
    """Return the box around all boxes; an empty one where there are none."""
    if not boxes:
        return 0, 0, 0, 0
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _with_last_place(prior: Prior | None, last: _Box | None) -> Prior | None:
    """Return the prior with a minimum around the object's last place; None where both are None."""
    if last is None:
        return prior
    x0, y0, x1, y1 = last
    if prior is None:
        return Prior(last, 0.0, np.full((y1 - y0, x1 - x0), LAST_PLACE_PRIOR, np.float32))
    px0, py0, px1, py1 = prior.roi
    hx0, hy0, hx1, hy1 = hull = _hull([last, prior.roi])
    out = np.zeros((hy1 - hy0, hx1 - hx0), np.float32)
    out[y0 - hy0 : y1 - hy0, x0 - hx0 : x1 - hx0] = LAST_PLACE_PRIOR
    region = out[py0 - hy0 : py1 - hy0, px0 - hx0 : px1 - hx0]
    np.maximum(region, prior.prob, out=region)
    return Prior(hull, prior.sigma_px, out)


def _grown(box: _Box, height: int, width: int) -> _Box:
    """Add half of its size to each side of a box: as far as a target may move between frames."""
    x0, y0, x1, y1 = box
    dx, dy = max((x1 - x0) // 2, 8), max((y1 - y0) // 2, 8)
    return max(x0 - dx, 0), max(y0 - dy, 0), min(x1 + dx, width), min(y1 + dy, height)
