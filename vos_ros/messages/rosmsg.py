"""ROS messages without ROS: the standard types and ours for ``rosbags``, and what sources and sinks both say in them.

Reading functions take any message object (rosbags' or rclpy's: they only look at attributes); building functions give rosbags' own.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vos_ros.geometry import se3
from vos_ros.geometry.camera import calibrated
from vos_ros.types import Intrinsics, MapObject, MapUpdate

NS_PER_S = 1_000_000_000
_FLOAT_FIELDS = {7: "f4", 8: "f8"}  # sensor_msgs/PointField.FLOAT32, FLOAT64


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The types of ROS 2 Jazzy and those of our ``msg/``. FileNotFoundError where our definitions are not installed."""
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in sorted(message_folder().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(), f"vos_ros/msg/{path.stem}"))
    store.register(types)
    return store


def message_folder() -> Path:
    """Where our .msg files are: in the work tree, or in share/vos_ros/msg of the prefix that this package was installed to."""
    looked = list(_message_folders())
    for folder in looked:
        if (folder / "MapObjectArray.msg").is_file():
            return folder
    raise FileNotFoundError(
        "the message definitions of vos_ros (MapObjectArray.msg, ...) are not installed; looked in "
        + ", ".join(map(str, looked))
        + ". Install the package again (pip install . or colcon build)"
    )


def _message_folders() -> Iterator[Path]:
    here = Path(__file__).resolve()
    yield here.parents[2] / "msg"
    yield from (parent / "share/vos_ros/msg" for parent in here.parents[3:7])
    yield Path(sysconfig.get_path("data")) / "share/vos_ros/msg"
    yield from (
        Path(prefix) / "share/vos_ros/msg"
        for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        if prefix
    )


def make(name: str, /, **fields: Any) -> Any:
    """A message of type ``name`` (package/msg/Type); every field must be given."""
    return typestore().types[name](**fields)


def serialize(msg: Any) -> memoryview:
    """A message as CDR."""
    return typestore().serialize_cdr(msg, msg.__msgtype__)


