"""Builds and reads vos_ros/MapObjectArray, the mapper's object map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

from vos_ros.messages.checks import (
    DEFAULT_LIMITS,
    MAX_COORDINATE_M,
    Limits,
    MessageError,
    check_coordinates,
    check_map,
)
from vos_ros.messages.clouds import points_from_message, points_message
from vos_ros.messages.factory import MakeMessage
from vos_ros.messages.geometry import matrix_from_pose, pose_with_covariance_message, vector_message
from vos_ros.messages.stamps import header_message, ns_from_stamp, time_message
from vos_ros.types import MapObject, MapUpdate


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ObjectRecord:
    """Hold the fields of vos_ros/MapObject that ``types.MapObject`` does not have."""

    class_score: float = 1.0
    """Probability of the class, 0..1."""
    existence_probability: float = 1.0
    """Probability that the object is there, 0..1."""
    first_seen_ns: int | None = None
    """Time of the first observation, None: the stamp of the update."""
    last_seen_ns: int | None = None
    """Time of the most recent observation, None: the stamp of the update."""
    observations: int = 1
    """Number of frames fused into the object."""
    pose_cov: Float64[np.ndarray, "6 6"] | None = None
    """Covariance of the pose (m, rad; axes of the map frame), None where it is not known."""


_UNKNOWN = ObjectRecord()


def map_update_from_message(msg: Any, limits: Limits = DEFAULT_LIMITS) -> MapUpdate:
    """Read vos_ros/MapObjectArray. Points that are not finite, or beyond any place, are left out.

    Raises MessageError, with the object (or the field) that contradicts the rest, so that no part
    of a broken update is applied.
    """
    check_map(msg, limits)
    points = points_from_message(msg.points, limits)
    if len(msg.merged_from) != len(msg.merged_into):
        raise MessageError(
            f"MapObjectArray: {len(msg.merged_from)} merged_from and {len(msg.merged_into)}"
            " merged_into, wanted as many"
        )
    return MapUpdate(
        stamp_ns=ns_from_stamp(msg.header.stamp),
        session_id=str(msg.session_id),
        revision=int(msg.revision),
        full=bool(msg.full),
        objects=tuple(_map_object(o, points, int(msg.revision)) for o in msg.objects),
        deleted_ids=tuple(int(i) for i in msg.deleted_ids),
        merged=tuple(
            (int(a), int(b)) for a, b in zip(msg.merged_from, msg.merged_into, strict=True)
        ),
        frame_id=str(msg.header.frame_id),
    )


def _map_object(o: Any, points: Float32[np.ndarray, "M 3"], revision: int) -> MapObject:
    """Read one object; ``points`` are those of all objects."""
    if o.id == 0:
        raise MessageError("MapObjectArray: an object has id 0, which means none: ids start at 1")
    start, end = int(o.point_offset), int(o.point_offset) + int(o.point_count)
    if end > len(points):
        raise MessageError(
            f"MapObjectArray: object {o.id} claims the points {start}..{end}, the cloud has"
            f" {len(points)}"
        )
    if end > start and not (math.isfinite(o.point_radius) and o.point_radius > 0):
        raise MessageError(
            f"MapObjectArray: object {o.id}: point_radius is {o.point_radius}, wanted the radius of"
            " the disk that each point stands for, m"
        )
    try:
        pose = matrix_from_pose(o.pose.pose)
        check_coordinates("size", (o.size.x, o.size.y, o.size.z))
    except ValueError as e:
        raise MessageError(f"MapObjectArray: object {o.id}: {e}") from e
    own = points[start:end]
    embedding = np.asarray(o.embedding, np.float32)
    return MapObject(
        id=int(o.id),
        class_id=int(o.class_id),
        T_map_object=pose,
        size=np.array([o.size.x, o.size.y, o.size.z]),
        points=own[(np.abs(own) <= MAX_COORDINATE_M).all(axis=1)],  # False for NaN
        point_radius=float(o.point_radius),
        embedding=embedding if embedding.size else None,
        revision=revision,
        is_static=bool(o.is_static),
    )


def map_objects_message(
    make: MakeMessage, update: MapUpdate, records: Mapping[int, ObjectRecord] | None = None
) -> Any:
    """Build vos_ros/MapObjectArray.

    ``records`` holds the further fields that the mapper knows, by object id. An object without a
    record is written as certain, and as seen once at the stamp of the update.
    """
    objects, offset = [], 0
    for o in update.objects:
        record = (records or {}).get(o.id, _UNKNOWN)
        objects.append(_object_message(make, o, record, offset, update.stamp_ns))
        offset += len(o.points)
    points = np.concatenate([np.zeros((0, 3), np.float32), *(o.points for o in update.objects)])
    merged = np.array(update.merged, np.uint32).reshape(-1, 2)
    header = header_message(make, update.stamp_ns, update.frame_id)
    return make(
        "vos_ros/msg/MapObjectArray",
        header=header,
        session_id=update.session_id,
        revision=update.revision,
        full=update.full,
        objects=objects,
        deleted_ids=np.array(update.deleted_ids, np.uint32),
        merged_from=merged[:, 0].copy(),
        merged_into=merged[:, 1].copy(),
        points=points_message(make, header, points),
    )


def _object_message(
    make: MakeMessage, o: MapObject, record: ObjectRecord, point_offset: int, update_ns: int
) -> Any:
    first, last = record.first_seen_ns, record.last_seen_ns
    return make(
        "vos_ros/msg/MapObject",
        id=o.id,
        class_id=o.class_id,
        class_score=float(record.class_score),
        existence_probability=float(record.existence_probability),
        pose=pose_with_covariance_message(make, o.T_map_object, record.pose_cov),
        size=vector_message(make, o.size),
        point_offset=point_offset,
        point_count=len(o.points),
        point_radius=float(o.point_radius),
        is_static=bool(o.is_static),
        first_seen=time_message(make, update_ns if first is None else first),
        last_seen=time_message(make, update_ns if last is None else last),
        observations=int(record.observations),
        embedding=np.asarray(() if o.embedding is None else o.embedding, np.float32),
    )
