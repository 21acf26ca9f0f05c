"""The pinhole camera: projection and its derivatives, calibration, rectification, and what an uncertain pose does to pixels.

Pixels are (x, y) with the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, UInt8

from vos_ros.geometry.se3 import hat
from vos_ros.types import Intrinsics

DISTORTION_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""ROS's names of the models that can be rectified, and how many coefficients each may have."""
_MAX_SLOPE = 1.75
"""Half of the widest rectified view, as the tangent of its angle (60 degrees): pinhole images of more are mostly border."""


def project(points: Float[np.ndarray, "N 3"], intrinsics: Intrinsics) -> Float64[np.ndarray, "N 2"]:
    """Pixels of camera-frame points (m), distortion not applied; NaN for points that are not in front of the camera."""
    p = np.asarray(points, np.float64)
    z = np.where(p[:, 2] > 0, p[:, 2], np.nan)
    return np.stack(
        [p[:, 0] / z * intrinsics.fx + intrinsics.cx, p[:, 1] / z * intrinsics.fy + intrinsics.cy],
        axis=1,
    )


def unproject(
    pixels: Float[np.ndarray, "N 2"], depth: Float[np.ndarray, "N"], intrinsics: Intrinsics
) -> Float64[np.ndarray, "N 3"]:
    """Camera-frame points (m) at depth z (m) behind pixels; inverse of ``project``."""
    uv, z = np.asarray(pixels, np.float64), np.asarray(depth, np.float64)
    return np.stack(
        [
            (uv[:, 0] - intrinsics.cx) / intrinsics.fx * z,
            (uv[:, 1] - intrinsics.cy) / intrinsics.fy * z,
            z,
        ],
        axis=1,
    )


def project_jacobian(
    points: Float[np.ndarray, "N 3"], intrinsics: Intrinsics
) -> Float64[np.ndarray, "N 2 3"]:
    """Derivative of ``project`` by the camera-frame point, px/m; NaN for points that are not in front of the camera."""
    p = np.asarray(points, np.float64)
    z = np.where(p[:, 2] > 0, p[:, 2], np.nan)
    J = np.zeros((len(p), 2, 3))
    J[:, 0, 0], J[:, 1, 1] = intrinsics.fx / z, intrinsics.fy / z
    J[:, 0, 2], J[:, 1, 2] = -intrinsics.fx * p[:, 0] / z**2, -intrinsics.fy * p[:, 1] / z**2
    J[np.isnan(z)] = np.nan
    return J


def pixel_covariance(
    points_map: Float[np.ndarray, "N 3"],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
    pose_cov: Float64[np.ndarray, "6 6"],
) -> Float64[np.ndarray, "N 2 2"]:
    """Covariance (px^2) of the projections of map points under the covariance of the camera pose (convention of ``Frame.pose_cov``),
    to first order; NaN for points that are not in front of the camera."""
    J = motion_jacobian(points_map, T_map_camera, intrinsics)
    return np.asarray(J @ pose_cov @ J.transpose(0, 2, 1))


def motion_jacobian(
    points_map: Float[np.ndarray, "N 3"],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
) -> Float64[np.ndarray, "N 2 6"]:
    """How the projections of map points (px) move with a small motion of the camera (convention of ``Frame.pose_cov``); NaN for points
    that are not in front of the camera."""
    R, t = T_map_camera[:3, :3], T_map_camera[:3, 3]
    ray = np.asarray(points_map, np.float64) - t
    # p_camera = R^T Exp(-delta_rotation) (p - t - delta_position)
    motion = np.concatenate([np.broadcast_to(-R.T, (len(ray), 3, 3)), R.T @ hat(ray)], axis=2)
    return np.asarray(project_jacobian(ray @ R, intrinsics) @ motion)


def scale_intrinsics(intrinsics: Intrinsics, x: float, y: float | None = None) -> Intrinsics:
    """The camera of the image resized by the factors ``x`` and ``y`` (``x`` where not given), its size rounded to whole pixels.

    Raises ValueError where a factor is not positive or leaves no pixel.
    """
    y = x if y is None else y
    width, height = (
        (round(intrinsics.width * x), round(intrinsics.height * y)) if x > 0 and y > 0 else (0, 0)
    )
    if width < 1 or height < 1:
        raise ValueError(
            f"an image of {intrinsics.width}x{intrinsics.height} px scaled by {x:g}, {y:g} has no pixels: wanted larger"
            " factors"
        )
    return replace(
        intrinsics,
        fx=intrinsics.fx * x,
        fy=intrinsics.fy * y,
        cx=(intrinsics.cx + 0.5) * x - 0.5,
        cy=(intrinsics.cy + 0.5) * y - 0.5,
        width=width,
        height=height,
    )


