"""Search windows (paper 003 sec. 3.5): cut out of the image, laid back into it, and moved to where an object was found.

A view is (cx, cy, zoom): the window's centre and its side as a share of the image's, in coordinates in which the image spans -1..1
each way. A window has the image's aspect ratio and lies inside it. All of it is tensor arithmetic, without waiting for a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float

from vos_ros.types import Segmentation

_MIN_ZOOM = 0.1  # an object of a few pixels is not blown up beyond this
_MIN_AREA = 2.0  # px of the map on which an object is measured: less is not found
_GROW, _SHRINK = (
    1.2,
    0.9,
)  # most that a window changes from frame to frame, while its object is seen
_SPREAD = 4.0  # sides of a box in standard deviations; sqrt(12) for a filled rectangle, and most objects have limbs


def full_image_windows(n: int, device: torch.device) -> Float[torch.Tensor, "n 3"]:
    """Views of all of the image."""
    return torch.tensor([[0.0, 0.0, 1.0]], device=device).repeat(n, 1)


def crop(
    images: Float[torch.Tensor, "B C H W"],
    views: Float[torch.Tensor, "V 3"] | None,
    size: tuple[int, int],
    aligned: bool,
) -> Float[torch.Tensor, "V C h w"]:
    """Windows of one image (B = 1) or of one each (B = V), scaled to ``size``; the images themselves where ``views`` is None."""
    if views is None:
        return (
            images
            if images.shape[-2:] == size
            else F.interpolate(images, size, mode="bilinear", align_corners=aligned)
        )
    theta = torch.zeros((len(views), 2, 3), device=views.device)
    theta[:, 0, 0] = theta[:, 1, 1] = views[:, 2]
    theta[:, :, 2] = views[:, :2]
    grid = F.affine_grid(theta, [len(views), 1, *size], align_corners=aligned)
    return F.grid_sample(
        images.expand(len(views), -1, -1, -1),
        grid.to(images.dtype),
        padding_mode="border",
        align_corners=aligned,
    )


def paste(
    values: Float[torch.Tensor, "V h w"],
    views: Float[torch.Tensor, "V 3"],
    size: tuple[int, int],
    aligned: bool,
) -> Float[torch.Tensor, "V H W"]:
    """What was found in windows, at every pixel of an image of ``size``; 0 outside."""
    theta = torch.zeros((len(views), 2, 3), device=views.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / views[:, 2]
    theta[:, :, 2] = -views[:, :2] / views[:, 2:]
    grid = F.affine_grid(theta, [len(views), 1, *size], align_corners=aligned)
    out = F.grid_sample(
        values[:, None], grid.to(values.dtype), padding_mode="border", align_corners=aligned
    )[:, 0]
    return out * (grid.abs() <= 1).all(3)


def inside(views: Float[torch.Tensor, "V 3"], size: tuple[int, int]) -> Bool[torch.Tensor, "V H W"]:
    """The pixels of windows."""
    ys, xs = (torch.linspace(-1, 1, n, device=views.device) for n in size)
    cx, cy, zoom = (views[:, k, None] for k in range(3))
    return ((ys - cy).abs() <= zoom)[:, :, None] & ((xs - cx).abs() <= zoom)[:, None, :]


def contains_mask(view: Float[torch.Tensor, "3"], mask: Bool[np.ndarray, "H W"]) -> bool:
    """Whether all of a mask lies in a window."""
    cx, cy, zoom = view.tolist()
    for c, along in ((cx, mask.any(0)), (cy, mask.any(1))):
        at = np.flatnonzero(along) / max(along.size - 1, 1) * 2 - 1
        if len(at) and (at[0] < c - zoom or at[-1] > c + zoom):
            return False
    return True


def spans(
    views: Float[torch.Tensor, "V 3"], units: tuple[int, int], least: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The rows and columns of windows in a grid of (rows, columns) ``units``, rounded outwards, at least ``least`` of them each way."""
    out = []
    for cx, cy, zoom in views.tolist():
        ranges = []
        for c, n in ((cy, units[0]), (cx, units[1])):
            low, high = math.floor((c - zoom + 1) / 2 * n), math.ceil((c + zoom + 1) / 2 * n)
            lack = max(0, least - (high - low))
            low = max(0, min(low - lack // 2, n - least))
            ranges.append((low, min(n, max(high, low + least))))
        out.append((ranges[0], ranges[1]))
    return out


def update_windows(
    views: Float[torch.Tensor, "V 3"],
    probs: Float[torch.Tensor, "V H W"],
    factor: float,
    *,
    at_once: bool = False,
) -> Float[torch.Tensor, "V 3"]:
    """The windows moved to where the objects were found: ``factor`` times the object's size, all of the image for one not found.

    ``probs`` are the objects' own probabilities; only where they have the pixel does it count. ``at_once``: sizes may jump.
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
    zoom = factor * _SPREAD * (sx * sy).sqrt() / 2
    before = views[:, 2]
    if not at_once:
        limited = torch.minimum(torch.maximum(zoom, _SHRINK * before), _GROW * before)
        zoom = torch.where(before < 1, limited, zoom)
    found = total >= _MIN_AREA
    zoom = torch.where(found, zoom.clamp(_MIN_ZOOM, 1.0), 1.0)
    reach = 1 - zoom
    return torch.stack(
        [torch.minimum(torch.maximum(c, -reach), reach) for c in (cx, cy)] + [zoom], 1
    )


def overwrite_masks(
    result: Segmentation, masks: Mapping[int, Bool[np.ndarray, "H W"]]
) -> Segmentation:
    """The segmentation with the given objects exactly as given; where given masks overlap the last one has the pixel."""
    owner = np.zeros(result.probs.shape[1:], np.int64)
    row_of = {i: row for row, i in enumerate(result.object_ids, start=1)}
    for i, mask in masks.items():
        owner[mask] = row_of[i]
    given = torch.from_numpy(owner).to(result.probs.device)
    probs = result.probs * (given == 0)
    for i in masks:
        probs[row_of[i]] = (given == row_of[i]).to(probs)
    probs[0] = (1 - probs[1:].sum(0)).clamp_min_(0)
    return replace(result, probs=probs)
