"""The output bag, read back by readers that are not ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from vos_ros.sinks.bag import BagSink
from vos_ros.sinks.interface import ResultSink
from vos_ros.sinks.mcap import McapFile
from vos_ros.types import Frame, FrameResult

STAMP = 1_700_000_000_123_456_789
NAMED = {3: (40, 12), 9: (41, 0)}


@pytest.fixture
def labels() -> np.ndarray:
    image = np.zeros((48, 64), np.uint16)
    image[10:20, 5:30], image[30:40, 40:60] = 3, 9
    return image


@pytest.fixture
def bag(
    tmp_path: Path,
    make_frame: Callable[..., Frame],
    make_result: Callable[..., FrameResult],
    labels: np.ndarray,
) -> Path:
    path = tmp_path / "out.mcap"
    with BagSink(
        path,
        method="lwl",
        session_id="s1",
        overlay=True,
        diagnostics=True,
        notes={"config": "a: 1"},
    ) as sink:
        assert isinstance(sink, ResultSink)
        for i in range(3):
            frame = make_frame(
                i,
                stamp_ns=STAMP + i,
                frame_id="camera_optical",
                T_map_camera=None if i == 2 else np.eye(4),
            )
            sink.write(frame, make_result(frame, labels, NAMED))
        assert not path.exists()
    return path


def test_a_reader_that_is_not_ours_decodes_every_topic(bag: Path, labels: np.ndarray) -> None:
    got: dict[str, list] = {}
    with open(bag, "rb") as f:
        reader = make_reader(f, decoder_factories=[DecoderFactory()])
        for _, channel, message, decoded in reader.iter_decoded_messages():
            got.setdefault(channel.topic, []).append((message.log_time, decoded))
    assert {topic: len(m) for topic, m in got.items()} == dict.fromkeys(
        [
            "/vos_ros/labels",
            "/vos_ros/instances",
            "/vos_ros/associations",
            "/vos_ros/overlay",
            "/diagnostics",
        ],
        3,
    )
    for messages in got.values():
        for i, (log_time, m) in enumerate(messages):
            assert log_time == STAMP + i
            assert (m.header.stamp.sec, m.header.stamp.nanosec, m.header.frame_id) == (
                1_700_000_000,
                123_456_789 + i,
                "camera_optical",
            )
    image = got["/vos_ros/labels"][0][1]
    assert (image.encoding, image.height, image.width, image.step) == ("16UC1", 48, 64, 128)
    assert (np.frombuffer(bytes(image.data), "<u2").reshape(48, 64) == labels).all()
    instances = got["/vos_ros/instances"][0][1]
    assert (
        instances.session_id,
        instances.method,
        instances.width,
        instances.height,
        instances.map_revision,
    ) == ("s1", "lwl", 64, 48, 7)
    first, second = instances.instances
    assert (
        first.track_id,
        first.label_value,
        first.class_id,
        first.state,
        first.source,
        first.area_px,
    ) == (40, 3, 3, 1, 0, 250)
    assert (first.roi.x_offset, first.roi.y_offset, first.roi.width, first.roi.height) == (
        5,
        10,
        25,
        10,
    )
    assert (first.centroid.x, first.centroid.z, list(first.covariance)) == (
        1.0,
        3.0,
        list(np.eye(3).ravel()),
    )
    assert np.isnan(second.centroid.x) and np.isnan(second.covariance).all()
    assert instances.latency_ms == 3.0
    got_associations = got["/vos_ros/associations"][0][1]
    assert (
        got_associations.map_session_id,
        got_associations.map_revision,
        got_associations.map_frame,
    ) == ("kitchen", 7, "map")
    assert [
        (a.track_id, a.map_object_id, list(a.related_ids)) for a in got_associations.associations
    ] == [
        (40, 12, [40, 77]),
        (41, 0, [41, 77]),
    ]
    assert got_associations.map_from_camera.pose.orientation.w == 1.0
    assert np.isnan(got["/vos_ros/associations"][2][1].map_from_camera.pose.position.x)
    assert got["/vos_ros/overlay"][0][1].encoding == "bgr8"
    assert {v.key: v.value for v in got["/diagnostics"][0][1].status[0].values} == {
        "segmentation_ms": "2.000",
        "total_ms": "3.000",
    }


def test_an_exception_leaves_the_older_file_and_nothing_else(
    bag: Path,
    make_frame: Callable[..., Frame],
    make_result: Callable[..., FrameResult],
    labels: np.ndarray,
) -> None:
    before = bag.read_bytes()
    frame = make_frame(0)
    with pytest.raises(KeyError), BagSink(bag) as sink:
        sink.write(frame, make_result(frame, labels, NAMED))
        raise KeyError
    assert bag.read_bytes() == before
    assert [p.name for p in bag.parent.iterdir()] == [bag.name]


def test_latched_topics_say_so_and_names_are_checked(tmp_path: Path) -> None:
    from vos_ros.messages.factory import make

    with McapFile(tmp_path / "a.mcap") as file:
        file.write("/once", make("std_msgs/msg/String", data="x"), 5, latched=True)
        file.write("/often", make("std_msgs/msg/String", data="y"), 6)
    with open(tmp_path / "a.mcap", "rb") as f:
        summary = make_reader(f).get_summary()
    assert summary is not None
    qos = {c.topic: c.metadata["offered_qos_profiles"] for c in summary.channels.values()}
    assert "transient_local" in qos["/once"] and "volatile" in qos["/often"]
    with pytest.raises(ValueError, match=r"ends in \.mcap"):
        McapFile(tmp_path / "a.bag")
