"""Changes to the pictures of a clip: light, colour, lens, sensor, compression.

They are drawn once per clip, so that they don't change over time. Only brightness drifts from frame
to frame.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

from vos_ros.training.config import AugmentConfig

_LUMA = np.array([0.299, 0.587, 0.114])


def recolor(
    config: AugmentConfig, rng: np.random.Generator, frames: UInt8[np.ndarray, "Q H W 3"]
) -> UInt8[np.ndarray, "Q H W 3"]:
    """Change saturation, hue, contrast and gamma per clip, brightness per frame; clip to 0..255."""
    matrix = np.eye(3)
    if rng.random() < config.grayscale:
        matrix = np.tile(_LUMA, (3, 1))
    elif config.color:
        matrix = color_matrix(rng, config.color)
    if not np.array_equal(matrix, np.eye(3)):
        frames = cv2.transform(frames.reshape(len(frames), -1, 3), matrix).reshape(frames.shape)
    gamma, contrast = np.exp(config.color * rng.uniform(-0.5, 0.5, 2))
    levels = np.arange(256) / 255.0
    curve = 0.5 + contrast * (levels**gamma - 0.5)
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        gain = rng.uniform(1 - config.brightness, 1 + config.brightness)
        out[i] = cv2.LUT(frame, np.clip(curve * gain * 255.0 + 0.5, 0, 255).astype(np.uint8))
    return out


def color_matrix(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Draw a 3x3 matrix of RGB: a change of saturation, a turn of the hue about grey, a cast."""
    angle = strength * rng.uniform(-0.6, 0.6)
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    hue = (
        np.cos(angle) * np.eye(3)
        + np.sin(angle) * cross
        + (1 - np.cos(angle)) * np.outer(axis, axis)
    )
    keep = 1 + strength * rng.uniform(-0.7, 0.7)
    saturation = keep * np.eye(3) + (1 - keep) * np.tile(_LUMA, (3, 1))
    cast = np.diag(1 + strength * rng.uniform(-0.15, 0.15, 3))
    return np.asarray(cast @ saturation @ hue)


def degrade(
    config: AugmentConfig, rng: np.random.Generator, frames: UInt8[np.ndarray, "Q H W 3"]
) -> UInt8[np.ndarray, "Q H W 3"]:
    """Blur, lower the resolution, add noise, compress: each with the configured probability."""
    blur, coarse, noise, jpeg = rng.random(4) < config.degrade * np.array([0.5, 0.5, 1.0, 1.0])
    sigma, share, spread = rng.uniform(0.4, 1.6), rng.uniform(0.4, 0.8), rng.uniform(2.0, 10.0)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
    h, w = frames.shape[1:3]
    if not (blur or coarse or noise or jpeg):
        return frames
    grain = (
        (spread * rng.standard_normal((h, w, 3), np.float32)).astype(np.int16) if noise else None
    )
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        if blur:
            frame = cv2.GaussianBlur(frame, (0, 0), sigma)
        if coarse:
            small = cv2.resize(frame, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
            frame = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)
        if grain is not None:  # one field of noise, shifted: drawing it is what costs the most
            shift = rng.integers(0, (h, w))
            frame = cv2.add(frame, np.roll(grain, tuple(shift), (0, 1)), dtype=cv2.CV_8U)
        if jpeg:
            frame = cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR)
        out[i] = frame
    return out


def streak(image: UInt8[np.ndarray, "H W C"], dx: float, dy: float) -> UInt8[np.ndarray, "H W C"]:
    """Smear an image along (dx, dy) px, as by motion while the shutter is open."""
    length = float(np.hypot(dx, dy))
    if length < 1.5:
        return image
    doublings = int(np.ceil(np.log2(length)))
    out = image
    # After k doublings it is the mean of 2^k images at equal distances: a hundred times faster than
    # a long kernel.
    for k in range(doublings):
        share = 2.0**k / (2.0**doublings - 1)
        shift = np.array([[1.0, 0.0, share * dx], [0.0, 1.0, share * dy]])
        out = cv2.addWeighted(
            out,
            0.5,
            cv2.warpAffine(out, shift, out.shape[1::-1], borderMode=cv2.BORDER_REPLICATE),
            0.5,
            0.0,
        )
    back = np.array([[1.0, 0.0, -dx / 2], [0.0, 1.0, -dy / 2]])
    return np.asarray(cv2.warpAffine(out, back, out.shape[1::-1], borderMode=cv2.BORDER_REPLICATE))
