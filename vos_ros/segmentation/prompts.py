"""First masks of objects from prompts: masks, boxes, clicks and strokes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from vos_ros.types import Box, Frame, Mask, Points, Prompt, Seed

_CLICK_RADIUS_PX = 3
"""Pixels within this distance of a click are the object."""
_GRABCUT_ITERATIONS = 5
_FILLED = 2
"""Value of pixels that a flood has reached."""
_MAX_STROKES = 100
"""Separate strokes of a scribble from which the object's colour is followed; a person draws few."""
_MAX_GRABCUT_PX = 320 * 240
"""Pixels from which on GrabCut works on a smaller image: it takes up to a second per 300,000."""
_MAX_DEPTH_STEP = 0.03
"""Largest step of depth from pixel to pixel within one object, as a share of the depth. A floor
seen at a grazing angle has steps of 1 %, the noise of structured light at 3 m is as much."""
_HOLE_SHARE = 1 / 160
"""Reach of a known depth into a gap, as a share of the image's width: a surface goes on over gaps
of twice this. The sensor leaves such gaps at edges and on dark or shiny spots."""
_SPECK_SHARE = 0.01
"""Largest part inside the clicked one, as a share of its area, that is noise of the depth."""
_FILL_TOLERANCE = (12, 12, 12)
"""Largest difference, per channel, from the colour of a stroke in the first guess of the object."""


def check_prompt(prompt: Prompt, shape: tuple[int, int] | None) -> None:
    """Raise ValueError where a prompt is empty, or doesn't fit an (H, W) image.

    ``shape`` None: the size of the image is not known yet and not checked.
    """
    size = "" if shape is None else f"the {shape[1]}x{shape[0]} image"
    if isinstance(prompt, Mask):
        if shape is not None and prompt.mask.shape != shape:
            raise ValueError(
                f"mask prompt has shape {prompt.mask.shape}, wanted that of {size}: {shape}"
            )
        if not prompt.mask.any():
            raise ValueError("mask prompt without a pixel: nothing says where the object is")
    elif isinstance(prompt, Box):
        if not np.isfinite(prompt.xyxy).all():
            raise ValueError(
                f"box {[float(v) for v in prompt.xyxy]} is not finite: wanted x0 y0 x1 y1"
            )
        x0, y0, x1, y1 = _clipped(prompt, shape)
        if x1 - x0 < 2 or y1 - y0 < 2:
            raise ValueError(
                f"box {[float(v) for v in prompt.xyxy]} covers no 2x2 px of {size or 'any image'}:"
                " wanted x0 y0 x1 y1"
            )
    elif isinstance(prompt, Points):
        if len(prompt.xy) == 0 or not prompt.positive.any():
            raise ValueError(
                "points prompt without a positive point: nothing says where the object is"
            )
        if len(prompt.xy) != len(prompt.positive):
            raise ValueError(f"{len(prompt.xy)} points but {len(prompt.positive)} positive flags")
        xy, (h, w) = np.rint(prompt.xy), shape or (2**31, 2**31)
        outside = ~((xy >= 0) & (xy < (w, h))).all(1)  # NaN too
        if outside.any():
            raise ValueError(
                f"point {prompt.xy[outside][0].tolist()} lies outside {size or 'the image'}"
            )
        for name, pixels in (("within", prompt.within), ("extent", prompt.extent)):
            if pixels is not None:
                _check_pixels(prompt, name, pixels, shape)
    else:
        if shape is not None and prompt.strokes.shape != shape:
            raise ValueError(
                f"scribble prompt has shape {prompt.strokes.shape}, wanted that of {size}: {shape}"
            )
        if not (prompt.strokes == 1).any():
            raise ValueError(
                "scribble without a stroke of value 1: nothing says where the object is"
            )


