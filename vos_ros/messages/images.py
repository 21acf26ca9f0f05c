"""Builds and reads sensor_msgs/Image and CompressedImage."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from vos_ros.messages.camera import camera_info_message
from vos_ros.messages.checks import DEFAULT_LIMITS, Limits, check_image_size
from vos_ros.messages.encodings import (
    check_depth_shape,
    decode_color,
    decode_compressed_color,
    decode_compressed_depth,
    decode_depth,
    depth_to_millimetres,
    view,
)
from vos_ros.messages.factory import MakeMessage
from vos_ros.messages.stamps import header_message
from vos_ros.types import Frame


def rgb_from_message(msg: Any, limits: Limits = DEFAULT_LIMITS) -> UInt8[np.ndarray, "H W 3"]:
    """Read sensor_msgs/Image or CompressedImage as RGB; a view of the message where it is rgb8.

    Raises MessageError: the image can't be read, or is too large.
    """
    if hasattr(msg, "format"):
        return decode_compressed_color(msg.data, msg.format, limits)
    check_image_size(msg.width, msg.height, limits)
    return decode_color(
        msg.data, msg.encoding, msg.height, msg.width, msg.step, bool(msg.is_bigendian)
    )


def depth_from_message(
    msg: Any, limits: Limits = DEFAULT_LIMITS, shape: tuple[int, int] | None = None
) -> Float32[np.ndarray, "H W"]:
    """Read sensor_msgs/Image or CompressedImage as depth in m, 0 where it is unknown.

    Args:
        msg: the message.
        limits: bounds of its size.
        shape: (H, W) of its colour image, where it is known: nothing else is decoded.

    Raises MessageError: the image can't be read, is too large, or has not that shape.
    """
    if hasattr(msg, "format"):
        return decode_compressed_depth(msg.data, msg.format, limits, shape)
    check_image_size(msg.width, msg.height, limits)
    check_depth_shape((msg.height, msg.width), shape)
    return decode_depth(
        msg.data, msg.encoding, msg.height, msg.width, msg.step, bool(msg.is_bigendian)
    )


def pixels_from_message(msg: Any) -> Shaped[np.ndarray, "H W ..."]:
    """Read the values of a sensor_msgs/Image as they are; a view of the message where bytes allow
    it.

    Raises DecodeError: the image can't be read.
    """
    return view(msg.data, msg.encoding, msg.height, msg.width, msg.step, bool(msg.is_bigendian))


def image_message(
    make: MakeMessage, header: Any, encoding: str, pixels: Shaped[np.ndarray, "H W *C"]
) -> Any:
    """Build sensor_msgs/Image.

    Args:
        make: factory of the message classes.
        header: std_msgs/Header.
        encoding: ROS's name of what the pixels are.
        pixels: values in that encoding; written in little endian.
    """
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    height, width = pixels.shape[:2]
    return make(
        "sensor_msgs/msg/Image",
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=int(data.nbytes // max(height, 1)),
        data=data.reshape(-1).view(np.uint8),
    )


def rgb_message(make: MakeMessage, header: Any, rgb: UInt8[np.ndarray, "H W 3"]) -> Any:
    """Build sensor_msgs/Image in rgb8 from a colour image."""
    return image_message(make, header, "rgb8", rgb)


def depth_message(
    make: MakeMessage, header: Any, depth: Float32[np.ndarray, "H W"], encoding: str = "16UC1"
) -> Any:
    """Build sensor_msgs/Image from depth (REP-118).

    Args:
        make: factory of the message classes.
        header: std_msgs/Header.
        depth: m, 0 where it is unknown.
        encoding: 16UC1 (mm, 0 unknown) or 32FC1 (m, NaN unknown); ValueError otherwise.
    """
    if encoding == "16UC1":
        return image_message(make, header, encoding, depth_to_millimetres(depth))
    if encoding == "32FC1":
        metres = np.where(depth > 0, depth, np.float32(np.nan)).astype(np.float32)
        return image_message(make, header, encoding, metres)
    raise ValueError(f"depth encoding {encoding!r}: wanted 16UC1 (mm) or 32FC1 (m)")


def compressed_rgb_message(make: MakeMessage, header: Any, format: str, data: bytes) -> Any:
    """Build sensor_msgs/CompressedImage of a colour image, as image_transport describes it.

    Args:
        make: factory of the message classes.
        header: std_msgs/Header.
        format: jpeg or png.
        data: the compressed bytes.
    """
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=header,
        format=f"rgb8; {format} compressed bgr8",
        data=np.frombuffer(data, np.uint8),
    )


def frame_messages(
    make: MakeMessage, frame: Frame, *, frame_id: str | None = None, depth_encoding: str = "16UC1"
) -> tuple[Any, Any, Any | None]:
    """Build the messages of a camera driver: colour, camera_info, and depth (None where it has
    none).

    Args:
        make: factory of the message classes.
        frame: its stamp, colour, intrinsics and depth are used.
        frame_id: name of the camera's frame, None for that of ``frame``.
        depth_encoding: 16UC1 or 32FC1.
    """
    header = header_message(make, frame.stamp_ns, frame.frame_id if frame_id is None else frame_id)
    return (
        rgb_message(make, header, frame.rgb),
        camera_info_message(make, header, frame.intrinsics),
        None if frame.depth is None else depth_message(make, header, frame.depth, depth_encoding),
    )
