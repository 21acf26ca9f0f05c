"""Images, to messages and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from vos_ros.messages.checks import MessageError
from vos_ros.messages.encodings import DecodeError
from vos_ros.messages.images import (
    compressed_rgb_message,
    depth_from_message,
    depth_message,
    frame_messages,
    image_message,
    pixels_from_message,
    rgb_from_message,
    rgb_message,
)
from vos_ros.messages.stamps import header_message, ns_from_stamp
from vos_ros.types import Frame, Intrinsics

Make = Callable[..., Any]
RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@pytest.fixture
def header(make: Make) -> Any:
    return header_message(make, 1_234_567_890_123_456_789, "camera")


def test_colour_comes_back_and_a_view_costs_no_copy(
    make: Make, header: Any, transport: Callable[[Any], Any]
) -> None:
    msg = transport(rgb_message(make, header, RGB))
    assert (msg.encoding, msg.step, msg.is_bigendian) == ("rgb8", 192, 0)
    assert (msg.height, msg.width, msg.header.frame_id) == (48, 64, "camera")
    back = rgb_from_message(msg)
    assert np.array_equal(back, RGB) and np.shares_memory(back, np.frombuffer(msg.data, np.uint8))
    bgr = image_message(make, header, "bgr8", RGB[:, :, ::-1])
    assert np.array_equal(rgb_from_message(bgr), RGB)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_comes_back(
    make: Make, header: Any, transport: Callable[[Any], Any], encoding: str
) -> None:
    depth = np.random.default_rng(0).uniform(0.3, 8, (48, 64)).astype(np.float32)
    depth[:5] = 0
    msg = transport(depth_message(make, header, depth, encoding))
    assert msg.encoding == encoding and msg.step == (128 if encoding == "16UC1" else 256)
    back = depth_from_message(msg)
    assert back.dtype == np.float32 and not back[:5].any()
    assert np.abs(back - depth).max() <= (0.00051 if encoding == "16UC1" else 0)


def test_depth_of_another_size_than_its_image_is_not_decoded(make: Make, header: Any) -> None:
    msg = image_message(make, header, "16UC1", np.ones((4, 6), np.uint16))
    assert depth_from_message(msg, shape=(4, 6)).shape == (4, 6)
    for shape in ((6, 4), (4, 5), (3, 6)):
        with pytest.raises(MessageError, match=r"depth is 6x4 px, the image \d+x\d+ px: it is not"):
            depth_from_message(msg, shape=shape)


def test_unknown_depth_is_nan_in_metres_and_zero_in_millimetres(make: Make, header: Any) -> None:
    depth = np.array([[0.0, -1.0, np.nan, 1.5]], np.float32)
    metres = pixels_from_message(depth_message(make, header, depth, "32FC1"))
    assert np.isnan(metres[0, :3]).all() and metres[0, 3] == 1.5
    assert pixels_from_message(depth_message(make, header, depth)).tolist() == [[0, 0, 0, 1500]]


def test_depth_in_another_encoding_is_refused(make: Make, header: Any) -> None:
    with pytest.raises(ValueError, match=r"'rgb8': wanted 16UC1 \(mm\) or 32FC1"):
        depth_message(make, header, np.ones((2, 2), np.float32), "rgb8")
    with pytest.raises(DecodeError, match=r"rgb8.*wanted 16UC1"):
        depth_from_message(rgb_message(make, header, RGB))


def test_a_big_endian_message_is_read_and_little_endian_is_written(make: Make, header: Any) -> None:
    values = np.array([[1, 65535], [258, 3]], np.uint16)
    msg = image_message(make, header, "16UC1", values.astype(">u2"))
    assert bytes(msg.data) == values.astype("<u2").tobytes()
    assert np.array_equal(pixels_from_message(msg), values)
    msg.is_bigendian = 1
    assert np.array_equal(pixels_from_message(msg), values.byteswap())
    np.testing.assert_allclose(depth_from_message(msg)[0, 0], 0.256)
    wide = image_message(make, header, "rgb16", np.full((1, 1, 3), 0x0102, np.uint16))
    assert rgb_from_message(wide)[0, 0, 0] == 1
    wide.is_bigendian = 1
    assert rgb_from_message(wide)[0, 0, 0] == 2


def test_the_label_image_of_one_row_or_column(make: Make, header: Any) -> None:
    labels = np.arange(20, dtype=np.uint16).reshape(4, 5)
    for part in (labels[:1], labels[:, :1], labels.T[:1]):
        msg = image_message(make, header, "16UC1", part)
        assert msg.step == 2 * part.shape[1]
        assert np.array_equal(pixels_from_message(msg), part)


def test_compressed_images(make: Make, header: Any, transport: Callable[[Any], Any]) -> None:
    png = cv2.imencode(".png", RGB[:, :, ::-1])[1].tobytes()
    msg = transport(compressed_rgb_message(make, header, "png", png))
    assert msg.format == "rgb8; png compressed bgr8"
    assert np.array_equal(rgb_from_message(msg), RGB)
    depth = cv2.imencode(".png", np.full((4, 4), 1500, np.uint16))[1].tobytes()
    packed = compressed_rgb_message(make, header, "", bytes(12) + depth)
    packed.format = "16UC1; compressedDepth png"
    assert np.allclose(depth_from_message(packed), 1.5)
    assert np.allclose(depth_from_message(packed, shape=(4, 4)), 1.5)
    with pytest.raises(MessageError, match="depth is 4x4 px, the image 4x6 px: it is not register"):
        depth_from_message(packed, shape=(6, 4))
    with pytest.raises(DecodeError, match="jpeg"):
        rgb_from_message(compressed_rgb_message(make, header, "jpeg", b"nothing"))


def test_a_frame_as_a_driver_publishes_it(make: Make) -> None:
    camera = Intrinsics(50.0, 51.0, 31.5, 23.5, 64, 48)
    frame = Frame(0, 7, RGB, np.full((48, 64), 1.5, np.float32), camera, frame_id="cam")
    image, info, depth = frame_messages(make, frame)
    assert np.array_equal(rgb_from_message(image), RGB) and info.k[4] == 51.0
    assert depth is not None and depth.encoding == "16UC1"
    assert np.allclose(depth_from_message(depth), 1.5)
    assert {m.header.frame_id for m in (image, info, depth)} == {"cam"}
    assert {ns_from_stamp(m.header.stamp) for m in (image, info, depth)} == {7}
    without = Frame(0, 7, RGB, None, camera)
    image, _, depth = frame_messages(make, without, frame_id="optical", depth_encoding="32FC1")
    assert depth is None and image.header.frame_id == "optical"
    _, _, depth = frame_messages(make, frame, depth_encoding="32FC1")
    assert depth is not None and depth.encoding == "32FC1"


def test_large_images_cost_a_copy_and_not_a_loop(make: Make, header: Any) -> None:
    rgb = np.zeros((1080, 1920, 3), np.uint8)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        rgb_from_message(rgb_message(make, header, rgb))
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.05, "six million bytes: a loop in Python takes half a second"
