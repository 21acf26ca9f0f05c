"""Bags written by the test, read back as frames."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from vos_ros.geometry import se3
from vos_ros.messages.camera import camera_info_message
from vos_ros.messages.checks import Limits
from vos_ros.messages.definitions import typestore
from vos_ros.messages.factory import make, serialize
from vos_ros.messages.geometry import (
    covariance_from_message,
    odometry_message,
    pose_stamped_message,
    pose_with_covariance_stamped_message,
    tf_message,
    transform_stamped_message,
)
from vos_ros.messages.images import image_message
from vos_ros.messages.map_objects import map_objects_message
from vos_ros.messages.stamps import header_message
from vos_ros.sinks.mcap import McapFile
from vos_ros.sinks.recording import CAMERA_INFO, DEPTH, IMAGE, MAP_OBJECTS, POSE, Recorder
from vos_ros.sources.bag import BagSource
from vos_ros.sources.bag_topics import BagError, BagTopics
from vos_ros.sources.interface import FrameSource
from vos_ros.types import Frame, Intrinsics, MapObject, MapUpdate

S = 1_000_000_000
CAMERA = Intrinsics(60.0, 61.0, 31.5, 23.5, 64, 48)
H, W = 48, 64


def pose(x: float, yaw: float = 0.0) -> np.ndarray:
    return se3.from_rt(se3.so3_exp(np.array([0.0, 0.0, yaw])), np.array([x, 2.0, 3.0]))


def an_update(revision: int, stamp_ns: int, frame_id: str = "map") -> MapUpdate:
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    objects = tuple(
        MapObject(
            id=i,
            class_id=2,
            T_map_object=pose(i),
            size=np.ones(3),
            points=points + i,
            point_radius=0.01,
            embedding=np.ones(3, np.float32) if i == 5 else None,
        )
        for i in (5, 8)
    )
    return MapUpdate(stamp_ns, "s", revision, True, objects, (3,), ((1, 2),), frame_id)


def head(stamp_ns: int, frame_id: str = "cam") -> Any:
    return header_message(make, stamp_ns, frame_id)


def color_message(frame: Frame) -> Any:
    return image_message(make, head(frame.stamp_ns), "rgb8", frame.rgb)


def depth_message(stamp_ns: int, mm: int = 1500) -> Any:
    return image_message(make, head(stamp_ns), "16UC1", np.full((H, W), mm, np.uint16))


def info(stamp_ns: int = 0, camera: Intrinsics = CAMERA) -> Any:
    return camera_info_message(make, head(stamp_ns), camera)


def tf(stamp_ns: int, T: np.ndarray, parent: str = "map", child: str = "cam") -> Any:
    return tf_message(make, [transform_stamped_message(make, head(stamp_ns, parent), child, T)])


def write(path: Path, messages: list[tuple[str, Any, int]]) -> Path:
    with McapFile(path) as file:
        for topic, msg, log_ns in sorted(messages, key=lambda m: m[2]):
            file.write(topic, msg, log_ns)
    return path


def frames_of(source: BagSource) -> list[Frame]:
    return [i for i in source if isinstance(i, Frame)]


@pytest.fixture
def frames(make_frame: Callable[..., Frame]) -> list[Frame]:
    return [
        make_frame(
            i, H, W, stamp_ns=S + i * S // 10, intrinsics=CAMERA, T_map_camera=pose(i / 10, i / 20)
        )
        for i in range(6)
    ]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_recording_comes_back_as_it_was(
    tmp_path: Path, frames: list[Frame], compressed: bool
) -> None:
    with McapFile(tmp_path / "a.mcap") as file:
        recorder = Recorder(file, "cam", "world")
        recorder.map_update(an_update(4, S))
        for frame in frames:
            ok, data = cv2.imencode(".png", frame.rgb[:, :, ::-1])
            recorder.frame(frame, ("png", data.tobytes()) if compressed and ok else None)
    source = BagSource(tmp_path / "a.mcap")
    assert isinstance(source, FrameSource)
    assert source.topics == BagTopics(
        f"{IMAGE}/compressed" if compressed else IMAGE, DEPTH, CAMERA_INFO, MAP_OBJECTS, "tf"
    )
    assert source.map_frame == "world" and len(source) == 6
    for _ in range(2):  # iterating again starts over
        update, *got = list(source)
        assert isinstance(update, MapUpdate) and (
            update.revision,
            update.session_id,
            update.full,
        ) == (4, "s", True)
        assert update.deleted_ids == (3,) and update.merged == ((1, 2),)
        for o, want in zip(update.objects, an_update(4, S).objects, strict=True):
            assert (o.id, o.class_id) == (want.id, 2) and (o.points == want.points).all()
            np.testing.assert_allclose(o.T_map_object, want.T_map_object)
            assert (o.embedding is None) == (want.embedding is None)
        for frame, want in zip(got, frames, strict=True):
            assert isinstance(frame, Frame)
            assert (frame.index, frame.stamp_ns) == (want.index, want.stamp_ns)
            assert (frame.rgb == want.rgb).all() and frame.rgb.flags.writeable
            assert (
                frame.depth is not None
                and frame.T_map_camera is not None
                and frame.frame_id == "cam"
                and frame.pose_cov is None
            )
            np.testing.assert_allclose(frame.depth, 1.5)
            np.testing.assert_allclose(frame.T_map_camera, want.T_map_camera, atol=1e-12)
            assert frame.intrinsics.fx == 60.0
        assert source.missing_data.lines() == []


def test_sqlite_and_a_folder_bag(tmp_path: Path, frames: list[Frame]) -> None:
    store = typestore()
    with Writer(tmp_path / "old", version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        kinds = {IMAGE: color_message(frames[0]), CAMERA_INFO: info()}
        connections = {
            t: writer.add_connection(t, m.__msgtype__, typestore=store) for t, m in kinds.items()
        }
        writer.write(connections[CAMERA_INFO], 5, serialize(info()))
        for frame in frames:
            writer.write(connections[IMAGE], frame.stamp_ns, serialize(color_message(frame)))
    for path in (tmp_path / "old", tmp_path / "old/old.db3"):
        got = frames_of(BagSource(path))
        assert (
            len(got) == 6
            and got[3].depth is None
            and got[3].T_map_camera is None
            and (got[3].rgb == frames[3].rgb).all()
        )


def test_depth_is_matched_exactly_first_then_within_the_slop(
    tmp_path: Path, frames: list[Frame]
) -> None:
    offsets = {0: 0, 1: 15_000_000, 2: -15_000_000, 3: 30_000_000, 5: 0}
    messages = [(CAMERA_INFO, info(), 0)]
    messages += [(IMAGE, color_message(f), f.stamp_ns) for f in frames]
    messages += [
        (DEPTH, depth_message(frames[i].stamp_ns + o, 1000 + i), frames[i].stamp_ns + 40_000_000)
        for i, o in offsets.items()
    ]
    source = BagSource(write(tmp_path / "a.mcap", messages))
    got = [
        None if f.depth is None else round(float(f.depth[0, 0]) * 1000) for f in frames_of(source)
    ]
    assert got == [1000, 1001, 1002, None, None, 1005]
    assert source.missing_data.counts == {
        "image without depth whose stamp lies within 0.02 s of its own: check the clocks, or raise"
        " node.sync_slop_s": 2,
        "depth image without a colour image": 1,
    }
    wider = BagSource(tmp_path / "a.mcap", slop_s=0.03)
    assert [f.depth is None for f in frames_of(wider)] == [False] * 4 + [True, False]


def test_what_is_larger_than_the_bound_is_refused(tmp_path: Path, frames: list[Frame]) -> None:
    messages = [(CAMERA_INFO, info(), 0)]
    messages += [(IMAGE, color_message(f), f.stamp_ns) for f in frames]
    path = write(tmp_path / "a.mcap", messages)
    with pytest.raises(BagError, match=r"64x48: 3072, wanted at most 10 \(parameter limits.pixels"):
        frames_of(BagSource(path, limits=Limits(pixels=10)))


def test_tf_chain_is_interpolated_and_waited_for(tmp_path: Path, frames: list[Frame]) -> None:
    camera_on_base = se3.from_rt(
        se3.so3_exp(np.array([-np.pi / 2, 0.0, 0.0])), np.array([0.1, 0.0, 0.3])
    )
    messages = [(CAMERA_INFO, info(), 0), ("/tf_static", tf(0, camera_on_base, "base", "cam"), 1)]
    messages += [("/tf_static", tf(0, pose(7.0), "map", "odom"), 2)]
    messages += [(IMAGE, color_message(f), f.stamp_ns) for f in frames]
    for i in range(
        5
    ):  # every 200 ms, each logged 300 ms late; the last image lies beyond the last one
        stamp = S - S // 20 + i * S // 5 // 2
        messages.append(("/tf", tf(stamp, pose(float(i)), "odom", "base"), stamp + 300_000_000))
    source = BagSource(write(tmp_path / "a.mcap", messages))
    got = frames_of(source)
    for i, frame in enumerate(got[:4]):
        assert frame.T_map_camera is not None
        np.testing.assert_allclose(
            frame.T_map_camera, pose(7.0) @ pose(i + 0.5) @ camera_on_base, atol=1e-12
        )
    assert got[4].T_map_camera is None and got[5].T_map_camera is None
    assert source.missing_data.counts == {"image without a pose": 2}
    assert "odom -> base has no value" in source.missing_data.lines()[0]


def test_pose_topics_and_the_lever_arm_of_odometry(tmp_path: Path, frames: list[Frame]) -> None:
    cov = np.diag([0.01, 0.01, 0.01, 0.04, 0.04, 0.04])
    lever = se3.from_rt(np.eye(3), np.array([0.0, 0.5, 0.0]))
    messages = [(CAMERA_INFO, info(), 0), ("/tf_static", tf(0, lever, "base", "cam"), 1)]
    messages += [(IMAGE, color_message(f), f.stamp_ns) for f in frames]
    for f in frames:
        T, h = f.T_map_camera, head(f.stamp_ns, "map")
        assert T is not None
        messages += [
            ("/odom", odometry_message(make, h, "base", T, cov), f.stamp_ns),
            ("/pose", pose_stamped_message(make, h, T), f.stamp_ns),
            ("/pose_cov", pose_with_covariance_stamped_message(make, h, T, cov), f.stamp_ns),
        ]
    path = write(tmp_path / "a.mcap", messages)
    by_pose, by_cov, by_odometry = (
        frames_of(BagSource(path, BagTopics(pose=t)))[2] for t in ("/pose", "/pose_cov", "/odom")
    )
    assert (
        by_pose.T_map_camera is not None
        and by_odometry.T_map_camera is not None
        and by_odometry.pose_cov is not None
    )
    np.testing.assert_allclose(by_pose.T_map_camera, frames[2].T_map_camera, atol=1e-12)
    assert by_pose.pose_cov is None
    np.testing.assert_allclose(by_cov.pose_cov, cov)
    np.testing.assert_allclose(by_odometry.T_map_camera, frames[2].T_map_camera @ lever, atol=1e-12)
    # against sampling: turn and shift the body, look where the camera goes
    rng = np.random.default_rng(0)
    samples = [
        se3.difference(se3.perturb(frames[2].T_map_camera, d) @ lever, by_odometry.T_map_camera)
        for d in rng.multivariate_normal(np.zeros(6), cov * 0.01, 20_000)
    ]
    np.testing.assert_allclose(np.cov(np.array(samples).T) * 100, by_odometry.pose_cov, atol=1.2e-3)
    with pytest.raises(
        BagError, match=r"pose: several topics fit: /odom, /pose, /pose_cov; name it"
    ):
        BagSource(write(tmp_path / "b.mcap", [m for m in messages if m[0] != "/tf_static"]))


def test_pose_in_another_frame_than_the_map_is_refused(tmp_path: Path, frames: list[Frame]) -> None:
    odometry = pose_stamped_message(make, head(S, "odom"), np.eye(4))
    path = write(
        tmp_path / "a.mcap",
        [(CAMERA_INFO, info(), 0), ("/p", odometry, S), (IMAGE, color_message(frames[0]), S)],
    )
    with pytest.raises(BagError, match=r"/p: its poses are in the frame 'odom', the map in 'map'"):
        list(BagSource(path))
    assert len(frames_of(BagSource(path, map_frame="odom"))) == 1
    with pytest.raises(BagError, match="map_frame 'odom'"):
        BagSource(
            write(
                tmp_path / "b.mcap",
                [
                    (CAMERA_INFO, info(), 0),
                    (IMAGE, color_message(frames[0]), S),
                    (MAP_OBJECTS, map_objects_message(make, an_update(1, 0)), 1),
                ],
            ),
            map_frame="odom",
        )


def test_map_updates_keep_their_place_and_bad_ones_are_counted(
    tmp_path: Path, frames: list[Frame]
) -> None:
    bad = map_objects_message(make, an_update(3, 0))
    bad.objects[1].point_count = 99
    messages = [
        (CAMERA_INFO, info(), 0),
        (MAP_OBJECTS, map_objects_message(make, an_update(1, 0)), 5),
        (MAP_OBJECTS, map_objects_message(make, an_update(2, 0)), frames[2].stamp_ns + 1),
        (MAP_OBJECTS, bad, frames[3].stamp_ns + 1),
        *((IMAGE, color_message(f), f.stamp_ns) for f in frames),
    ]
    source = BagSource(write(tmp_path / "a.mcap", messages))
    assert [i.revision if isinstance(i, MapUpdate) else f"f{i.index}" for i in source] == [
        1,
        "f0",
        "f1",
        "f2",
        2,
        "f3",
        "f4",
        "f5",
    ]
    assert source.missing_data.lines() == [
        "1 x map update that cannot be used (first: MapObjectArray: object 8 claims the points"
        " 4..103, the cloud has 8)"
    ]


def test_distorted_images_are_rectified_and_rectified_ones_are_not(
    tmp_path: Path, frames: list[Frame]
) -> None:
    bent = Intrinsics(60.0, 61.0, 31.5, 23.5, W, H, "plumb_bob", (-0.3, 0.1, 0.0, 0.0, 0.0))
    depth = [(DEPTH, depth_message(frames[0].stamp_ns), S)]
    path = write(
        tmp_path / "a.mcap",
        [(CAMERA_INFO, info(0, bent), 0), (IMAGE, color_message(frames[0]), S), *depth],
    )
    got = frames_of(BagSource(path))[0]
    assert (
        got.intrinsics.distortion_model == ""
        and got.intrinsics.fx != 60.0
        and (got.rgb != frames[0].rgb).any()
    )
    assert got.depth is not None and got.depth.max() == pytest.approx(1.5)
    path = write(
        tmp_path / "b.mcap",
        [("/c/camera_info", info(0, bent), 0), ("/c/image_rect", color_message(frames[0]), S)],
    )
    got = frames_of(BagSource(path))[0]
    assert got.intrinsics.fx == 60.0 and (got.rgb == frames[0].rgb).all()
    odd = Intrinsics(60.0, 61.0, 31.5, 23.5, W, H, "fov", (0.9,))
    with pytest.raises(BagError, match=r"camera_info: distortion model 'fov' is unknown"):
        list(
            BagSource(
                write(
                    tmp_path / "c.mcap",
                    [(CAMERA_INFO, info(0, odd), 0), (IMAGE, color_message(frames[0]), S)],
                )
            )
        )


def test_sizes_that_do_not_fit(tmp_path: Path, frames: list[Frame]) -> None:
    small = image_message(make, head(S), "16UC1", np.ones((24, 32), np.uint16))
    path = write(
        tmp_path / "a.mcap",
        [(CAMERA_INFO, info(), 0), (IMAGE, color_message(frames[0]), S), (DEPTH, small, S)],
    )
    with pytest.raises(
        BagError, match=r"is 32x24 px, .* 64x48 px: depth must be registered .* depth none"
    ):
        list(BagSource(path))
    assert len(frames_of(BagSource(path, BagTopics(depth="none")))) == 1
    other = Intrinsics(60.0, 61.0, 31.5, 23.5, 640, 480)
    path = write(
        tmp_path / "b.mcap",
        [(CAMERA_INFO, info(0, other), 0), (IMAGE, color_message(frames[0]), S)],
    )
    with pytest.raises(BagError, match=r"64x48 px, its .*camera_info says 640x480 px"):
        list(BagSource(path))


def test_undecodable_images_are_left_out_and_counted(tmp_path: Path, frames: list[Frame]) -> None:
    broken = make(
        "sensor_msgs/msg/CompressedImage",
        header=header_message(make, S, "cam"),
        format="jpeg",
        data=np.zeros(9, np.uint8),
    )
    ok, data = cv2.imencode(".jpg", frames[0].rgb)
    good = make(
        "sensor_msgs/msg/CompressedImage",
        header=header_message(make, 2 * S, "cam"),
        format="jpeg",
        data=data.reshape(-1),
    )
    source = BagSource(
        write(
            tmp_path / "a.mcap",
            [
                ("/c/camera_info", info(), 0),
                ("/c/image/compressed", broken, S),
                ("/c/image/compressed", good, 2 * S),
            ],
        )
    )
    assert ok and [f.stamp_ns for f in frames_of(source)] == [2 * S]
    assert source.missing_data.counts == {"image that cannot be decoded": 1}


def test_topics_that_cannot_be_told(tmp_path: Path, frames: list[Frame]) -> None:
    image = color_message(frames[0])
    two = [
        ("/left/image", image, S),
        ("/right/image", image, S),
        ("/left/camera_info", info(), 0),
        ("/right/camera_info", info(), 0),
    ]
    path = write(tmp_path / "a.mcap", two)
    with pytest.raises(
        BagError,
        match=r"image: several topics fit: /left/image, /right/image; name it with the option",
    ):
        BagSource(path)
    assert (
        BagSource(path, BagTopics(image="/right/image")).topics.camera_info == "/right/camera_info"
    )
    with pytest.raises(
        BagError, match=r"image: no topic '/front'; the bag has /left/camera_info \(sensor_msgs"
    ):
        BagSource(path, BagTopics(image="/front"))
    with pytest.raises(
        BagError,
        match=r"depth: topic '/left/camera_info' is of type sensor_msgs/msg/CameraInfo, wanted",
    ):
        BagSource(path, BagTopics(image="/left/image", depth="/left/camera_info"))
    with pytest.raises(BagError, match="pose: the bag has no TF"):
        BagSource(path, BagTopics(image="/left/image", pose="tf"))
    with pytest.raises(BagError, match=r"camera_info: no topic fits.*the bag has /i "):
        BagSource(write(tmp_path / "b.mcap", [("/i", image, S)]))
    with pytest.raises(BagError, match=r"image: no topic fits.*/c \(std_msgs"):
        BagSource(write(tmp_path / "c.mcap", [("/c", make("std_msgs/msg/String", data=""), S)]))


def test_results_beside_the_input_are_not_taken_for_it(tmp_path: Path, frames: list[Frame]) -> None:
    extra = [
        ("/vos_ros/overlay", color_message(frames[0]), S),
        ("/vos_ros/labels", depth_message(S), S),
        (
            f"{IMAGE}/compressed",
            make(
                "sensor_msgs/msg/CompressedImage",
                header=header_message(make, S, "cam"),
                format="jpeg",
                data=np.zeros(4, np.uint8),
            ),
            S,
        ),
        ("/depth_raw", depth_message(S), S),
    ]
    aligned = "/camera/aligned_depth_to_color/image_raw"
    wanted = [
        (CAMERA_INFO, info(), 0),
        (IMAGE, color_message(frames[0]), S),
        (aligned, depth_message(S), S),
    ]
    path = write(tmp_path / "a.mcap", [*extra, *wanted])
    topics = BagSource(path).topics
    assert (topics.image, topics.depth) == (IMAGE, aligned)


@pytest.mark.parametrize("keep", [0, 3, 200, 0.5, -30])
def test_a_bag_cut_short_says_so(tmp_path: Path, frames: list[Frame], keep: float) -> None:
    path = write(
        tmp_path / "a.mcap",
        [(CAMERA_INFO, info(), 0), *((IMAGE, color_message(f), f.stamp_ns) for f in frames)],
    )
    data = path.read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(BagError, match=r"cut\.mcap: cannot be read as a bag .* cut short, damaged"):
        list(BagSource(cut))
    with pytest.raises(FileNotFoundError, match="no such bag"):
        BagSource(tmp_path / "none.mcap")


def test_a_long_bag_is_not_held_in_memory(tmp_path: Path, make_frame: Callable[..., Frame]) -> None:
    """While frames are read one by one, few of their images are in memory."""
    camera = Intrinsics(300.0, 300.0, 160.0, 120.0, 320, 240)
    frame = make_frame(0, 240, 320, intrinsics=camera)
    with McapFile(tmp_path / "a.mcap") as file:
        recorder = Recorder(file, "cam")
        for i in range(100):
            recorder.frame(replace(frame, index=i, stamp_ns=S + i * S // 30))
    source = BagSource(tmp_path / "a.mcap", wait_s=100.0)
    tracemalloc.start()
    try:
        assert len(list(map(lambda item: item.stamp_ns, source))) == 100
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25 * frame.rgb.nbytes, "100 images were written"


def test_a_recording_of_a_bag_that_looped(tmp_path: Path, make_frame: Callable[..., Frame]) -> None:
    frames = [make_frame(i, H, W, stamp_ns=S + i * S // 10, intrinsics=CAMERA) for i in range(30)]
    messages = [(CAMERA_INFO, info(), 0)]
    for turn in (0, 10 * S):
        for f in frames:
            messages += [
                (IMAGE, color_message(f), f.stamp_ns + turn),
                (DEPTH, depth_message(f.stamp_ns), f.stamp_ns + turn + 30_000_000),
            ]
    source = BagSource(write(tmp_path / "a.mcap", messages))
    got = frames_of(source)
    assert [f.stamp_ns for f in got] == [f.stamp_ns for f in frames] * 2 and [
        f.index for f in got
    ] == list(range(60))
    assert all(f.depth is not None for f in got)
    assert source.missing_data.lines() == [
        "1 x jump back in time (first: from 3.900000 s to 1.000000 s)"
    ]


def test_covariance_that_says_nothing(tmp_path: Path, frames: list[Frame]) -> None:
    assert covariance_from_message(np.zeros(36)) is None
    assert covariance_from_message([-1.0] + [0.0] * 35) is None
    with McapFile(tmp_path / "a.mcap") as file:
        Recorder(file, "cam").frame(frames[0])
    got = frames_of(BagSource(tmp_path / "a.mcap", BagTopics(pose=POSE)))[0]
    assert got.pose_cov is None and got.T_map_camera is not None
    by_tf = frames_of(BagSource(tmp_path / "a.mcap"))[0]
    np.testing.assert_array_equal(by_tf.T_map_camera, got.T_map_camera)
