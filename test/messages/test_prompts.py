"""Prompts of people and programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vos_ros.messages import factory
from vos_ros.messages.checks import MessageError
from vos_ros.messages.images import image_message
from vos_ros.messages.prompts import clicked_point_from_message, prompt_from_message
from vos_ros.messages.stamps import header_message
from vos_ros.types import Box, Mask, Points, Scribble

Make = Callable[..., Any]
STROKES = np.zeros((8, 10), np.uint8)
STROKES[2:4], STROKES[5, 5] = 2, 1
MASK, BOX, POINTS, SCRIBBLE = 0, 1, 2, 3


@pytest.fixture
def prompt(make: Make) -> Callable[..., Any]:
    """``prompt(kind, encoding=..., points_xy=...)``: a message with all kinds of prompts in it."""

    def build(kind: int, encoding: str = "mono8", **fields: Any) -> Any:
        head = header_message(make, 5, "camera")
        given = {
            "mask": image_message(make, head, encoding, STROKES),
            "box_xyxy": np.array([1, 2, 3, 4], np.float32),
            "points_xy": np.array([1, 2, 3, 4], np.float32),
            "points_positive": np.array([True, False]) if make is factory.make else [True, False],
        }
        return make("vos_ros/msg/Prompt", kind=kind, class_id=3, **{**given, **fields})

    return build


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_masks_and_scribbles(prompt: Callable[..., Any], encoding: str) -> None:
    mask = prompt_from_message(prompt(MASK, encoding))
    assert isinstance(mask, Mask) and np.array_equal(mask.mask, STROKES > 0)
    scribble = prompt_from_message(prompt(SCRIBBLE, encoding))
    assert isinstance(scribble, Scribble) and np.array_equal(scribble.strokes, STROKES)


def test_clicked_points(make: Make) -> None:
    def clicked(frame_id: str = "/map", x: float = 1.0) -> Any:
        point = make("geometry_msgs/msg/Point", x=x, y=-2.0, z=3.0)
        head = header_message(make, 5, frame_id)
        return make("geometry_msgs/msg/PointStamped", header=head, point=point)

    click = clicked_point_from_message(clicked())
    assert (click.frame_id, click.stamp_ns, click.point.tolist()) == ("map", 5, [1.0, -2.0, 3.0])
    for wrong, said in (
        (clicked(""), "header.frame_id is empty"),
        (clicked("a\nb"), "printable"),
        (clicked(x=float("nan")), "point is .*nan.* wanted finite"),
        (clicked(x=1e12), "at most 1e.08 m"),
    ):
        with pytest.raises(MessageError, match=said):
            clicked_point_from_message(wrong)


def test_boxes_and_points(prompt: Callable[..., Any], transport: Callable[[Any], Any]) -> None:
    box = prompt_from_message(transport(prompt(BOX)))
    assert isinstance(box, Box) and box.xyxy.tolist() == [1, 2, 3, 4]
    points = prompt_from_message(transport(prompt(POINTS)))
    assert isinstance(points, Points) and points.xy.tolist() == [[1, 2], [3, 4]]
    assert points.positive.dtype == bool and points.positive.tolist() == [True, False]


def test_prompts_that_are_none_are_refused(prompt: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="2 numbers in points_xy and 2 in points_positive"):
        prompt_from_message(prompt(POINTS, points_xy=np.array([1, 2], np.float32)))
    for kind in (MASK, SCRIBBLE):
        with pytest.raises(ValueError, match="encoding 'bgr8', wanted mono8"):
            prompt_from_message(prompt(kind, "bgr8"))
    with pytest.raises(ValueError, match="kind 7: wanted 0 MASK"):
        prompt_from_message(prompt(7))
