"""The pinhole camera: projection and its derivatives, calibration, rectification.

Pixels are (x, y) with the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, UInt8

from vos_ros.geometry.se3 import hat
from vos_ros.types import Intrinsics

DISTORTION_MODELS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""ROS's names of the models that can be rectified, and how many coefficients each may have."""
_MAX_SLOPE = 1.75
"""Largest tangent of the angle between the optical axis and the border of a rectified view (60
degrees): a pinhole image that is wider consists mostly of its border."""


def pixel_coordinates(
    x_over_z: Float[np.ndarray, "*S"], y_over_z: Float[np.ndarray, "*S"], intrinsics: Intrinsics
) -> tuple[Float[np.ndarray, "*S"], Float[np.ndarray, "*S"]]:
    """Convert normalized image coordinates to pixels: u = fx x/z + cx, v = fy y/z + cy.

    Distortion is not applied. The dtype of the coordinates is kept.

    >>> camera = Intrinsics(100.0, 200.0, 32.0, 24.0, 64, 48)
    >>> pixel_coordinates(np.array([0.25]), np.array([0.05]), camera)
    (array([57.]), array([34.]))
    """
    return x_over_z * intrinsics.fx + intrinsics.cx, y_over_z * intrinsics.fy + intrinsics.cy


def project(points: Float[np.ndarray, "N 3"], intrinsics: Intrinsics) -> Float64[np.ndarray, "N 2"]:
    """Project camera-frame points (m) to pixels; NaN for points that are not in front.

    >>> camera = Intrinsics(100.0, 100.0, 32.0, 24.0, 64, 48)
    >>> project(np.array([[0.2, -0.1, 2.0], [0.0, 0.0, -1.0]]), camera)
    array([[42., 19.],
           [nan, nan]])
    """
    p = np.asarray(points, np.float64)
    z = np.where(p[:, 2] > 0, p[:, 2], np.nan)
    return np.stack(pixel_coordinates(p[:, 0] / z, p[:, 1] / z, intrinsics), axis=1)


def pixels_hit(
    points: Float[np.ndarray, "N 3"], intrinsics: Intrinsics, near_m: float
) -> tuple[Int64[np.ndarray, "P"], Int64[np.ndarray, "P"], Int64[np.ndarray, "P"]]:
    """Find which camera-frame points (m) fall on the image, and on which pixel.

    Returns the rows of the points that lie farther than ``near_m`` and on the image, and the column
    and the row of the pixel of each.

    >>> camera = Intrinsics(100.0, 100.0, 32.0, 24.0, 64, 48)
    >>> rows, x, y = pixels_hit(np.array([[9.0, 0, 2], [0.2, -0.1, 2]]), camera, 0.05)
    >>> rows.tolist(), x.tolist(), y.tolist()
    ([1], [42], [19])
    """
    front = np.flatnonzero(points[:, 2] > near_m)
    x, y, z = points[front].T
    u, v = (np.rint(p).astype(np.int64) for p in pixel_coordinates(x / z, y / z, intrinsics))
    on = (u >= 0) & (u < intrinsics.width) & (v >= 0) & (v < intrinsics.height)
    return front[on], u[on], v[on]


def unproject(
    pixels: Float[np.ndarray, "*S 2"], depth: Float[np.ndarray, "*S"], intrinsics: Intrinsics
) -> Float64[np.ndarray, "*S 3"]:
    """Lift pixels to camera-frame points (m) at depth z (m); the inverse of ``project``.

    >>> camera = Intrinsics(100.0, 100.0, 32.0, 24.0, 64, 48)
    >>> unproject(np.array([[42.0, 19.0]]), np.array([2.0]), camera)
    array([[ 0.2, -0.1,  2. ]])
    """
    uv, z = np.asarray(pixels, np.float64), np.asarray(depth, np.float64)
    x = (uv[..., 0] - intrinsics.cx) / intrinsics.fx * z
    y = (uv[..., 1] - intrinsics.cy) / intrinsics.fy * z
    return np.stack([x, y, z], axis=-1)


