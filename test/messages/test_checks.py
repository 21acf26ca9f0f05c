"""What a message declares is held against what it carries, before anything is allocated."""

from __future__ import annotations

import io
import resource
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest

from vos_ros.messages.camera import camera_info_message, intrinsics_from_message
from vos_ros.messages.checks import Limits, MessageError, check_header, check_stamp
from vos_ros.messages.clouds import points_from_message, points_message
from vos_ros.messages.encodings import decode_compressed_color, decode_compressed_depth
from vos_ros.messages.geometry import covariance_from_message, matrix_from_pose, pose_message
from vos_ros.messages.images import depth_from_message, rgb_from_message, rgb_message
from vos_ros.messages.map_objects import map_objects_message, map_update_from_message
from vos_ros.messages.stamps import header_message
from vos_ros.types import Intrinsics, MapObject, MapUpdate

Make = Callable[..., Any]
LARGEST = 2**32 - 1


@pytest.fixture(autouse=True)
def nothing_large_is_allocated() -> Any:
    """Every one of these is refused before it costs memory."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


# -- clouds


def cloud(**fields: Any) -> SimpleNamespace:
    """Four points of x y z float32 in two rows, with some fields changed."""
    layout = {"x": (0, 7), "y": (4, 7), "z": (8, 7)} | fields.pop("layout", {})
    made = {
        "width": 2,
        "height": 2,
        "fields": [
            SimpleNamespace(name=n, offset=o, datatype=t, count=1) for n, (o, t) in layout.items()
        ],
        "is_bigendian": False,
        "point_step": 12,
        "row_step": 24,
        "data": np.arange(12, dtype="<f4").tobytes(),
    }
    return SimpleNamespace(**(made | fields))


def test_the_cloud_itself_is_right() -> None:
    assert points_from_message(cloud()).tolist() == np.arange(12.0).reshape(4, 3).tolist()


@pytest.mark.parametrize("offset", [2**31 - 4, 2**31 - 1, 2**32 - 1, 12, 9])
def test_a_field_outside_its_point_is_refused(offset: int) -> None:
    """NumPy's offsets are C integers: with 2**31 - 4 it read 2 GiB behind the buffer."""
    with pytest.raises(MessageError, match=f"'y' has 4 bytes at offset {offset}.*12 bytes"):
        points_from_message(cloud(layout={"y": (offset, 7)}))


