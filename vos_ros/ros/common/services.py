"""Answer a service with what a worker's thread computes."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.task import Future

R = TypeVar("R")


def as_rclpy_future(
    node: Any, job: concurrent.futures.Future[R], refused: Callable[[str], R]
) -> Future:
    """Return a worker's job as a future that a service callback can await.

    Args:
        node: the node of the service; its executor is woken when the job is done.
        job: future of the job, as ``Worker.call`` returns it.
        refused: makes the answer from the reason why there is no result.
    """
    answer = Future()

    def deliver(done: concurrent.futures.Future[R]) -> None:
        if done.cancelled():
            answer.set_result(refused("the node is being cleaned up"))
        elif (error := done.exception()) is not None:
            answer.set_result(refused(f"{type(error).__name__}: {error}"))
        else:
            answer.set_result(done.result())
        if node.executor is not None:
            node.executor.wake()

    job.add_done_callback(deliver)
    return answer
