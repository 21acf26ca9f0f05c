"""Every builder, by both factories: equal in all fields, and equal after it was sent.

A new builder joins CASES; a test fails where one has no case. A case builds a message from values
that are all different from the defaults, or from the empty and the unknown ones.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import vos_ros.messages
from vos_ros.geometry import se3
from vos_ros.messages import (
    associations,
    camera,
    clouds,
    diagnostics,
    factory,
    geometry,
    images,
    instances,
    map_objects,
    stamps,
)
from vos_ros.messages.definitions import message_folder, typestore
from vos_ros.messages.map_objects import ObjectRecord
from vos_ros.types import (
    Association,
    AssociationStatus,
    Frame,
    FrameResult,
    Intrinsics,
    MapObject,
    MapUpdate,
    Observation,
    Segmentation,
    SelfCheckResult,
    Track,
    TrackSource,
    TrackState,
    Verdict,
)

Make = Callable[..., Any]
NS = 1_234_567_890_123_456_789
T = se3.perturb(np.eye(4), np.array([0.1, -0.2, 0.3, 0.4, 0.5, -0.6]))
COV = np.arange(1.0, 37.0).reshape(6, 6)
BENT = Intrinsics(500.0, 510.0, 319.0, 239.0, 640, 480, "plumb_bob", (0.1, -0.2, 0.3, 0.01, 0.02))
STRAIGHT = Intrinsics(500.0, 510.0, 319.0, 239.0, 640, 480)
RGB = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
DEPTH = np.array([[0.0, 1.5, 2.25], [70.0, 0.4, 3.0]], np.float32)
FRAME = Frame(3, NS, RGB, DEPTH, BENT, T, COV, "camera_optical")


def header(make: Make) -> Any:
    return stamps.header_message(make, NS, "camera_optical")


def track(track_id: int, roi: tuple[int, int, int, int], unknown: bool = False) -> Track:
    return Track(
        track_id=track_id,
        label_value=track_id + 100,
        class_id=5,
        state=TrackState.LOST,
        source=TrackSource.PROPOSAL,
        score=0.75,
        age_frames=12,
        misses=2,
        area_px=256,
        roi=roi,
        visible=np.nan if unknown else 0.625,
        occluded=np.nan if unknown else 0.25,
        truncated=np.nan if unknown else 0.125,
    )


def observation(track_id: int) -> Observation:
    return Observation(
        track_id=track_id,
        points=np.ones((5, 3), np.float32),
        centroid=np.array([1.0, 2.0, 3.0]),
        cov=np.arange(1.0, 10.0).reshape(3, 3),
        embedding=None,
        score=0.7,
    )


FULL_ASSOCIATION = Association(
    track_id=7,
    map_object_id=2**32 - 1,
    status=AssociationStatus.REIDENTIFIED,
    score=0.8125,
    mask_iou=0.71875,
    depth_inlier_ratio=0.625,
    appearance_similarity=0.53125,
    runner_up_id=9,
    runner_up_score=0.125,
    predicted_visible_fraction=0.4375,
    n_observations=4,
    related_ids=(3, 2**32 - 2),
    terms={"overlap": 0.5, "depth": 1.5},
)
RESULT = FrameResult(
    stamp_ns=NS,
    segmentation=Segmentation((7, 9), torch.zeros((3, 2, 3))),
    tracks=(track(7, (4, 6, 21, 19)), track(9, (0, 0, 0, 0), unknown=True)),
    projections=(),
    observations=(observation(7),),
    associations=(
        FULL_ASSOCIATION,
        Association(9, 0, AssociationStatus.NEW, 0.0),
        Association(8, 1, AssociationStatus.MATCHED, 0.375, terms={"depth": 2.5, "shape": 3.5}),
    ),
    map_session_id="map",
    map_revision=2**40,
    map_stamp_ns=NS - 1,
    map_frame="world",
    T_map_camera=T,
    pose_cov=COV,
    self_check=SelfCheckResult(Verdict.CONTRADICTED),
)
EMPTY_RESULT = FrameResult(0, Segmentation((), torch.zeros((1, 2, 3))), (), (), (), ())


def map_object(object_id: int, points: int, embedding: bool) -> MapObject:
    return MapObject(
        id=object_id,
        class_id=object_id % 100 + 5,
        T_map_object=T,
        size=np.array([0.1, 0.2, 0.3]),
        points=np.arange(3.0 * points).reshape(points, 3).astype(np.float32),
        point_radius=0.015625,
        embedding=np.array([1.5, 2.5, 3.5], np.float32) if embedding else None,
        revision=4,
        is_static=not embedding,
    )


UPDATE = MapUpdate(
    stamp_ns=NS,
    session_id="session",
    revision=2**40,
    full=True,
    objects=(map_object(1, 3, True), map_object(2**32 - 1, 0, False), map_object(9, 2, False)),
    deleted_ids=(3, 2**32 - 2),
    merged=((5, 1), (6, 9)),
    frame_id="world",
)
RECORDS = {
    1: ObjectRecord(
        class_score=0.5,
        existence_probability=0.75,
        first_seen_ns=NS - 5,
        last_seen_ns=NS - 3,
        observations=31,
        pose_cov=COV,
    )
}


def build(builder: Callable[..., Any], *args: Any, head: bool = False, **options: Any) -> Any:
    """A case: by a factory, the builder of the arguments (``head``: a header is the first)."""
    return lambda make: builder(make, *([header(make)] if head else []), *args, **options)


COLUMNS = {
    "x": np.array([1.5, 2.5], np.float32),
    "rgb": np.array([7.5, 8.5], np.float32),
    "instance_id": np.array([9, 2**32 - 1], np.uint32),
}
CASES: dict[str, list[Callable[[Make], Any]]] = {
    "time_message": [build(stamps.time_message, NS), build(stamps.time_message, 0)],
    "header_message": [header],
    "point_message": [build(geometry.point_message, [1, np.float32(2.5), np.nan])],
    "vector_message": [build(geometry.vector_message, np.array([1.0, 2.0, 3.0]))],
    "quaternion_message": [build(geometry.quaternion_message, T[:3, :3])],
    "pose_message": [build(geometry.pose_message, T)],
    "transform_message": [build(geometry.transform_message, T)],
    "pose_with_covariance_message": [
        build(geometry.pose_with_covariance_message, T, COV),
        build(geometry.pose_with_covariance_message, T),
        build(geometry.pose_with_covariance_message, None, None),
    ],
    "pose_stamped_message": [build(geometry.pose_stamped_message, T, head=True)],
    "pose_with_covariance_stamped_message": [
        build(geometry.pose_with_covariance_stamped_message, T, COV, head=True),
        build(geometry.pose_with_covariance_stamped_message, T, None, head=True),
    ],
    "transform_stamped_message": [build(geometry.transform_stamped_message, "child", T, head=True)],
    "tf_message": [
        lambda make: geometry.tf_message(
            make, [geometry.transform_stamped_message(make, header(make), "child", T)]
        ),
        build(geometry.tf_message, []),
    ],
    "odometry_message": [
        build(geometry.odometry_message, "child", T, COV, head=True),
        build(geometry.odometry_message, "child", T, None, head=True),
    ],
    "camera_info_message": [
        build(camera.camera_info_message, BENT, head=True),
        build(camera.camera_info_message, STRAIGHT, head=True),
    ],
    "region_message": [
        build(camera.region_message, (4, 6, 21, 19)),
        build(camera.region_message, (9, 9, 3, 2)),
    ],
    "image_message": [
        build(images.image_message, "bgr8", RGB[:, :, ::-1], head=True),
        build(images.image_message, "32SC1", np.array([[-1, 2**30]], np.int32), head=True),
        build(images.image_message, "16UC1", np.array([[1], [65535]], ">u2"), head=True),
        build(images.image_message, "mono8", np.zeros((0, 3), np.uint8), head=True),
    ],
    "rgb_message": [build(images.rgb_message, RGB, head=True)],
    "depth_message": [
        build(images.depth_message, DEPTH, head=True),
        build(images.depth_message, DEPTH, "32FC1", head=True),
    ],
    "compressed_rgb_message": [
        build(images.compressed_rgb_message, "png", b"\x01\x02\xff", head=True)
    ],
    "frame_messages": [build(images.frame_messages, FRAME)],
    "cloud_message": [build(clouds.cloud_message, COLUMNS, head=True)],
    "points_message": [
        build(clouds.points_message, np.arange(6, dtype=np.float32).reshape(2, 3), head=True),
        build(clouds.points_message, np.zeros((0, 3), np.float32), head=True),
    ],
    "map_objects_message": [
        build(map_objects.map_objects_message, UPDATE, RECORDS),
        build(map_objects.map_objects_message, UPDATE),
        build(map_objects.map_objects_message, MapUpdate(0, "", 1, False, ())),
    ],
    "instance_message": [
        build(instances.instance_message, RESULT.tracks[0], observation(7)),
        build(instances.instance_message, RESULT.tracks[1], None),
    ],
    "instance_array_message": [
        build(
            instances.instance_array_message,
            RESULT,
            head=True,
            session_id="s",
            method="lwl",
            shape=(48, 64),
            latency_ms=12.5,
        ),
        build(
            instances.instance_array_message,
            EMPTY_RESULT,
            head=True,
            session_id="",
            method="",
            shape=(2, 3),
        ),
    ],
    "association_message": [
        build(associations.association_message, FULL_ASSOCIATION, ["depth", "overlap", "shape"]),
        build(associations.association_message, RESULT.associations[1], ["depth"]),
    ],
    "association_array_message": [
        build(associations.association_array_message, RESULT, head=True, session_id="s"),
        build(associations.association_array_message, EMPTY_RESULT, head=True, session_id=""),
    ],
    "status_message": [
        build(diagnostics.status_message, "node: map", 2, "broken", {"a": "1", "b": "2"}),
        build(diagnostics.status_message, "node: map", 0, "", {}),
    ],
    "diagnostics_message": [
        lambda make: diagnostics.diagnostics_message(
            make,
            header(make),
            [diagnostics.status_message(make, "node", 1, "slow", {"fps": "3.1"})],
        )
    ],
}


def builders() -> set[str]:
    """Public functions of ``vos_ros.messages`` whose first argument is a factory."""
    found = set()
    for module in pkgutil.iter_modules(vos_ros.messages.__path__):
        here = importlib.import_module(f"vos_ros.messages.{module.name}")
        for name, function in inspect.getmembers(here, inspect.isfunction):
            parameters = list(inspect.signature(function).parameters)
            if function.__module__ == here.__name__ and parameters[:1] == ["make"]:
                found.add(name)
    return {name for name in found if not name.startswith("_")}


def test_every_builder_has_a_case() -> None:
    assert builders() == set(CASES)


def test_every_message_of_ours_is_known_to_rosbags() -> None:
    names = {f"vos_ros/msg/{p.stem}" for p in message_folder().glob("*.msg")}
    assert len(names) == 7 and names <= set(typestore().fielddefs)


def plain(msg: Any) -> Any:
    """A message as lists and numbers, each with its type, whatever factory it is from."""
    if isinstance(msg, list | tuple):
        return [plain(m) for m in msg]
    if hasattr(msg, "get_fields_and_field_types"):
        return {name: plain(getattr(msg, name)) for name in msg.get_fields_and_field_types()}
    if hasattr(msg, "__msgtype__"):
        names = [name for name, _ in typestore().fielddefs[msg.__msgtype__][1]]
        return {name: plain(getattr(msg, name)) for name in names}
    if hasattr(msg, "typecode") or isinstance(msg, np.ndarray):  # array.array, NumPy
        values = np.asarray(msg)
        return values.dtype.str, values.tobytes()
    if isinstance(msg, bytes):  # how rclpy has one byte
        assert len(msg) == 1
        return int, repr(msg[0])
    assert type(msg) in (int, float, str, bool), f"{msg!r} is a {type(msg)}"
    return type(msg), repr(msg)


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=f"{n}-{i}") for n, cs in CASES.items() for i, c in enumerate(cs)]
)
def test_both_factories_give_equal_messages(
    case: Callable[[Make], Any], transport: Callable[[Any], Any]
) -> None:
    pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")
    from rclpy.serialization import serialize_message

    from vos_ros.ros.common import message_factory

    by_rosbags, by_rclpy = case(factory.make), case(message_factory.make)
    assert plain(by_rosbags) == plain(by_rclpy)
    one = isinstance(by_rosbags, tuple)
    for a, b in zip(*((by_rosbags, by_rclpy) if one else ([by_rosbags], [by_rclpy])), strict=True):
        assert plain(transport(a)) == plain(a) and plain(transport(b)) == plain(b)
        read = typestore().deserialize_cdr(serialize_message(b), a.__msgtype__)
        assert plain(read) == plain(a), "rosbags reads what rclpy has sent"


@pytest.mark.parametrize("name", sorted(CASES))
def test_values_of_the_first_case_are_no_defaults(name: str) -> None:
    """A builder that forgets a field would leave its default."""
    pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")
    from vos_ros.ros.common import message_factory

    built = CASES[name][0](message_factory.make)
    for msg in built if isinstance(built, tuple) else (built,):
        same = {
            field
            for field in msg.get_fields_and_field_types()
            if plain(getattr(msg, field)) == plain(getattr(type(msg)(), field))
        }
        assert same <= CONSTANT.get(type(msg).__name__, set())


CONSTANT = {
    "CameraInfo": {"binning_x", "binning_y", "roi"},
    "DiagnosticStatus": {"hardware_id"},
    "Image": {"is_bigendian"},
    "Odometry": {"twist"},
    "PointCloud2": {"is_bigendian"},
    "RegionOfInterest": {"do_rectify"},
}
"""Fields that have their default in every message that we build."""
