"""Messages to core types and back, without a loss and without a loop over pixels."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, RegionOfInterest

from vos_ros.geometry import se3
from vos_ros.msg import MapObjectArray, Prompt
from vos_ros.ros.common import conversions as c
from vos_ros.types import (
    Association,
    AssociationStatus,
    Box,
    FrameResult,
    Intrinsics,
    MapObject,
    MapUpdate,
    Mask,
    Observation,
    Points,
    Scribble,
    Segmentation,
    Track,
    TrackSource,
    TrackState,
)

HEAD = c.header(1_234_567_890_123_456_789, "camera")
POSE = se3.exp(np.array([0.1, -0.2, 0.3, 0.4, 0.5, -0.6]))


def through_dds(msg):
    return deserialize_message(serialize_message(msg), type(msg))


def test_stamps_are_exact():
    assert c.ns_from_stamp(HEAD.stamp) == 1_234_567_890_123_456_789
    assert HEAD.frame_id == "camera"


def test_poses_and_covariances():
    assert np.allclose(c.matrix_from_pose(c.pose_from_matrix(POSE)), POSE)
    assert np.allclose(
        c.matrix_from_pose(c.transform_message(POSE, 5, "map", "cam").transform), POSE
    )
    cov = np.diag([1.0, 2, 3, 4, 5, 6])
    cov[0, 5] = cov[5, 0] = 0.5
    full = through_dds(c.pose_with_covariance_message(POSE, cov, 7, "map"))
    assert np.allclose(c.matrix_from_pose(full.pose.pose), POSE)
    assert np.array_equal(c.covariance_from_message(full.pose.covariance), cov)
    assert c.covariance_from_message(np.zeros(36)) is None
    assert math.isnan(c.pose_with_covariance(None, None).pose.position.x)
    broken = c.pose_from_matrix(POSE)
    broken.orientation.w = 5.0
    with pytest.raises(ValueError, match="not a pose"):
        c.matrix_from_pose(broken)


def test_colour_comes_back_and_a_view_costs_no_copy():
    rgb = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    msg = through_dds(c.rgb_message(rgb, HEAD))
    assert (msg.encoding, msg.step, msg.is_bigendian) == ("rgb8", 192, 0)
    back = c.rgb_from_message(msg)
    assert np.array_equal(back, rgb) and np.shares_memory(back, np.frombuffer(msg.data, np.uint8))
    assert np.array_equal(c.rgb_from_message(c.image_message(rgb[:, :, ::-1], "bgr8", HEAD)), rgb)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_comes_back(encoding):
    depth = np.random.default_rng(0).uniform(0.3, 8, (48, 64)).astype(np.float32)
    depth[:5] = 0
    msg = through_dds(c.depth_message(depth, HEAD, encoding))
    assert msg.encoding == encoding
    back = c.depth_from_message(msg)
    assert back.dtype == np.float32 and np.abs(back - depth).max() <= 0.00051 and not back[:5].any()


def test_depth_in_another_encoding_is_refused():
    with pytest.raises(ValueError, match="rgb8"):
        c.depth_message(np.ones((2, 2), np.float32), HEAD, "rgb8")
    with pytest.raises(ValueError, match=r"rgb8.*wanted 16UC1"):
        c.depth_from_message(c.rgb_message(np.zeros((2, 2, 3), np.uint8), HEAD))


def test_compressed_images():
    import cv2

    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, 32:] = 250, 20, 30
    png = CompressedImage(
        header=HEAD,
        format="rgb8; png compressed bgr8",
        data=cv2.imencode(".png", rgb[:, :, ::-1])[1].tobytes(),
    )
    assert np.array_equal(c.rgb_from_message(through_dds(png)), rgb)
    depth = np.full((4, 4), 1500, np.uint16)
    packed = CompressedImage(
        format="16UC1; compressedDepth png",
        data=bytes(12) + cv2.imencode(".png", depth)[1].tobytes(),
    )
    assert np.allclose(c.depth_from_message(packed), 1.5)
    with pytest.raises(ValueError, match="jpeg"):
        c.rgb_from_message(CompressedImage(format="jpeg", data=b"nothing"))


def test_camera_info_with_binning_and_region():
    camera = Intrinsics(
        500.0, 510.0, 319.5, 239.5, 640, 480, "plumb_bob", (0.1, -0.2, 0.0, 0.001, 0.0)
    )
    msg = through_dds(c.camera_info_message(camera, HEAD))
    back = c.intrinsics_from_message(msg)
    assert (back.fx, back.fy, back.cx, back.cy, back.width, back.height) == (
        500.0,
        510.0,
        319.5,
        239.5,
        640,
        480,
    )
    assert back.distortion_model == "plumb_bob" and back.distortion == camera.distortion
    plain = c.intrinsics_from_message(
        c.camera_info_message(replace(camera, distortion_model="", distortion=()), HEAD)
    )
    assert plain.distortion_model == "" and plain.distortion == ()
    msg.binning_x = msg.binning_y = 2
    msg.roi = RegionOfInterest(x_offset=100, y_offset=40, width=400, height=200)
    cut = c.intrinsics_from_message(msg)
    assert (cut.fx, cut.width, cut.height) == (250.0, 200, 100)
    assert cut.cx == pytest.approx((319.5 - 100 + 0.5) / 2 - 0.5)
    msg.k = np.zeros(9)
    with pytest.raises(ValueError, match="no calibration"):
        c.intrinsics_from_message(msg)


def an_update():
    rng = np.random.default_rng(0)
    objects = tuple(
        MapObject(
            i,
            i + 5,
            POSE,
            np.array([0.1, 0.2, 0.3]),
            rng.random((n, 3)).astype(np.float32),
            0.01,
            embedding=np.arange(3, dtype=np.float32) if i == 2 else None,
        )
        for i, n in ((1, 30), (2, 0), (9, 7))
    )
    return MapUpdate(
        17 * 10**9 + 5,
        "session",
        4,
        False,
        objects,
        deleted_ids=(3, 4),
        merged=((5, 1), (6, 9)),
        frame_id="world",
    )


def test_a_map_comes_back():
    update = an_update()
    back = c.map_update_from_message(through_dds(c.map_update_message(update)))
    for name in ("stamp_ns", "session_id", "revision", "full", "deleted_ids", "merged", "frame_id"):
        assert getattr(back, name) == getattr(update, name)
    for a, b in zip(update.objects, back.objects, strict=True):
        assert (a.id, a.class_id) == (b.id, b.class_id) and b.revision == 4
        assert (
            np.allclose(a.T_map_object, b.T_map_object)
            and np.allclose(a.size, b.size)
            and np.array_equal(a.points, b.points)
        )
        assert b.point_radius == pytest.approx(0.01)
        assert (a.embedding is None) == (b.embedding is None)
    empty = MapUpdate(1, "s", 1, True, ())
    assert c.map_update_from_message(through_dds(c.map_update_message(empty))).objects == ()


def test_points_that_are_not_finite_are_left_out():
    update = an_update()
    update.objects[0].points[3:5] = np.nan
    assert len(c.map_update_from_message(c.map_update_message(update)).objects[0].points) == 28


@pytest.mark.parametrize(
    "spoil, text",
    [
        (lambda m: setattr(m.objects[0], "id", 0), "id 0, which means none"),
        (lambda m: setattr(m.objects[2], "point_count", 99), "object 9 claims"),
        (lambda m: setattr(m.objects[0], "point_radius", 0.0), "object 1: point_radius is 0"),
        (lambda m: m.merged_into.pop(), "merged_from"),
        (lambda m: setattr(m.objects[1].pose.pose.orientation, "w", math.nan), "object 2"),
        (lambda m: setattr(m.points, "fields", []), "x, y, z"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused_by_name(spoil, text):
    msg = c.map_update_message(an_update())
    assert isinstance(msg, MapObjectArray)
    spoil(msg)
    with pytest.raises(ValueError, match=text):
        c.map_update_from_message(msg)


def test_prompts():
    mask = np.zeros((8, 10), np.uint8)
    mask[2:4] = 2
    image = c.image_message(mask, "mono8", HEAD)
    got = c.prompt_from_message(Prompt(kind=Prompt.MASK, mask=image))
    assert isinstance(got, Mask) and np.array_equal(got.mask, mask > 0)
    got = c.prompt_from_message(Prompt(kind=Prompt.SCRIBBLE, mask=image))
    assert isinstance(got, Scribble) and np.array_equal(got.strokes, mask)
    got = c.prompt_from_message(
        Prompt(kind=Prompt.BOX, box_xyxy=np.array([1, 2, 3, 4], np.float32))
    )
    assert isinstance(got, Box) and got.xyxy.tolist() == [1, 2, 3, 4]
    got = c.prompt_from_message(
        Prompt(kind=Prompt.POINTS, points_xy=[1.0, 2.0, 3.0, 4.0], points_positive=[True, False])
    )
    assert (
        isinstance(got, Points)
        and got.xy.tolist() == [[1, 2], [3, 4]]
        and got.positive.tolist() == [True, False]
    )
    with pytest.raises(ValueError, match="wanted x and y"):
        c.prompt_from_message(Prompt(kind=Prompt.POINTS, points_xy=[1.0], points_positive=[True]))
    with pytest.raises(ValueError, match="wanted mono8"):
        c.prompt_from_message(Prompt(kind=Prompt.MASK, mask=Image(encoding="rgb8")))
    with pytest.raises(ValueError, match="kind 7"):
        c.prompt_from_message(Prompt(kind=7))


def a_result(shape=(48, 64)):
    probs = torch.zeros((3, *shape))
    probs[0] = 0.5
    probs[1, 4:20, 4:20] = 1.0
    probs[2, 4:20, 40:50] = 1.0
    nan = float("nan")
    tracks = (
        Track(
            7,
            70,
            3,
            TrackState.CONFIRMED,
            TrackSource.MAP,
            0.9,
            12,
            0,
            256,
            (4, 4, 20, 20),
            0.8,
            0.2,
            0.0,
        ),
        Track(
            9,
            90,
            0,
            TrackState.TENTATIVE,
            TrackSource.PROMPT,
            0.7,
            2,
            1,
            160,
            (40, 4, 50, 20),
            nan,
            nan,
            nan,
        ),
    )
    seen = (
        Observation(
            7, np.ones((5, 3), np.float32), np.array([1.0, 2, 3]), np.diag([1.0, 4, 9]), None, 0.9
        ),
    )
    links = (
        Association(
            7,
            2,
            AssociationStatus.MATCHED,
            0.8,
            mask_iou=0.75,
            runner_up_id=9,
            runner_up_score=0.1,
            n_observations=4,
        ),
        Association(9, 0, AssociationStatus.NEW, 0.0),
        Association(0, 1, AssociationStatus.OUT_OF_VIEW, 0.0, related_ids=(3, 4)),
    )
    return FrameResult(
        10**9,
        Segmentation((7, 9), probs),
        tracks,
        (),
        seen,
        links,
        map_session_id="m",
        map_revision=4,
        map_stamp_ns=5 * 10**9,
        map_frame="world",
        T_map_camera=POSE,
    )


def test_results_as_messages():
    result = a_result()
    labels = through_dds(c.label_message(result.labels(), HEAD))
    assert labels.header == HEAD and labels.encoding == "16UC1"
    assert np.unique(np.frombuffer(labels.data, np.uint16)).tolist() == [0, 70, 90]
    instances = through_dds(
        c.instance_array(
            result, HEAD, session_id="s", method="lwl", shape=(48, 64), latency_ms=12.5
        )
    )
    assert (instances.header, instances.width, instances.height, instances.map_revision) == (
        HEAD,
        64,
        48,
        4,
    )
    one, two = instances.instances
    assert (
        one.track_id,
        one.label_value,
        one.class_id,
        one.state,
        one.source,
        one.area_px,
        one.age_frames,
    ) == (7, 70, 3, 1, 0, 256, 12)
    assert (one.roi.x_offset, one.roi.y_offset, one.roi.width, one.roi.height) == (4, 4, 16, 16)
    assert one.centroid.z == 3.0 and one.covariance[8] == 9.0
    assert (
        math.isnan(two.centroid.x)
        and np.isnan(two.covariance).all()
        and math.isnan(two.visible_fraction)
    )
    arrays = through_dds(c.association_array(result, HEAD, session_id="s"))
    assert (arrays.map_session_id, arrays.map_revision, arrays.map_frame, arrays.map_stamp.sec) == (
        "m",
        4,
        "world",
        5,
    )
    assert np.allclose(c.matrix_from_pose(arrays.map_from_camera.pose), POSE)
    assert [(a.track_id, a.map_object_id, a.status) for a in arrays.associations] == [
        (7, 2, 0),
        (9, 0, 2),
        (0, 1, 4),
    ]
    assert arrays.associations[0].mask_iou == pytest.approx(0.75) and list(
        arrays.associations[2].related_ids
    ) == [3, 4]


def test_large_images_cost_a_copy_and_not_a_loop():
    rgb = np.zeros((1080, 1920, 3), np.uint8)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        c.rgb_from_message(c.rgb_message(rgb, HEAD))
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.05, "six million bytes: a loop in Python takes half a second"