def _check_pixels(
    points: Points, name: str, pixels: Bool[np.ndarray, "H W"], shape: tuple[int, int] | None
) -> None:
    """Raise ValueError where the limit of clicks has another shape, or leaves out one of them."""
    if shape is not None and pixels.shape != shape:
        raise ValueError(
            f"{name} has shape {pixels.shape}, wanted that of the {shape[1]}x{shape[0]} image:"
            f" {shape}"
        )
    x, y = np.rint(points.xy[points.positive]).astype(int).T
    if not pixels[y, x].all():
        raise ValueError(
            f"a positive point lies outside the pixels that may be the object ({name})"
        )


def separate_clicks(seeds: Sequence[Seed], taken: Bool[np.ndarray, "H W"]) -> list[Seed]:
    """Return seeds of one frame whose clicks don't claim each other's objects.

    The positive points of each object are negative points of the others; ``taken`` pixels, those of
    objects that are followed already, are left out, unless a positive point of the object lies
    there. Prompts other than points stay as they are.

    Raises ValueError as ``check_prompt``: clicks are wrong.
    """
    clicks = {s.object_id: s.prompt for s in seeds if isinstance(s.prompt, Points)}
    for prompt in clicks.values():
        check_prompt(prompt, (int(taken.shape[0]), int(taken.shape[1])))
    return [
        replace(s, prompt=_separate(s.object_id, clicks, taken)) if s.object_id in clicks else s
        for s in seeds
    ]


def _separate(
    object_id: int, clicks: Mapping[int, Points], taken: Bool[np.ndarray, "H W"]
) -> Points:
    """Return the clicks of one object, told what belongs to others."""
    own = clicks[object_id]
    others = [p.xy[p.positive] for i, p in clicks.items() if i != object_id]
    xy = np.concatenate([own.xy, *others])
    positive = np.concatenate([own.positive, np.zeros(len(xy) - len(own.xy), bool)])
    within = own.within
    x, y = np.rint(own.xy[own.positive]).astype(int).T
    if taken.any() and not taken[y, x].any():
        within = ~taken if within is None else within & ~taken
    return replace(own, xy=xy, positive=positive, within=within)


def _clipped(box: Box, shape: tuple[int, int] | None) -> tuple[int, int, int, int]:
    """Return the box in whole px, clipped to the image."""
    h, w = shape if shape is not None else (2**31, 2**31)
    x0, y0, x1, y1 = (round(float(v)) for v in box.xyxy)
    return max(x0, 0), max(y0, 0), min(x1, w), min(y1, h)


def to_mask(prompt: Prompt, frame: Frame) -> Bool[np.ndarray, "H W"]:
    """Return the pixels of the object that a prompt means.

    A mask is returned as it is; it may be empty (the object is not in view). For a box, points and
    scribble it is the GrabCut (Rother et al. 2004) of the image that agrees with them; that of
    points is cut at edges of the depth. Points with an extent leave little open: with depth it is
    the surface that goes on from them there; without, GrabCut begins with the extent.

    Raises ValueError: a prompt other than a mask is empty or lies outside the image.
    """
    h, w = frame.shape
    if isinstance(prompt, Mask):
        return prompt.mask
    check_prompt(prompt, frame.shape)
    if isinstance(prompt, Box):
        x0, y0, x1, y1 = _clipped(prompt, frame.shape)
        inner = np.zeros((h, w), bool)
        inner[y0:y1, x0:x1] = True
        trimap = np.where(inner, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_BGD))
        if inner.all():  # GrabCut needs background: the image's border
            trimap[[0, -1], :] = cv2.GC_BGD
            trimap[:, [0, -1]] = cv2.GC_BGD
        return _grabcut(frame, trimap, inner)
    if isinstance(prompt, Points):
        strokes = np.zeros((h, w), np.uint8)
        xy = np.rint(prompt.xy).astype(int).tolist()
        for (x, y), positive in sorted(
            zip(xy, prompt.positive.tolist(), strict=True), key=lambda p: p[1]
        ):
            cv2.circle(strokes, (x, y), _CLICK_RADIUS_PX, 1 if positive else 2, -1)
    else:
        strokes = prompt.strokes
    certain = strokes == 1
    limit = _limit_of(prompt) if isinstance(prompt, Points) else None
    if isinstance(prompt, Points) and limit is not None and prompt.extent is not None:
        if frame.depth is not None:
            return cut_at_depth_edges(limit, prompt, frame.depth)
        trimap = np.where(limit, np.uint8(cv2.GC_PR_FGD), np.uint8(cv2.GC_BGD))
        trimap[limit & certain], trimap[strokes == 2] = cv2.GC_FGD, cv2.GC_BGD
        return _grabcut(frame, trimap, limit)
    trimap = np.full((h, w), cv2.GC_PR_BGD, np.uint8)
    trimap[_similar_pixels(frame, certain)] = cv2.GC_PR_FGD
    trimap[certain] = cv2.GC_FGD
    trimap[strokes == 2] = cv2.GC_BGD
    if limit is not None:
        trimap[~limit], certain = cv2.GC_BGD, certain & limit
    mask = _grabcut(frame, trimap, certain)
    # a component without a stroke is another object
    _, components = cv2.connectedComponents(mask.astype(np.uint8))
    touched = np.unique(components[certain & mask])
    mask = np.asarray(np.isin(components, touched[touched > 0]) | certain)
    return cut_at_depth_edges(mask, prompt, frame.depth) if isinstance(prompt, Points) else mask