def crop_intrinsics(intrinsics: Intrinsics, roi: tuple[int, int, int, int]) -> Intrinsics:
    """The camera of the part x0 y0 x1 y1 (px, exclusive upper corner) of the image."""
    x0, y0, x1, y1 = roi
    return replace(
        intrinsics, cx=intrinsics.cx - x0, cy=intrinsics.cy - y0, width=x1 - x0, height=y1 - y0
    )


def calibrated(
    k: Sequence[float] | Float64[np.ndarray, "9"],
    width: int,
    height: int,
    distortion_model: str = "",
    distortion: Sequence[float] = (),
    *,
    binning: tuple[int, int] = (1, 1),
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Intrinsics:
    """Intrinsics from the fields of a sensor_msgs/CameraInfo: K row by row, size of the full sensor, D and its model; binning
    (0 is 1) and region of interest (x_offset, y_offset, width, height; no size: all of it) applied as the driver applied them.

    Raises ValueError where K is zero (an uncalibrated camera), not finite, skewed or without an image size, where the model is not one of
    ``DISTORTION_MODELS``, and where the coefficients don't fit it. Coefficients that are all zero are no distortion, whatever the
    model, but for ``equidistant``, which is a fisheye all the same.
    """
    K = np.asarray(k, np.float64).reshape(-1)
    if K.size != 9 or not np.isfinite(K).all():
        raise ValueError(f"camera_info: K is {K.tolist()}; wanted 9 finite numbers")
    if K[0] <= 0.0 or K[4] <= 0.0:
        raise ValueError(
            f"camera_info holds no calibration: focal lengths in K are {K[0]:g} and {K[4]:g}, wanted > 0. Calibrate the camera"
            " (camera_calibration) or publish the camera_info that belongs to the image"
        )
    if abs(K[1]) > 1e-6 * K[0]:
        raise ValueError(
            f"camera_info: K has skew {K[1]:g}, wanted 0: rectify the image first (image_proc)"
        )
    if width < 1 or height < 1:
        raise ValueError(f"camera_info: image size is {width}x{height}, wanted at least 1x1")
    bx, by = (max(int(b), 1) for b in binning)
    x, y, w, h = (int(v) for v in roi)
    w, h = (w, h) if w and h else (width, height)
    # The centre of a binned pixel lies between those of the pixels that it covers.
    out = Intrinsics(
        float(K[0] / bx),
        float(K[4] / by),
        float((K[2] - x + 0.5) / bx - 0.5),
        float((K[5] - y + 0.5) / by - 0.5),
        w // bx,
        h // by,
    )
    D = tuple(float(d) for d in distortion)
    if not any(D) and distortion_model != "equidistant":
        return out
    return check_distortion(replace(out, distortion_model=distortion_model, distortion=D))


def check_distortion(intrinsics: Intrinsics) -> Intrinsics:
    """The same intrinsics where the distortion can be rectified (or there is none); ValueError otherwise."""
    model, D = intrinsics.distortion_model, intrinsics.distortion
    if not model and not any(D):
        return intrinsics
    if model not in DISTORTION_MODELS:
        raise ValueError(
            f"distortion model {model!r} is unknown: wanted one of {', '.join(DISTORTION_MODELS)}, or an image rectified"
            " before (image_proc) with zero distortion"
        )
    wanted = DISTORTION_MODELS[model]
    if len(D) not in wanted and not (model == "equidistant" and not D):
        raise ValueError(
            f"distortion model {model}: got {len(D)} coefficients, wanted {' or '.join(map(str, wanted))}"
        )
    if not np.isfinite(D).all():
        raise ValueError(f"distortion model {model}: coefficients {D} are not all finite")
    return intrinsics


class Rectifier:
    """Takes lens distortion out of images of one camera; the maps are made once.

    ``source`` is the camera as it is, ``intrinsics`` that of the rectified images: of the same size, without distortion, zoomed so that
    every pixel has a source. A camera without distortion passes images through untouched, without a copy.
    Raises ValueError for a model that is not known, coefficients that don't fit it or can't be inverted over the image.
    """

    def __init__(self, intrinsics: Intrinsics) -> None:
        self.source = check_distortion(intrinsics)
        self.identity = (
            not any(intrinsics.distortion) and intrinsics.distortion_model != "equidistant"
        )
        if self.identity:
            self.intrinsics = replace(intrinsics, distortion_model="", distortion=())
            return
        D = np.array(intrinsics.distortion or (0.0,) * 4, np.float64)
        self.intrinsics = _undistorted_camera(intrinsics, D)
        size, K, K_new = (
            (intrinsics.width, intrinsics.height),
            intrinsics.matrix(),
            self.intrinsics.matrix(),
        )
        if intrinsics.distortion_model == "equidistant":
            xy = cv2.fisheye.initUndistortRectifyMap(K, D, np.eye(3), K_new, size, cv2.CV_32FC1)
        else:
            xy = cv2.initUndistortRectifyMap(K, D, np.eye(3), K_new, size, cv2.CV_32FC1)
        self._bilinear = cv2.convertMaps(xy[0], xy[1], cv2.CV_16SC2)
        self._nearest = cv2.convertMaps(xy[0], xy[1], cv2.CV_16SC2, nninterpolation=True)

    def image(self, rgb: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The image without distortion, interpolated bilinearly. ValueError where its size is not the camera's."""
        self._check(rgb.shape)
        return (
            rgb
            if self.identity
            else np.asarray(
                cv2.remap(rgb, *self._bilinear, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            )
        )

    def depth(self, depth: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
        """Depth (z, m) without distortion: the nearest pixel's value, so that nothing appears between two surfaces. ValueError where
        its size is not the camera's."""
        self._check(depth.shape)
        return (
            depth
            if self.identity
            else np.asarray(cv2.remap(depth, *self._nearest, cv2.INTER_NEAREST))
        )

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape[:2] != (self.source.height, self.source.width):
            raise ValueError(
                f"the image is {shape[1]}x{shape[0]} px, its camera_info is for {self.source.width}x{self.source.height} px:"
                " publish the camera_info of this image"
            )


def _undistorted_camera(source: Intrinsics, D: Float64[np.ndarray, "D"]) -> Intrinsics:
    """The pinhole camera of the same size whose view is the largest upright rectangle inside the undistorted image."""
    w, h = source.width, source.height
    x, y = np.linspace(0.0, w - 1.0, 33), np.linspace(0.0, h - 1.0, 33)
    edges = [
        np.stack(np.broadcast_arrays(*e), axis=1)
        for e in ((0.0, y), (w - 1.0, y), (x, 0.0), (x, h - 1.0))
    ]
    border = (np.concatenate(edges) - [source.cx, source.cy]) / [source.fx, source.fy]
    if source.distortion_model == "equidistant":
        rays, miss = _undistort_equidistant(border, D)
    else:
        rays, miss = _undistort_polynomial(border, D)
    left, right, top, bottom = np.split(rays, 4)
    lower = np.maximum([left[:, 0].max(), top[:, 1].max()], -_MAX_SLOPE)
    upper = np.minimum([right[:, 0].min(), bottom[:, 1].min()], _MAX_SLOPE)
    if not (
        np.isfinite(rays).all() and miss * max(source.fx, source.fy) < 0.5 and (upper > lower).all()
    ):
        raise ValueError(
            f"distortion model {source.distortion_model} with coefficients {source.distortion} cannot be inverted over the"
            f" image of {w}x{h} px: check the calibration"
        )
    # One zoom for both axes: pixels keep their shape.
    last = np.array([w - 1.0, h - 1.0])
    focal = (
        np.array([source.fx, source.fy]) * (last / (upper - lower) / [source.fx, source.fy]).max()
    )
    centre = 0.5 * last - 0.5 * (lower + upper) * focal
    return Intrinsics(float(focal[0]), float(focal[1]), float(centre[0]), float(centre[1]), w, h)


def _undistort_polynomial(
    distorted: Float64[np.ndarray, "P 2"], D: Float64[np.ndarray, "D"]
) -> tuple[Float64[np.ndarray, "P 2"], float]:
    """Slopes of rays that plumb_bob or rational_polynomial moves to ``distorted``, and the largest miss."""
    rays, zero, ones = distorted, np.zeros(3), np.ones((len(distorted), 1))
    for _ in range(100):
        moved = cv2.projectPoints(np.concatenate([rays, ones], axis=1), zero, zero, np.eye(3), D)[
            0
        ][:, 0]
        error = distorted - moved
        rays = rays + error
    return rays, float(np.abs(error).max())


def _undistort_equidistant(
    distorted: Float64[np.ndarray, "P 2"], D: Float64[np.ndarray, "4"]
) -> tuple[Float64[np.ndarray, "P 2"], float]:
    """Slopes of rays that equidistant moves to ``distorted``, and the largest miss (rad) of those within the rectified view."""
    radius = np.linalg.norm(distorted, axis=1)
    powers = np.array([3, 5, 7, 9])
    angle = radius
    for _ in range(50):
        value = angle + (angle[:, None] ** powers) @ D
        slope = 1.0 + (angle[:, None] ** (powers - 1)) @ (D * powers)
        angle = np.clip(
            angle - (value - radius) / np.where(np.abs(slope) > 1e-3, slope, 1e-3),
            0.0,
            0.49 * np.pi,
        )
    miss = np.where(
        angle < np.arctan(_MAX_SLOPE), np.abs(angle + (angle[:, None] ** powers) @ D - radius), 0.0
    )
    return distorted * (np.tan(angle) / np.maximum(radius, 1e-12))[:, None], float(miss.max())
