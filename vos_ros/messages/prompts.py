"""Reads what a person or a program points at: vos_ros/Prompt, geometry_msgs/PointStamped."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from vos_ros.messages.checks import (
    DEFAULT_LIMITS,
    Limits,
    MessageError,
    check_coordinates,
    check_header,
)
from vos_ros.messages.encodings import view
from vos_ros.types import Box, Mask, Points, Prompt, Scribble

MASK, BOX, POINTS, SCRIBBLE = 0, 1, 2, 3
"""Values of ``vos_ros/Prompt.kind``."""


def prompt_from_message(msg: Any) -> Prompt:
    """Read vos_ros/Prompt. Raises ValueError: its kind is unknown, or a field it needs is wrong."""
    if msg.kind == BOX:
        return Box(np.array(msg.box_xyxy, np.float32))
    if msg.kind == POINTS:
        if len(msg.points_xy) != 2 * len(msg.points_positive):
            raise ValueError(
                f"{len(msg.points_xy)} numbers in points_xy and {len(msg.points_positive)} in"
                " points_positive: wanted x and y of every point, and whether it is on the object"
            )
        return Points(
            np.array(msg.points_xy, np.float32).reshape(-1, 2), np.array(msg.points_positive, bool)
        )
    if msg.kind in (MASK, SCRIBBLE):
        image = msg.mask
        if image.encoding not in ("mono8", "8UC1"):
            raise ValueError(f"the prompt's mask has encoding {image.encoding!r}, wanted mono8")
        pixels = view(image.data, "mono8", image.height, image.width, image.step)
        return Mask(pixels != 0) if msg.kind == MASK else Scribble(pixels.copy())
    raise ValueError(f"prompt of kind {msg.kind}: wanted 0 MASK, 1 BOX, 2 POINTS or 3 SCRIBBLE")


class ClickedPoint(NamedTuple):
    """Hold a point in space that a person clicked."""

    frame_id: str
    """Frame of the point."""
    stamp_ns: int
    """Time at which it was clicked, ns; 0 where it is not said."""
    point: Float64[np.ndarray, "3"]
    """The point, m."""


def clicked_point_from_message(msg: Any, limits: Limits = DEFAULT_LIMITS) -> ClickedPoint:
    """Read geometry_msgs/PointStamped.

    Raises MessageError: header or coordinates can't be right, or its frame has no name.
    """
    stamp_ns = check_header(msg.header, limits)
    frame_id = msg.header.frame_id.lstrip("/")
    if not frame_id:
        raise MessageError("header.frame_id is empty: wanted the frame of the point")
    xyz = [float(v) for v in (msg.point.x, msg.point.y, msg.point.z)]
    check_coordinates("point", xyz)
    return ClickedPoint(frame_id, stamp_ns, np.array(xyz))
