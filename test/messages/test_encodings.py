"""Encodings: each one against values computed by hand or by another encoder."""

from __future__ import annotations

import array
import struct

import cv2
import numpy as np
import pytest

from vos_ros.messages import encodings as decode

H, W = 6, 8
RED = np.array([200, 30, 60], np.uint8)


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)


@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("rgb8", [0, 1, 2]),
        ("bgr8", [2, 1, 0]),
        ("8UC3", [2, 1, 0]),
        ("rgba8", [0, 1, 2, 0]),
        ("bgra8", [2, 1, 0, 0]),
        ("8UC4", [2, 1, 0, 0]),
    ],
)
def test_interleaved_colour(rgb: np.ndarray, encoding: str, order: list[int]) -> None:
    data = rgb[:, :, order].tobytes()
    assert (decode.decode_color(data, encoding, H, W) == rgb).all()


@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb16", [0, 1, 2]), ("bgr16", [2, 1, 0]), ("rgba16", [0, 1, 2, 0])]
)
@pytest.mark.parametrize("big", [False, True])
def test_sixteen_bits_keep_the_upper_byte(
    rgb: np.ndarray, encoding: str, order: list[int], big: bool
) -> None:
    wide = (rgb[:, :, order].astype(np.uint16) << 8 | 17).astype(">u2" if big else "<u2")
    assert (decode.decode_color(wide.tobytes(), encoding, H, W, 0, big) == rgb).all()


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_three_equal_channels(rgb: np.ndarray, encoding: str) -> None:
    out = decode.decode_color(rgb[:, :, 0].tobytes(), encoding, H, W)
    assert out.shape == (H, W, 3) and all((out[:, :, c] == rgb[:, :, 0]).all() for c in range(3))


def test_padded_rows_even_of_odd_length(rgb: np.ndarray) -> None:
    padded = np.full((H, W * 3 + 5), 99, np.uint8)
    padded[:, : W * 3] = rgb.reshape(H, -1)
    assert (decode.decode_color(padded.tobytes(), "rgb8", H, W, W * 3 + 5) == rgb).all()
    depth = np.arange(H * W, dtype=np.uint16).reshape(H, W)
    padded = np.full((H, W * 2 + 3), 99, np.uint8)
    padded[:, : W * 2] = depth.view(np.uint8).reshape(H, -1)
    unpadded_end = padded.tobytes()[:-3]  # some drivers leave the last row's padding out
    assert (decode.view(unpadded_end, "16UC1", H, W, W * 2 + 3) == depth).all()


