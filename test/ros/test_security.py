"""The SROS 2 policy: held against the running nodes, sros2's own tools, and enforced by DDS."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

import rclpy
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from support import squares
from support.policies import KINDS, POLICY, Names, names_in_graph, read_policy
from support.robot import Robot, end_process, start_process

from vos_ros.cli.processes import free_domain
from vos_ros.msg import MapObjectArray
from vos_ros.ros.mapper.object_mapper import ObjectMapperNode
from vos_ros.ros.odometry.rgbd_slam import RgbdSlamNode
from vos_ros.ros.perception.node import VosNode
from vos_ros.ros.tools.launch_arguments import (
    MAPPER,
    PERCEPTION,
    TRACKER,
    mapper_node,
    perception_node,
    player_command,
    tracker_node,
)
from vos_ros.sinks.mcap import McapFile
from vos_ros.sinks.recording import Recorder

OPERATOR = "_ros2cli_1"
"""Name of a node as the ros2 command makes them."""
PAGE = POLICY.parents[2] / "docs/security.md"
POLICIES = read_policy()
COMPRESSED = {"node.image_transport": "compressed", "node.depth_transport": "compressed"}
SIM_TIME = {"use_sim_time": True}
NODES: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "/vos_ros/node": (
        VosNode,
        [
            {},
            SIM_TIME | COMPRESSED | {"bridges.label_image": "on", "bridges.landmarks": "on"},
            {"node.pose_source": "pose"},
        ],
    ),
    "/vos_ros/mapper": (
        ObjectMapperNode,
        [{}, SIM_TIME | {"node.depth_transport": "compressed", "node.pose_source": "pose"}],
    ),
    "/vos_ros/odometry": (RgbdSlamNode, [{}, SIM_TIME | COMPRESSED | {"node.base_frame": "base"}]),
}
"""Node class of each enclave, and sets of parameters that use all that it can: defaults first."""


@contextmanager
def running(kind: Any, parameters: dict[str, Any]) -> Iterator[Any]:
    """Run a node in this process, the perception node active with the method null."""
    if kind is VosNode:
        parameters = {"segmentation.method": "null", "node.diagnostics_period_s": 0.1, **parameters}
    context = rclpy.Context()
    rclpy.init(context=context, args=[], domain_id=free_domain())
    overrides = [Parameter(k, value=v) for k, v in parameters.items()]
    node = kind(context=context, parameter_overrides=overrides)
    try:
        if kind is VosNode:
            node.autostart()
            assert node.state == "active"
        yield node
    finally:
        node.end()
        node.destroy_node()
        rclpy.shutdown(context=context)


def spin_until(node: Any, condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Run the node's callbacks until the condition holds; False: it does not."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end = time.monotonic() + seconds
    try:
        while not (held := condition()) and time.monotonic() < end:
            executor.spin_once(timeout_sec=0.05)
    finally:
        executor.remove_node(node)
        executor.shutdown(timeout_sec=1.0)
    return held


@pytest.mark.parametrize(
    "enclave",
    [
        "/vos_ros/node",
        "/vos_ros/mapper",
        pytest.param("/vos_ros/odometry", marks=pytest.mark.slow),  # Open3D takes long to load
    ],
)
def test_a_node_does_what_its_profile_allows_and_all_of_it(enclave: str) -> None:
    kind, configurations = NODES[enclave]
    if kind is RgbdSlamNode:
        pytest.importorskip("open3d")
    profile, used = POLICIES[enclave], defaultdict(set)
    for number, parameters in enumerate(configurations):
        with running(kind, parameters) as node:
            assert node.get_fully_qualified_name() == profile.node
            found = names_in_graph(node, node.get_name(), node.get_namespace())
            if number == 0:
                check_defaults(found, enclave)
                if kind is VosNode:
                    used["subscriber"] |= subscribed_beside_twin(node)
        for what, names in found.items():
            used[what] |= names
    if kind is VosNode:  # one of the two, by whether rtabmap_msgs is installed
        used["publisher"] |= {"/vos_ros/landmarks", "/vos_ros/landmark_detections"}
    for what in KINDS.values():
        assert used[what] == profile.allowed(what), f"{enclave}, {what}"


def check_defaults(found: Names, enclave: str) -> None:
    """Check that what the policy does not call optional is there by default, and hardly more."""
    profile = POLICIES[enclave]
    for what in KINDS.values():
        assert profile.required[what] <= found[what] <= profile.allowed(what), f"{enclave}, {what}"


def subscribed_beside_twin(node: Any) -> set[str]:
    """Return the topics of a node while there is another one of its name."""
    twin = rclpy.create_node(node.get_name(), context=node.context)
    before = len(list(node.subscriptions))
    try:
        assert spin_until(node, lambda: len(list(node.subscriptions)) > before)
        return {s.topic_name for s in node.subscriptions}
    finally:
        twin.destroy_node()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("player", ["{folder}/in.mcap", "--node", "/vos_ros", "--wait", "40"]),
        ("recorder", ["{folder}/out.mcap"]),
    ],
)
def test_player_and_recorder_do_what_their_profiles_allow(
    module: str, words: list[str], tmp_path: Path
) -> None:
    with McapFile(tmp_path / "in.mcap", {}) as out:
        Recorder(out, "camera_optical", "map").frame(squares.frame_at(squares.START))
    profile, domain = POLICIES[f"/vos_ros/{module}"], free_domain()
    command = [sys.executable, "-m", f"vos_ros.ros.tools.{module}"]
    command += [w.format(folder=tmp_path) for w in words]
    log = tmp_path / "log.txt"
    context = rclpy.Context()
    rclpy.init(context=context, args=[], domain_id=domain)
    asking = rclpy.create_node("vos_ros", context=context)

    def active(request: Any, response: Any) -> Any:
        response.current_state.id = State.PRIMARY_STATE_ACTIVE
        return response

    asking.create_service(GetState, "~/get_state", active)
    # What it does with other options than these: a pose topic, another clock.
    wanted = {k: profile.allowed(k) - {"/pose", "/clock"} for k in KINDS.values()}
    used: Names = {k: set() for k in KINDS.values()}

    def complete() -> bool:
        for node, namespace in asking.get_node_names_and_namespaces():
            if f"{namespace}{node}" == profile.node:
                for kind, names in names_in_graph(asking, node, namespace).items():
                    used[kind] |= names
        return used == wanted

    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | {"ROS_DOMAIN_ID": str(domain), "OMP_NUM_THREADS": "1"},
            text=True,
        )
    try:
        spin_until(asking, complete, 20.0)
        assert used == wanted, log.read_text()
    finally:
        end_process(process)
        asking.destroy_node()
        rclpy.shutdown(context=context)


def test_the_operator_alone_may_call_what_the_nodes_serve() -> None:
    ours = [POLICIES[e] for e in NODES]
    served = set.union(*(p.allowed("service") for p in ours))
    operator = POLICIES["/vos_ros/operator"]
    assert operator.allowed("client") == served
    published = set.union(*(p.allowed("publisher") for p in ours))
    assert published <= operator.allowed("subscriber")
    called = {e: p.allowed("client") for e, p in POLICIES.items() if p.allowed("client")}
    del called["/vos_ros/operator"]
    assert called == {"/vos_ros/player": {"/vos_ros/get_state"}}


def test_launch_files_name_an_enclave_of_the_policy(tmp_path: Path) -> None:
    given = {a.name: a.default for a in (*PERCEPTION, *MAPPER, *TRACKER)}
    configs = POLICY.parents[1]
    given |= {"config": str(configs / "vos_ros.yaml"), "bag": str(tmp_path), "pose": "pose"}
    given |= {
        "mapper_config": str(configs / "object_mapper.yaml"),
        "slam_config": str(configs / "rgbd_slam.yaml"),
    }
    specs = [make(given) for make in (perception_node, mapper_node, tracker_node)]
    words = [*(s.ros_arguments for s in specs), player_command(given)]
    named = {w[w.index("--enclave") + 1] for w in words}
    assert named == set(POLICIES) - {"/vos_ros/recorder", "/vos_ros/operator"}
    for spec in specs:
        assert POLICIES[spec.enclave].node == f"/{spec.name}"


# --- with sros2 -----------------------------------------------------------------------------------


def example_of_the_page() -> str:
    """Return the policy of a robot in docs/security.md."""
    (text,) = re.findall(r"```xml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(text)


@pytest.fixture
def keystore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a keystore of our policy and the page's example; its domain is in ROS_DOMAIN_ID."""
    if importlib.util.find_spec("sros2") is None or shutil.which("ros2") is None:
        pytest.skip("no `ros2 security` on this machine: apt install ros-$ROS_DISTRO-sros2")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    return make_keystore(tmp_path / "keystore")