def project_jacobian(
    points: Float[np.ndarray, "N 3"], intrinsics: Intrinsics
) -> Float64[np.ndarray, "N 2 3"]:
    """Differentiate ``project`` by the camera-frame point, px/m; NaN where it is not in front.

    >>> camera = Intrinsics(100.0, 100.0, 32.0, 24.0, 64, 48)
    >>> project_jacobian(np.array([[0.2, 0.0, 2.0]]), camera)[0] + 0.0
    array([[50.,  0., -5.],
           [ 0., 50.,  0.]])
    """
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
    """Compute the covariance (px^2) of the projections of map points under an uncertain pose.

    To first order; NaN for points that are not in front of the camera.

    Args:
        points_map: in the map frame, m.
        T_map_camera: the camera's pose.
        intrinsics: of the camera.
        pose_cov: covariance of the pose (convention of ``Frame.pose_cov``).

    >>> camera = Intrinsics(100.0, 100.0, 32.0, 24.0, 64, 48)
    >>> turn = np.diag([0.0, 0.0, 0.0, 0.0, 0.01**2, 0.0])  # 0.01 rad about y
    >>> pixel_covariance(np.array([[0.0, 0.0, 5.0]]), np.eye(4), camera, turn)[0].round(9)
    array([[1., 0.],
           [0., 0.]])
    """
    J = motion_jacobian(points_map, T_map_camera, intrinsics)
    return np.asarray(J @ pose_cov @ J.transpose(0, 2, 1))


def motion_jacobian(
    points_map: Float[np.ndarray, "N 3"],
    T_map_camera: Float64[np.ndarray, "4 4"],
    intrinsics: Intrinsics,
) -> Float64[np.ndarray, "N 2 6"]:
    """Differentiate the projections of map points (px) by a small motion of the camera.

    The motion has the convention of ``Frame.pose_cov``. NaN for points that are not in front.

    >>> camera = Intrinsics(100.0, 100.0, 32.0, 24.0, 64, 48)
    >>> motion_jacobian(np.array([[0.0, 0.0, 5.0]]), np.eye(4), camera)[0, 0] + 0.0
    array([ -20.,    0.,    0.,    0., -100.,    0.])
    """
    R, t = T_map_camera[:3, :3], T_map_camera[:3, 3]
    ray = np.asarray(points_map, np.float64) - t
    # p_camera = R^T Exp(-delta_rotation) (p - t - delta_position)
    motion = np.concatenate([np.broadcast_to(-R.T, (len(ray), 3, 3)), R.T @ hat(ray)], axis=2)
    return np.asarray(project_jacobian(ray @ R, intrinsics) @ motion)


