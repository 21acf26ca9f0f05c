"""Overlap of masks, boxes and label images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer

Roi = tuple[int, int, int, int]
"""x0 y0 x1 y1 in px, exclusive upper corner."""


def mask_iou(a: Bool[np.ndarray, "H W"], b: Bool[np.ndarray, "H W"], *, ignore: Bool[np.ndarray, "H W"] | None = None) -> float:
    """Intersection over union, pixels of ``ignore`` counted nowhere; 0 where both masks are empty.

    Raises ValueError where the shapes differ.
    """
    if a.shape != b.shape or (ignore is not None and ignore.shape != a.shape):
        shapes = [m.shape for m in (a, b, ignore) if m is not None]
        raise ValueError(f"masks of shapes {shapes} can't be compared: wanted one shape")
    if ignore is not None:
        a, b = a & ~ignore, b & ~ignore
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0


def box_iou(a: Float[np.ndarray, "N 4"], b: Float[np.ndarray, "M 4"]) -> Float64[np.ndarray, "N M"]:
    """IoU of every box of a with every box of b, x0 y0 x1 y1 with exclusive upper corner; 0 where both are empty."""
    a, b = np.asarray(a, np.float64).reshape(-1, 4), np.asarray(b, np.float64).reshape(-1, 4)
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    intersection = np.prod(np.maximum(sides, 0.0), axis=2)
    area_a, area_b = (np.prod(np.maximum(x[:, 2:] - x[:, :2], 0.0), axis=1) for x in (a, b))
    return _ratio(intersection, area_a[:, None] + area_b[None, :] - intersection)


def label_iou(
    a: Integer[np.ndarray, "H W"], b: Integer[np.ndarray, "H W"], *, ignore: int | None = None
) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "M"], Float64[np.ndarray, "N M"]]:
    """IoU of every label of image a with every one of image b: the labels of a, those of b, the matrix. 0 is background and not
    listed; pixels where b has the value ``ignore`` count nowhere. One pass over the pixels, whatever the number of labels.

    Raises ValueError where the shapes differ or a label is negative.
    """
    if a.shape != b.shape:
        raise ValueError(f"label images of shapes {a.shape} and {b.shape} can't be compared: wanted one shape")
    values_a, index_a = np.unique(a, return_inverse=True)
    values_b, index_b = np.unique(b, return_inverse=True)
    for values in (values_a, values_b):
        if values.size and values[0] < 0:
            raise ValueError(f"label {values[0]} is negative: wanted 0 for background and labels >= 1")
    counts = np.bincount(index_a.ravel() * max(len(values_b), 1) + index_b.ravel(), minlength=len(values_a) * len(values_b))
    table = counts.reshape(len(values_a), len(values_b))
    if ignore is not None:
        table = np.where(values_b[None, :] == ignore, 0, table)
    keep_a, keep_b = values_a != 0, values_b != 0
    if ignore is not None:
        keep_b &= values_b != ignore
    union = table.sum(1)[keep_a][:, None] + table.sum(0)[keep_b][None, :] - table[np.ix_(keep_a, keep_b)]
    iou = _ratio(table[np.ix_(keep_a, keep_b)].astype(np.float64), union.astype(np.float64))
    return values_a[keep_a].astype(np.int64), values_b[keep_b].astype(np.int64), iou


def crop_iou(
    owner: Integer[np.ndarray, "H W"], count: int, masks: Sequence[Bool[np.ndarray, "h w"]], rois: Sequence[Roi]
) -> Float64[np.ndarray, "N M"]:
    """IoU of the regions 1..count of a label image (row r - 1) with M masks that are crops ``rois`` of the same image. Cost follows the
    crops' sizes.

    Raises ValueError where a mask's shape is not its roi's or a roi leaves the image.
    """
    areas = np.bincount(owner.ravel(), minlength=count + 1)[1 : count + 1].astype(np.float64)
    out = np.zeros((count, len(masks)))
    for m, (mask, (x0, y0, x1, y1)) in enumerate(zip(masks, rois, strict=True)):
        if mask.shape != (y1 - y0, x1 - x0) or x0 < 0 or y0 < 0 or x1 > owner.shape[1] or y1 > owner.shape[0]:
            raise ValueError(f"mask {m} has shape {mask.shape} and roi {(x0, y0, x1, y1)} in an image of shape {owner.shape}: wanted a roi"
                             " inside the image, of the mask's size")
        shared = np.bincount(owner[y0:y1, x0:x1][mask], minlength=count + 1)[1 : count + 1].astype(np.float64)
        out[:, m] = _ratio(shared, areas + np.count_nonzero(mask) - shared)
    return out


def _ratio(part: Float64[np.ndarray, "*S"], whole: Float64[np.ndarray, "*S"]) -> Float64[np.ndarray, "*S"]:
    return np.asarray(np.divide(part, whole, out=np.zeros_like(part), where=whole > 0))
