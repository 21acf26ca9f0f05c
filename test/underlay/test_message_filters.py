"""The filters pair messages as the real package does.

These tests hold for both, and run on the one that Python finds first: the stand-in, or the real
``message_filters`` (CONTRIBUTING.md says how to have it). ``test_against_upstream.py`` compares
them.
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS: run through tools/env")
import message_filters
from message_filters import ApproximateTimeSynchronizer, SimpleFilter, Subscriber, TimeSynchronizer
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String

S = 1_000_000_000


def image(stamp_ns: int, frame_id: str = "") -> Image:
    msg = Image()
    msg.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
    msg.header.frame_id = frame_id
    return msg


def synchronised(
    kind: type, *args: Any, inputs: int = 3, **kwargs: Any
) -> tuple[list[SimpleFilter], list[tuple[int, ...]]]:
    """Inputs and the list of the stamps that come out."""
    filters, out = [SimpleFilter() for _ in range(inputs)], []
    sync = kind(filters, *args, **kwargs)
    sync.registerCallback(
        lambda *msgs: out.append(tuple(Time.from_msg(m.header.stamp).nanoseconds for m in msgs))
    )
    filters.append(sync)  # keeps it alive
    return filters, out


def test_callbacks_get_their_extra_arguments() -> None:
    f, got = SimpleFilter(), []
    assert f.registerCallback(lambda *a: got.append(a), "extra") != f.registerCallback(
        lambda *a: got.append(a)
    )
    f.signalMessage(1, 2)
    assert got == [(1, 2, "extra"), (1, 2)]


def test_exact_needs_equal_stamps_in_any_order_of_arrival() -> None:
    (a, b, c, *_), out = synchronised(TimeSynchronizer, 10)
    for f, stamp in ((a, 5), (b, 6), (c, 6), (b, 5), (a, 6), (c, 5)):
        f.signalMessage(image(stamp))
    assert out == [(6, 6, 6), (5, 5, 5)]


def test_exact_forgets_the_oldest_of_a_full_queue() -> None:
    (a, b, *_), out = synchronised(TimeSynchronizer, 2, inputs=2)
    for stamp in (1, 2, 3):
        a.signalMessage(image(stamp))
    for stamp in (1, 2, 3):
        b.signalMessage(image(stamp))
    assert out == [(2, 2), (3, 3)]


@pytest.mark.parametrize("kind", [TimeSynchronizer, ApproximateTimeSynchronizer])
def test_a_message_older_than_a_full_queue_of_others_is_forgotten(kind: Any) -> None:
    """A clock that ran ahead and was set right: the queue keeps the newest by their stamps."""
    extra = () if kind is TimeSynchronizer else (0.02,)
    (a, b, *_), out = synchronised(kind, 3, *extra, inputs=2)
    for stamp in (2_500_000_000, 2_600_000_000, 2_700_000_000):
        b.signalMessage(image(stamp))
    for stamp in (1_100_000_000, 1_200_000_000):
        a.signalMessage(image(stamp))
        b.signalMessage(image(stamp))
    assert out == []
    a.signalMessage(image(2_700_000_000))
    assert out == [(2_700_000_000, 2_700_000_000)]


def test_approximate_pairs_within_the_slop_only() -> None:
    (a, b, c, *_), out = synchronised(ApproximateTimeSynchronizer, 10, 0.02)
    a.signalMessage(image(1_000_000_000))
    b.signalMessage(image(1_010_000_000))
    c.signalMessage(image(1_015_000_000))
    assert out == [(1_000_000_000, 1_010_000_000, 1_015_000_000)]
    a.signalMessage(image(2_000_000_000))
    b.signalMessage(image(2_019_000_000))
    c.signalMessage(image(1_990_000_000))  # 29 ms from b
    assert len(out) == 1


def test_approximate_uses_a_message_once() -> None:
    (a, b, *_), out = synchronised(ApproximateTimeSynchronizer, 10, 0.05, inputs=2)
    b.signalMessage(image(1_000_000_000))
    a.signalMessage(image(1_001_000_000))
    a.signalMessage(image(1_002_000_000))
    assert out == [(1_001_000_000, 1_000_000_000)]


def test_the_slop_is_cut_to_whole_nanoseconds() -> None:
    """1/60 s is 16666666.7 ns, and the slop is exclusive."""
    (a, b, *_), out = synchronised(ApproximateTimeSynchronizer, 10, 1 / 60, inputs=2)
    a.signalMessage(image(S))
    b.signalMessage(image(S + 16_666_666))
    assert out == []
    b.signalMessage(image(S + 16_666_665))
    assert len(out) == 1


def test_headerless_messages_are_refused_or_stamped_on_arrival() -> None:
    for allow, expected in ((False, 0), (True, 1)):
        filters, out = [SimpleFilter(), SimpleFilter()], []
        sync = ApproximateTimeSynchronizer(filters, 5, 1.0, allow_headerless=allow)
        sync.registerCallback(lambda *msgs, out=out: out.append(msgs))
        filters[0].signalMessage(String(data="x"))
        filters[1].signalMessage(String(data="y"))
        assert len(out) == expected


def test_exact_refuses_a_message_without_a_header() -> None:
    (a, *_), _ = synchronised(TimeSynchronizer, 5)
    with pytest.raises(AttributeError):
        a.signalMessage(String(data="x"))


def test_a_header_without_a_stamp_is_headerless_and_a_stamp_may_be_a_time_of_rclpy() -> None:
    (a, b, *_), out = [SimpleFilter(), SimpleFilter()], []
    sync = ApproximateTimeSynchronizer([a, b], 5, 0.1)
    sync.registerCallback(lambda *msgs: out.append(msgs))
    a.signalMessage(SimpleNamespace(header=SimpleNamespace(frame_id="camera")))
    a.signalMessage(SimpleNamespace(header=SimpleNamespace(stamp=Time(nanoseconds=5))))
    b.signalMessage(image(6))
    assert len(out) == 1


@pytest.mark.parametrize("kind", [TimeSynchronizer, ApproximateTimeSynchronizer])
def test_one_set_is_handed_on_at_a_time(kind: Any) -> None:
    """Messages may come on several threads, and callbacks rely on their order."""
    filters = [SimpleFilter(), SimpleFilter()]
    sync = kind(filters, 5, *(() if kind is TimeSynchronizer else (0.001,)))
    inside, most = [], []

    def callback(*_: Any) -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()

    sync.registerCallback(callback)
    for stamp in (S, 2 * S):
        filters[0].signalMessage(image(stamp))
    threads = [
        threading.Thread(target=filters[1].signalMessage, args=(image(stamp),))
        for stamp in (S, 2 * S)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1]


def test_inputs_connected_anew_replace_those_before() -> None:
    (a, b, sync), out = synchronised(TimeSynchronizer, 5, inputs=2)
    new = [SimpleFilter(), SimpleFilter()]
    sync.connectInput(new)
    for f in (a, b, new[0]):
        f.signalMessage(image(S))
    assert out == []
    new[1].signalMessage(image(S))
    assert out == [(S, S)]


@pytest.mark.skipif(
    "underlay" not in str(message_filters.__file__), reason="the real package waits for ever"
)
def test_what_the_real_package_answers_by_waiting_for_ever_is_an_error() -> None:
    (a, b, sync), _ = synchronised(TimeSynchronizer, 5, inputs=2)
    sync.registerCallback(lambda *_: a.signalMessage(image(2 * S)))
    a.signalMessage(image(S))
    with pytest.raises(RuntimeError, match="hand messages on after it"):
        b.signalMessage(image(S))

    (a, b, sync), out = synchronised(ApproximateTimeSynchronizer, 5, 0.1, inputs=2)
    sync.registerCallback(lambda *_: out[5])
    a.signalMessage(image(S))
    with pytest.raises(IndexError):
        b.signalMessage(image(S))
    with pytest.raises(RuntimeError, match="Catch errors inside of the callback"):
        a.signalMessage(image(2 * S))


def test_subscribers_of_a_node_feed_a_synchroniser(node: Any, spin_until: Any) -> None:
    out = []
    subscribers = [
        Subscriber(node, Image, "image", qos_profile=qos_profile_sensor_data),
        Subscriber(node, CameraInfo, "camera_info", qos_profile=qos_profile_sensor_data),
    ]
    sync = ApproximateTimeSynchronizer(subscribers, 5, 0.1)
    sync.registerCallback(lambda *msgs: out.append(msgs))
    publishers = [
        node.create_publisher(Image, "image", 5),
        node.create_publisher(CameraInfo, "camera_info", 5),
    ]
    info = CameraInfo()
    info.header.stamp = Time(nanoseconds=1_000).to_msg()

    def publish() -> None:
        publishers[0].publish(image(1_000))
        publishers[1].publish(info)

    assert spin_until(lambda: len(out) > 0, publish)
    assert isinstance(out[0][0], Image) and isinstance(out[0][1], CameraInfo)
    assert subscribers[0].getTopic() == "image"
    assert subscribers[0].sub.topic_name == "/image"