def crop_intrinsics(intrinsics: Intrinsics, roi: tuple[int, int, int, int]) -> Intrinsics:
    """Return the camera of the part x0 y0 x1 y1 (px, exclusive upper corner) of the image.

    >>> crop = crop_intrinsics(Intrinsics(100.0, 100.0, 32.0, 24.0, 64, 48), (10, 4, 30, 44))
    >>> crop.cx, crop.cy, crop.width, crop.height
    (22.0, 20.0, 20, 40)
    """
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
    """Make the intrinsics from the fields of a sensor_msgs/CameraInfo.

    Coefficients that are all zero are no distortion, whatever the model, but for ``equidistant``,
    which is a fisheye all the same.

    Args:
        k: K row by row, px.
        width: of the full sensor, px.
        height: of the full sensor, px.
        distortion_model: ROS's name of the model.
        distortion: D.
        binning: of x and y, as the driver applied it; 0 is 1.
        roi: region of interest (x_offset, y_offset, width, height), px; no size: all of it.

    Raises ValueError: K is zero (an uncalibrated camera), not finite or skewed, there is no image
    size, the model is not one of ``DISTORTION_MODELS``, or the coefficients don't fit it.

    >>> K = [100.0, 0, 32.0, 0, 100.0, 24.0, 0, 0, 1]
    >>> half = calibrated(K, 64, 48, binning=(2, 2))
    >>> half.fx, half.cx, half.width
    (50.0, 15.75, 32)
    """
    K = np.asarray(k, np.float64).reshape(-1)
    if K.size != 9 or not np.isfinite(K).all():
        raise ValueError(f"camera_info: K is {K.tolist()}; wanted 9 finite numbers")
    if K[0] <= 0.0 or K[4] <= 0.0:
        raise ValueError(
            f"camera_info holds no calibration: focal lengths in K are {K[0]:g} and {K[4]:g},"
            " wanted > 0. Calibrate the camera (camera_calibration) or publish the camera_info"
            " that belongs to the image"
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
    """Return the same intrinsics where the distortion can be rectified, or there is none.

    Raises ValueError: the model is unknown, or the coefficients don't fit it.

    >>> check_distortion(Intrinsics(100.0, 100.0, 32.0, 24.0, 64, 48, "kannala", (0.1,)))
    Traceback (most recent call last):
    ...
    ValueError: distortion model 'kannala' is unknown: wanted one of ...
    """
    model, D = intrinsics.distortion_model, intrinsics.distortion
    if not model and not any(D):
        return intrinsics
    if model not in DISTORTION_MODELS:
        raise ValueError(
            f"distortion model {model!r} is unknown: wanted one of {', '.join(DISTORTION_MODELS)},"
            " or an image rectified before (image_proc) with zero distortion"
        )
    wanted = DISTORTION_MODELS[model]
    if len(D) not in wanted and not (model == "equidistant" and not D):
        raise ValueError(
            f"distortion model {model}: got {len(D)} coefficients,"
            f" wanted {' or '.join(map(str, wanted))}"
        )
    if not np.isfinite(D).all():
        raise ValueError(f"distortion model {model}: coefficients {D} are not all finite")
    return intrinsics


class Rectifier:
    """Take lens distortion out of images of one camera; the maps are made once.

    ``source`` is the camera as it is, ``intrinsics`` that of the rectified images: of the same
    size, without distortion, zoomed so that every pixel has a source. A camera without distortion
    passes images through untouched, without a copy.

    Raises ValueError: the model is not known, the coefficients don't fit it, or they can't be
    inverted over the image.
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
        """Undistort a colour image, interpolated bilinearly.

        Raises ValueError: its size is not the camera's.
        """
        self._check(rgb.shape)
        return (
            rgb
            if self.identity
            else np.asarray(
                cv2.remap(rgb, *self._bilinear, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            )
        )

    def depth(self, depth: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
        """Undistort depth (z, m) by the nearest pixel: nothing appears between two surfaces.

        Raises ValueError: its size is not the camera's.
        """
        self._check(depth.shape)
        return (
            depth
            if self.identity
            else np.asarray(cv2.remap(depth, *self._nearest, cv2.INTER_NEAREST))
        )

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape[:2] != (self.source.height, self.source.width):
            raise ValueError(
                f"the image is {shape[1]}x{shape[0]} px, its camera_info is for"
                f" {self.source.width}x{self.source.height} px: publish the camera_info of this"
                " image"
            )


def _undistorted_camera(source: Intrinsics, D: Float64[np.ndarray, "D"]) -> Intrinsics:
    """Return the pinhole camera of the same size with the largest upright view of the image."""
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
            f"distortion model {source.distortion_model} with coefficients {source.distortion}"
            f" cannot be inverted over the image of {w}x{h} px: check the calibration"
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
    """Invert plumb_bob or rational_polynomial: the slopes of the rays, and the largest miss.

    As cv2.undistortPoints does, whose stopping rule has another name in OpenCV 4 than in 5, and
    which says nothing of what it missed.
    """
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
    """Invert equidistant by Newton's method: the slopes of the rays, and the largest miss (rad).

    The miss is that of the rays within the rectified view. cv2.fisheye.undistortPoints cuts the
    distorted angle off at 90 degrees, which lenses of a wider view exceed.
    """
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
