"""Clips made from still images.

The objects of an image, its background and objects pasted from other images move on paths of their
own. They turn, grow, bend, pass in front of each other and smear, over a background whose holes are
filled. The labels are exact by construction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vos_ros.datasets.masks import Ids
from vos_ros.training.augment import color_matrix, streak
from vos_ros.training.config import ClipConfig, StillsConfig
from vos_ros.training.windows import (
    CONTROL_POINTS,
    bend,
    box_of,
    objects_of,
    place,
    resample,
    window,
)

Picture = tuple[UInt8[np.ndarray, "h w 3"], Ids, int]
"""An image, its ids, and the id that means unknown."""
_MARGIN = 4  # px around a cut-out
_GRID = 9  # points each way at which a bend is evaluated; linear between
_MAX_SHUTTER = 0.5  # share of the time between frames in which a shutter is open
_MAX_COMPANY = 3  # pasted objects
_MAX_HOLE_SHARE = 0.7  # of an image, above which too little is left to fill the hole from


@dataclass(eq=False, slots=True)
class _Layer:
    """Hold a cut-out and its path."""

    rgba: UInt8[np.ndarray, "h w 4"]
    center: tuple[float, float]  # px of the cut-out
    extent: tuple[float, float]  # width and height of the object, px of the cut-out
    at: Float64[np.ndarray, "Q 2"]  # of the centre, px of the frame
    zoom: Float64[np.ndarray, "Q"]  # frame px per cut-out px
    angle: Float64[np.ndarray, "Q"]  # rad
    bends: Float64[np.ndarray, "C 2"]  # shifts of the control points, px of the cut-out
    bent: Float64[np.ndarray, "Q"]  # factor of the bends
    value: int = 0  # label, 0 for what isn't followed
    shutter: float = 0.0  # share of the time between frames in which it smears
    from_frame: int = 0  # first frame in which it is drawn


def still_clip(
    picture: Picture, other: Callable[[], Picture], config: ClipConfig, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "Q H W 3"], UInt8[np.ndarray, "Q H W"]] | None:
    """Make frames and labels (0 background, 1..n objects) of a clip.

    None where the picture has no object that is large enough.

    Args:
        picture: the image whose objects are followed.
        other: gives further pictures, to paste from.
        config: size, length and motion.
        rng: draws everything random.
    """
    rgb, ids, ignore = picture
    c, size = config.stills, (config.width, config.height)
    chosen = _choose(ids, ignore, config, rng)
    if not chosen:
        return None
    boxes = [box_of(ids == i) for i in chosen]
    box = boxes[0]
    assert box is not None
    pixel = (
        np.sqrt(box[2] * box[3])
        * config.area_factor
        * np.exp(rng.normal(0, config.jitter_scale))
        / np.sqrt(size[0] * size[1])
    )
    offset = rng.uniform(-0.5, 0.5, 2) * config.jitter_center * np.sqrt(box[2] * box[3])
    x, y, pixel = place(
        (box[0] + offset[0], box[1] + offset[1]),
        pixel,
        size,
        (rgb.shape[1], rgb.shape[0]),
        config.inside,
    )
    turn = np.radians(config.augment.rotation_deg) * rng.uniform(-1, 1)
    base = window((x, y), pixel, size, turn)
    back = np.linalg.inv(base[:, :2])
    pace = float(np.exp(rng.normal(0, 0.6)))

    layers = []
    for value, i in enumerate(chosen, start=1):
        layer = _cut(rgb, ids == i, config.frames, value)
        start = back @ (np.asarray(boxes[value - 1][:2]) - base[:, 2])  # type: ignore[index]
        _move(layer, start, 1 / pixel, -turn, c, pace, size, rng)
        layers.append(layer)
    length = np.sqrt(box[2] * box[3]) / pixel
    layers += _company(picture, other, layers, length, pace, config, rng)
    rng.shuffle(layers)
    if rng.random() < c.occluder:
        layers.append(_occluder(other, layers, length, config, rng))

    frames = _background(picture, chosen, other, base, pace, config, rng)
    labels = np.zeros(frames.shape[:3], np.uint8)
    for t in range(config.frames):
        for layer in layers:
            _paint(layer, t, frames[t], labels[t])
    return frames, labels


def _choose(ids: Ids, ignore: int, config: ClipConfig, rng: np.random.Generator) -> list[int]:
    """Choose up to ``config.objects`` ids that are large enough, in random order."""
    enough = objects_of(ids, ignore, config.min_px)
    rng.shuffle(enough)
    return enough[: config.objects]


def _cut(rgb: UInt8[np.ndarray, "h w 3"], mask: np.ndarray, frames: int, value: int) -> _Layer:
    """Cut out what the mask shows, with a soft edge of about a pixel, as a layer without motion."""
    h, w = mask.shape
    box = box_of(mask)
    assert box is not None
    x0, x1 = (
        int(v)
        for v in np.clip((box[0] - box[2] / 2 - _MARGIN, box[0] + box[2] / 2 + _MARGIN + 2), 0, w)
    )
    y0, y1 = (
        int(v)
        for v in np.clip((box[1] - box[3] / 2 - _MARGIN, box[1] + box[3] / 2 + _MARGIN + 2), 0, h)
    )
    alpha = cv2.GaussianBlur(
        np.ascontiguousarray(mask[y0:y1, x0:x1]).view(np.uint8) * np.uint8(255), (3, 3), 0
    )
    still = np.zeros(frames)
    return _Layer(
        np.dstack([rgb[y0:y1, x0:x1], alpha]),
        (box[0] - x0, box[1] - y0),
        (box[2], box[3]),
        np.zeros((frames, 2)),
        still + 1.0,
        still,
        np.zeros((CONTROL_POINTS, 2)),
        still,
        value,
    )


def _walk(frames: int, rng: np.random.Generator, n: int = 1) -> Float64[np.ndarray, "Q n"]:
    """Draw n smooth random paths from 0, about one unit per frame."""
    step, steps = rng.normal(size=n), [np.zeros(n)]
    for _ in range(frames - 1):
        steps.append(step)
        step = 0.7 * step + 0.7 * rng.normal(size=n)
    return np.cumsum(steps, 0)


def _move(
    layer: _Layer,
    start: Float64[np.ndarray, "2"],
    zoom: float,
    angle: float,
    c: StillsConfig,
    pace: float,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    """Draw the layer's path from its place in the first frame, in place.

    Args:
        layer: gets the path.
        start: its centre in the first frame, px of the frame.
        zoom: frame px per cut-out px in the first frame.
        angle: its turn in the first frame, rad.
        c: kinds and sizes of motion.
        pace: factor of all motion of the clip.
        size: (W, H) of the frames.
        rng: draws the path.
    """
    frames = len(layer.zoom)
    length = min(zoom * np.sqrt(layer.extent[0] * layer.extent[1]), 0.6 * min(size))
    layer.at = start + c.shift * pace * length * _walk(frames, rng, 2)
    if rng.random() < c.stay:
        layer.at[1:] = np.abs(
            (layer.at[1:] + size) % (2 * np.asarray(size)) - size
        )  # bounces off the frame's edges
    layer.zoom = zoom * np.exp(np.clip(c.grow * pace * _walk(frames, rng)[:, 0], -0.7, 0.7))
    layer.angle = angle + np.radians(c.turn_deg) * pace * _walk(frames, rng)[:, 0]
    layer.bends = (
        c.bend * rng.normal(size=(CONTROL_POINTS, 2)) * np.sqrt(layer.extent[0] * layer.extent[1])
    )
    layer.bent = np.clip(np.sqrt(pace) * _walk(frames, rng)[:, 0], -2, 2)
    if rng.random() < c.motion_blur:
        layer.shutter = rng.uniform(0.1, _MAX_SHUTTER)


def _company(
    picture: Picture,
    other: Callable[[], Picture],
    targets: list[_Layer],
    length: float,
    pace: float,
    config: ClipConfig,
    rng: np.random.Generator,
) -> list[_Layer]:
    """Paste up to three objects, about as large as the first target.

    Where more objects may be followed than the picture has, some of the pasted ones are.

    Args:
        picture: the image whose objects are followed.
        other: gives pictures to paste from.
        targets: layers of the objects that are followed.
        length: size of the first target, px of the frame.
        pace: factor of all motion of the clip.
        config: probabilities and sizes.
        rng: draws everything random.
    """
    c, size, out = config.stills, (config.width, config.height), []
    values = len(targets)
    for _ in range(_MAX_COMPANY):
        if rng.random() >= c.distractors:
            continue
        twin = rng.random() < c.twin
        if twin:
            layer = _twin(targets[int(rng.integers(len(targets)))], rng)
        else:
            rgb, ids, ignore = other()
            found = _choose(ids, ignore, config, rng)
            if not found:
                continue
            layer = _cut(rgb, ids == found[0], config.frames, 0)
        if not twin and values < config.objects and rng.random() < 0.5:
            values += 1
            layer.value = values
        zoom = length * np.exp(rng.uniform(-0.8, 0.4)) / np.sqrt(layer.extent[0] * layer.extent[1])
        _move(
            layer,
            rng.uniform(0, 1, 2) * size,
            min(zoom, 4.0),
            rng.normal(0, 0.3),
            c,
            pace,
            size,
            rng,
        )
        out.append(layer)
    return out


def _twin(of: _Layer, rng: np.random.Generator) -> _Layer:
    """Copy a layer, mirrored or not, in a slightly different colour, without its motion."""
    rgba = of.rgba[:, ::-1] if rng.random() < 0.5 else of.rgba
    rgb = cv2.transform(
        cv2.cvtColor(np.ascontiguousarray(rgba), cv2.COLOR_RGBA2RGB), color_matrix(rng, 0.8)
    )
    center = (
        rgba.shape[1] - 1 - of.center[0] if rgba is not of.rgba else of.center[0],
        of.center[1],
    )
    return _Layer(
        np.dstack([rgb, rgba[..., 3]]),
        center,
        of.extent,
        of.at,
        of.zoom,
        of.angle,
        of.bends,
        of.bent,
    )


def _occluder(
    other: Callable[[], Picture],
    layers: list[_Layer],
    length: float,
    config: ClipConfig,
    rng: np.random.Generator,
) -> _Layer:
    """Make a blob or a bar that crosses the first target's path after the first frame.

    Args:
        other: gives the picture whose texture it has.
        layers: those of the clip so far.
        length: size of the first target, px of the frame.
        config: size and length of the clip.
        rng: draws shape and path.
    """
    rgb = other()[0]
    h, w = rgb.shape[:2]
    mask = np.zeros((h, w), np.uint8)
    middle, reach = np.array([w, h]) / 2, min(w, h) / 2 - _MARGIN
    if rng.random() < 0.4:  # a bar
        corners = cv2.boxPoints(
            (
                (float(middle[0]), float(middle[1])),
                (1.8 * reach, reach * rng.uniform(0.1, 0.4)),
                rng.uniform(0, 180),
            )
        )
    else:
        turns = np.sort(rng.uniform(0, 2 * np.pi, 9))
        corners = middle + (reach * rng.uniform(0.45, 1.0, 9))[:, None] * np.stack(
            [np.cos(turns), np.sin(turns)], 1
        )
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], 1)
    layer = _cut(rgb, mask > 0, config.frames, 0)
    zoom = length * rng.uniform(0.4, 1.1) / max(layer.extent)
    target = next(x for x in layers if x.value == 1)
    meets = int(rng.integers(1, config.frames))
    heading = rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(heading), np.sin(heading)]) * length * rng.uniform(0.3, 1.0)
    times = np.arange(config.frames)[:, None] - meets
    layer.at = target.at[meets] + rng.normal(0, 0.2 * length, 2) + times * way
    layer.zoom = np.full(config.frames, zoom)
    layer.angle = rng.uniform(0, 6) + rng.normal(0, 0.15) * np.arange(config.frames)
    layer.shutter = rng.uniform(0, _MAX_SHUTTER)
    layer.from_frame = 1
    return layer


def _background(
    picture: Picture,
    chosen: list[int],
    other: Callable[[], Picture],
    base: Float64[np.ndarray, "2 3"],
    pace: float,
    config: ClipConfig,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "Q H W 3"]:
    """Render what lies behind all layers, with a little motion.

    It is the picture without the chosen objects, or another picture without its own.

    Args:
        picture: the image whose objects are followed.
        chosen: ids of those.
        other: gives another picture.
        base: window of the first frame.
        pace: factor of all motion of the clip.
        config: size, length and motion.
        rng: draws everything random.
    """
    rgb, ids, ignore = picture
    c, size = config.stills, (config.width, config.height)
    hole = np.isin(ids, [*chosen, ignore])
    if rng.random() < c.new_background or hole.mean() > _MAX_HOLE_SHARE:
        rgb, ids, _ = other()
        hole = ids != 0
        x, y, pixel = place(
            (rgb.shape[1] / 2, rgb.shape[0] / 2),
            np.sqrt(abs(np.linalg.det(base[:, :2]))),
            size,
            (rgb.shape[1], rgb.shape[0]),
            "all",
        )
        base = window((x, y), pixel, size, 0.0, rng.random() < 0.5)
        if hole.mean() > _MAX_HOLE_SHARE:
            hole[:] = False  # nothing would be left to fill it with: its objects stay
    filled = fill(rgb, hole, mirror=rng.random() < 0.5)
    reach = 0.25 * c.background * pace * min(size)
    shift, turn, grow = (_walk(config.frames, rng, n) for n in (2, 1, 1))
    frames = np.empty((config.frames, size[1], size[0], 3), np.uint8)
    middle = (np.asarray(size) - 1) / 2
    for t in range(config.frames):
        own = window(
            (middle[0] + reach * shift[t, 0], middle[1] + reach * shift[t, 1]),
            float(np.exp(c.background * c.grow * pace * grow[t, 0])),
            size,
            float(np.radians(c.turn_deg) * c.background * pace * turn[t, 0]),
        )
        matrix = base[:, :2] @ own
        matrix[:, 2] += base[:, 2]
        frames[t] = resample(filled, matrix, size, cv2.BORDER_REFLECT_101)
    return frames


def fill(
    rgb: UInt8[np.ndarray, "h w 3"], hole: np.ndarray, *, mirror: bool = False
) -> UInt8[np.ndarray, "h w 3"]:
    """Fill the hole of an image.

    With ``mirror`` from the mirrored image, where that has no hole; else from the surroundings,
    coarse to fine (push-pull: each level of a pyramid holds the mean of the known pixels below it).
    """
    if not hole.any():
        return rgb
    unknown = cv2.dilate(hole.astype(np.uint8), np.ones((5, 5), np.uint8))
    h, w = unknown.shape
    small = (max(1, w // 4), max(1, h // 4))
    known = cv2.resize((1 - unknown).astype(np.float32), small, interpolation=cv2.INTER_AREA)
    color = cv2.resize(
        cv2.bitwise_and(rgb, rgb, mask=1 - unknown), small, interpolation=cv2.INTER_AREA
    ).astype(np.float32)
    levels: list[tuple[np.ndarray, np.ndarray]] = [(color, known)]
    while min(levels[-1][1].shape) > 2:
        levels.append((cv2.pyrDown(levels[-1][0]), cv2.pyrDown(levels[-1][1])))
    color = levels[-1][0] / np.maximum(levels[-1][1][..., None], 1e-4)
    for total, weight in reversed(levels[:-1]):
        coarse = cv2.resize(color, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
        color = (
            total + (1 - np.minimum(weight, 1))[..., None] * coarse
        )  # total is premultiplied by weight
    smooth = np.clip(cv2.resize(color, (w, h), interpolation=cv2.INTER_LINEAR), 0, 255).astype(
        np.uint8
    )
    if mirror:
        smooth = cv2.copyTo(cv2.flip(rgb, 1), cv2.flip(1 - unknown, 1), smooth)
    soft = cv2.GaussianBlur(unknown.astype(np.float32), (7, 7), 0)
    return np.asarray(cv2.blendLinear(smooth, rgb, soft, 1 - soft))


def _paint(
    layer: _Layer, t: int, frame: UInt8[np.ndarray, "H W 3"], labels: UInt8[np.ndarray, "H W"]
) -> None:
    """Draw a layer over frame t and its labels, in place."""
    if t < layer.from_frame:
        return
    h, w = labels.shape
    zoom, angle = layer.zoom[t], layer.angle[t]
    smear = layer.shutter * (layer.at[t] - layer.at[t - 1]) if t else np.zeros(2)
    half = (
        (
            np.abs(np.cos(angle)) * np.array(layer.extent)
            + np.abs(np.sin(angle)) * np.array(layer.extent[::-1])
        )
        * zoom
        / 2
    )
    half = half * 1.25 + 3 + np.abs(smear)
    x0, y0 = (int(v) for v in np.clip(np.floor(layer.at[t] - half), 0, (w, h)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(layer.at[t] + half) + 1, 0, (w, h)))
    if x1 <= x0 or y1 <= y0:
        return
    matrix = window(layer.center, 1 / zoom, (1, 1), -angle)
    matrix[:, 2] += matrix[:, :2] @ (np.array([x0, y0]) - layer.at[t])
    rgba = _warp(layer, matrix, float(layer.bent[t]), (x1 - x0, y1 - y0))
    rgba = streak(rgba, float(smear[0]), float(smear[1]))
    opaque = cv2.extractChannel(rgba, 3)
    alpha = opaque * np.float32(1 / 255)
    frame[y0:y1, x0:x1] = cv2.blendLinear(
        cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB), frame[y0:y1, x0:x1], alpha, 1 - alpha
    )
    np.putmask(labels[y0:y1, x0:x1], opaque > 127, layer.value)


def _warp(
    layer: _Layer, matrix: Float64[np.ndarray, "2 3"], bent: float, size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 4"]:
    """Return the cut-out in a window of the frame, bent; transparent where it has no pixels."""
    image, pixel = layer.rgba, np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    ratio = np.ones(2)
    if pixel > 1.5:
        small = max(1, round(image.shape[1] / pixel)), max(1, round(image.shape[0] / pixel))
        ratio = np.array(small) / np.array(image.shape[1::-1])
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    coarse = np.stack(
        np.meshgrid(np.linspace(0, size[0] - 1, _GRID), np.linspace(0, size[1] - 1, _GRID)), -1
    ).reshape(-1, 2)
    points = coarse @ matrix[:, :2].T + matrix[:, 2]
    local = (points - layer.center) / (np.array(layer.extent) / 2)
    points = (points + bent * bend(np.clip(local, -1.5, 1.5), layer.bends) + 0.5) * ratio - 0.5
    columns, rows = _between(size[0]), _between(size[1])
    x, y = (
        rows @ points[:, k].reshape(_GRID, _GRID).astype(np.float32) @ columns.T for k in (0, 1)
    )
    return np.asarray(
        cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    )


@lru_cache(maxsize=1024)
def _between(n: int) -> Float32[np.ndarray, "n G"]:
    """Return the weights that interpolate linearly from _GRID equally spaced values to n pixels."""
    at = np.linspace(0, _GRID - 1, n)
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(_GRID))), np.float32)
