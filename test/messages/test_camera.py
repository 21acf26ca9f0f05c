"""The camera_info: what camera the published image has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vos_ros.messages.camera import (
    TopicRectifier,
    calibration_key,
    camera_info_message,
    intrinsics_from_message,
    is_rectified,
    region_message,
)
from vos_ros.messages.factory import make
from vos_ros.messages.stamps import header_message
from vos_ros.types import Intrinsics

Make = Callable[..., Any]
BENT = Intrinsics(500.0, 510.0, 319.5, 239.5, 640, 480, "plumb_bob", (0.1, -0.2, 0.0, 0.001, 0.0))


def info(make: Make, camera: Intrinsics = BENT) -> Any:
    return camera_info_message(make, header_message(make, 5, "cam"), camera)


def values(camera: Intrinsics) -> tuple[float, ...]:
    return (camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)


def test_a_camera_comes_back(make: Make, transport: Callable[[Any], Any]) -> None:
    back = intrinsics_from_message(transport(info(make)))
    assert values(back) == values(BENT)
    assert (back.distortion_model, back.distortion) == (BENT.distortion_model, BENT.distortion)


def test_a_camera_without_distortion_comes_back(
    make: Make, transport: Callable[[Any], Any]
) -> None:
    sent = transport(info(make, replace(BENT, distortion_model="", distortion=())))
    assert sent.distortion_model == "plumb_bob" and list(sent.d) == [0.0] * 5
    back = intrinsics_from_message(sent)
    assert (back.distortion_model, back.distortion, values(back)) == ("", (), values(BENT))


def test_binning_and_region_are_applied(make: Make) -> None:
    msg = info(make)
    msg.binning_x, msg.binning_y = 2, 4
    msg.roi = region_message(make, (100, 40, 500, 240))
    cut = intrinsics_from_message(msg)
    assert values(cut) == (
        250.0,
        127.5,
        pytest.approx((319.5 - 100 + 0.5) / 2 - 0.5),
        pytest.approx((239.5 - 40 + 0.5) / 4 - 0.5),
        200,
        50,
    )


def test_no_calibration_is_refused(make: Make) -> None:
    msg = info(make)
    msg.k = np.zeros(9)
    with pytest.raises(ValueError, match="no calibration"):
        intrinsics_from_message(msg)


@pytest.mark.parametrize("kind", ["image_rect", "image_rect_color", "image_rect/compressed"])
def test_topics_of_image_proc_are_rectified(kind: str) -> None:
    assert is_rectified(f"/camera/color/{kind}")


@pytest.mark.parametrize(
    "topic", ["/camera/image_raw", "/image", "/rect/image_raw", "/my_image_rect"]
)
def test_other_topics_are_not(topic: str) -> None:
    assert not is_rectified(topic)


def test_a_rectified_image_has_the_camera_of_p_and_no_distortion(make: Make) -> None:
    msg = info(make)
    msg.p = np.array([400.0, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0])
    assert values(intrinsics_from_message(msg)) == values(BENT)
    rectified = intrinsics_from_message(msg, rectified=True)
    assert values(rectified) == (400.0, 410.0, 310.0, 230.0, 640, 480)
    assert (rectified.distortion_model, rectified.distortion) == ("", ())


def test_without_p_a_rectified_image_has_the_camera_of_k(make: Make) -> None:
    msg = info(make)
    msg.p = np.zeros(12)
    assert values(intrinsics_from_message(msg, rectified=True)) == values(BENT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 7),
        ("height", 7),
        ("distortion_model", "equidistant"),
        ("d", np.array([0.1, -0.2, 0.0, 0.002, 0.0])),
        ("k", np.arange(9.0)),
        ("p", np.arange(12.0)),
        ("binning_x", 2),
        ("binning_y", 2),
    ],
)
def test_another_calibration_has_another_key(make: Make, field: str, value: Any) -> None:
    msg, key = info(make), calibration_key(info(make))
    msg.header = header_message(make, 6, "other")
    assert calibration_key(msg) == key, "whatever its header is"
    setattr(msg, field, value)
    assert calibration_key(msg) != key


@pytest.mark.parametrize("roi", [(1, 0, 1, 0), (0, 1, 0, 1), (0, 0, 1, 0), (0, 0, 0, 1)])
def test_another_region_has_another_key(make: Make, roi: tuple[int, int, int, int]) -> None:
    msg, key = info(make), calibration_key(info(make))
    msg.roi = region_message(make, roi)
    assert calibration_key(msg) != key


def test_a_region_of_interest(make: Make) -> None:
    roi = region_message(make, (4, 6, 21, 19))
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == (4, 6, 17, 13)
    empty = region_message(make, (9, 9, 3, 2))
    assert (empty.width, empty.height) == (0, 0)


@pytest.mark.parametrize(
    ("topics", "fx"),
    [
        (("/camera/image_raw",), None),
        (("/camera/image_raw", "/camera/depth"), None),
        (("/camera/image_rect",), 400.0),
        (("/image", "/camera/depth_registered/image_rect"), 400.0),
    ],
)
def test_the_topics_tell_whether_images_are_rectified_already(
    make: Make, topics: tuple[str, ...], fx: float | None
) -> None:
    msg = info(make)
    msg.p = np.array([400.0, 0, 310, 0, 0, 410, 230, 0, 0, 0, 1, 0])
    rectifier = TopicRectifier(*topics).of(msg)
    assert rectifier.identity == (fx is not None)
    assert rectifier.source.fx == (fx or BENT.fx) and rectifier.intrinsics.distortion == ()


def test_the_rectification_is_kept_while_the_calibration_is_the_same(make: Make) -> None:
    rectifiers = TopicRectifier("/camera/image_raw")
    first, again, other = info(make), info(make), info(make)
    again.header = header_message(make, 6, "cam")
    other.k = other.k * 2.0
    kept = rectifiers.of(first)
    assert rectifiers.of(again) is kept
    assert rectifiers.of(other).source.fx == 1000.0
    other.distortion_model = "magic"
    with pytest.raises(ValueError, match="magic"):
        rectifiers.of(other)
    assert rectifiers.of(first).source.fx == 500.0


def test_a_region_is_of_the_image_as_it_is_not_of_a_rectified_one() -> None:
    region = region_message(make, (3, 5, 10, 25))
    assert (region.x_offset, region.y_offset, region.width, region.height) == (3, 5, 7, 20)
    assert region.do_rectify is False
