"""ROS messages <-> the core types, both ways. Pure: no node, no topic, no clock.

Large arrays are copied once, as memory, never walked in Python.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import (
    Point,
    Pose,
    PoseStamped,
    PoseWithCovariance,
    PoseWithCovarianceStamped,
    Quaternion,
    TransformStamped,
    Vector3,
)
from jaxtyping import Float32, Float64, Shaped, UInt8, UInt16
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from vos_ros.geometry import se3
from vos_ros.geometry.camera import calibrated
from vos_ros.messages import rosmsg
from vos_ros.messages.images import (
    decode_color,
    decode_compressed_color,
    decode_compressed_depth,
    decode_depth,
    depth_to_millimetres,
    view,
)
from vos_ros.msg import Association, AssociationArray, Instance, InstanceArray, MapObjectArray
from vos_ros.msg import MapObject as MapObjectMsg
from vos_ros.msg import Prompt as PromptMsg
from vos_ros.sources.sync import NS_PER_S
from vos_ros.types import Association as AssociationValue
from vos_ros.types import (
    AssociationStatus,
    Box,
    Frame,
    FrameResult,
    Intrinsics,
    MapUpdate,
    Mask,
    Points,
    Prompt,
    Scribble,
)

Pose4 = Float64[np.ndarray, "4 4"]
Cov6 = Float64[np.ndarray, "6 6"]


# --- time, poses -------------------------------------------------------------------------------------------------------------


ns_from_stamp = rosmsg.stamp_ns
"""builtin_interfaces/Time as ns."""


def stamp_from_ns(stamp_ns: int) -> Time:
    """ns as builtin_interfaces/Time."""
    sec, nanosec = divmod(int(stamp_ns), NS_PER_S)
    return Time(sec=sec, nanosec=nanosec)


def header(stamp_ns: int, frame_id: str) -> Header:
    """std_msgs/Header."""
    return Header(stamp=stamp_from_ns(stamp_ns), frame_id=frame_id)


def _quaternion(T: Pose4) -> Quaternion:
    x, y, z, w = (float(v) for v in se3.quaternion_from_matrix(T[:3, :3]))
    return Quaternion(x=x, y=y, z=z, w=w)


matrix_from_pose = rosmsg.pose_matrix
"""geometry_msgs/Pose or Transform as T. ValueError where it is none (NaN, quaternion not of length 1)."""


def pose_from_matrix(T: Pose4) -> Pose:
    """T as geometry_msgs/Pose."""
    x, y, z = (float(v) for v in T[:3, 3])
    return Pose(position=Point(x=x, y=y, z=z), orientation=_quaternion(T))


covariance_from_message = rosmsg.covariance
"""The 36 numbers of a PoseWithCovariance as 6x6; None where the source states none."""


def pose_with_covariance(T: Pose4 | None, cov: Cov6 | None) -> PoseWithCovariance:
    """geometry_msgs/PoseWithCovariance; no pose is NaN position, no covariance is all zero."""
    out = PoseWithCovariance()
    if T is None:
        out.pose.position = Point(x=math.nan, y=math.nan, z=math.nan)
    else:
        out.pose = pose_from_matrix(T)
    if cov is not None:
        out.covariance = np.ascontiguousarray(cov, np.float64).reshape(36)
    return out


def transform_message(
    T_parent_child: Pose4, stamp_ns: int, parent: str, child: str
) -> TransformStamped:
    """A pose for /tf."""
    out = TransformStamped(header=header(stamp_ns, parent), child_frame_id=child)
    x, y, z = (float(v) for v in T_parent_child[:3, 3])
    out.transform.translation = Vector3(x=x, y=y, z=z)
    out.transform.rotation = _quaternion(T_parent_child)
    return out


def pose_message(T_map_camera: Pose4, stamp_ns: int, map_frame: str) -> PoseStamped:
    """A camera pose for a PoseStamped topic."""
    return PoseStamped(header=header(stamp_ns, map_frame), pose=pose_from_matrix(T_map_camera))


def pose_with_covariance_message(
    T_map_camera: Pose4, cov: Cov6 | None, stamp_ns: int, map_frame: str
) -> PoseWithCovarianceStamped:
    """A camera pose for a PoseWithCovarianceStamped topic."""
    return PoseWithCovarianceStamped(
        header=header(stamp_ns, map_frame), pose=pose_with_covariance(T_map_camera, cov)
    )


# --- images, camera ----------------------------------------------------------------------------------------------------------


def fill(msg: Any, pixels: Shaped[np.ndarray, " *shape"]) -> Any:
    """Puts the bytes of an array into the ``data`` of a message, and returns the message.

    One copy: assigning to ``data`` copies once more, or, given a NumPy array, walks through its elements.
    """
    msg.data.frombytes(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data)
    return msg


def image_message(pixels: Shaped[np.ndarray, "H W *C"], encoding: str, head: Header) -> Image:
    """sensor_msgs/Image of pixels that are already in ``encoding`` (little endian)."""
    height, width = pixels.shape[:2]
    return fill(
        Image(
            header=head,
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=int(pixels.nbytes // max(height, 1)),
        ),
        pixels,
    )


def rgb_message(rgb: UInt8[np.ndarray, "H W 3"], head: Header) -> Image:
    """A colour image as rgb8."""
    return image_message(rgb, "rgb8", head)


def depth_message(
    depth: Float32[np.ndarray, "H W"], head: Header, encoding: str = "16UC1"
) -> Image:
    """Depth in m as 16UC1 (mm, 0 unknown) or 32FC1 (m, NaN unknown): REP-118."""
    if encoding == "32FC1":
        return image_message(
            np.where(depth > 0, depth, np.float32(np.nan)).astype(np.float32), encoding, head
        )
    if encoding != "16UC1":
        raise ValueError(f"depth encoding {encoding!r}: wanted 16UC1 (mm) or 32FC1 (m)")
    return image_message(depth_to_millimetres(depth), encoding, head)


def rgb_from_message(msg: Any) -> UInt8[np.ndarray, "H W 3"]:
    """sensor_msgs/Image or CompressedImage as RGB; a view of the message where its bytes are rgb8. DecodeError says what is wrong."""
    if hasattr(msg, "format"):
        return decode_compressed_color(msg.data, msg.format)
    return decode_color(
        msg.data, msg.encoding, msg.height, msg.width, msg.step, bool(msg.is_bigendian)
    )


def depth_from_message(msg: Any) -> Float32[np.ndarray, "H W"]:
    """sensor_msgs/Image or CompressedImage as depth in m, 0 unknown. DecodeError says what is wrong."""
    if hasattr(msg, "format"):
        return decode_compressed_depth(msg.data, msg.format)
    return decode_depth(
        msg.data, msg.encoding, msg.height, msg.width, msg.step, bool(msg.is_bigendian)
    )


def intrinsics_from_message(msg: Any) -> Intrinsics:
    """sensor_msgs/CameraInfo as the camera of the image that is published. ValueError where it holds no calibration that is known."""
    return calibrated(
        msg.k,
        msg.width,
        msg.height,
        msg.distortion_model,
        msg.d,
        binning=(msg.binning_x, msg.binning_y),
        roi=(msg.roi.x_offset, msg.roi.y_offset, msg.roi.width, msg.roi.height),
    )


def camera_info_message(intrinsics: Intrinsics, head: Header) -> CameraInfo:
    """sensor_msgs/CameraInfo."""
    i = intrinsics
    return CameraInfo(
        header=head,
        height=i.height,
        width=i.width,
        distortion_model=i.distortion_model or "plumb_bob",
        d=list(i.distortion) if i.distortion_model else [0.0] * 5,
        k=[i.fx, 0.0, i.cx, 0.0, i.fy, i.cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[i.fx, 0.0, i.cx, 0.0, 0.0, i.fy, i.cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def frame_messages(
    frame: Frame, *, depth_encoding: str = "16UC1"
) -> tuple[Image, CameraInfo, Image | None]:
    """A frame as a driver would publish it: colour, camera_info, depth (None where it has none), one header for all."""
    head = header(frame.stamp_ns, frame.frame_id)
    depth = depth_message(frame.depth, head, depth_encoding) if frame.depth is not None else None
    return rgb_message(frame.rgb, head), camera_info_message(frame.intrinsics, head), depth


# --- the map -----------------------------------------------------------------------------------------------------------------


def cloud_message(columns: dict[str, Shaped[np.ndarray, " N"]], head: Header) -> PointCloud2:
    """PointCloud2 of equally long columns, one field each (float32, or uint32), little endian."""
    codes = {"f": ("<f4", PointField.FLOAT32), "u": ("<u4", PointField.UINT32)}
    length = len(next(iter(columns.values())))
    table = np.empty(length, [(name, codes[c.dtype.kind][0]) for name, c in columns.items()])
    for name, column in columns.items():
        table[name] = column
    fields = [
        PointField(name=name, offset=4 * i, datatype=codes[c.dtype.kind][1], count=1)
        for i, (name, c) in enumerate(columns.items())
    ]
    cloud = PointCloud2(
        header=head,
        height=1,
        width=length,
        fields=fields,
        is_bigendian=False,
        point_step=4 * len(columns),
        row_step=4 * len(columns) * length,
        is_dense=True,
    )
    return fill(cloud, table.view(np.uint8))


def map_update_from_message(msg: Any) -> MapUpdate:
    """vos_ros/MapObjectArray as a MapUpdate. Points that are not finite are left out.

    ValueError names the object (or field) that contradicts the rest, so that nothing of a broken update is applied.
    """
    update = rosmsg.map_update(msg)
    for o in update.objects:
        if o.id == 0:
            raise ValueError("MapObjectArray: an object has id 0, which means none: ids start at 1")
        if len(o.points) and not (math.isfinite(o.point_radius) and o.point_radius > 0):
            raise ValueError(
                f"MapObjectArray: object {o.id}: point_radius is {o.point_radius}, wanted the radius of the disk that each"
                " point stands for, m"
            )
    objects = tuple(
        replace(o, points=np.ascontiguousarray(o.points[np.isfinite(o.points).all(axis=1)]))
        for o in update.objects
    )
    return replace(update, objects=objects)


def map_update_message(update: MapUpdate) -> MapObjectArray:
    """A MapUpdate as vos_ros/MapObjectArray (what MapUpdate doesn't hold stays at its default)."""
    head = header(update.stamp_ns, update.frame_id)
    out = MapObjectArray(
        header=head,
        session_id=update.session_id,
        revision=update.revision,
        full=update.full,
        deleted_ids=list(update.deleted_ids),
        merged_from=[a for a, _ in update.merged],
        merged_into=[b for _, b in update.merged],
    )
    offset = 0
    messages = []
    for o in update.objects:
        size = Vector3(x=float(o.size[0]), y=float(o.size[1]), z=float(o.size[2]))
        messages.append(
            MapObjectMsg(
                id=o.id,
                class_id=o.class_id,
                class_score=1.0,
                existence_probability=1.0,
                pose=pose_with_covariance(o.T_map_object, None),
                size=size,
                point_offset=offset,
                point_count=len(o.points),
                point_radius=float(o.point_radius),
                is_static=o.is_static,
                first_seen=head.stamp,
                last_seen=head.stamp,
                embedding=[]
                if o.embedding is None
                else np.asarray(o.embedding, np.float32).tolist(),
            )
        )
        offset += len(o.points)
    out.objects = messages
    points = (
        np.concatenate([o.points for o in update.objects])
        if update.objects
        else np.zeros((0, 3), np.float32)
    )
    out.points = cloud_message(
        {n: points[:, i].astype(np.float32) for i, n in enumerate("xyz")}, head
    )
    return out


def prompt_from_message(msg: Any) -> Prompt:
    """vos_ros/Prompt. ValueError where its kind is unknown or what it needs is missing."""
    if msg.kind == PromptMsg.BOX:
        return Box(np.array(msg.box_xyxy, np.float32))
    if msg.kind == PromptMsg.POINTS:
        if len(msg.points_xy) != 2 * len(msg.points_positive):
            raise ValueError(
                f"{len(msg.points_xy)} numbers in points_xy and {len(msg.points_positive)} in points_positive: wanted x and y"
                " of every point, and whether it is on the object"
            )
        return Points(
            np.array(msg.points_xy, np.float32).reshape(-1, 2), np.array(msg.points_positive, bool)
        )
    if msg.kind in (PromptMsg.MASK, PromptMsg.SCRIBBLE):
        image = msg.mask
        if image.encoding not in ("mono8", "8UC1"):
            raise ValueError(f"the prompt's mask has encoding {image.encoding!r}, wanted mono8")
        pixels = view(image.data, "mono8", image.height, image.width, image.step)
        return Mask(pixels != 0) if msg.kind == PromptMsg.MASK else Scribble(pixels.copy())
    raise ValueError(f"prompt of kind {msg.kind}: wanted 0 MASK, 1 BOX, 2 POINTS or 3 SCRIBBLE")


# --- results -----------------------------------------------------------------------------------------------------------------


def association_from_message(msg: Any) -> AssociationValue:
    """vos_ros/Association. ValueError: a status that is not known."""
    try:
        status = AssociationStatus(msg.status)
    except ValueError:
        known = ", ".join(f"{s.value} {s.name}" for s in AssociationStatus)
        raise ValueError(f"an association has status {msg.status}, wanted one of {known}") from None
    return AssociationValue(
        msg.track_id,
        msg.map_object_id,
        status,
        msg.score,
        msg.mask_iou,
        msg.depth_inlier_ratio,
        msg.appearance_similarity,
        msg.runner_up_id,
        msg.runner_up_score,
        msg.predicted_visible_fraction,
        msg.n_observations,
        tuple(int(i) for i in msg.related_ids),
    )


def label_message(labels: UInt16[np.ndarray, "H W"], head: Header) -> Image:
    """The label image, 16UC1."""
    return image_message(labels, "16UC1", head)


def instance_array(
    result: FrameResult,
    head: Header,
    *,
    session_id: str,
    method: str,
    shape: tuple[int, int],
    latency_ms: float = 0.0,
) -> InstanceArray:
    """vos_ros/InstanceArray of every live track; ``shape`` is (H, W) of the label image."""
    observations = {o.track_id: o for o in result.observations}
    instances = []
    for t in result.tracks:
        x0, y0, x1, y1 = t.roi
        seen = observations.get(t.track_id)
        centroid = seen.centroid if seen is not None else np.full(3, np.nan)
        one = Instance(
            track_id=t.track_id,
            label_value=t.label_value,
            class_id=t.class_id,
            score=float(t.score),
            state=int(t.state),
            source=int(t.source),
            area_px=int(t.area_px),
            visible_fraction=float(t.visible),
            occluded_fraction=float(t.occluded),
            truncated_fraction=float(t.truncated),
            age_frames=int(t.age_frames),
            misses=int(t.misses),
            centroid=Point(x=float(centroid[0]), y=float(centroid[1]), z=float(centroid[2])),
            covariance=np.full(9, np.nan)
            if seen is None
            else np.asarray(seen.cov, np.float64).reshape(9),
        )
        one.roi.x_offset, one.roi.y_offset = int(x0), int(y0)
        one.roi.width, one.roi.height = int(max(x1 - x0, 0)), int(max(y1 - y0, 0))
        instances.append(one)
    return InstanceArray(
        header=head,
        session_id=session_id,
        method=method,
        width=shape[1],
        height=shape[0],
        latency_ms=float(latency_ms),
        map_revision=result.map_revision,
        instances=instances,
    )


def association_array(result: FrameResult, head: Header, *, session_id: str) -> AssociationArray:
    """vos_ros/AssociationArray."""
    return AssociationArray(
        header=head,
        session_id=session_id,
        map_session_id=result.map_session_id,
        map_revision=result.map_revision,
        map_stamp=stamp_from_ns(result.map_stamp_ns),
        map_frame=result.map_frame,
        map_from_camera=pose_with_covariance(result.T_map_camera, result.pose_cov),
        term_names=list(next((a.terms for a in result.associations if a.terms), ())),
        associations=[
            Association(
                track_id=a.track_id,
                map_object_id=a.map_object_id,
                status=int(a.status),
                score=float(a.score),
                mask_iou=float(a.mask_iou),
                depth_inlier_ratio=float(a.depth_inlier_ratio),
                appearance_similarity=float(a.appearance_similarity),
                runner_up_id=a.runner_up_id,
                runner_up_score=float(a.runner_up_score),
                predicted_visible_fraction=float(a.predicted_visible_fraction),
                n_observations=a.n_observations,
                related_ids=list(a.related_ids),
                term_values=list(a.terms.values()),
            )
            for a in result.associations
        ],
    )
