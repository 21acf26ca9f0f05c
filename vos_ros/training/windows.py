"""Windows: the part of an image that becomes a frame, and resampling into it.

A window is a 2x3 matrix that maps pixel centres (x, y) of the frame to pixels of the image.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vos_ros.datasets.masks import Ids
from vos_ros.training.interface import IGNORE

Window = Float64[np.ndarray, "2 3"]
_MAX_ZOOM = 4.0  # frame px per image px; more shows blur alone
_MAX_BILINEAR_SHRINK = 1.2  # image px per frame px; above, it is averaged down first: aliasing


def box_of(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """Return centre x, centre y, width, height (px) of a mask (H, W); None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    (y0, y1), (x0, x1) = (rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1)
    return (x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, float(x1 - x0), float(y1 - y0)


def objects_of(ids: Ids, ignore: int, min_px: int) -> list[int]:
    """Return the ids with at least ``min_px`` pixels, ascending, without 0 and ``ignore``."""
    if ids.dtype == np.uint8:
        counts = np.bincount(ids.ravel(), minlength=256)
        found = [int(i) for i in np.flatnonzero(counts >= min_px)]
    else:
        values, numbers = np.unique(ids, return_counts=True)
        found = [int(i) for i in values[numbers >= min_px]]
    return [i for i in found if i not in (0, ignore)]


def place(
    center: tuple[float, float],
    pixel: float,
    size: tuple[int, int],
    image: tuple[int, int],
    inside: str = "major",
) -> tuple[float, float, float]:
    """Move a window into the image, and shrink it where it is too large.

    Args:
        center: (x, y) that the window should have in its middle, px of the image.
        pixel: image px per frame px.
        size: (W, H) of the window, px of the frame.
        image: (W, H) of the image.
        inside: shrink until it fits one way (major, the reference of paper 003) or both (all).

    Returns centre x, centre y and image px per frame px.
    """
    pixel = max(pixel, 1 / _MAX_ZOOM)
    excess = size[0] * pixel / image[0], size[1] * pixel / image[1]
    pixel /= max(1.0, min(excess) if inside == "major" else max(excess))
    at = []
    for c, n, full in zip(center, size, image, strict=True):
        half = n * pixel / 2
        at.append(
            (full - 1) / 2 if 2 * half >= full else float(np.clip(c, half - 0.5, full - 0.5 - half))
        )
    return at[0], at[1], pixel


def window(
    center: tuple[float, float],
    pixel: float,
    size: tuple[int, int],
    angle_rad: float = 0.0,
    mirrored: bool = False,
) -> Window:
    """Return the matrix of a window.

    Args:
        center: (x, y) of its middle, px of the image.
        pixel: image px per frame px.
        size: (W, H) in px of the frame.
        angle_rad: turn about its middle.
        mirrored: whether left and right are exchanged.
    """
    c, s = pixel * np.cos(angle_rad), pixel * np.sin(angle_rad)
    turn = np.array([[c, -s], [s, c]])
    if mirrored:
        turn[:, 0] *= -1
    return np.column_stack([turn, np.asarray(center) - turn @ ((np.asarray(size) - 1) / 2)])


def resample(
    rgb: UInt8[np.ndarray, "h w 3"],
    matrix: Window,
    size: tuple[int, int],
    border: int = cv2.BORDER_REPLICATE,
) -> UInt8[np.ndarray, "H W 3"]:
    """Return the image in the window, averaged where it gets smaller, else bilinear."""
    pixel = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if pixel > _MAX_BILINEAR_SHRINK:
        h, w = rgb.shape[:2]
        small = max(1, round(w / pixel)), max(1, round(h / pixel))
        rgb = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
        ratio = np.array([small[0] / w, small[1] / h])
        matrix = matrix * ratio[:, None]
        matrix[:, 2] += (ratio - 1) / 2  # pixel centres
    return np.asarray(
        cv2.warpAffine(
            rgb, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
        )
    )


def resample_labels(
    labels: UInt8[np.ndarray, "h w"], matrix: Window, size: tuple[int, int], outside: int = IGNORE
) -> UInt8[np.ndarray, "H W"]:
    """Return the labels in the window, nearest neighbour; ``outside`` beyond the image."""
    return np.asarray(
        cv2.warpAffine(
            labels,
            matrix,
            size,
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=outside,
        )
    )


def number(ids: Ids, objects: list[int], ignore: int) -> UInt8[np.ndarray, "H W"]:
    """Turn ids into labels.

    ``objects`` become 1..n in their order, ``ignore`` becomes IGNORE, all else background.
    """
    if ids.dtype == np.uint8:
        table = np.zeros(256, np.uint8)
        table[objects] = np.arange(1, len(objects) + 1)
        if 0 <= ignore < 256:
            table[ignore] = IGNORE
        return np.asarray(cv2.LUT(ids, table))
    out = np.zeros(ids.shape, np.uint8)
    for value, i in enumerate(objects, start=1):
        out[ids == i] = value
    out[ids == ignore] = IGNORE
    return out


_CONTROL = np.stack(np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 4)), -1).reshape(-1, 2)
CONTROL_POINTS = len(_CONTROL)
"""Control points of ``bend``: a 4x4 grid over the square -1..1."""


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = np.square(a[:, None] - b[None]).sum(-1)
    return np.asarray(0.5 * squared * np.log(squared + 1e-12))  # U(r) = r^2 log r


def _solver() -> np.ndarray:
    """Return the matrix from values at control points to coefficients (Bookstein 1989: L^-1)."""
    n = CONTROL_POINTS
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel(_CONTROL, _CONTROL)
    system[:n, n:] = np.column_stack([np.ones(n), _CONTROL])
    system[n:, :n] = system[:n, n:].T
    return np.asarray(np.linalg.inv(system)[:, :n])


_SOLVER = _solver()


def bend(
    points: Float64[np.ndarray, "M 2"], values: Float64[np.ndarray, "C 2"]
) -> Float32[np.ndarray, "M 2"]:
    """Evaluate the thin-plate spline through ``values`` at the control points, at ``points``."""
    basis = np.column_stack([_kernel(points, _CONTROL), np.ones(len(points)), points])
    return np.asarray(basis @ (_SOLVER @ values), np.float32)
