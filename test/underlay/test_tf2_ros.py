"""Buffer, listener and broadcasters answer as the real package does.

These tests hold for both, and run on the one that Python finds first: the stand-in, or the real
``tf2_ros`` (CONTRIBUTING.md says how to have it). ``test_against_upstream.py`` compares them.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS: run through tools/env")
import tf2_ros
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time

S = 1_000_000_000


def transform(
    parent: str,
    child: str,
    stamp_ns: int,
    xyz: tuple[float, float, float] = (0.0, 0.0, 0.0),
    yaw: float = 0.0,
) -> TransformStamped:
    msg = TransformStamped(child_frame_id=child)
    msg.header.frame_id = parent
    msg.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
    msg.transform.translation.x, msg.transform.translation.y, msg.transform.translation.z = xyz
    msg.transform.rotation.z, msg.transform.rotation.w = (
        float(np.sin(yaw / 2)),
        float(np.cos(yaw / 2)),
    )
    return msg


def xyz(msg: TransformStamped) -> list[float]:
    t = msg.transform.translation
    return [t.x, t.y, t.z]


def yaw(msg: TransformStamped) -> float:
    return 2.0 * np.arctan2(msg.transform.rotation.z, msg.transform.rotation.w)


@pytest.fixture
def buffer() -> tf2_ros.Buffer:
    """map -> odom (moving) -> base (moving) -> camera (static), 1 s to 3 s."""
    made = tf2_ros.Buffer()
    for second in (1, 2, 3):
        made.set_transform(transform("map", "odom", second * S, (0.0, 0.0, float(second))), "test")
        made.set_transform(
            transform("odom", "base", second * S, (float(second), 0.0, 0.0), yaw=0.2 * second),
            "test",
        )
    made.set_transform_static(transform("base", "camera", 0, (0.0, 1.0, 0.0)), "test")
    return made


def test_interpolates_along_the_chain(buffer: tf2_ros.Buffer) -> None:
    got = buffer.lookup_transform("map", "base", Time(nanoseconds=S + S // 4))
    np.testing.assert_allclose(xyz(got), [1.25, 0.0, 1.25], atol=1e-9)
    assert yaw(got) == pytest.approx(0.25)
    assert (got.header.frame_id, got.child_frame_id) == ("map", "base")
    assert Time.from_msg(got.header.stamp).nanoseconds == S + S // 4


def test_static_edges_hold_at_all_times_and_compose(buffer: tf2_ros.Buffer) -> None:
    got = buffer.lookup_transform("odom", "camera", Time(nanoseconds=2 * S))
    np.testing.assert_allclose(xyz(got), [2.0 - np.sin(0.4), np.cos(0.4), 0.0], atol=1e-9)
    np.testing.assert_allclose(
        xyz(buffer.lookup_transform("base", "camera", Time(nanoseconds=99 * S))), [0.0, 1.0, 0.0]
    )


def test_the_other_way_is_the_inverse(buffer: tf2_ros.Buffer) -> None:
    there = buffer.lookup_transform("odom", "base", Time(nanoseconds=2 * S))
    back = buffer.lookup_transform("base", "odom", Time(nanoseconds=2 * S))
    c, s = np.cos(yaw(back)), np.sin(yaw(back))
    x, y, z = xyz(there)
    np.testing.assert_allclose(np.add(xyz(back), [c * x - s * y, s * x + c * y, z]), 0.0, atol=1e-9)


def test_time_zero_is_the_newest_common_time(buffer: tf2_ros.Buffer) -> None:
    buffer.set_transform(transform("map", "odom", 4 * S, (0.0, 0.0, 4.0)), "test")
    got = buffer.lookup_transform("map", "camera", Time())
    assert Time.from_msg(got.header.stamp).nanoseconds == 3 * S
    assert xyz(got)[2] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("target", "source", "at", "error"),
    [
        ("map", "nowhere", 2 * S, "LookupException"),
        ("nowhere", "map", 2 * S, "LookupException"),
        ("map", "island", 2 * S, "ConnectivityException"),
        ("map", "base", S - 1, "ExtrapolationException"),
        ("map", "base", 3 * S + 1, "ExtrapolationException"),
        ("/map", "base", 2 * S, "InvalidArgumentException"),
        ("map", "", 2 * S, "InvalidArgumentException"),
    ],
)
def test_refusals(buffer: tf2_ros.Buffer, target: str, source: str, at: int, error: str) -> None:
    buffer.set_transform(transform("sea", "island", 2 * S), "test")
    with pytest.raises(getattr(tf2_ros, error)) as caught:
        buffer.lookup_transform(target, source, Time(nanoseconds=at))
    assert isinstance(caught.value, tf2_ros.TransformException)
    ok, why = buffer.can_transform(target, source, Time(nanoseconds=at), return_debug_tuple=True)
    assert not ok and why


def test_past_beyond_the_cache_is_forgotten() -> None:
    buffer = tf2_ros.Buffer(cache_time=Duration(seconds=5))
    for second in range(1, 11):
        buffer.set_transform(transform("map", "base", second * S), "test")
    assert buffer.can_transform("map", "base", Time(nanoseconds=6 * S))
    assert not buffer.can_transform("map", "base", Time(nanoseconds=3 * S))


def test_samples_may_come_out_of_order(buffer: tf2_ros.Buffer) -> None:
    buffer.set_transform(transform("map", "odom", S + S // 2, (7.0, 0.0, 0.0)), "test")
    got = buffer.lookup_transform("map", "odom", Time(nanoseconds=S + S // 4))
    np.testing.assert_allclose(xyz(got), [3.5, 0.0, 0.5], atol=1e-9)


def test_the_last_word_on_a_stamp_counts(buffer: tf2_ros.Buffer) -> None:
    for second in (2, 3):
        buffer.set_transform(transform("map", "odom", second * S, (9.0, 0.0, 0.0)), "test")
        assert xyz(buffer.lookup_transform("map", "odom", Time(nanoseconds=second * S)))[
            0
        ] == pytest.approx(9.0)


def test_a_malformed_transform_changes_nothing(buffer: tf2_ros.Buffer) -> None:
    bad = transform("map", "odom", 4 * S)
    bad.transform.rotation.w = 0.0
    nan = transform("map", "odom", 4 * S, (float("nan"), 0.0, 0.0))
    before = transform("map", "odom", 4 * S)
    before.header.stamp.sec = -1
    for msg in (bad, nan, before):
        buffer.set_transform(msg, "test")
    assert not buffer.can_transform("map", "odom", Time(nanoseconds=4 * S))


def quaternion(msg: TransformStamped) -> list[float]:
    q = msg.transform.rotation
    return [q.x, q.y, q.z, q.w]


def test_a_quaternion_of_another_length_is_scaled(buffer: tf2_ros.Buffer) -> None:
    long = transform("map", "odom", 4 * S, yaw=1.0)
    long.transform.rotation.z *= 3.0
    long.transform.rotation.w *= 3.0
    buffer.set_transform(long, "test")
    got = buffer.lookup_transform("map", "odom", Time(nanoseconds=4 * S))
    np.testing.assert_allclose(quaternion(got), [0.0, 0.0, np.sin(0.5), np.cos(0.5)], atol=1e-12)


def test_a_turn_is_interpolated_at_one_speed(buffer: tf2_ros.Buffer) -> None:
    for second, angle in ((4, 0.0), (5, 0.06)):
        buffer.set_transform(transform("map", "odom", second * S, yaw=angle), "test")
    got = buffer.lookup_transform("map", "odom", Time(nanoseconds=4 * S + S // 4))
    assert yaw(got) == pytest.approx(0.015, abs=1e-12)


def test_half_a_turn_goes_the_same_way_for_both_signs_of_its_quaternion() -> None:
    for sign in (1.0, -1.0):
        buffer = tf2_ros.Buffer()
        for second, angle in ((4, 0.0), (5, np.pi)):
            msg = transform("map", "odom", second * S, yaw=angle)
            msg.transform.rotation.z *= sign
            msg.transform.rotation.w = abs(np.cos(angle / 2)).round()
            buffer.set_transform(msg, "test")
        got = buffer.lookup_transform("map", "odom", Time(nanoseconds=4 * S + S // 2))
        assert yaw(got) == pytest.approx(np.pi / 2)


def test_one_leading_slash_is_left_out(buffer: tf2_ros.Buffer) -> None:
    buffer.set_transform_static(transform("/base", "/lidar", 0), "test")
    assert buffer.can_transform("map", "lidar", Time())
    buffer.set_transform_static(transform("base", "//radar", 0), "test")
    assert not buffer.can_transform("map", "radar", Time())


def test_a_frame_is_itself_at_any_time_under_any_name(buffer: tf2_ros.Buffer) -> None:
    for name in ("map", "nowhere", "", "/map"):
        got = buffer.lookup_transform(name, name, Time(nanoseconds=99 * S))
        assert (xyz(got), quaternion(got)) == ([0.0] * 3, [0.0, 0.0, 0.0, 1.0])
        assert buffer.can_transform(name, name, Time())


def test_frames_in_a_loop_are_refused(buffer: tf2_ros.Buffer) -> None:
    for parent, child in (("chicken", "egg"), ("egg", "chicken"), ("egg", "yolk")):
        buffer.set_transform_static(transform(parent, child, 0, (1.0, 0.0, 0.0)), "test")
    for target, source in (("map", "egg"), ("egg", "map"), ("camera", "yolk")):
        for at in (Time(), Time(nanoseconds=2 * S)):
            with pytest.raises(tf2_ros.LookupException):
                buffer.lookup_transform(target, source, at)
    assert xyz(buffer.lookup_transform("chicken", "yolk", Time())) == [2.0, 0.0, 0.0]


def test_clear_keeps_static_transforms_and_names(buffer: tf2_ros.Buffer) -> None:
    buffer.clear()
    assert xyz(buffer.lookup_transform("base", "camera", Time(nanoseconds=2 * S))) == [0, 1, 0]
    with pytest.raises(tf2_ros.ExtrapolationException):
        buffer.lookup_transform("map", "base", Time(nanoseconds=2 * S))
    with pytest.raises(tf2_ros.ConnectivityException):
        buffer.lookup_transform("map", "base", Time())
    assert not buffer.can_transform("map", "base", Time(nanoseconds=2 * S))


def test_a_gap_that_is_longer_than_the_cache_is_bridged_once() -> None:
    buffer = tf2_ros.Buffer()
    for second, at in ((1, 1), (101, 51)):
        buffer.set_transform(transform("map", "base", second * S, (float(second), 0, 0)), "test")
        got = buffer.lookup_transform("map", "base", Time(nanoseconds=at * S))
        assert xyz(got)[0] == pytest.approx(at)
    buffer.set_transform(transform("map", "base", 102 * S), "test")
    with pytest.raises(tf2_ros.ExtrapolationException):
        buffer.lookup_transform("map", "base", Time(nanoseconds=51 * S))


def test_before_a_stamp_the_first_word_counts_and_after_it_the_last(
    buffer: tf2_ros.Buffer,
) -> None:
    buffer.set_transform(transform("map", "odom", 2 * S, (8.0, 0.0, 2.0)), "test")
    for at, x in ((1.5, 0.0), (2.0, 8.0), (2.5, 4.0)):
        got = buffer.lookup_transform("map", "odom", Time(nanoseconds=int(at * S)))
        np.testing.assert_allclose(xyz(got), [x, 0.0, at], atol=1e-9)


def test_a_time_before_1970_is_a_time(buffer: tf2_ros.Buffer) -> None:
    before = transform("map", "sea", 0, (5.0, 0.0, 0.0))
    before.header.stamp.sec = -1
    buffer.set_transform(before, "test")
    assert xyz(buffer.lookup_transform("map", "sea", before.header.stamp))[0] == 5.0


def test_the_latest_common_time(buffer: tf2_ros.Buffer) -> None:
    buffer.set_transform(transform("map", "odom", 4 * S), "test")
    assert buffer.get_latest_common_time("camera", "map").nanoseconds == 3 * S
    assert buffer.get_latest_common_time("camera", "base").nanoseconds == 0
    with pytest.raises(tf2_ros.LookupException):
        buffer.get_latest_common_time("camera", "nowhere")


def test_a_frame_can_be_looked_up_between_two_times(buffer: tf2_ros.Buffer) -> None:
    ways = ("base", Time(nanoseconds=3 * S), "base", Time(nanoseconds=S), "odom")
    got = buffer.lookup_transform_full(*ways)
    # 2 m behind, seen from a base that is turned by 0.6.
    np.testing.assert_allclose(xyz(got), [-2 * np.cos(0.6), 2 * np.sin(0.6), 0.0], atol=1e-9)
    assert yaw(got) == pytest.approx(-0.4)
    assert buffer.can_transform_full(*ways)
    assert buffer.wait_for_transform_full_async(*ways).result() == got
    with pytest.raises(tf2_ros.LookupException):
        buffer.lookup_transform_full(*ways[:-1], "nowhere")


def test_lookup_waits_for_a_late_transform_and_no_longer(buffer: tf2_ros.Buffer, node: Any) -> None:
    at = Time(nanoseconds=3 * S + S // 2)

    def later() -> None:
        buffer.set_transform(transform("map", "odom", 4 * S, (0.0, 0.0, 4.0)), "test")

    timer = threading.Timer(0.1, later)
    timer.start()
    got = buffer.lookup_transform("map", "odom", at, timeout=Duration(seconds=5))
    timer.join()
    assert xyz(got)[2] == pytest.approx(3.5)
    began = time.monotonic()
    with pytest.raises(tf2_ros.ExtrapolationException):
        buffer.lookup_transform(
            "map", "odom", Time(nanoseconds=9 * S), timeout=Duration(seconds=0.2)
        )
    assert 0.15 < time.monotonic() - began < 2.0


def test_a_future_is_done_when_the_transform_comes(buffer: tf2_ros.Buffer) -> None:
    at = Time(nanoseconds=3 * S + S // 2)
    assert buffer.wait_for_transform_async("map", "odom", Time(nanoseconds=2 * S)).done()
    future = buffer.wait_for_transform_async("map", "odom", at)
    assert not future.done()
    buffer.set_transform(transform("map", "odom", 4 * S, (0.0, 0.0, 4.0)), "test")
    assert xyz(future.result())[2] == pytest.approx(3.5)


def test_a_future_is_done_also_by_what_is_forgotten() -> None:
    """A loop above two frames is cleared; the next transform, even a refused one, tells."""
    buffer = tf2_ros.Buffer()
    for parent, child in (("a", "b"), ("b", "a")):
        buffer.set_transform(transform(parent, child, 2 * S, (1.0, 0.0, 0.0)), "test")
    buffer.set_transform_static(transform("a", "c", 0, (5.0, 0.0, 0.0)), "test")
    buffer.set_transform_static(transform("a", "d", 0, (6.0, 0.0, 0.0)), "test")
    future = buffer.wait_for_transform_async("c", "d", Time(nanoseconds=2 * S))
    assert not future.done()  # the frames form a loop
    buffer.clear()
    refused = transform("a", "a", 2 * S)
    buffer.set_transform(refused, "test")
    assert xyz(future.result()) == [1.0, 0.0, 0.0]


def test_the_first_static_transform_of_a_frame_stays(node: Any, spin_until: Any) -> None:
    """A second broadcaster can replace it; the same one can't."""
    static, buffer = tf2_ros.StaticTransformBroadcaster(node), tf2_ros.Buffer()
    for child, x in (("camera", 1.0), ("camera", 2.0), ("lidar", 3.0)):
        static.sendTransform(iter([transform("base", child, 0, (x, 0.0, 0.0))]))
    listener = tf2_ros.TransformListener(buffer, node)
    assert spin_until(lambda: buffer.can_transform("base", "lidar", Time()))
    assert xyz(buffer.lookup_transform("base", "camera", Time()))[0] == 1.0
    listener.unregister()


def test_broadcast_transforms_reach_a_listener(node: Any, spin_until: Any) -> None:
    buffer = tf2_ros.Buffer()
    static = tf2_ros.StaticTransformBroadcaster(node)
    static.sendTransform(transform("base", "camera", 0, (0.0, 1.0, 0.0)))
    static.sendTransform([transform("base", "lidar", 0, (0.0, 2.0, 0.0))])
    listener = tf2_ros.TransformListener(
        buffer, node
    )  # after the static ones were sent: they are latched
    moving = tf2_ros.TransformBroadcaster(node)
    target = Time(nanoseconds=S + S // 2)

    def publish() -> None:
        moving.sendTransform(
            [transform("map", "base", S), transform("map", "base", 2 * S, (2.0, 0.0, 0.0))]
        )

    for child, y in (("camera", 1.0), ("lidar", 2.0)):
        assert spin_until(lambda child=child: buffer.can_transform("map", child, target), publish)
        np.testing.assert_allclose(
            xyz(buffer.lookup_transform("map", child, target)), [1.0, y, 0.0], atol=1e-9
        )
    listener.unregister()
