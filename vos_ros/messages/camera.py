"""Builds and reads sensor_msgs/CameraInfo."""

from __future__ import annotations

from typing import Any

import numpy as np

from vos_ros.geometry.camera import Rectifier, calibrated
from vos_ros.messages.checks import DEFAULT_LIMITS, Limits, check_camera
from vos_ros.messages.factory import MakeMessage
from vos_ros.types import Intrinsics


def is_rectified(image_topic: str) -> bool:
    """Tell by the full name of an image topic whether image_proc has taken out the distortion.

    Such topics are named ``.../image_rect``, ``.../image_rect_color``,
    ``.../image_rect/compressed``. Their camera_info is that of the raw image: it keeps K and D, and
    P is the camera of the rectified image.
    """
    return "/image_rect" in image_topic


def intrinsics_from_message(
    msg: Any, rectified: bool = False, limits: Limits = DEFAULT_LIMITS
) -> Intrinsics:
    """Read sensor_msgs/CameraInfo as the camera of the published image.

    Binning and region of interest are applied. ``rectified`` (see ``is_rectified``): P without
    distortion is the camera; otherwise it is K with D.

    Raises ValueError: no calibration, an unknown distortion model, wrong coefficients, or a size or
    focal length that no camera has.
    """
    roi = (int(msg.roi.x_offset), int(msg.roi.y_offset), int(msg.roi.width), int(msg.roi.height))
    binning = (int(msg.binning_x), int(msg.binning_y))
    p = np.asarray(msg.p, np.float64).reshape(3, 4)
    width, height = int(msg.width), int(msg.height)
    if rectified and p[0, 0] > 0:
        camera = calibrated(p[:, :3].reshape(9), width, height, binning=binning, roi=roi)
    else:
        camera = calibrated(
            np.asarray(msg.k, np.float64),
            width,
            height,
            str(msg.distortion_model),
            np.asarray(msg.d, np.float64).tolist(),
            binning=binning,
            roi=roi,
        )
    check_camera(camera.width, camera.height, (camera.fx, camera.fy), limits)
    return camera


def calibration_key(msg: Any) -> tuple[object, ...]:
    """Give what is equal in two CameraInfo of the same calibration, whatever their headers are."""
    roi = msg.roi
    return (
        *(msg.width, msg.height, msg.distortion_model, bytes(msg.d), bytes(msg.k), bytes(msg.p)),
        *(msg.binning_x, msg.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height),
    )


class TopicRectifier:
    """Gives the rectification of an image topic's camera, made anew when the calibration changes.

    ``topics`` are the full names of the topics whose images share the camera: the image, and depth
    that is registered to it. All are rectified where one of them is.
    """

    def __init__(self, *topics: str, limits: Limits = DEFAULT_LIMITS) -> None:
        self._rectified = any(is_rectified(topic) for topic in topics)
        self._limits = limits
        self._key: tuple[object, ...] = ()
        self._rectifier: Rectifier | None = None

    def of(self, camera_info: Any) -> Rectifier:
        """Give the rectification of images with this CameraInfo.

        Raises ValueError as ``intrinsics_from_message``.
        """
        key = calibration_key(camera_info)
        if self._rectifier is None or key != self._key:
            self._rectifier = Rectifier(
                intrinsics_from_message(camera_info, self._rectified, self._limits)
            )
            self._key = key
        return self._rectifier


def camera_info_message(make: MakeMessage, header: Any, camera: Intrinsics) -> Any:
    """Build sensor_msgs/CameraInfo. A camera without distortion is plumb_bob with five zeros."""
    k = camera.matrix()
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model or "plumb_bob",
        d=np.array(camera.distortion if camera.distortion_model else [0.0] * 5, np.float64),
        k=k.reshape(9),
        r=np.eye(3).reshape(9),
        p=np.hstack([k, np.zeros((3, 1))]).reshape(12),
        binning_x=0,
        binning_y=0,
        roi=region_message(make, (0, 0, 0, 0)),
    )


def region_message(make: MakeMessage, roi: tuple[int, int, int, int]) -> Any:
    """Build sensor_msgs/RegionOfInterest from x0 y0 x1 y1 px (exclusive upper corner).

    An empty box gets width and height 0, never a negative number (they are unsigned in the
    message).
    """
    x0, y0, x1, y1 = (int(v) for v in roi)
    return make(
        "sensor_msgs/msg/RegionOfInterest",
        x_offset=x0,
        y_offset=y0,
        height=max(y1 - y0, 0),
        width=max(x1 - x0, 0),
        do_rectify=False,
    )