def stamp_ns(stamp: Any) -> int:
    """builtin_interfaces/Time in ns."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def make_time(ns: int) -> Any:
    """ns as builtin_interfaces/Time."""
    return make("builtin_interfaces/msg/Time", sec=ns // NS_PER_S, nanosec=ns % NS_PER_S)


def make_header(ns: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    return make("std_msgs/msg/Header", stamp=make_time(ns), frame_id=frame_id)


def pose_matrix(pose: Any) -> Float64[np.ndarray, "4 4"]:
    """geometry_msgs/Pose (position, orientation) or Transform (translation, rotation) as 4x4.

    ValueError where a number is not finite or the quaternion is far from unit length (all zero = never filled in).
    """
    p = pose.position if hasattr(pose, "position") else pose.translation
    q = pose.orientation if hasattr(pose, "orientation") else pose.rotation
    quaternion, position = np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z])
    norm = float(np.linalg.norm(quaternion))
    if not np.isfinite(position).all() or not 0.9 < norm < 1.1:
        raise ValueError(
            f"not a pose: position {position}, quaternion {quaternion} of length {norm:.3g}; wanted finite numbers and a"
            " unit quaternion"
        )
    return se3.from_quaternion(position, quaternion)


def _rotation_fields(T: Float64[np.ndarray, "4 4"]) -> dict[str, float]:
    return {k: float(v) for k, v in zip("xyzw", se3.quaternion_from_matrix(T[:3, :3]), strict=True)}


def make_pose(T: Float64[np.ndarray, "4 4"]) -> Any:
    """4x4 as geometry_msgs/Pose."""
    return make(
        "geometry_msgs/msg/Pose",
        position=make(
            "geometry_msgs/msg/Point", **{k: float(v) for k, v in zip("xyz", T[:3, 3], strict=True)}
        ),
        orientation=make("geometry_msgs/msg/Quaternion", **_rotation_fields(T)),
    )


def make_transform(T: Float64[np.ndarray, "4 4"]) -> Any:
    """4x4 as geometry_msgs/Transform."""
    return make(
        "geometry_msgs/msg/Transform",
        translation=make_vector(T[:3, 3]),
        rotation=make("geometry_msgs/msg/Quaternion", **_rotation_fields(T)),
    )


def make_vector(v: Iterable[float]) -> Any:
    """geometry_msgs/Vector3."""
    return make("geometry_msgs/msg/Vector3", **{k: float(x) for k, x in zip("xyz", v, strict=True)})


def make_pose_with_covariance(
    T: Float64[np.ndarray, "4 4"], cov: Float64[np.ndarray, "6 6"] | None = None
) -> Any:
    """geometry_msgs/PoseWithCovariance; no covariance is written as zeros (ROS: unknown)."""
    return make(
        "geometry_msgs/msg/PoseWithCovariance",
        pose=make_pose(T),
        covariance=np.zeros(36)
        if cov is None
        else np.ascontiguousarray(cov, np.float64).reshape(36),
    )


def covariance(values: Any) -> Float64[np.ndarray, "6 6"] | None:
    """A float64[36] field; None where it is all zero, not finite, or marked unknown by a negative first element."""
    cov = np.asarray(values, np.float64).reshape(6, 6)
    return cov if np.isfinite(cov).all() and cov.any() and cov[0, 0] >= 0 else None


def intrinsics(msg: Any, rectified: bool = False) -> Intrinsics:
    """sensor_msgs/CameraInfo as the camera of the published image, binning and region of interest applied.

    ``rectified``: the image went through image_proc (topics named image_rect...), so that P and no distortion hold. ValueError: no
    calibration, an unknown distortion model, coefficients that don't fit it.
    """
    roi = (int(msg.roi.x_offset), int(msg.roi.y_offset), int(msg.roi.width), int(msg.roi.height))
    binning = (int(msg.binning_x), int(msg.binning_y))
    p = np.asarray(msg.p, np.float64).reshape(3, 4)
    if rectified and p[0, 0] > 0:
        return calibrated(
            p[:, :3].reshape(9), int(msg.width), int(msg.height), binning=binning, roi=roi
        )
    return calibrated(
        np.asarray(msg.k, np.float64),
        int(msg.width),
        int(msg.height),
        str(msg.distortion_model),
        np.asarray(msg.d, np.float64).tolist(),
        binning=binning,
        roi=roi,
    )


def make_camera_info(ns: int, frame_id: str, camera: Intrinsics) -> Any:
    """sensor_msgs/CameraInfo; a rectified image is plumb_bob with zeros."""
    k = camera.matrix()
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=make_header(ns, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model or "plumb_bob",
        d=np.array(camera.distortion if camera.distortion_model else [0.0] * 5),
        k=k.reshape(9),
        r=np.eye(3).reshape(9),
        p=np.hstack([k, np.zeros((3, 1))]).reshape(12),
        binning_x=0,
        binning_y=0,
        roi=make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        ),
    )


def cloud_points(cloud: Any) -> Float32[np.ndarray, "M 3"]:
    """x y z of a sensor_msgs/PointCloud2, in order, whatever else its points carry. ValueError where it has no such fields."""
    count = int(cloud.width) * int(cloud.height)
    if count == 0:
        return np.zeros((0, 3), np.float32)
    fields = {f.name: f for f in cloud.fields}
    kinds = {a: _FLOAT_FIELDS.get(int(fields[a].datatype)) if a in fields else None for a in "xyz"}
    if None in kinds.values():
        raise ValueError(
            f"point cloud with fields {', '.join(fields) or 'none'}: wanted x, y, z as float32 or float64"
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
            f"point cloud cut short: {len(data)} bytes for {cloud.height} rows of {cloud.width} points of {step} bytes"
        )
    rows = [
        data[r * row_step : r * row_step + int(cloud.width) * step].view(dtype)
        for r in range(int(cloud.height))
    ]
    return np.concatenate([np.stack([row[a] for a in "xyz"], 1) for row in rows]).astype(np.float32)


def make_cloud(ns: int, frame_id: str, points: Float32[np.ndarray, "M 3"]) -> Any:
    """sensor_msgs/PointCloud2 of x y z float32."""
    fields = [
        make("sensor_msgs/msg/PointField", name=a, offset=4 * i, datatype=7, count=1)
        for i, a in enumerate("xyz")
    ]
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=make_header(ns, frame_id),
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=12 * len(points),
        data=np.ascontiguousarray(points, "<f4").reshape(-1).view(np.uint8),
        is_dense=True,
    )


def map_update(msg: Any) -> MapUpdate:
    """vos_ros/MapObjectArray as a ``MapUpdate``. ValueError names the object and what is wrong with it."""
    points = cloud_points(msg.points)
    if len(msg.merged_from) != len(msg.merged_into):
        raise ValueError(
            f"MapObjectArray: {len(msg.merged_from)} merged_from and {len(msg.merged_into)} merged_into, wanted as many"
        )
    objects = []
    for o in msg.objects:
        start, end = int(o.point_offset), int(o.point_offset) + int(o.point_count)
        if end > len(points):
            raise ValueError(
                f"MapObjectArray: object {o.id} claims the points {start}..{end}, the cloud has {len(points)}"
            )
        try:
            pose = pose_matrix(o.pose.pose)
        except ValueError as e:
            raise ValueError(f"MapObjectArray: object {o.id}: {e}") from e
        embedding = np.asarray(o.embedding, np.float32)
        objects.append(
            MapObject(
                id=int(o.id),
                class_id=int(o.class_id),
                T_map_object=pose,
                size=np.array([o.size.x, o.size.y, o.size.z]),
                points=points[start:end],
                point_radius=float(o.point_radius),
                embedding=embedding if embedding.size else None,
                revision=int(msg.revision),
                is_static=bool(o.is_static),
            )
        )
    return MapUpdate(
        stamp_ns=stamp_ns(msg.header.stamp),
        session_id=str(msg.session_id),
        revision=int(msg.revision),
        full=bool(msg.full),
        objects=tuple(objects),
        deleted_ids=tuple(int(i) for i in msg.deleted_ids),
        merged=tuple(
            (int(a), int(b)) for a, b in zip(msg.merged_from, msg.merged_into, strict=True)
        ),
        frame_id=str(msg.header.frame_id),
    )


def make_map_objects(update: MapUpdate) -> Any:
    """A ``MapUpdate`` as vos_ros/MapObjectArray. What the update doesn't know is written as certain and seen at its stamp."""
    time, offset, objects = make_time(update.stamp_ns), 0, []
    for o in update.objects:
        embedding = (
            np.zeros(0, np.float32) if o.embedding is None else np.asarray(o.embedding, np.float32)
        )
        objects.append(
            make(
                "vos_ros/msg/MapObject",
                id=o.id,
                class_id=o.class_id,
                class_score=1.0,
                existence_probability=1.0,
                pose=make_pose_with_covariance(o.T_map_object),
                size=make_vector(o.size),
                point_offset=offset,
                point_count=len(o.points),
                point_radius=float(o.point_radius),
                is_static=o.is_static,
                first_seen=time,
                last_seen=time,
                observations=1,
                embedding=embedding,
            )
        )
        offset += len(o.points)
    points = np.concatenate([np.zeros((0, 3), np.float32), *(o.points for o in update.objects)])
    merged = np.array(update.merged, np.uint32).reshape(-1, 2)
    return make(
        "vos_ros/msg/MapObjectArray",
        header=make_header(update.stamp_ns, update.frame_id),
        session_id=update.session_id,
        revision=update.revision,
        full=update.full,
        objects=objects,
        deleted_ids=np.array(update.deleted_ids, np.uint32),
        merged_from=merged[:, 0].copy(),
        merged_into=merged[:, 1].copy(),
        points=make_cloud(update.stamp_ns, update.frame_id, points),
    )


def make_image(ns: int, frame_id: str, encoding: str, image: np.ndarray) -> Any:
    """sensor_msgs/Image of an array (H,W) or (H,W,C), its dtype that of the encoding (16-bit and wider in little endian)."""
    data = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
    return make(
        "sensor_msgs/msg/Image",
        header=make_header(ns, frame_id),
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=data.strides[0],
        data=data.reshape(-1).view(np.uint8),
    )
