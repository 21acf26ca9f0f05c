"""Mistakes that leave every input right by itself: changes of a frame's messages, or of the map.

Twelve that people have made. The word of each is in the sentence that the node must say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vos_ros.messages.geometry import transform_stamped_message
from vos_ros.messages.images import image_message
from vos_ros.messages.stamps import header_message
from vos_ros.pipeline.self_check import R_BODY_OPTICAL
from vos_ros.ros.common.message_factory import make
from vos_ros.types import Frame

Messages = dict[str, Any]
Points = dict[int, np.ndarray]


def same_messages(messages: Messages, frame: Frame) -> None:
    """Leave the messages of a frame as they are."""


@dataclass(frozen=True)
class Contradiction:
    """One mistake."""

    name: str
    """What is wrong."""
    words: tuple[str, ...]
    """What the sentence about it must hold: one of these."""
    messages: Callable[[Messages, Frame], None] = same_messages
    """Changes the messages of a frame."""
    points: Callable[[Points], Points] = lambda points: points
    """Changes the points of the map's objects, m."""
    answered: bool = True
    """Whether every frame is answered all the same."""
    twin: bool = False
    """Whether a second node of the same name runs."""


def _depth(messages: Messages, metres: np.ndarray, encoding: str = "16UC1") -> None:
    scale = 1000.0 if encoding == "16UC1" else 1.0
    kind = np.uint16 if encoding == "16UC1" else np.float32
    values = np.clip(metres * scale, 0, 65535 if encoding == "16UC1" else None).astype(kind)
    messages["depth"] = image_message(make, messages["depth"].header, encoding, values)


def _new_header(messages: Messages, stamp_ns: int, frame_id: str) -> None:
    """Give depth a header of its own; it shares that of the image."""
    messages["depth"].header = header_message(make, stamp_ns, frame_id)


def _pose(messages: Messages, T: np.ndarray) -> None:
    before = messages["/tf"].transforms[0]
    messages["/tf"].transforms = [
        transform_stamped_message(make, before.header, before.child_frame_id, T)
    ]


def _tenth(messages: Messages, frame: Frame) -> None:
    _depth(messages, frame.depth * 0.1)


def _millimetres_as_metres(messages: Messages, frame: Frame) -> None:
    _depth(messages, frame.depth * 1000, "32FC1")


def _infrared(messages: Messages, frame: Frame) -> None:
    _depth(messages, frame.rgb.astype(np.float32).mean(2) * 16 / 1000)


def _unregistered(messages: Messages, frame: Frame) -> None:
    pixels = round(frame.intrinsics.fx * 0.025 / float(np.median(frame.depth)))
    _depth(messages, np.roll(frame.depth, max(pixels, 1), axis=1))
    _new_header(messages, frame.stamp_ns, "depth_optical")


def _apart(messages: Messages, frame: Frame) -> None:
    _new_header(messages, frame.stamp_ns + 30_000_000, frame.frame_id)


def _inverted(messages: Messages, frame: Frame) -> None:
    _pose(messages, np.linalg.inv(frame.T_map_camera))


def _of_camera_link(messages: Messages, frame: Frame) -> None:
    mount = R_BODY_OPTICAL.copy()
    mount[:3, 3] = 0.0, 0.015, 0.0  # of the colour camera of a D435 in its camera_link
    _pose(messages, frame.T_map_camera @ np.linalg.inv(mount))


def _upside_down(messages: Messages, frame: Frame) -> None:
    for field in ("k", "p"):
        values = list(getattr(messages["camera_info"], field))
        values[4 if field == "k" else 5] *= -1
        setattr(messages["camera_info"], field, values)


def _zero(messages: Messages, frame: Frame) -> None:
    _depth(messages, np.zeros_like(frame.depth))


def _in_millimetres(points: Points) -> Points:
    return {i: p * 1000 for i, p in points.items()}


def _of_another_room(points: Points) -> Points:
    """Turn the map about the vertical and put the things elsewhere, as another room has them."""
    rng = np.random.default_rng(5)
    turned = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    middle = np.mean([p.mean(0) for p in points.values()], axis=0)
    return {
        i: ((p - p.mean(0)) @ turned.T + middle + rng.uniform(-0.5, 0.5, 3)).astype(np.float32)
        for i, p in points.items()
    }


ALL = (
    Contradiction("depth x 0.1", ("in cm, read as mm",), _tenth),
    Contradiction("depth x 1000", ("in mm, published as 32FC1",), _millimetres_as_metres),
    Contradiction("infrared as depth", ("infrared",), _infrared),
    Contradiction("depth frame shifted 25 mm", ("not registered to colour",), _unregistered),
    Contradiction("30 ms apart", ("no stamps lie within",), _apart, answered=False),
    Contradiction("pose inverted", ("poses look inverted",), _inverted),
    Contradiction("pose of camera_link", ("poses look like those of",), _of_camera_link),
    Contradiction("map in mm", ("look like millimetres",), points=_in_millimetres),
    Contradiction("fy < 0", ("camera_info content",), _upside_down, answered=False),
    Contradiction("zero depth", ("holds no measurement",), _zero),
    Contradiction(
        "stale map of another room", ("a map of another place",), points=_of_another_room
    ),
    Contradiction("two nodes", ("nodes are named",), twin=True),
)
"""The twelve."""
