"""Point clouds: ours, and those of other publishers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vos_ros.messages.clouds import cloud_message, points_from_message, points_message
from vos_ros.messages.stamps import header_message

POINTS = np.arange(18, dtype=np.float32).reshape(6, 3)
Make = Callable[..., Any]


@pytest.mark.parametrize("points", [POINTS, POINTS[:0], POINTS[::2], POINTS.astype(np.float64)])
def test_points_come_back(make: Make, transport: Callable[[Any], Any], points: np.ndarray) -> None:
    back = points_from_message(
        transport(points_message(make, header_message(make, 5, "map"), points))
    )
    assert back.dtype == np.float32 and back.shape == points.shape
    np.testing.assert_array_equal(back, points)


def test_columns_are_fields_of_four_bytes(make: Make) -> None:
    ids = np.array([7, 2**32 - 1], np.uint32)
    columns = {"z": np.array([1.0, 2.0]), "instance_id": ids, "x": np.array([3.0, 4.0], np.float32)}
    cloud = cloud_message(make, header_message(make, 5, "map"), columns)
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        ("z", 0, 7, 1),
        ("instance_id", 4, 6, 1),
        ("x", 8, 7, 1),
    ]
    assert (cloud.width, cloud.height, cloud.point_step, cloud.row_step) == (2, 1, 12, 24)
    table = np.frombuffer(cloud.data, [("z", "<f4"), ("id", "<u4"), ("x", "<f4")])
    assert table["z"].tolist() == [1, 2] and table["x"].tolist() == [3, 4]
    assert (table["id"] == ids).all()


def other_cloud() -> SimpleNamespace:
    """Two rows of three points: padded, big endian, z first, a colour between, x in double."""
    dtype = np.dtype(
        {
            "names": ["z", "rgb", "x", "y"],
            "formats": [">f4", ">u4", ">f8", ">f4"],
            "offsets": [0, 4, 8, 20],
            "itemsize": 28,
        }
    )
    rows = np.zeros((2, 3), dtype)
    for axis, name in enumerate("xyz"):
        rows[name] = POINTS[:, axis].reshape(2, 3)
    fields = [
        SimpleNamespace(name=n, offset=o, datatype=k, count=1)
        for n, o, k in (("z", 0, 7), ("rgb", 4, 6), ("x", 8, 8), ("y", 20, 7))
    ]
    return SimpleNamespace(
        width=3,
        height=2,
        fields=fields,
        is_bigendian=True,
        point_step=28,
        row_step=96,
        data=b"".join(row.tobytes() + b"\0" * 12 for row in rows),
    )


def test_a_cloud_of_another_publisher() -> None:
    np.testing.assert_array_equal(points_from_message(other_cloud()), POINTS)


def test_the_last_row_needs_no_padding() -> None:
    cloud = other_cloud()
    cloud.data = cloud.data[:-12]
    np.testing.assert_array_equal(points_from_message(cloud), POINTS)
    cloud.data = cloud.data[:-1]
    with pytest.raises(ValueError, match="cut short: 179 bytes for 2 rows of 3 points of 28"):
        points_from_message(cloud)


@pytest.mark.parametrize("missing", ["x", "y", "z"])
def test_a_cloud_without_an_axis_is_refused(missing: str) -> None:
    cloud = other_cloud()
    cloud.fields = [f for f in cloud.fields if f.name != missing]
    with pytest.raises(ValueError, match="wanted x, y, z as float32 or float64"):
        points_from_message(cloud)


def test_an_axis_of_integers_is_refused() -> None:
    cloud = other_cloud()
    cloud.fields[0].datatype = 5
    with pytest.raises(ValueError, match="with fields z, rgb, x, y: wanted"):
        points_from_message(cloud)