def make_keystore(folder: Path) -> Path:
    """Make a keystore by the commands of the page."""
    robot = folder.with_name("robot.xml")
    robot.write_text(example_of_the_page())
    page = PAGE.read_text(encoding="utf-8")
    for command in (
        ["create_keystore", folder],
        ["generate_artifacts", "-k", folder, "-p", POLICY, robot],
    ):
        assert f"ros2 security {command[0]}" in page
        ros2_security(*command)
    return folder


def ros2_security(*words: object) -> None:
    """Run the real command."""
    command = ["ros2", "security", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sros2_turns_the_policy_into_permissions(keystore: Path) -> None:
    prefixes = {
        "publisher": ("publish", "rt{}"),
        "subscriber": ("subscribe", "rt{}"),
        "service": ("subscribe", "rq{}Request"),
        "client": ("publish", "rq{}Request"),
    }
    for enclave, profile in POLICIES.items():
        file = keystore / "enclaves" / enclave[1:] / "permissions.xml"
        (grant,) = ElementTree.parse(file).getroot().iter("grant")
        assert grant.attrib["name"] == enclave and grant.findtext("default") == "DENY"
        assert {i.text for i in grant.iter("id")} == {os.environ["ROS_DOMAIN_ID"]}
        for kind, (direction, form) in prefixes.items():
            allowed = {t.text for e in grant.iter(direction) for t in e.iter("topic")}
            assert {form.format(n) for n in profile.allowed(kind)} <= allowed, (enclave, kind)
        everything = {str(t.text) for t in grant.iter("topic")}
        assert not {t for t in everything if t.endswith("/*")} or enclave == "/vos_ros/operator"


@contextmanager
def participant(monkeypatch: pytest.MonkeyPatch, enclave: str, keystore: Path) -> Iterator[None]:
    """Let nodes that begin meanwhile be of an enclave; "": without security."""
    with monkeypatch.context() as m:
        m.setenv("ROS_SECURITY_ENABLE", "true" if enclave else "false")
        m.setenv("ROS_SECURITY_STRATEGY", "Enforce")
        m.setenv("ROS_SECURITY_KEYSTORE", str(keystore))
        m.setenv("ROS_SECURITY_ENCLAVE_OVERRIDE", enclave or "/")
        yield


@contextmanager
def node_of(
    monkeypatch: pytest.MonkeyPatch, enclave: str, keystore: Path, name: str
) -> Iterator[Any]:
    """Run a plain node of an enclave in this process."""
    context = rclpy.Context()
    with participant(monkeypatch, enclave, keystore):
        rclpy.init(context=context, args=[])
        try:
            node = rclpy.create_node(name, context=context)
        except RuntimeError as e:
            rclpy.shutdown(context=context)
            if "security libraries" in str(e):
                pytest.skip(str(e).splitlines()[0])
            raise
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


@pytest.mark.slow
def test_only_who_has_the_keys_is_heard_and_served(
    keystore: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with node_of(monkeypatch, "/vos_ros/operator", keystore, OPERATOR):
        pass  # skips where the middleware has no security
    domain, log = int(os.environ["ROS_DOMAIN_ID"]), tmp_path / "node.log"
    parameters = {"segmentation.method": "null", "node.diagnostics_period_s": 0.2}
    with participant(monkeypatch, "/vos_ros/node", keystore):
        process = start_process("vos_ros.ros.perception.node", log, domain, parameters)
    with participant(monkeypatch, "/robot", keystore):
        robot = Robot(domain, process, log)
    try:
        robot.ready()
        robot.send_map()
        assert len(robot.step(0).instances) == 3
        with node_of(monkeypatch, "", keystore, "intruder") as intruder:
            check_that_nobody_hears(intruder, robot, 10)
        other = tmp_path / "other"
        ros2_security("create_keystore", other)
        ros2_security("create_enclave", other, "/forger")  # of its own making: allowed everything
        with node_of(monkeypatch, "/forger", other, "forger") as forger:
            check_that_nobody_hears(forger, robot, 30)
        with node_of(monkeypatch, "/vos_ros/recorder", keystore, "vos_ros_recorder") as recorder:
            # It has keys of this keystore, but its permissions name neither of these.
            with pytest.raises(Exception, match=r"create|failed"):
                recorder.create_publisher(MapObjectArray, "/map_objects", 10)
            with pytest.raises(Exception, match=r"create|failed"):
                recorder.create_client(Trigger, "/vos_ros/reset")
        assert len(robot.step(90).instances) == 3, "nobody has changed the map"
        with node_of(monkeypatch, "/vos_ros/operator", keystore, OPERATOR) as operator:
            client = operator.create_client(Trigger, "/vos_ros/reset")
            assert spin_until(operator, client.service_is_ready, 20.0)
            future = client.call_async(Trigger.Request())
            assert spin_until(operator, future.done, 20.0) and future.result().success
    finally:
        robot.close()


def check_that_nobody_hears(node: Any, robot: Robot, first: int) -> None:
    """Let a participant without valid keys delete the map, listen, and call the reset."""
    heard: list[Any] = []
    node.create_subscription(Image, "/vos_ros/labels", heard.append, 10)
    maps = node.create_publisher(MapObjectArray, "/map_objects", 10)
    client = node.create_client(Trigger, "/vos_ros/reset")
    before = len(robot.got["labels"])
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    for index in range(first, first + 20):
        maps.publish(MapObjectArray(full=True, revision=100 + index))
        robot.step(index)
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown(timeout_sec=1.0)
    assert len(robot.got["labels"]) >= before + 20 and not heard
    assert maps.get_subscription_count() == 0 and not client.service_is_ready()
    assert robot.values("map")["map_objects"] == "3"
