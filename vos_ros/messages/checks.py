"""Checks what a message declares against what it carries, before anything is allocated from it.

Every size, offset, enum, stamp and text of a message is data from another process. Numbers are
compared as Python integers, which don't overflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vos_ros.messages.stamps import NS_PER_S, ns_from_stamp

MAX_COORDINATE_M = 1e8
"""Largest coordinate of a pose or point, m: ten times the Earth's circumference as UTM has it."""
_MAX_FIELD_OF_VIEW_RATIO, _MAX_FOCAL_RATIO = 100.0, 1e4
"""Largest image size per focal length (a view of 178.9 degrees), and the reverse."""
_FIELD_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 8: 8}
"""Bytes of each datatype of sensor_msgs/PointField."""


class MessageError(ValueError):
    """Refuses a message; the text says what it declares, what was wanted and the way out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bound what one message may carry."""

    pixels: int = 25_000_000
    """Pixels of an image, compressed or not, and of a camera_info."""
    points: int = 20_000_000
    """Points of a cloud."""
    objects: int = 20_000
    """Objects of a map message; also its deletions, and its merges."""
    prompts: int = 4
    """Prompts of one service call."""
    text: int = 256
    """Characters of a frame's name or of a session id."""


DEFAULT_LIMITS = Limits()


def check_at_most(what: str, count: int, limit: int, parameter: str) -> None:
    """Raise MessageError where a message has more of something than ``parameter`` allows."""
    if count > limit:
        raise MessageError(
            f"{what}: {count}, wanted at most {limit} (parameter limits.{parameter})"
        )


def check_stamp(stamp: Any) -> int:
    """Return a stamp in ns.

    Raises MessageError: it is negative, or its nanosec is a second or more.
    """
    if stamp.sec < 0 or not 0 <= stamp.nanosec < NS_PER_S:
        raise MessageError(
            f"its stamp is {stamp.sec} s and {stamp.nanosec} ns; wanted sec >= 0 and nanosec below"
            f" {NS_PER_S}: does its publisher fill in header.stamp?"
        )
    return ns_from_stamp(stamp)


def check_text(what: str, text: str, limits: Limits = DEFAULT_LIMITS) -> str:
    """Return a name from a message. Raises MessageError: it is too long, or not printable."""
    check_at_most(f"characters in {what}", len(text), limits.text, "text")
    if not text.isprintable():
        raise MessageError(f"{what} is {text!r}, wanted a name of printable characters")
    return text


def check_header(header: Any, limits: Limits = DEFAULT_LIMITS) -> int:
    """Return the stamp (ns) of a header. Raises MessageError: stamp or frame can't be right."""
    check_text("header.frame_id", header.frame_id, limits)
    return check_stamp(header.stamp)


def check_image_size(width: int, height: int, limits: Limits = DEFAULT_LIMITS) -> None:
    """Raise MessageError where an image of width x height px is larger than is allowed."""
    check_at_most(
        f"pixels of an image of {width}x{height}", width * height, limits.pixels, "pixels"
    )


def check_camera(
    width: int, height: int, focal: tuple[float, float], limits: Limits = DEFAULT_LIMITS
) -> None:
    """Raise MessageError where no camera has an image of this size (px) and focal lengths (px)."""
    check_image_size(width, height, limits)
    for size, f in ((width, focal[0]), (height, focal[1])):
        if not size / _MAX_FIELD_OF_VIEW_RATIO <= f <= size * _MAX_FOCAL_RATIO:
            raise MessageError(
                f"camera_info: the focal lengths are {focal[0]:g} and {focal[1]:g} px for"
                f" {width}x{height} px, which no camera has: calibrate it (camera_calibration)"
            )


def check_cloud(cloud: Any, limits: Limits = DEFAULT_LIMITS) -> None:
    """Check the layout of a PointCloud2 that has points.

    Raises MessageError: there are too many points, rows overlap or a field lies outside its point,
    or there are fewer bytes than points.
    """
    width, height = int(cloud.width), int(cloud.height)
    step, row_step = int(cloud.point_step), int(cloud.row_step)
    check_at_most("points of a cloud", width * height, limits.points, "points")
    if step < 1 or (height > 1 and row_step < width * step):
        raise MessageError(
            f"point cloud with point_step {step} and row_step {row_step} for rows of {width}"
            f" points; wanted point_step > 0 and row_step >= {width * step}"
        )
    wanted = (height - 1) * row_step + width * step
    if len(cloud.data) < wanted:
        raise MessageError(
            f"point cloud cut short: {len(cloud.data)} bytes for {height} rows of {width} points"
            f" of {step} bytes, wanted {wanted}"
        )
    for field in cloud.fields:
        size = _FIELD_SIZES.get(int(field.datatype), 1) * max(int(field.count), 1)
        if int(field.offset) + size > step:
            raise MessageError(
                f"point cloud: field {field.name[:20]!r} has {size} bytes at offset"
                f" {int(field.offset)}, which is outside a point of {step} bytes"
            )


def check_map(msg: Any, limits: Limits = DEFAULT_LIMITS) -> None:
    """Check counts and texts of a vos_ros/MapObjectArray.

    Raises MessageError: there are too many objects, deletions or merges, or a text is too long.
    """
    check_header(msg.header, limits)
    check_text("session_id", msg.session_id, limits)
    for what in ("objects", "deleted_ids", "merged_from", "merged_into"):
        check_at_most(f"MapObjectArray.{what}", len(getattr(msg, what)), limits.objects, "objects")


def check_coordinates(what: str, values: Iterable[float]) -> None:
    """Raise MessageError where a coordinate (m) is not finite, or farther than any place."""
    numbers = [float(v) for v in values]
    if not all(math.isfinite(v) and abs(v) <= MAX_COORDINATE_M for v in numbers):
        raise MessageError(
            f"{what} is {numbers}, wanted finite numbers of at most {MAX_COORDINATE_M:g} m"
        )
