"""Wrong messages of every kind for the mapper, in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from support import fuzzing, squares
from support.saved_maps import saved_map
from tf2_msgs.msg import TFMessage

from vos_ros.cli.processes import free_domain
from vos_ros.config import from_flat
from vos_ros.messages.associations import association_array_message
from vos_ros.messages.geometry import transform_stamped_message
from vos_ros.messages.images import frame_messages, image_message
from vos_ros.messages.instances import instance_array_message
from vos_ros.messages.stamps import header_message
from vos_ros.pipeline import Pipeline
from vos_ros.reference_mapper.store import load, save
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.mapper.object_mapper import ObjectMapperNode
from vos_ros.types import Frame, FrameResult, MapUpdate

OF_A_FRAME = ("tf", "camera_info", "depth", "labels", "instances", "associations")


@pytest.fixture
def results() -> list[tuple[Frame, FrameResult]]:
    """Frames of the squares and what the perception node says of them."""
    pipeline = Pipeline(from_flat({"segmentation.method": "null"}))
    pipeline.update_map(MapUpdate(squares.START, "kept", 7, True, squares.map_objects()))
    frames = [squares.frame_at(squares.START + i * squares.STEP, i) for i in range(10)]
    made = [(frame, pipeline.step(frame)) for frame in frames]
    pipeline.close()
    return made[4:]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Any]:
    points = {o.id: o.points for o in squares.map_objects()}
    kept = saved_map(points, stamp_ns=squares.START, session_id="kept", revision=7)
    save(kept, tmp_path / "map.json")
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=free_domain(), args=[])
    made = ObjectMapperNode(
        context=context,
        parameter_overrides=[Parameter("node.map_file", value=str(tmp_path / "map.json"))],
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(made)
    made.spin_timers = lambda: executor.spin_once(timeout_sec=0.0)
    yield made
    executor.shutdown()
    made.destroy_node()
    rclpy.shutdown(context=context)


def right_messages(frame: Frame, result: FrameResult, stamp_ns: int) -> dict[str, Any]:
    """The messages of one frame, by their keys."""
    head = header_message(make, stamp_ns, frame.frame_id)
    _, info, depth = frame_messages(make, replace(frame, stamp_ns=stamp_ns))
    pose = transform_stamped_message(
        make, header_message(make, stamp_ns, "map"), frame.frame_id, frame.T_map_camera
    )
    return {
        "tf": TFMessage(transforms=[pose]),
        "camera_info": info,
        "depth": depth,
        "labels": image_message(make, head, "16UC1", result.labels()),
        "instances": instance_array_message(
            make, head, result, session_id="n", method="null", shape=frame.shape, latency_ms=1.0
        ),
        "associations": association_array_message(make, head, result, session_id="n"),
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_wrong_messages_are_refused_and_right_ones_integrated(
    node: Any, results: list[tuple[Frame, FrameResult]], tmp_path: Path
) -> None:
    rng, sent = np.random.default_rng(0), Counter[str]()
    buffer = node.inputs.poses.buffer
    for index in range(1500):
        stamp_ns = squares.START + (1000 + index) * squares.STEP
        messages = right_messages(*results[int(rng.integers(len(results)))], stamp_ns)
        wrong = OF_A_FRAME[int(rng.integers(len(OF_A_FRAME)))] if index % 10 else ""
        if wrong:
            change = fuzzing.mutated if rng.random() < 0.6 else fuzzing.byte_mutated
            messages[wrong] = change(messages[wrong], rng)
        sent[wrong] += 1
        for key, message in messages.items():
            if key == "tf":
                for transform in message.transforms:
                    buffer.set_transform(transform, "fuzz")
            else:
                node.inputs.subscriptions[key].handle.callback(message)
        node.inputs.flush()
        node.spin_timers()
        assert node.worker.wait_idle(10.0), f"busy with {wrong}"
    assert not node.guard.counts, node.guard.counts
    assert min(sent.values()) > 100
    assert set(node.mapper.objects) == {1, 2, 3}
    node.end()
    assert {o.id for o in load(tmp_path / "map.json").objects} == {1, 2, 3}
