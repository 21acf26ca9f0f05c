"""The image and the map, per pixel: Bayes' rule with the projection as the prior and the segmenter as the likelihood.

For a followed object n with the projection M_n (a 0/1 mask) under a pose whose uncertainty moves it by about sigma_n px, the
prior of pixel x is E[M_n(x)] = (M_n * G_sigma)(x). Where measured depth contradicts every depth that the object shows within
2 sigma of the pixel, the prior is cut to what an outlier deserves. The segmenter's outline is itself uncertain by b px
(``Segmentation.boundary_px``), and neighbouring pixels err together, so that its odds against the background count with the exponent
beta_n = sigma_n^2 / (sigma_n^2 + b^2), the weight that two measurements of one outline deserve:

    posterior_n(x)  ~  prior_n(x) (p_n(x) / p_0(x))^beta_n,        posterior_0(x)  ~  1 - sum_n prior_n(x).

A sure pose thus makes the projection win and an unsure one the image. Two limits: a blur as wide as the object would leave it no pixel,
so a core of the prior is kept; and where sigma_n says that the projection lies rather beside its object than on it, the
segmenter was seeded beside it too, and beta_n is 0 (``projection_is_reliable``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Int

from vos_ros.types import Projection, Segmentation, row_type

_OUTLIER = 0.05  # of the prior is left where depth contradicts the object
_CORE = 0.25  # of the root of the object's area: the widest blur that leaves it a core
_ASTRAY = 0.5  # of the root of the object's area: a projection farther off lies rather beside its object than on it
_LEAK = 0.05  # prior of an object about where it was just followed; with _DOUBT it wins only pixels that others have claimed
_STAYS = 0.3  # beta up to which that wins no pixel: it is at most _LEAK / _DOUBT^beta = .1, and so much is the background's or a claimant's
_DOUBT = (
    0.1  # a segmenter's probability counts as at least this: near outlines it errs about that often
)
_FLOOR = 0.02  # least prior of the background
_MIN_SIGMA = 0.3  # px, below which blurring changes nothing
_MOST = 0.5  # of the image

_LEAST = 1e-6  # probability of the background, against which odds are taken

_Box = tuple[int, int, int, int]
_Plane = tuple[int, _Box, Float32[np.ndarray, "h w"] | None, float]
"""A row, where it may be, its prior there (None: the map says nothing of it) and the exponent of its odds."""


@dataclass(frozen=True, eq=False, slots=True)
class Prior:
    """P(pixel belongs to the object), in a crop x0 y0 x1 y1 of the image, 0 outside it. ``sigma_px`` is what beta is made of, 0 where the
    image has nothing to say."""

    roi: tuple[int, int, int, int]
    sigma_px: float
    prob: Float32[np.ndarray, "h w"]


def projection_prior(
    projection: Projection,
    sigma_px: float,
    depth: Float32[np.ndarray, "H W"] | None,
    tolerance_m: float,
) -> Prior:
    """The prior of one object: its visible projection blurred by the pose's uncertainty, cut where depth (m, 0 unknown) says no."""
    height, width = projection.shape
    pad = int(np.ceil(3 * sigma_px)) + 1
    x0, y0, x1, y1 = projection.roi
    px0, py0, px1, py1 = (
        max(x0 - pad, 0),
        max(y0 - pad, 0),
        min(x1 + pad, width),
        min(y1 + pad, height),
    )

    def padded(a: np.ndarray) -> np.ndarray:
        out = np.zeros((py1 - py0, px1 - px0), a.dtype)
        out[y0 - py0 : y1 - py0, x0 - px0 : x1 - px0] = a
        return out

    prob = padded(projection.mask_roi.astype(np.float32))
    # blurred away, a small object would lose every pixel to the background: its core stays more probable than not
    core_px = min(sigma_px, _CORE * float(np.sqrt(projection.area_px)))
    if core_px >= _MIN_SIGMA:
        mask = prob
        prob = cv2.GaussianBlur(mask, (0, 0), core_px, borderType=cv2.BORDER_REPLICATE)
        if core_px < sigma_px:
            np.maximum(
                prob,
                cv2.GaussianBlur(mask, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE),
                out=prob,
            )
    if depth is not None:
        predicted = padded(projection.depth_roi)
        reach = int(np.clip(round(2 * sigma_px), 1, 40))
        kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        farthest = cv2.dilate(predicted, kernel)
        nearest = cv2.erode(np.where(predicted > 0, predicted, np.float32(1e6)), kernel)
        measured = depth[py0:py1, px0:px1]
        odd = (measured > 0) & (
            (measured < nearest - tolerance_m) | (measured > farthest + tolerance_m)
        )
        prob[odd] *= _OUTLIER
    return Prior(
        (px0, py0, px1, py1),
        sigma_px if projection_is_reliable(projection, sigma_px) else 0.0,
        prob,
    )


