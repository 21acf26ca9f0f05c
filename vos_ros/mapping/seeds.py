"""From a projection to a seed: its mask, and where the mask can't be trusted."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

from vos_ros.geometry.camera import pixel_covariance
from vos_ros.types import Intrinsics, MapObject, Mask, Points, Projection, Seed

_BAND_SIGMAS = 2.0
"""Half-width of the ignored band around an outline, in standard deviations of its position."""
_MIN_BAND_PX = 1.0
"""Least half-width: even under an exact pose an outline of map points is true to about a pixel."""
_CORE_SHARE = 0.7
"""Where the band covers the whole object, the pixels keep their weight that are at least as deep
inside it as this share of the deepest."""
_WELL_INSIDE_PX = 4.0
"""Distance from the border at which a click is surely on the object."""
_MAX_SAMPLES = 64
"""Most surface points of an object of which the standard deviation in the image is computed."""


def object_pixel_sigma(
    map_object: MapObject,
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    pose_cov: Float64[np.ndarray, "6 6"],
) -> float:
    """Compute the standard deviation (px, per axis) of where an object appears.

    It is the median over samples of the surface in front of the camera; 0 where there are none.

    Args:
        map_object: the object; its pose stands in for missing points.
        T_map_camera: the camera's pose.
        intrinsics: of the camera.
        pose_cov: covariance of the pose (convention of ``Frame.pose_cov``).
    """
    points = map_object.points
    points = (
        points[:: -(-len(points) // _MAX_SAMPLES)]
        if len(points)
        else map_object.T_map_object[None, :3, 3]
    )
    covariance = pixel_covariance(points, T_map_camera, intrinsics, pose_cov)
    variance = 0.5 * (covariance[:, 0, 0] + covariance[:, 1, 1])
    variance = variance[np.isfinite(variance)]
    return float(np.sqrt(np.median(variance))) if len(variance) else 0.0


def seed_of(object_id: int, projection: Projection, pixel_sigma: float) -> Seed:
    """Make a mask prompt for ``object_id`` of the visible pixels of a projection.

    The weight is 0 within two ``pixel_sigma`` (px; at least 1 px in all) of every border of the
    mask, and 1 elsewhere. Borders with what hides the object are as uncertain as those with the
    background; the image's own border is no border. Where the band would cover the whole object,
    its inmost part keeps weight 1, so that there is something to learn from. An empty mask gives
    weight 1 everywhere.

    Raises ValueError: ``pixel_sigma`` is negative or not finite.
    """
    if not (np.isfinite(pixel_sigma) and pixel_sigma >= 0.0):
        raise ValueError(f"pixel_sigma is {pixel_sigma}, wanted a standard deviation in px >= 0")
    mask = projection.mask
    weight = np.ones(projection.shape, np.float32)
    if projection.area_px:
        band = max(_BAND_SIGMAS * pixel_sigma, _MIN_BAND_PX)
        height, width = projection.shape
        margin = int(np.ceil(band)) + 1
        x0, y0, x1, y1 = projection.roi
        x0, y0, x1, y1 = (
            max(x0 - margin, 0),
            max(y0 - margin, 0),
            min(x1 + margin, width),
            min(y1 + margin, height),
        )
        inside, outside = _depths(mask[y0:y1, x0:x1])
        doubtful = (inside <= band) & (outside <= band)
        core = inside.max()
        if core <= band:
            doubtful &= inside < _CORE_SHARE * core
        weight[y0:y1, x0:x1][doubtful] = 0.0
    return Seed(object_id, Mask(mask), weight)


def box_seed_of(object_id: int, projection: Projection, center: Float64[np.ndarray, "2"]) -> Seed:
    """Make a click for ``object_id`` of an object that is known by its box alone.

    The click is where the box's centre is seen, or the nearest pixel that is well inside the
    visible part of the box: the centre may be hidden, or in a hole. That part is its extent.

    Args:
        object_id: of the seed.
        projection: the object as predicted, visible in one pixel at least.
        center: where the box's centre appears, px; NaN where it is behind the camera.
    """
    inside, _ = _depths(np.pad(projection.mask_roi, 1))
    inside = inside[1:-1, 1:-1]
    rows, columns = np.nonzero(inside >= min(_WELL_INSIDE_PX, _CORE_SHARE * inside.max()))
    x0, y0, _, _ = projection.roi
    pixels = np.stack([columns + x0, rows + y0], 1)
    click = pixels[np.argmin(((pixels - np.nan_to_num(center)) ** 2).sum(1))]
    xy = click[None].astype(np.float32)
    return Seed(object_id, Points(xy, np.array([True]), extent=projection.mask))


def _depths(
    mask: Bool[np.ndarray, "h w"],
) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Measure how far (px) the mask's pixels are inside it, and the others outside; else 0.

    The outermost pixels are 1 px inside.
    """
    inside = mask.astype(np.uint8)
    return tuple(
        np.asarray(cv2.distanceTransform(m, cv2.DIST_L2, cv2.DIST_MASK_5))
        for m in (inside, 1 - inside)
    )  # type: ignore[return-value]