def _limit_of(points: Points) -> Bool[np.ndarray, "H W"] | None:
    """Return the pixels that may be the object; None: all."""
    if points.within is None or points.extent is None:
        return points.within if points.extent is None else points.extent
    return np.asarray(points.within & points.extent)


def cut_at_depth_edges(
    mask: Bool[np.ndarray, "H W"], points: Points, depth: Float32[np.ndarray, "H W"] | None
) -> Bool[np.ndarray, "H W"]:
    """Return the part of a mask that is one surface with its positive clicks.

    Neighbouring pixels are one surface where their depths differ by less than 3 %. Over a narrow
    gap in the depth a surface goes on. Pixels in wider gaps are kept where they touch the surface:
    the depth doesn't tell whose they are, and no surface goes on beyond them. Where no click has
    depth, the mask is returned as it is.

    Args:
        mask: what the image alone tells.
        points: the clicks.
        depth: m, 0 unknown; None without a depth image.
    """
    if depth is None or not mask.any():
        return mask
    reach = max(1, round(_HOLE_SHARE * mask.shape[1]))
    filled = _without_narrow_gaps(depth, reach)
    known = filled > 0
    # Steps are compared as differences of logarithms, so that they are relative to the depth.
    level = np.log(np.where(known, filled, 1)).astype(np.float32)
    barrier = np.ones((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    barrier[1:-1, 1:-1] = ~(mask & known)
    step = math.log1p(_MAX_DEPTH_STEP)
    for x, y in np.rint(points.xy[points.positive]).astype(int).tolist():
        if not barrier[y + 1, x + 1]:
            flags = 4 | cv2.FLOODFILL_MASK_ONLY | (_FILLED << 8)
            cv2.floodFill(level, barrier, (x, y), 0, step, step, flags)
    surface = barrier[1:-1, 1:-1] == _FILLED
    if not surface.any():
        return mask
    rest = (mask & ~surface).astype(np.uint8)
    _, parts, stats, _ = cv2.connectedComponentsWithStats(rest, connectivity=4)
    specks = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] <= _SPECK_SHARE * surface.sum())
    gaps = cv2.connectedComponents((mask & ~known).astype(np.uint8), connectivity=4)[1]
    around = np.ones((3, 3), np.uint8)
    beside = cv2.dilate(surface.astype(np.uint8), around) > 0
    kept = surface | np.isin(gaps, _labels(gaps[beside]))
    at_border = cv2.dilate((~mask).astype(np.uint8), around) > 0
    enclosed = np.setdiff1d(_labels(parts[beside]), parts[at_border])
    return np.asarray(kept | np.isin(parts, np.intersect1d(specks, enclosed)))


