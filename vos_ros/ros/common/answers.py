"""What a worker's thread answers to a service."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any, TypeVar

from rclpy.task import Future

R = TypeVar("R")


def awaitable(node: Any, job: concurrent.futures.Future[R], refused: Callable[[str], R]) -> Future:
    """A job's result for a service of a node that awaits it. ``refused`` makes the answer of why there is none."""
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
