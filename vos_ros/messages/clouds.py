"""Builds and reads sensor_msgs/PointCloud2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from vos_ros.messages.checks import DEFAULT_LIMITS, Limits, MessageError, check_cloud
from vos_ros.messages.factory import MakeMessage

_UINT32, _FLOAT32, _FLOAT64 = 6, 7, 8  # datatypes of sensor_msgs/PointField
_READABLE = {_FLOAT32: "f4", _FLOAT64: "f8"}
_WRITABLE = {"u": ("<u4", _UINT32), "f": ("<f4", _FLOAT32)}  # by the kind of a NumPy dtype


def points_from_message(cloud: Any, limits: Limits = DEFAULT_LIMITS) -> Float32[np.ndarray, "M 3"]:
    """Read x y z of a PointCloud2, in order, whatever other fields its points carry.

    Raises MessageError: x, y or z is missing or no float, or the layout does not fit the bytes.
    """
    width, height = int(cloud.width), int(cloud.height)
    if width * height == 0:
        return np.zeros((0, 3), np.float32)
    check_cloud(cloud, limits)
    fields = {f.name: f for f in cloud.fields}
    kinds = {a: _READABLE.get(int(fields[a].datatype)) if a in fields else None for a in "xyz"}
    if None in kinds.values():
        raise MessageError(
            f"point cloud with fields {', '.join(fields) or 'none'}: wanted x, y, z as float32 or"
            " float64"
        )
    order = ">" if cloud.is_bigendian else "<"
    dtype = np.dtype(
        {
            "names": list("xyz"),
            "formats": [f"{order}{kinds[a]}" for a in "xyz"],
            "offsets": [int(fields[a].offset) for a in "xyz"],
            "itemsize": int(cloud.point_step),
        }
    )
    strides = (int(cloud.row_step) if height > 1 else 0, int(cloud.point_step))
    table: np.ndarray = np.ndarray((height, width), dtype, cloud.data, 0, strides)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite: not a point
        return np.stack([table[a].ravel() for a in "xyz"], 1).astype(np.float32)


def cloud_message(
    make: MakeMessage, header: Any, columns: Mapping[str, Shaped[np.ndarray, " N"]]
) -> Any:
    """Build a PointCloud2 of N points in one row from columns of equal length.

    Each column is one field: floats become float32, unsigned integers uint32, both little endian.
    """
    length = len(next(iter(columns.values())))
    kinds = {name: _WRITABLE[column.dtype.kind] for name, column in columns.items()}
    table = np.empty(length, [(name, dtype) for name, (dtype, _) in kinds.items()])
    for name, column in columns.items():
        table[name] = column
    fields = [
        make("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=datatype, count=1)
        for i, (name, (_, datatype)) in enumerate(kinds.items())
    ]
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=header,
        height=1,
        width=length,
        fields=fields,
        is_bigendian=False,
        point_step=4 * len(columns),
        row_step=4 * len(columns) * length,
        data=table.view(np.uint8),
        is_dense=True,
    )


def points_message(make: MakeMessage, header: Any, points: Float32[np.ndarray, "M 3"]) -> Any:
    """Build a PointCloud2 of x y z float32 from points, m."""
    xyz = np.ascontiguousarray(points, np.float32)
    return cloud_message(make, header, {axis: xyz[:, i] for i, axis in enumerate("xyz")})
