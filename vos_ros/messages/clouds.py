"""Builds and reads sensor_msgs/PointCloud2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from vos_ros.messages.factory import MakeMessage

_UINT32, _FLOAT32, _FLOAT64 = 6, 7, 8  # datatypes of sensor_msgs/PointField
_READABLE = {_FLOAT32: "f4", _FLOAT64: "f8"}
_WRITABLE = {"u": ("<u4", _UINT32), "f": ("<f4", _FLOAT32)}  # by the kind of a NumPy dtype


def points_from_message(cloud: Any) -> Float32[np.ndarray, "M 3"]:
    """Read x y z of a PointCloud2, in order, whatever other fields its points carry.

    Raises ValueError: x, y or z is missing or no float, or there are fewer bytes than points.
    """
    count = int(cloud.width) * int(cloud.height)
    if count == 0:
        return np.zeros((0, 3), np.float32)
    fields = {f.name: f for f in cloud.fields}
    kinds = {a: _READABLE.get(int(fields[a].datatype)) if a in fields else None for a in "xyz"}
    if None in kinds.values():
        raise ValueError(
            f"point cloud with fields {', '.join(fields) or 'none'}: wanted x, y, z as float32 or"
            " float64"
        )
    order = ">" if cloud.is_bigendian else "<"
    step, row_step = int(cloud.point_step), int(cloud.row_step)
    dtype = np.dtype(
        {
            "names": list("xyz"),
            "formats": [f"{order}{kinds[a]}" for a in "xyz"],
            "offsets": [int(fields[a].offset) for a in "xyz"],
            "itemsize": step,
        }
    )
    data = np.frombuffer(cloud.data, np.uint8)
    if len(data) < (int(cloud.height) - 1) * row_step + int(cloud.width) * step:
        raise ValueError(
            f"point cloud cut short: {len(data)} bytes for {cloud.height} rows of {cloud.width}"
            f" points of {step} bytes"
        )
    rows = [
        data[r * row_step : r * row_step + int(cloud.width) * step].view(dtype)
        for r in range(int(cloud.height))
    ]
    return np.concatenate([np.stack([row[a] for a in "xyz"], 1) for row in rows]).astype(np.float32)


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
