"""Procedural textures of the synthetic world, and their lookup with a level of detail.

Textures are square sRGB images that repeat seamlessly, drawn from a random generator. With levels
of detail, far patterns don't alias.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

SIZE = 512
"""Side of a texture, px."""
LEVELS = 8
"""Levels of detail, each half as large as the one before."""

Rng = np.random.Generator
Color = tuple[float, float, float]
Image = Float[np.ndarray, "S S 3"]


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Convert a hue (0..1, repeats), a saturation and a value to sRGB 0..1."""
    k = (np.array([5.0, 3.0, 1.0]) + hue % 1.0 * 6.0) % 6.0
    r, g, b = value - value * saturation * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)
    return float(r), float(g), float(b)


def noise(
    rng: Rng, cells: tuple[int, int], octaves: int = 4, gain: float = 0.5
) -> Float[np.ndarray, "S S"]:
    """Draw fractal value noise 0..1 that repeats.

    ``cells`` are those of the first octave across x and y.
    """
    total, weight, amplitude = np.zeros((SIZE, SIZE), np.float32), 0.0, 1.0
    for octave in range(octaves):
        nx, ny = min(cells[0] << octave, SIZE), min(cells[1] << octave, SIZE)
        grid = np.pad(rng.random((ny, nx), np.float32), 2, mode="wrap")
        wide = cv2.resize(
            grid, (SIZE * (nx + 4) // nx, SIZE * (ny + 4) // ny), interpolation=cv2.INTER_CUBIC
        )
        x, y = 2 * SIZE // nx, 2 * SIZE // ny
        total += amplitude * wide[y : y + SIZE, x : x + SIZE]
        weight, amplitude = weight + amplitude, amplitude * gain
    return np.asarray(np.clip(total / weight, 0.0, 1.0))


def mix(a: Color, b: Color, t: Float[np.ndarray, "S S"]) -> Image:
    """Blend colour ``a`` (t = 0) into ``b`` (t = 1)."""
    return np.asarray(np.asarray(a) * (1 - t[..., None]) + np.asarray(b) * t[..., None])


def _xy() -> tuple[Float[np.ndarray, "S S"], Float[np.ndarray, "S S"]]:
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    return x, y


def plain(rng: Rng, color: Color, grain: float = 0.12) -> Image:
    """Draw one colour with a little unevenness."""
    return np.asarray(color) * (1 - grain / 2 + grain * noise(rng, (8, 8)))[..., None]


def wood(rng: Rng, light: Color, dark: Color, planks: int = 0) -> Image:
    """Draw wood with its grain along x.

    With ``planks`` > 0 it is that many boards, each of its own tone, with joints between.
    """
    x, y = _xy()
    warp = noise(rng, (2, 6), 3)
    image = mix(light, dark, 0.5 + 0.5 * np.sin(2 * np.pi * (9 * y + 2.2 * warp)))
    image = 0.55 * image + 0.45 * mix(light, dark, noise(rng, (4, 64), 3))
    if planks:
        board = np.minimum((y * planks).astype(int), planks - 1)
        shift = rng.random(planks)[board]
        tone = rng.uniform(0.8, 1.1, (planks, 2))[board, (((x + shift) % 1.0) > 0.5).astype(int)]
        gap = (np.abs((y * planks) % 1.0 - 0.5) > 0.485) | (
            np.abs((x + shift) % 0.5 - 0.25) > 0.248
        )
        image = image * tone[..., None] * np.where(gap, 0.45, 1.0)[..., None]
    return image


def checker(rng: Rng, a: Color, b: Color, cells: int) -> Image:
    """Draw squares of two colours."""
    x, y = _xy()
    return (
        mix(a, b, ((np.floor(x * cells) + np.floor(y * cells)) % 2))
        * (0.92 + 0.16 * noise(rng, (8, 8)))[..., None]
    )


def stripes(rng: Rng, colors: Sequence[Color], count: int, slant: int = 0) -> Image:
    """Draw bands along x (``slant`` = how many bands the pattern climbs over one repeat)."""
    x, y = _xy()
    band = np.floor(y * count + x * slant).astype(int) % len(colors)
    return np.asarray(np.asarray(colors)[band] * (0.92 + 0.16 * noise(rng, (8, 8)))[..., None])


def dots(rng: Rng, ground: Color, colors: Sequence[Color], cells: int) -> Image:
    """Draw round dots of several colours, staggered."""
    x, y = _xy()
    row = np.floor(y * cells).astype(int)
    fx, fy = (x * cells + 0.5 * (row % 2)) % 1.0 - 0.5, (y * cells) % 1.0 - 0.5
    column = np.floor(x * cells + 0.5 * (row % 2)).astype(int) % cells
    choice = rng.integers(0, len(colors), (cells, cells))[row % cells, column]
    return (
        np.where((fx**2 + fy**2 < 0.09)[..., None], np.asarray(colors)[choice], np.asarray(ground))
        * (0.94 + 0.12 * noise(rng, (8, 8)))[..., None]
    )


def marble(rng: Rng, ground: Color, vein: Color) -> Image:
    """Draw veins that wander through a stone."""
    x, y = _xy()
    flow = noise(rng, (4, 4), 5, 0.6)
    line = np.abs(np.sin(np.pi * (2 * x + 3 * y + 5 * flow)))
    return (
        mix(vein, ground, np.clip(line * 2.2, 0, 1)) * (0.9 + 0.2 * noise(rng, (16, 16)))[..., None]
    )


def patches(rng: Rng, colors: Sequence[Color], cells: int) -> Image:
    """Draw irregular cells (Voronoi) of several colours with dark seams."""
    corners = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1)
    sites = (corners + rng.uniform(0.15, 0.85, (cells, cells, 2))).reshape(-1, 2) / cells
    kind = rng.integers(0, len(colors), len(sites))
    x, y = _xy()
    near, second, winner = (np.full((SIZE, SIZE), v) for v in (9.0, 9.0, 0.0))
    for k, (sx, sy) in enumerate(sites):
        dx, dy = np.abs(x - sx), np.abs(y - sy)
        d = np.hypot(np.minimum(dx, 1 - dx), np.minimum(dy, 1 - dy))
        second = np.minimum(second, np.maximum(d, near))
        winner = np.where(d < near, k, winner)
        near = np.minimum(near, d)
    image = (
        np.asarray(colors)[kind[winner.astype(int)]] * (0.92 + 0.16 * noise(rng, (8, 8)))[..., None]
    )
    return np.asarray(
        np.where((second - near < 0.035 / np.sqrt(cells))[..., None], image * 0.3, image)
    )