def projection_is_reliable(projection: Projection, sigma_px: float) -> bool:
    """Whether a projection that is off by ``sigma_px`` is likely to lie on its object. Where it isn't, a segmenter that was seeded with it
    follows something else, and its evidence is worth nothing."""
    return sigma_px <= _ASTRAY * float(np.sqrt(projection.area_px))


def fuse(
    segmentation: Segmentation,
    priors: Mapping[int, Prior | None],
    previous: Mapping[int, tuple[int, int, int, int]],
    sigma_px: float,
) -> Segmentation:
    """The segmentation with ``winner`` and ``best`` of the posterior under the objects' priors; ``probs`` stay what the image says. (The
    posterior itself is not kept: to write it, mostly zeros, takes longer than all the rest.)

    ``priors[id]`` None means that the map predicts the object nowhere in the image; an id not in ``priors`` is one that the map says
    nothing of: it keeps its odds. ``previous`` are the boxes of the objects in the frame before, around which they keep a small
    prior whatever the map says; ``sigma_px`` is the pose's uncertainty for objects that the map predicts nowhere.
    """
    probs = segmentation.probs
    if not segmentation.object_ids or not priors:
        return segmentation
    height, width = probs.shape[1:]
    background = np.ones((height, width), np.float32)
    claims = [prior for i in segmentation.object_ids if (prior := priors.get(i)) is not None]
    for prior in claims:
        x0, y0, x1, y1 = prior.roi
        cv2.subtract(background[y0:y1, x0:x1], prior.prob, background[y0:y1, x0:x1])
    x0, y0, x1, y1 = _hull([prior.roi for prior in claims])
    np.maximum(background[y0:y1, x0:x1], np.float32(_FLOOR), out=background[y0:y1, x0:x1])
    # An object has nothing outside the boxes of its prior and of its last place: all that follows looks only there.
    planes: list[_Plane] = []
    for row, i in enumerate(segmentation.object_ids, start=1):
        if i not in priors:
            planes.append((row, (0, 0, width, height), None, 1.0))
            continue
        claim = priors[i]
        sigma = claim.sigma_px if claim is not None else sigma_px
        beta = sigma**2 / (sigma**2 + segmentation.boundary_px**2) if sigma > 0 else 0.0
        plane = _plane(
            claim, _grow(previous[i], height, width) if i in previous and beta > _STAYS else None
        )
        if plane is not None:
            planes.append((row, plane.roi, plane.prob, beta))
    of = (
        _posterior_cpu
        if probs.device.type == "cpu" and probs.dtype == torch.float32
        else _posterior
    )
    winner, best = of(probs, planes, background)
    return replace(segmentation, winner=winner, best=best)


def _posterior(
    probs: Float[torch.Tensor, "N1 H W"],
    planes: Sequence[_Plane],
    background: Float32[np.ndarray, "H W"],
) -> tuple[Int[torch.Tensor, "H W"], Float[torch.Tensor, "H W"]]:
    """The most probable row of each pixel and its probability, wherever the segmenter's probabilities are."""
    total = torch.from_numpy(background).to(probs)
    best, winner = (
        total.clone(),
        torch.zeros(total.shape, dtype=row_type(len(probs)), device=probs.device),
    )
    nobody = probs[0].clamp_min(_DOUBT)
    for row, (x0, y0, x1, y1), prior, beta in planes:
        if prior is None:
            mine = probs[row] / probs[0].clamp_min(_LEAST)
        else:
            mine = (probs[row, y0:y1, x0:x1].clamp_min(_DOUBT) / nobody[y0:y1, x0:x1]).pow_(beta)
            mine *= torch.from_numpy(prior).to(probs)
        total[y0:y1, x0:x1] += mine
        so_far = best[y0:y1, x0:x1]
        winner[y0:y1, x0:x1].masked_fill_(mine > so_far, row)
        torch.maximum(so_far, mine, out=so_far)
    return winner, best.div_(total)