def test_rgb_is_a_view(rgb: np.ndarray) -> None:
    data = array.array("B", rgb.tobytes())
    assert np.shares_memory(decode.decode_color(data, "rgb8", H, W), np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_of_one_colour(pattern: str, bits: int) -> None:
    mosaic = np.zeros((H, W), np.uint8)
    for i, channel in enumerate(pattern):
        mosaic[i // 2 :: 2, i % 2 :: 2] = RED["rgb".index(channel)]
    data = mosaic.tobytes() if bits == 8 else (mosaic.astype("<u2") << 8).tobytes()
    out = decode.decode_color(data, f"bayer_{pattern}{bits}", H, W)
    assert (out[1:-1, 1:-1] == RED).all()


@pytest.mark.parametrize(
    ("encoding", "luma_first"),
    [("yuv422", False), ("uyvy", False), ("yuyv", True), ("yuv422_yuy2", True)],
)
def test_packed_yuv(encoding: str, luma_first: bool) -> None:
    # ITU-R BT.601 limited range of (200, 30, 60)
    y, u, v = 84, 117, 200
    pixels = np.tile(np.array([y, u, y, v] if luma_first else [u, y, v, y], np.uint8), (H, W // 2))
    out = decode.decode_color(pixels.tobytes(), encoding, H, W).astype(int)
    assert np.abs(out - RED.astype(int)).max() <= 6


@pytest.mark.parametrize(("encoding", "chroma"), [("nv12", (117, 200)), ("nv21", (200, 117))])
def test_planar_yuv(encoding: str, chroma: tuple[int, int]) -> None:
    data = (
        np.full((H, W), 84, np.uint8).tobytes()
        + np.tile(np.array(chroma, np.uint8), (H // 2, W // 2)).tobytes()
    )
    assert (
        np.abs(decode.decode_color(data, encoding, H, W).astype(int) - RED.astype(int)).max() <= 6
    )
    with pytest.raises(decode.DecodeError, match="even width"):
        decode.decode_color(data, encoding, H, W - 1)


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
@pytest.mark.parametrize("big", [False, True])
def test_depth_in_millimetres(encoding: str, big: bool) -> None:
    mm = np.array([[0, 1, 1000], [1234, 65534, 65535]], ">u2" if big else "<u2")
    depth = decode.decode_depth(mm.tobytes(), encoding, 2, 3, 0, big)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[0, 0.001, 1.0], [1.234, 65.534, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(("encoding", "dtype"), [("32FC1", "<f4"), ("64FC1", "<f8")])
def test_depth_in_metres_with_every_kind_of_nothing(encoding: str, dtype: str) -> None:
    metres = np.array([[np.nan, np.inf, -np.inf], [-1.0, 0.0, 2.5]], dtype)
    np.testing.assert_array_equal(
        decode.decode_depth(metres.tobytes(), encoding, 2, 3),
        np.array([[0, 0, 0], [0, 0, 2.5]], np.float32),
    )


def test_depth_does_not_change_its_input() -> None:
    raw = np.array([[np.nan, -1.0]], np.float32)
    decode.depth_to_metres(raw)
    assert np.isnan(raw[0, 0]) and raw[0, 1] == -1.0


def test_metres_to_millimetres() -> None:
    depth = np.array([[0.0, 0.0014, 1.2346, 70.0, np.nan, -2.0]], np.float32)
    np.testing.assert_array_equal(
        decode.depth_to_millimetres(np.nan_to_num(depth)), [[0, 1, 1235, 0, 0, 0]]
    )


@pytest.mark.parametrize(
    ("extension", "format"),
    [(".png", "rgb8; png compressed bgr8"), (".png", "png"), (".jpg", "jpeg")],
)
def test_compressed_colour(extension: str, format: str) -> None:
    flat = np.full((32, 48, 3), RED, np.uint8)
    ok, data = cv2.imencode(extension, flat[:, :, ::-1])
    assert (
        ok
        and np.abs(decode.decode_compressed_color(data.tobytes(), format).astype(int) - flat).max()
        <= 3
    )


def test_a_camera_that_compresses_rgb_order_and_says_so() -> None:
    ok, data = cv2.imencode(
        ".png", np.full((4, 4, 3), RED, np.uint8)
    )  # OpenCV believes this is BGR
    assert ok and (decode.decode_compressed_color(data, "rgb8; png compressed rgb8") == RED).all()


def test_compressed_depth_png() -> None:
    mm = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 50
    ok, data = cv2.imencode(".png", mm)
    assert ok
    want = mm.astype(np.float32) * np.float32(0.001)
    with_header = struct.pack("<iff", -1, 0.0, 0.0) + data.tobytes()
    for format in ("16UC1; compressedDepth", "16UC1; compressedDepth png"):
        np.testing.assert_allclose(decode.decode_compressed_depth(with_header, format), want)
    np.testing.assert_allclose(
        decode.decode_compressed_depth(data.tobytes(), "16UC1; png compressed "), want
    )


def test_compressed_inverse_depth() -> None:
    # as in compressed_depth_image_transport: raw = a / z + b, with 0 for no measurement
    depth_max, quantization = 10.0, 100.0
    a = quantization * (quantization + 1.0)
    b = 1.0 - a / depth_max
    metres = np.linspace(0.5, 9.5, H * W, dtype=np.float32).reshape(H, W)
    raw = np.rint(a / metres + b).astype(np.uint16)
    raw[0, 0] = 0
    ok, data = cv2.imencode(".png", raw)
    assert ok
    out = decode.decode_compressed_depth(
        struct.pack("<iff", 0, a, b) + data.tobytes(), "32FC1; compressedDepth png"
    )
    assert out[0, 0] == 0.0
    np.testing.assert_allclose(out.ravel()[1:], metres.ravel()[1:], rtol=0.01)


def test_errors_name_what_was_got_and_what_works(rgb: np.ndarray) -> None:
    with pytest.raises(decode.DecodeError, match=r"'h264'.*rgb8, bgr8"):
        decode.decode_color(rgb.tobytes(), "h264", H, W)
    with pytest.raises(decode.DecodeError, match=r"'32FC1'.*rgb8"):
        decode.decode_color(rgb.tobytes(), "32FC1", H, W)
    with pytest.raises(decode.DecodeError, match=r"'bgr8'.*16UC1.*32FC1"):
        decode.decode_depth(rgb.tobytes(), "bgr8", H, W)
    with pytest.raises(decode.DecodeError, match=r"8x6 px .* has 143 bytes; wanted .* 144 bytes"):
        decode.decode_color(rgb.tobytes()[:-1], "rgb8", H, W)
    with pytest.raises(decode.DecodeError, match=r"step 10 .* at least 24"):
        decode.decode_color(rgb.tobytes(), "rgb8", H, W, 10)
    with pytest.raises(decode.DecodeError, match=r"RVL"):
        decode.decode_compressed_depth(b"0" * 40, "16UC1; compressedDepth rvl")
    for empty in (b"", b"garbage that is no image"):
        with pytest.raises(decode.DecodeError, match="cannot decode"):
            decode.decode_compressed_color(empty, "jpeg")
        with pytest.raises(decode.DecodeError, match="not an image"):
            decode.decode_compressed_depth(empty, "16UC1; compressedDepth")


@pytest.mark.parametrize(("height", "width"), [(0, 4), (4, 0), (0, 0)])
def test_an_image_without_rows_or_columns_is_refused(height: int, width: int) -> None:
    with pytest.raises(decode.DecodeError, match=f"of {width}x{height} px"):
        decode.view(b"", "mono8", height, width)


def test_depth_that_is_negative_is_unknown() -> None:
    raw = np.array([[-0.5, -1e-6, 0.0, 0.25]], np.float32)
    assert decode.depth_to_metres(raw).tolist() == [[0.0, 0.0, 0.0, 0.25]]
