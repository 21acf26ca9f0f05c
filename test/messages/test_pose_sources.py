"""Every entry of the table of pose sources is read from a message, and filled into one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vos_ros.config import Config, ConfigError, from_flat
from vos_ros.geometry import se3
from vos_ros.messages.definitions import typestore
from vos_ros.messages.pose_messages import fill_pose, read_pose
from vos_ros.messages.pose_sources import (
    BY_MESSAGE_TYPE,
    BY_NAME,
    NAMES,
    POSE_SOURCES,
    PoseSource,
    listing,
)
from vos_ros.reference_mapper.config import MapperConfig

T = se3.perturb(np.eye(4), np.array([0.3, -2.0, 0.7, 0.4, 0.1, -0.3]))
COV = np.diag([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
TOPICS = tuple(BY_MESSAGE_TYPE.values())


def blank(message_type: str) -> Any:
    """Make a message of a type whose attributes can be set, every field at a value of its type."""
    store = typestore()

    def default(field: Any) -> Any:
        node, detail = field
        if node.name == "NAME":
            return blank(detail)
        if node.name == "BASE":
            return "" if detail[0] == "string" else 0
        return np.zeros(detail[1])

    fields = store.fielddefs[message_type][1]
    return SimpleNamespace(**{name: default(field) for name, field in fields})


def message(source: PoseSource, T: np.ndarray = T) -> Any:
    """Make a message of a source: 2.5 s, in ``/map``, of ``/base`` where it names a child."""
    msg = blank(source.message_type)
    msg.header.stamp.sec, msg.header.stamp.nanosec = 2, 500_000_000
    msg.header.frame_id = "/map"
    fill_pose(msg, source, T, COV, "/base")
    return msg


@pytest.mark.parametrize("source", TOPICS, ids=lambda s: s.name)
def test_a_filled_message_reads_back(source: PoseSource) -> None:
    reading = read_pose(message(source), source)
    assert (reading.stamp_ns, reading.frame_id) == (2_500_000_000, "map")
    assert reading.child_frame_id == ("base" if source.child_frame else "")
    np.testing.assert_allclose(reading.T, T, atol=1e-12)
    if source.covariance:
        np.testing.assert_array_equal(reading.cov, COV)
    else:
        assert reading.cov is None


@pytest.mark.parametrize("source", TOPICS, ids=lambda s: s.name)
def test_a_pose_that_was_never_filled_in_is_refused(source: PoseSource) -> None:
    with pytest.raises(ValueError, match="not a pose"):
        read_pose(blank(source.message_type), source)


def test_covariance_of_zeros_is_unknown() -> None:
    msg = message(BY_NAME["odometry"])
    msg.pose.covariance = np.zeros(36)
    assert read_pose(msg, BY_NAME["odometry"]).cov is None


def test_the_choices_of_node_and_mapper_are_the_table() -> None:
    for name in NAMES:
        assert from_flat({"node.pose_source": name}).node.pose_source == name
    assert Config().node.pose_source == MapperConfig().node.pose_source == "tf"
    assert from_flat({"node.pose_source": "none"}).node.pose_source == "none"
    with pytest.raises(ConfigError, match=f"wanted one of {', '.join(NAMES)}, none"):
        from_flat({"node.pose_source": "gps"})


def test_the_listing_tells_the_message_type_of_each_topic() -> None:
    for source in POSE_SOURCES:
        text = f"{source.name}: {source.help}"
        assert (f"{text} ({source.message_type})" if source.message_type else text) in listing()
    assert listing().count(" (") == len(BY_MESSAGE_TYPE)


def test_names_and_types_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES) == len(BY_MESSAGE_TYPE) + 1
