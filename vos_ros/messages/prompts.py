"""Reads vos_ros/Prompt, one object that a person or a program points at."""

from __future__ import annotations

from typing import Any

import numpy as np

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