def _posterior_cpu(
    probs: Float32[torch.Tensor, "N1 H W"],
    planes: Sequence[_Plane],
    background: Float32[np.ndarray, "H W"],
) -> tuple[Int[torch.Tensor, "H W"], Float32[torch.Tensor, "H W"]]:
    """The same on the CPU, in place of ``background``: of operations so small, torch takes twice as long, and NumPy for rows of crops."""
    p, total = probs.numpy(), background
    best, winner = background.copy(), torch.zeros(background.shape, dtype=row_type(len(p))).numpy()
    x0, y0, x1, y1 = _hull([box for _, box, _, _ in planes])
    nobody = np.empty_like(background)
    np.maximum(p[0, y0:y1, x0:x1], np.float32(_DOUBT), out=nobody[y0:y1, x0:x1])
    for row, (left, top, right, bottom), prior, beta in planes:
        here = (slice(top, bottom), slice(left, right))
        if prior is None:
            mine = p[row] / np.maximum(p[0], np.float32(_LEAST))
        else:
            mine = np.maximum(p[row][here], np.float32(_DOUBT))
            cv2.divide(mine, nobody[here], mine)
            cv2.pow(mine, beta, mine)
            cv2.multiply(mine, prior, mine)
        total_here, so_far = total[here], best[here]
        cv2.add(total_here, mine, total_here)
        cv2.copyTo(
            np.full(mine.shape, row, winner.dtype),
            cv2.compare(mine, so_far, cv2.CMP_GT),
            winner[here],
        )
        cv2.max(so_far, mine, so_far)
    cv2.divide(
        best[y0:y1, x0:x1], total[y0:y1, x0:x1], best[y0:y1, x0:x1]
    )  # elsewhere, all is the background's
    return torch.from_numpy(winner), torch.from_numpy(best)


def _hull(boxes: Sequence[_Box]) -> _Box:
    """The box around some; empty where there is none."""
    if not boxes:
        return 0, 0, 0, 0
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def limit_runaway_masks(
    segmentation: Segmentation, previous: Mapping[int, _Box]
) -> dict[int, Prior]:
    """Priors for followed objects that all at once cover ``_MOST`` of the image and did not fill half of that before: of these pixels, only
    those about their last place can be theirs. ``previous`` are the boxes of the objects that are to be looked at."""
    height, width = segmentation.probs.shape[1:]
    most, out = _MOST * height * width, {}
    rows = {row: i for row, i in enumerate(segmentation.object_ids, start=1) if i in previous}
    if not rows:
        return {}
    areas = (segmentation.probs[list(rows)] > 0.5).sum((1, 2)).tolist()
    for i, area in zip(rows.values(), areas, strict=True):
        x0, y0, x1, y1 = previous[i]
        if 2 * (x1 - x0) * (y1 - y0) < most < area:
            x0, y0, x1, y1 = box = _grow(previous[i], height, width)
            out[i] = Prior(box, float(width), np.full((y1 - y0, x1 - x0), 0.5, np.float32))
    return out


def _plane(prior: Prior | None, last: _Box | None) -> Prior | None:
    """The prior with what an object keeps about its last place; None where there is neither."""
    if last is None:
        return prior
    x0, y0, x1, y1 = last
    if prior is None:
        return Prior(last, 0.0, np.full((y1 - y0, x1 - x0), _LEAK, np.float32))
    px0, py0, px1, py1 = prior.roi
    hx0, hy0, hx1, hy1 = hull = _hull([last, prior.roi])
    out = np.zeros((hy1 - hy0, hx1 - hx0), np.float32)
    out[y0 - hy0 : y1 - hy0, x0 - hx0 : x1 - hx0] = _LEAK
    region = out[py0 - hy0 : py1 - hy0, px0 - hx0 : px1 - hx0]
    np.maximum(region, prior.prob, out=region)
    return Prior(hull, prior.sigma_px, out)


def _grow(box: _Box, height: int, width: int) -> _Box:
    """The box with half its size added on each side: how far a target may move between frames."""
    x0, y0, x1, y1 = box
    dx, dy = max((x1 - x0) // 2, 8), max((y1 - y0) // 2, 8)
    return max(x0 - dx, 0), max(y0 - dy, 0), min(x1 + dx, width), min(y1 + dy, height)
