"""Messages of rclpy's classes, made from NumPy arrays."""

from __future__ import annotations

import array
import os
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")

from sensor_msgs.msg import PointField

from vos_ros.messages.stamps import header_message
from vos_ros.ros.common.message_factory import make


def cloud(data):
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=header_message(make, 5, "map"),
        height=1,
        width=len(data),
        fields=[PointField(name="x")],
        is_bigendian=False,
        point_step=1,
        row_step=len(data),
        data=data,
        is_dense=True,
    )


def test_numbers_become_the_arrays_of_rclpy():
    msg = make("vos_ros/msg/Prompt", **prompt(np.array([1.5, 2.5])))
    assert msg.points_xy == array.array("f", [1.5, 2.5]), "float64 given, float32 wanted"
    assert list(msg.points_positive) == [True] and msg.box_xyxy.dtype == np.float32
    strided = cloud(np.arange(6, dtype=np.uint8)[::2])
    assert strided.data == array.array("B", [0, 2, 4])


def prompt(points_xy):
    from sensor_msgs.msg import Image

    return {
        "kind": 2,
        "class_id": 3,
        "mask": Image(),
        "box_xyxy": np.zeros(4, np.float32),
        "points_xy": points_xy,
        "points_positive": [True],
    }


def test_a_message_does_not_follow_the_array_it_was_made_of():
    data = np.zeros(4, np.uint8)
    msg = cloud(data)
    data[:] = 7
    assert list(msg.data) == [0, 0, 0, 0]


def test_a_field_that_is_missing_is_an_error():
    with pytest.raises(TypeError, match="vos_ros/msg/Prompt: missing or unknown fields: points_xy"):
        make("vos_ros/msg/Prompt", **{k: v for k, v in prompt([]).items() if k != "points_xy"})


def test_a_field_that_is_unknown_is_an_error():
    with pytest.raises(TypeError, match="fields: colour"):
        make("vos_ros/msg/Prompt", **prompt([]), colour=3)


def test_checks_of_fields_can_be_switched_on():
    """ROS_PYTHON_CHECK_FIELDS is read when rclpy's classes are imported."""
    code = (
        "from vos_ros.ros.common.message_factory import make\n"
        "for sec in (2**31 - 1, 2**31):\n"
        "    make('builtin_interfaces/msg/Time', sec=sec, nanosec=0)\n"
    )
    environment = os.environ | {"ROS_PYTHON_CHECK_FIELDS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "'sec' field must be an integer in" in done.stderr


def test_megabytes_are_copied_as_memory():
    data = np.zeros(6_000_000, np.uint8)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        cloud(data)
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.02, "a loop in Python takes half a second"
