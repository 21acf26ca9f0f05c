"""Messages make a frame, rectified and with its pose, or an error that names the input to blame."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from vos_ros.messages.factory import make as rosbags_make
from vos_ros.messages.images import frame_messages, image_message
from vos_ros.ros.common.frames import FrameBuilder, Rejected
from vos_ros.ros.common.inputs import Bundle
from vos_ros.ros.common.logging import ConditionLog
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.poses import PoseAnswer
from vos_ros.sinks.mcap import McapFile
from vos_ros.sources.bag import BagSource
from vos_ros.types import Frame, Intrinsics


@pytest.fixture
def reports():
    return []


@pytest.fixture
def builder(reports):
    return FrameBuilder(ConditionLog(lambda level, text: reports.append(text)), "/camera/image_raw")


def messages(camera, make=make):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (camera.height, camera.width, 3), np.uint8)
    return frame_messages(
        make,
        Frame(
            0, 7 * 10**9 + 1, rgb, np.full(rgb.shape[:2], 1.5, np.float32), camera, frame_id="cam"
        ),
    )


def test_a_frame_of_a_pinhole_camera(builder):
    image, info, depth = messages(Intrinsics(50.0, 51.0, 31.5, 23.5, 64, 48))
    T = np.eye(4)
    frame, answer = builder.build(
        Bundle(image=image, depth=depth, arrival_s=0.0), info, lambda: PoseAnswer(T, np.eye(6))
    )
    assert (frame.stamp_ns, frame.frame_id, frame.shape, frame.index) == (
        7 * 10**9 + 1,
        "cam",
        (48, 64),
        0,
    )
    assert np.allclose(frame.depth, 1.5) and frame.T_map_camera is T and answer.reason == ""
    assert np.array_equal(frame.rgb, np.frombuffer(image.data, np.uint8).reshape(48, 64, 3))
    assert (
        builder.build(
            Bundle(image=image, depth=None, arrival_s=0.0),
            info,
            lambda: PoseAnswer(None, reason="none"),
        )[0].index
        == 1
    )


def test_distortion_is_taken_out_and_the_intrinsics_are_the_rectified_ones(builder):
    image, info, depth = messages(
        Intrinsics(50.0, 51.0, 31.5, 23.5, 64, 48, "plumb_bob", (-0.2, 0.05, 0.0, 0.0, 0.0))
    )
    frame, _ = builder.build(
        Bundle(image=image, depth=depth, arrival_s=0.0), info, lambda: PoseAnswer(None)
    )
    assert frame.intrinsics.distortion == () and frame.intrinsics.fx != 50.0
    assert not np.array_equal(frame.rgb, np.frombuffer(image.data, np.uint8).reshape(48, 64, 3))
    assert frame.depth.shape == (48, 64) and np.isclose(frame.depth[frame.depth > 0], 1.5).all()


@pytest.mark.parametrize(
    "spoil, key, text",
    [
        (lambda image, info: None, "camera_info", "none has arrived"),
        (
            lambda image, info: (
                setattr(info, "distortion_model", "magic") or info.d.__setitem__(0, 0.1)
            ),
            "camera_info content",
            "magic",
        ),
        (lambda image, info: setattr(image, "encoding", "32FC1"), "image content", "32FC1"),
        (lambda image, info: setattr(image, "height", 4000), "image content", "wanted a step"),
    ],
)
def test_unusable_messages_are_refused_with_the_input_to_blame(builder, spoil, key, text):
    image, info, depth = messages(Intrinsics(50.0, 51.0, 31.5, 23.5, 64, 48))
    spoil(image, info)
    with pytest.raises(Rejected, match=text) as caught:
        builder.build(
            Bundle(image=image, depth=depth, arrival_s=0.0),
            None if key == "camera_info" else info,
            lambda: pytest.fail("too early"),
        )
    assert caught.value.key == key


def test_depth_that_cannot_be_used_is_left_out_and_reported_once(builder, reports):
    image, info, depth = messages(Intrinsics(50.0, 51.0, 31.5, 23.5, 64, 48))
    small = image_message(make, image.header, "16UC1", np.ones((24, 32), np.uint16))
    for _ in range(3):
        frame, _ = builder.build(
            Bundle(image=image, depth=small, arrival_s=0.0), info, lambda: PoseAnswer(None)
        )
        assert frame.depth is None
    assert len(reports) == 1 and "depth is 32x24 px, the image 64x48 px" in reports[0]
    depth.encoding = "rgb8"
    assert (
        builder.build(
            Bundle(image=image, depth=depth, arrival_s=0.0), info, lambda: PoseAnswer(None)
        )[0].depth
        is None
    )
    assert len(reports) == 2 and "rgb8" in reports[1]
    depth.encoding = "16UC1"
    assert (
        builder.build(
            Bundle(image=image, depth=depth, arrival_s=0.0), info, lambda: PoseAnswer(None)
        )[0].depth
        is not None
    )
    assert "depth content is right again" in reports[2]


def test_an_image_of_another_size_than_its_calibration_still_makes_a_frame(builder):
    image, _, depth = messages(Intrinsics(50.0, 51.0, 31.5, 23.5, 64, 48))
    _, other, _ = messages(
        Intrinsics(100.0, 102.0, 63.5, 47.5, 128, 96, "plumb_bob", (0.1, 0.0, 0.0, 0.0, 0.0))
    )
    frame, _ = builder.build(
        Bundle(image=image, depth=depth, arrival_s=0.0), other, lambda: PoseAnswer(None)
    )
    assert frame.shape == (48, 64) and frame.intrinsics.width == 128, (
        "the pipeline reports the contradiction"
    )


BENT = Intrinsics(50.0, 51.0, 31.5, 23.5, 64, 48, "plumb_bob", (-0.2, 0.05, 0.0, 0.0, 0.0))
P = np.array([45.0, 0.0, 30.0, 0.0, 0.0, 46.0, 22.0, 0.0, 0.0, 0.0, 1.0, 0.0])
"""Camera of the rectified image, as image_proc has it in the camera_info of the raw one."""


@pytest.mark.parametrize("name", ["image_raw", "image_rect", "image_rect_color"])
def test_a_frame_is_that_of_replay_pixel_for_pixel(name, tmp_path):
    topic = f"/camera/{name}"
    frames = {}
    for kind, factory in (("bag", rosbags_make), ("node", make)):
        image, info, depth = messages(BENT, factory)
        info.p = P
        if kind == "node":
            builder = FrameBuilder(ConditionLog(lambda level, text: None), topic)
            frames[kind], _ = builder.build(
                Bundle(image=image, depth=depth, arrival_s=0.0), info, lambda: PoseAnswer(None)
            )
            continue
        with McapFile(tmp_path / "a.mcap") as file:
            for stamp, (path, msg) in enumerate(
                (("/camera/camera_info", info), ("/camera/depth", depth), (topic, image))
            ):
                file.write(path, msg, stamp)
        (frames[kind],) = BagSource(tmp_path / "a.mcap")
    node, bag = frames["node"], frames["bag"]
    np.testing.assert_array_equal(node.rgb, bag.rgb)
    np.testing.assert_array_equal(node.depth, bag.depth)
    assert dataclasses.asdict(node.intrinsics) == dataclasses.asdict(bag.intrinsics)
    is_as_published = np.array_equal(
        node.rgb, np.frombuffer(messages(BENT)[0].data, np.uint8).reshape(48, 64, 3)
    )
    assert is_as_published == (name != "image_raw")
    assert (node.intrinsics.fx == 45.0) == (name != "image_raw")


def test_another_p_is_another_camera():
    builder = FrameBuilder(ConditionLog(lambda level, text: None), "/camera/image_rect")
    image, info, _ = messages(BENT)
    focal = []
    for scale in (1.0, 2.0):
        info.p = P * scale
        frame, _ = builder.build(
            Bundle(image=image, depth=None, arrival_s=0.0), info, lambda: PoseAnswer(None)
        )
        focal.append(frame.intrinsics.fy)
    assert focal == [46.0, 92.0]