def printed(
    rng: Rng, ground: Color, ink: Color, accent: Color, title: str, picture: bool = True
) -> Image:
    """Draw a printed face: title, a round picture, bands and lines of small print."""
    image = np.ascontiguousarray(np.clip(plain(rng, ground, 0.06) * 255, 0, 255).astype(np.uint8))
    tone, second = (tuple(255.0 * c for c in color) for color in (ink, accent))
    cv2.rectangle(image, (0, 0), (SIZE, 118), second, -1)
    (width, height), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_DUPLEX, 1.0, 1)
    scale = min(440 / width, 78 / height)
    at = (int((SIZE - scale * width) / 2), int(59 + scale * height / 2))
    cv2.putText(
        image,
        title,
        at,
        cv2.FONT_HERSHEY_DUPLEX,
        scale,
        tone,
        max(2, int(2.4 * scale)),
        cv2.LINE_AA,
    )
    if picture:
        centre = (int(rng.integers(190, 330)), 265)
        cv2.circle(image, centre, 108, tone, -1, cv2.LINE_AA)
        for _ in range(22):
            x, y = rng.normal(centre, 42.0).astype(int)
            cv2.circle(image, (int(x), int(y)), int(rng.integers(8, 20)), second, -1, cv2.LINE_AA)
    for k in range(4 if picture else 9):
        y = 400 + 26 * k if picture else 170 + 36 * k
        cv2.rectangle(image, (60, y), (60 + int(rng.integers(200, 390)), y + 9), tone, -1)
    return image / 255.0


