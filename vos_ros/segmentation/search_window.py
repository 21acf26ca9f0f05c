"""Search windows (paper 003 sec. 3.5): cut from the image, pasted back, moved with their objects.

A window is (cx, cy, side): its centre, in coordinates in which the image spans -1..1 each way, and
its side as a share of the image's. It has the image's aspect ratio and lies inside the image. All
of it is tensor arithmetic without waiting for the device, but for ``contains_mask`` and
``grid_ranges``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float

_MIN_SIDE = 0.1
"""Smallest side of a window: an object of a few pixels is not enlarged beyond this."""
_MIN_AREA_PX = 2.0
"""An object with less area, on the map on which it is measured, counts as not found."""
_MAX_GROWTH, _MAX_SHRINKAGE = 1.2, 0.9
"""Largest change of a window's side from frame to frame, while its object is found."""
_SIDES_PER_STD = 4.0
"""Side of an object in standard deviations of its pixels: sqrt(12) for a filled rectangle, and more
for most objects, which have protruding parts."""


def full_image_windows(n: int, device: torch.device) -> Float[torch.Tensor, "n 3"]:
    """Return n windows that are the whole image."""
    return torch.tensor([[0.0, 0.0, 1.0]], device=device).repeat(n, 1)


def crop(
    images: Float[torch.Tensor, "B C H W"],
    windows: Float[torch.Tensor, "V 3"] | None,
    size: tuple[int, int],
    aligned: bool,
) -> Float[torch.Tensor, "V C h w"]:
    """Cut windows from images and scale them.

    Args:
        images: one image for all windows (B = 1) or one for each (B = V).
        windows: the windows; None: the whole images.
        size: (h, w) to which the windows are scaled.
        aligned: whether corner pixels map to corner pixels (``align_corners`` of torch).
    """
    if windows is None:
        return (
            images
            if images.shape[-2:] == size
            else F.interpolate(images, size, mode="bilinear", align_corners=aligned)
        )
    theta = torch.zeros((len(windows), 2, 3), device=windows.device)
    theta[:, 0, 0] = theta[:, 1, 1] = windows[:, 2]
    theta[:, :, 2] = windows[:, :2]
    grid = F.affine_grid(theta, [len(windows), 1, *size], align_corners=aligned)
    return F.grid_sample(
        images.expand(len(windows), -1, -1, -1),
        grid.to(images.dtype),
        padding_mode="border",
        align_corners=aligned,
    )


def paste(
    values: Float[torch.Tensor, "V h w"],
    windows: Float[torch.Tensor, "V 3"],
    size: tuple[int, int],
    aligned: bool,
) -> Float[torch.Tensor, "V H W"]:
    """Scale maps of windows back into an image of (H, W) ``size``; 0 outside the window.

    Args:
        values: a map of each window.
        windows: the windows.
        size: (H, W) of the image.
        aligned: as for ``crop``.
    """
    theta = torch.zeros((len(windows), 2, 3), device=windows.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / windows[:, 2]
    theta[:, :, 2] = -windows[:, :2] / windows[:, 2:]
    grid = F.affine_grid(theta, [len(windows), 1, *size], align_corners=aligned)
    out = F.grid_sample(
        values[:, None], grid.to(values.dtype), padding_mode="border", align_corners=aligned
    )[:, 0]
    return out * (grid.abs() <= 1).all(3)


def window_masks(
    windows: Float[torch.Tensor, "V 3"], size: tuple[int, int]
) -> Bool[torch.Tensor, "V H W"]:
    """Return the pixels of windows in an image of (H, W) ``size``."""
    ys, xs = (torch.linspace(-1, 1, n, device=windows.device) for n in size)
    cx, cy, side = (windows[:, k, None] for k in range(3))
    return ((ys - cy).abs() <= side)[:, :, None] & ((xs - cx).abs() <= side)[:, None, :]


def contains_mask(window: Float[torch.Tensor, "3"], mask: Bool[np.ndarray, "H W"]) -> bool:
    """Return whether all of a mask lies in a window."""
    cx, cy, side = window.tolist()
    for c, along in ((cx, mask.any(0)), (cy, mask.any(1))):
        at = np.flatnonzero(along) / max(along.size - 1, 1) * 2 - 1
        if len(at) and (at[0] < c - side or at[-1] > c + side):
            return False
    return True


def grid_ranges(
    windows: Float[torch.Tensor, "V 3"], grid: tuple[int, int], min_cells: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return the rows and the columns (first, end) of each window in a grid of cells.

    Args:
        windows: the windows.
        grid: (rows, columns) of the grid.
        min_cells: smallest number of rows and of columns of a range; they are rounded outwards.
    """
    out = []
    for cx, cy, side in windows.tolist():
        ranges = []
        for c, n in ((cy, grid[0]), (cx, grid[1])):
            low, high = math.floor((c - side + 1) / 2 * n), math.ceil((c + side + 1) / 2 * n)
            missing = max(0, min_cells - (high - low))
            low = max(0, min(low - missing // 2, n - min_cells))
            ranges.append((low, min(n, max(high, low + min_cells))))
        out.append((ranges[0], ranges[1]))
    return out


def update_windows(
    windows: Float[torch.Tensor, "V 3"],
    probs: Float[torch.Tensor, "V H W"],
    scale: float,
    *,
    limit_change: bool = True,
) -> Float[torch.Tensor, "V 3"]:
    """Move windows to their objects; the window of an object that was not found is the image.

    Args:
        windows: windows of the frame before.
        probs: each object's own probabilities; pixels of more than 0.5 are the object.
        scale: side of a window in sides of its object.
        limit_change: whether a side changes by little per frame while the object is found.
    """
    h, w = probs.shape[-2:]
    mass = probs * (probs > 0.5)
    total = mass.sum((1, 2))
    columns, rows = mass.sum(1), mass.sum(2)
    mean_std = []
    for sums, n in ((columns, w), (rows, h)):
        at = torch.linspace(-1, 1, n, device=probs.device)
        mean = (sums * at).sum(1) / total.clamp_min(1e-6)
        variance = (sums * (at - mean[:, None]).square()).sum(1) / total.clamp_min(1e-6)
        mean_std.append((mean, (variance + (1 / n) ** 2).sqrt()))
    (cx, sx), (cy, sy) = mean_std
    side = scale * _SIDES_PER_STD * (sx * sy).sqrt() / 2
    before = windows[:, 2]
    if limit_change:
        limited = torch.minimum(torch.maximum(side, _MAX_SHRINKAGE * before), _MAX_GROWTH * before)
        side = torch.where(before < 1, limited, side)
    found = total >= _MIN_AREA_PX
    side = torch.where(found, side.clamp(_MIN_SIDE, 1.0), 1.0)
    max_offset = 1 - side
    return torch.stack(
        [torch.minimum(torch.maximum(c, -max_offset), max_offset) for c in (cx, cy)] + [side], 1
    )