def test_a_double_at_the_end_of_its_point_is_refused() -> None:
    with pytest.raises(MessageError, match="'z' has 8 bytes at offset 8"):
        points_from_message(cloud(layout={"z": (8, 8)}))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"height": LARGEST, "width": 1, "row_step": 0}, "points of a cloud: 4294967295"),
        ({"height": LARGEST, "width": LARGEST}, "limits.points"),
        ({"height": 1000, "row_step": 0}, "row_step 0"),
        ({"row_step": 23}, "row_step >= 24"),
        ({"point_step": 0}, "point_step > 0"),
        ({"point_step": LARGEST}, "row_step >= 8589934590"),
        ({"height": 3}, "cut short: 48 bytes for 3 rows"),
        ({"row_step": LARGEST}, "cut short"),
    ],
)
def test_a_cloud_whose_layout_does_not_fit_is_refused(fields: dict[str, int], reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        points_from_message(cloud(**fields))


def test_an_empty_cloud_of_any_height_is_empty() -> None:
    assert points_from_message(cloud(width=0, height=LARGEST)).shape == (0, 3)


def test_a_double_beyond_float32_is_no_point(make: Make) -> None:
    table = np.array([[1e300, 0, 0], [1, 2, 3]], "<f8")
    made = cloud(
        width=2,
        height=1,
        layout={"x": (0, 8), "y": (8, 8), "z": (16, 8)},
        point_step=24,
        data=table.tobytes(),
    )
    assert np.isfinite(points_from_message(made)).all(axis=1).tolist() == [False, True]


# -- images


def bomb(width: int, height: int, kind: int = 0, bits: int = 8) -> bytes:
    """A PNG of one value: a few kilobytes for any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    row = b"\0" * (1 + width * bits // 8)
    body = zlib.compressobj(9)
    data = b"".join(body.compress(row) for _ in range(min(height, 100))) + body.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(16_000, 16_000), (60_000, 60_000), (7_100, 7_100)])
def test_a_compressed_image_that_unpacks_to_gigabytes_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(MessageError, match=r"limits\.pixels"):
        decode_compressed_color(bomb(*size), "png")
    with pytest.raises(MessageError, match=r"limits\.pixels"):
        decode_compressed_depth(bytes(12) + bomb(*size, bits=16), "16UC1; compressedDepth png")


def test_a_png_whose_chunk_declares_gigabytes_is_not_decoded() -> None:
    """OpenCV would allocate them: a second and 2 GiB for 600 bytes."""
    png = bytearray(cv2.imencode(".png", np.full((96, 128), 900, np.uint16))[1].tobytes())
    for right in (bytes(png), bytes(png) + b"padding"):
        assert decode_compressed_depth(right, "16UC1 png").shape == (96, 128)
    at = png.index(b"IDAT") - 4
    png[at : at + 4] = (2**31 - 1).to_bytes(4, "big")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MessageError, match=r"cannot decode|not an image"):
        decode_compressed_depth(bytes(png), "16UC1 png")
    with pytest.raises(MessageError, match="cannot decode"):
        decode_compressed_color(bytes(png), "png")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB"


def test_the_limit_of_pixels_is_a_parameter(make: Make) -> None:
    out = io.BytesIO()
    PIL.Image.new("RGB", (100, 50)).save(out, "png")
    assert decode_compressed_color(out.getvalue(), "png", Limits(pixels=5000)).shape == (50, 100, 3)
    with pytest.raises(MessageError, match="100x50: 5000, wanted at most 4999"):
        decode_compressed_color(out.getvalue(), "png", Limits(pixels=4999))
    image = rgb_message(make, header_message(make, 5, "c"), np.zeros((50, 100, 3), np.uint8))
    assert rgb_from_message(image, Limits(pixels=5000)).shape == (50, 100, 3)
    with pytest.raises(MessageError, match="4999"):
        rgb_from_message(image, Limits(pixels=4999))


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG", b"GIF89a" + bytes(100), b"\xff\xd8\xff" + bytes(100), bytes(1000)]
)
def test_bytes_of_no_known_image_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError, match="cannot decode"):
        decode_compressed_color(data, "jpeg")


@pytest.mark.parametrize("size", [(LARGEST, LARGEST), (LARGEST, 1), (1, LARGEST)])
def test_a_raw_image_of_any_declared_size_is_refused(size: tuple[int, int]) -> None:
    image = SimpleNamespace(
        width=size[0], height=size[1], encoding="16UC1", step=0, is_bigendian=0, data=bytes(100)
    )
    for read in (rgb_from_message, depth_from_message):
        with pytest.raises(MessageError):
            read(image)


@pytest.mark.parametrize("value", [3e38, 1e6, np.inf])
def test_depth_of_no_sensor_is_unknown(value: float) -> None:
    data = np.array([[value, 2.0]], "<f4").tobytes()
    image = SimpleNamespace(width=2, height=1, encoding="32FC1", step=8, is_bigendian=0, data=data)
    assert depth_from_message(image).tolist() == [[0.0, 2.0]]


# -- cameras


@pytest.mark.parametrize(
    ("width", "height", "fx", "reason"),
    [
        (LARGEST, LARGEST, 1e9, "limits.pixels"),
        (640, 480, 1e-300, "1e-300"),
        (640, 480, 1e300, "no camera has"),
        (640, 480, 5.0, "no camera has"),
    ],
)
def test_a_camera_that_none_can_be_is_refused(
    make: Make, width: int, height: int, fx: float, reason: str
) -> None:
    camera = Intrinsics(fx, 500.0, 300.0, 200.0, width, height)
    with pytest.raises(ValueError, match=reason):
        intrinsics_from_message(camera_info_message(make, header_message(make, 5, "c"), camera))


@pytest.mark.parametrize("fx", [8.0, 500.0, 100_000.0])
def test_a_fisheye_and_a_telescope_are_cameras(make: Make, fx: float) -> None:
    camera = Intrinsics(fx, fx, 300.0, 200.0, 640, 480)
    message = camera_info_message(make, header_message(make, 5, "c"), camera)
    assert intrinsics_from_message(message).fx == fx


# -- stamps, texts, numbers


@pytest.mark.parametrize(("sec", "nanosec"), [(-1, 0), (-(2**31), 5), (5, 10**9), (0, LARGEST)])
def test_a_stamp_that_is_no_time_is_refused(sec: int, nanosec: int) -> None:
    with pytest.raises(MessageError, match=r"does its publisher fill in header\.stamp"):
        check_stamp(SimpleNamespace(sec=sec, nanosec=nanosec))


def test_the_first_and_the_last_time_are_right() -> None:
    assert check_stamp(SimpleNamespace(sec=0, nanosec=0)) == 0
    last = SimpleNamespace(sec=2**31 - 1, nanosec=999_999_999)
    assert check_stamp(last) == 2**31 * 10**9 - 1


def test_a_name_that_is_too_long_is_refused(make: Make) -> None:
    assert check_header(header_message(make, 5, "x" * 256)) == 5
    with pytest.raises(MessageError, match=r"header.frame_id: 257.*limits\.text"):
        check_header(header_message(make, 5, "x" * 257))


@pytest.mark.parametrize("value", [1e300, -1e9, np.inf])
def test_a_position_beyond_any_place_is_refused(make: Make, value: float) -> None:
    pose = pose_message(make, np.eye(4))
    pose.position.y = value
    with pytest.raises(MessageError, match=r"wanted finite numbers of at most 1e\+08 m"):
        matrix_from_pose(pose)


def test_a_covariance_beyond_any_place_is_unknown() -> None:
    assert covariance_from_message(np.diag([1e300] * 6).ravel()) is None
    assert covariance_from_message(np.diag([1e6] * 6).ravel()) is not None


# -- maps


def a_map(make: Make, **changes: Any) -> Any:
    thing = MapObject(
        id=1,
        class_id=2,
        T_map_object=np.eye(4),
        size=np.ones(3),
        points=np.ones((3, 3), np.float32),
        point_radius=0.01,
    )
    update = MapUpdate(
        stamp_ns=5, session_id="s", revision=1, full=True, objects=(thing,), frame_id="map"
    )
    message = map_objects_message(make, update)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("changes", "limits", "reason"),
    [
        ({"session_id": "s" * 1000}, Limits(), "session_id: 1000"),
        ({}, Limits(objects=0), "MapObjectArray.objects: 1"),
        ({"deleted_ids": list(range(9))}, Limits(objects=8), "deleted_ids: 9"),
        ({}, Limits(points=2), "points of a cloud: 3"),
    ],
)
def test_a_map_beyond_a_limit_is_refused(
    make: Make, changes: dict[str, Any], limits: Limits, reason: str
) -> None:
    with pytest.raises(MessageError, match=reason):
        map_update_from_message(a_map(make, **changes), limits)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_a_size_that_is_none_is_refused(make: Make, value: float) -> None:
    message = a_map(make)
    message.objects[0].size.y = value
    with pytest.raises(MessageError, match="object 1: size is"):
        map_update_from_message(message)


def test_points_beyond_any_place_are_left_out(make: Make) -> None:
    message = a_map(make)
    points = np.array([[1, 2, 3], [3e38, 0, 0], [np.nan, 0, 0]], np.float32)
    message.points = points_message(make, header_message(make, 5, "map"), points)
    (thing,) = map_update_from_message(message).objects
    assert thing.points.tolist() == [[1, 2, 3]]