def _without_narrow_gaps(
    depth: Float32[np.ndarray, "H W"], reach: int
) -> Float32[np.ndarray, "H W"]:
    """Return depth in which pixels within ``reach`` px of a known one have its value."""
    unknown = (~(depth > 0)).astype(np.uint8)
    if not unknown.any() or unknown.all():
        return np.where(unknown, np.float32(0), depth)
    distance, nearest = cv2.distanceTransformWithLabels(
        unknown, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(int(nearest.max()) + 1, np.float32)
    values[nearest[unknown == 0]] = depth[unknown == 0]
    return np.where(distance <= reach, values[nearest], np.float32(0))


def _labels(found: Int32[np.ndarray, "n"]) -> Int32[np.ndarray, "k"]:
    """Return the labels of components that occur, the background's left out."""
    labels = np.unique(found)
    return labels[labels > 0]


def _similar_pixels(frame: Frame, certain: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Return pixels connected to the certain ones and of similar colour: a first guess."""
    h, w = frame.shape
    filled = np.zeros((h + 2, w + 2), np.uint8)
    smooth = cv2.bilateralFilter(frame.rgb, 5, 25, 5)
    for x, y in _stroke_middles(certain):
        if filled[y + 1, x + 1]:
            continue
        cv2.floodFill(
            smooth,
            filled,
            (x, y),
            0,
            _FILL_TOLERANCE,
            _FILL_TOLERANCE,
            4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8),
        )
    return np.asarray(filled[1:-1, 1:-1] > 0)


def _stroke_middles(strokes: Bool[np.ndarray, "H W"]) -> list[tuple[int, int]]:
    """Return a pixel (x, y) in the middle of each stroke, of the _MAX_STROKES largest ones."""
    n, labels, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8))
    largest = 1 + np.argsort(-stats[1:n, cv2.CC_STAT_AREA], kind="stable")[:_MAX_STROKES]
    ys, xs = np.nonzero(strokes)
    order = np.argsort(labels[ys, xs], kind="stable")  # the pixels of one stroke after another
    first = np.concatenate([[0], np.cumsum(stats[1:n, cv2.CC_STAT_AREA])])
    middles = order[[first[k - 1] + stats[k, cv2.CC_STAT_AREA] // 2 for k in sorted(largest)]]
    return list(zip(xs[middles].tolist(), ys[middles].tolist(), strict=True))


def _grabcut(
    frame: Frame, trimap: UInt8[np.ndarray, "H W"], fallback: Bool[np.ndarray, "H W"]
) -> Bool[np.ndarray, "H W"]:
    """Run GrabCut from a trimap.

    Returns ``fallback`` where nothing is left, or where the trimap is all object or all background.
    """
    foreground = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    if foreground.all() or not foreground.any():
        return fallback
    rgb, guess, (h, w) = frame.rgb, trimap.copy(), trimap.shape
    scale = min(1.0, math.sqrt(_MAX_GRABCUT_PX / (h * w)))
    if scale < 1:
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))
        guess = np.asarray(cv2.resize(trimap, size, interpolation=cv2.INTER_NEAREST))
        strokes = (trimap == cv2.GC_FGD).astype(np.float32)  # thin ones stay
        guess[cv2.resize(strokes, size, interpolation=cv2.INTER_AREA) > 0] = cv2.GC_FGD
    cv2.setRNGSeed(0)  # its k-means draws from OpenCV's global generator; two runs must agree
    bgr, models = np.ascontiguousarray(rgb[..., ::-1]), (np.zeros((1, 65)), np.zeros((1, 65)))
    out, _, _ = cv2.grabCut(
        bgr, guess, (0, 0, 1, 1), *models, _GRABCUT_ITERATIONS, cv2.GC_INIT_WITH_MASK
    )
    found = ((out == cv2.GC_FGD) | (out == cv2.GC_PR_FGD)).astype(np.uint8)
    if found.shape != (h, w):
        found = np.asarray(cv2.resize(found, (w, h), interpolation=cv2.INTER_NEAREST))
    mask = (found > 0) & (trimap != cv2.GC_BGD) | (trimap == cv2.GC_FGD)
    return mask if mask.any() else fallback
