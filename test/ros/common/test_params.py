"""ROS parameters as a node declares them from its config tree, on a real node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter

from vos_ros.cli.processes import free_domain
from vos_ros.config import Config, ConfigError
from vos_ros.ros.common.params import FIXED, LIVE, Parameters

Make = Callable[..., tuple[Node, Parameters[Config]]]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make a node with overrides, and its parameters."""
    context = rclpy.Context()
    rclpy.init(context=context, args=[], domain_id=free_domain())
    nodes: list[Node] = []

    def make(**overrides: Any) -> tuple[Node, Parameters[Config]]:
        node = Node(
            "params",
            context=context,
            automatically_declare_parameters_from_overrides=True,
            parameter_overrides=[Parameter(k, value=v) for k, v in overrides.items()],
        )
        nodes.append(node)
        return node, Parameters(node, Config(), live=LIVE, fixed=FIXED)

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def set_one(node: Node, key: str, value: Any) -> Any:
    return node.set_parameters([Parameter(key, value=value)])[0]


def test_overrides_reach_the_config_and_the_rest_keeps_its_defaults(make: Make) -> None:
    _, parameters = make(**{"node.map_frame": "world", "node.tf_wait_s": 1})
    node = parameters.config().node
    assert (node.map_frame, node.tf_wait_s) == ("world", 1.0)
    assert node.sync_slop_s == Config().node.sync_slop_s
    assert parameters.unknown == [] and parameters.invalid == {}


def test_a_wrong_value_is_kept_until_a_valid_one_is_set(make: Make) -> None:
    node, parameters = make(**{"node.sync_slop_s": 7.5, "node.pose_source": "gps"})
    with pytest.raises(ConfigError, match=r"pose_source: got 'gps'.*sync_slop_s: got 7\.5 s"):
        parameters.config()
    assert not set_one(node, "node.sync_slop_s", 3.0).successful
    assert set_one(node, "node.sync_slop_s", 0.5).successful
    with pytest.raises(ConfigError, match="gps"):
        parameters.config()
    assert set_one(node, "node.pose_source", "odometry").successful
    config = parameters.config().node
    assert (config.sync_slop_s, config.pose_source) == (0.5, "odometry")


def test_an_unknown_override_is_a_warning_that_names_the_nearest(make: Make) -> None:
    node, parameters = make(**{"tracking.max_objekts": 3, "node.max_objects": 3})
    assert parameters.unknown == [
        "unknown parameter 'tracking.max_objekts' is ignored: did you mean 'tracking.max_objects'?",
        "unknown parameter 'node.max_objects' is ignored: did you mean 'tracking.max_objects'?",
    ]
    assert not node.has_parameter("tracking.max_objekts")
    assert parameters.config() == Config()


def test_a_renamed_parameter_is_refused_with_its_present_name(make: Make) -> None:
    node, parameters = make(**{"tracking.teach_every": 3})
    with pytest.raises(ConfigError, match=r"tracking\.segmenter_update_interval"):
        parameters.config()
    assert set_one(node, "tracking.segmenter_update_interval", 3).successful
    parameters.config()


def test_only_live_parameters_change_while_the_node_is_configured(make: Make) -> None:
    node, parameters = make()
    assert set_one(node, "node.sync_slop_s", 0.5).successful
    parameters.configured = True
    refused = set_one(node, "node.sync_slop_s", 0.1)
    assert not refused.successful and "acts when the node is configured" in refused.reason
    assert set_one(node, "node.tf_wait_s", 0.1).successful
    assert parameters.live("node.tf_wait_s") == 0.1
    assert not set_one(node, "node.tf_wait_s", -1.0).successful
    parameters.configured = False
    assert set_one(node, "node.sync_slop_s", 0.1).successful
    assert not set_one(node, "node.autostart", False).successful, "read-only"


def test_descriptions_have_help_unit_range_choices_and_when_they_act(make: Make) -> None:
    node, _ = make()
    slop, source, live, start = node.describe_parameters(
        ["node.sync_slop_s", "node.pose_source", "node.tf_wait_s", "node.autostart"]
    )
    assert slop.description.endswith("[s]")
    assert slop.floating_point_range[0].from_value == 0.0
    assert slop.floating_point_range[0].to_value == 1.0
    assert slop.additional_constraints == "acts when the node is configured"
    assert source.additional_constraints.startswith("one of: tf, pose, ")
    assert live.additional_constraints == "acts at once" and not live.read_only
    assert start.additional_constraints == "acts when the process starts" and start.read_only
    (queue,) = node.describe_parameters(["node.sync_queue"])
    assert (queue.integer_range[0].from_value, queue.integer_range[0].to_value) == (1, 1000)


def test_a_running_node_reads_weights_below_its_folder_only(make: Make, tmp_path: Path) -> None:
    key, inside = "segmentation.lwl.model", tmp_path / "deep" / "own.safetensors"
    node, parameters = make(**{key: "/elsewhere/first.safetensors"})
    assert parameters.config().segmentation.method == "lwl", "at the start it may lie anywhere"
    for path in ("/etc/passwd", "../own.safetensors", str(inside), "~/own.safetensors"):
        result = set_one(node, key, path)
        assert not result.successful and "node.weights_dir (empty)" in result.reason
    for name in ("lwl-mnv2", "plain"):
        assert set_one(node, key, name).successful
    assert not set_one(node, "segmentation.features.weights", "/etc/passwd").successful
    assert set_one(node, "segmentation.features.weights", "").successful

    node, _ = make(**{"node.weights_dir": str(tmp_path)})
    assert set_one(node, key, str(inside)).successful
    for path in (f"{tmp_path}/../x.safetensors", f"{tmp_path}2/x.safetensors"):
        assert not set_one(node, key, path).successful
    (tmp_path / "link").symlink_to("/etc")
    assert not set_one(node, key, str(tmp_path / "link" / "passwd")).successful
    (tmp_path / "linked.safetensors").symlink_to("/etc/passwd")
    assert not set_one(node, key, str(tmp_path / "linked.safetensors")).successful
    assert not set_one(node, "node.weights_dir", "/").successful, "it is read-only"


def test_what_is_checked_is_what_is_read(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights are opened by their name as it is: a tilde is a folder of the working folder."""
    home, work = tmp_path / "home", tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    node, _ = make(**{"node.weights_dir": str(home)})
    assert not set_one(node, "segmentation.lwl.model", "~/own.safetensors").successful
    (work / "lwl-mnv2").write_text("not the weights of the package")
    assert not set_one(node, "segmentation.lwl.model", "lwl-mnv2").successful
    assert not set_one(node, "segmentation.features.weights", "lwl-mnv2").successful


def test_bounds_of_messages_are_set_when_the_process_starts_only(make: Make) -> None:
    node, parameters = make(**{"limits.pixels": 1000})
    assert parameters.config().limits.pixels == 1000
    for name in ("pixels", "points", "objects", "prompts", "text"):
        assert not set_one(node, f"limits.{name}", 900).successful, name
