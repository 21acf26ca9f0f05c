"""Map messages that wait: a snapshot replaces what it makes needless."""

from __future__ import annotations

from types import SimpleNamespace

from vos_ros.ros.perception.map_queue import MapQueue


def message(revision: int, full: bool = False) -> SimpleNamespace:
    return SimpleNamespace(revision=revision, full=full)


def drained(queue: MapQueue) -> list[int]:
    out = []
    while True:
        msg, following = queue.get()
        if msg is None:
            return out
        out.append(msg.revision)
        assert (following is not None) == bool(len(queue))


def test_changes_wait_in_order_and_one_job_fetches_them() -> None:
    queue = MapQueue(10)
    assert [queue.put(message(i)) for i in range(3)] == [True, False, False]
    assert drained(queue) == [0, 1, 2] and queue.replaced == 0
    assert queue.put(message(3)), "none waited: a job is needed again"


def test_a_snapshot_replaces_all_that_wait() -> None:
    queue = MapQueue(10)
    for i in range(3):
        queue.put(message(i))
    assert not queue.put(message(3, full=True)), "the job of those before fetches it"
    queue.put(message(4))
    assert drained(queue) == [3, 4] and queue.replaced == 3


def test_of_too_many_changes_the_oldest_go() -> None:
    queue = MapQueue(3)
    for i in range(6):
        queue.put(message(i))
    assert len(queue) == 3 and queue.replaced == 3 and drained(queue) == [3, 4, 5]


def test_an_empty_queue_gives_none() -> None:
    assert MapQueue(3).get() == (None, None)