def letter(rng: Rng, light: Color, dark: Color, ink: Color, text: str) -> Image:
    """Draw a big letter in a frame on wood."""
    image = np.ascontiguousarray(np.clip(wood(rng, light, dark) * 255, 0, 255).astype(np.uint8))
    tone = tuple(255.0 * c for c in ink)
    cv2.rectangle(image, (28, 28), (SIZE - 28, SIZE - 28), tone, 26)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_TRIPLEX, 12, 40)
    cv2.putText(
        image,
        text,
        ((SIZE - width) // 2, (SIZE + height) // 2),
        cv2.FONT_HERSHEY_TRIPLEX,
        12,
        tone,
        40,
        cv2.LINE_AA,
    )
    return image / 255.0


def landscape(rng: Rng, sky: Color, ground: Color, sun: Color) -> Image:
    """Draw a picture for a wall: ridges under a sky, in a dark frame."""
    x, y = _xy()
    image = mix(sky, (1.0, 0.95, 0.85), np.clip(y * 1.2, 0, 1))
    image = np.where(
        (np.hypot(x - rng.uniform(0.3, 0.7), y - 0.3) < 0.09)[..., None], np.asarray(sun), image
    )
    for k in range(3):
        ridge = 0.5 + 0.13 * k + 0.22 * (noise(rng, (4, 4), 4)[0] - 0.5)
        image = np.where(
            (y > ridge[None, :])[..., None], np.asarray(ground) * (0.45 + 0.27 * k), image
        )
    border = np.maximum(np.abs(x - 0.5), np.abs(y - 0.5)) > 0.465
    return np.where(border[..., None], np.array([0.13, 0.09, 0.07]), image)


def spines(rng: Rng, count: int) -> Image:
    """Draw a row of book spines."""
    image = np.zeros((SIZE, SIZE, 3))
    cuts = np.sort(rng.choice(np.arange(1, 2 * count), count - 1, replace=False))
    edges = np.concatenate([[0], cuts, [2 * count]]) * SIZE // (2 * count)
    for a, b in pairwise(edges):
        color = np.array(hsv(rng.random(), rng.uniform(0.3, 0.8), rng.uniform(0.25, 0.8)))
        top = int(rng.integers(0, SIZE // 5))
        image[:top, a:b] = 0.06
        image[top:, a:b] = color
        band = top + int(rng.integers(40, 120))
        image[band : band + 26, a:b] = 1 - 0.8 * color
        image[:, b - 3 : b] *= 0.4
    return image


class Atlas:
    """Hold all textures with their smaller levels, in linear light, and look them up."""

    def __init__(self, images: Sequence[Image]) -> None:
        linear = (np.arange(256, dtype=np.float32) / 255) ** np.float32(2.2)
        level = np.stack(
            [linear[np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)] for image in images]
        )
        self._levels = [level]
        for _ in range(LEVELS - 1):
            level = (
                level[:, ::2, ::2]
                + level[:, 1::2, ::2]
                + level[:, ::2, 1::2]
                + level[:, 1::2, 1::2]
            ) / 4
            self._levels.append(level)

    def sample(
        self,
        texture: Int[np.ndarray, "P"],
        uv: Float32[np.ndarray, "P 2"],
        footprint: Float32[np.ndarray, "P"],
    ) -> Float32[np.ndarray, "P 3"]:
        """Look up the linear albedo at ``uv``, which repeats.

        ``footprint`` is the size of a pixel in repeats.
        """
        out = np.empty((len(uv), 3), np.float32)
        lod = np.clip(np.log2(np.maximum(footprint * SIZE, 1e-6)), 0, LEVELS - 1).astype(np.int32)
        for k, image in enumerate(self._levels):
            rows = np.flatnonzero(lod == k)
            if rows.size:
                side = image.shape[1]
                at = (uv[rows] % 1.0) * side - 0.5
                low = np.floor(at).astype(np.int32)
                f = (at - low).astype(np.float32)
                x0, y0, x1, y1 = (
                    low[:, 0] % side,
                    low[:, 1] % side,
                    (low[:, 0] + 1) % side,
                    (low[:, 1] + 1) % side,
                )
                t, (fx, fy) = texture[rows], (f[:, :1], f[:, 1:])
                out[rows] = (image[t, y0, x0] * (1 - fx) + image[t, y0, x1] * fx) * (1 - fy) + (
                    image[t, y1, x0] * (1 - fx) + image[t, y1, x1] * fx
                ) * fy
        return out


def to_srgb8(linear: Float32[np.ndarray, "... 3"]) -> UInt8[np.ndarray, "... 3"]:
    """Convert linear light (1 = white) to 8-bit sRGB.

    A soft shoulder keeps highlights from clipping hard.
    """
    x = np.maximum(linear, 0.0)
    soft = np.where(x < 0.8, x, 0.8 + 0.2 * (1 - np.exp(-(x - 0.8) / 0.2)))
    return np.asarray((np.clip(soft, 0, 1) ** (1 / 2.2) * 255.0 + 0.5).astype(np.uint8))
