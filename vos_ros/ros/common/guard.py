"""Keep a node running whatever its callbacks raise: log, count and report it.

An exception that leaves a callback ends rclpy's executor, and with it the node. Each callback of
ours is wrapped by ``Guard``; those of rclpy and TF are caught where the executor spins
(``process.run``).
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from rcl_interfaces.msg import SetParametersResult

from vos_ros.ros.common.logging import Condition, EventLog, Level, describe_error
from vos_ros.ros.common.text import plain

RAISED = "raised"
"""Kind of the conditions of errors."""
SHOWN_S = 10.0
"""An error is shown on /diagnostics for this long after it last happened, s."""
_MAX_SHOWN = 20
"""Callbacks whose errors are shown at once."""


class Guard:
    """Note what callbacks raise. ``counts`` has the number of errors by the callback's name.

    Safe to use from several threads.

    Args:
        events: gets each error.
        clock: s.
    """

    def __init__(self, events: EventLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._events, self._clock = events, clock
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._last: dict[str, tuple[float, str]] = {}

    def note(self, name: str, error: BaseException) -> None:
        """Report that a callback has raised."""
        text = f"{name} failed: {describe_error(error)}; the node goes on"
        with self._lock:
            self.counts[name] += 1
            self._last.pop(name, None)
            self._last[name] = (self._clock(), text)
            while len(self._last) > _MAX_SHOWN:
                self._last.pop(next(iter(self._last)))
        self._events.report(text, Level.ERROR)

    def recent(self) -> dict[str, Condition]:
        """Return the errors of the last ``SHOWN_S`` as conditions, by the callback's name."""
        now = self._clock()
        with self._lock:
            last = dict(self._last)
        return {
            name: Condition(RAISED, Level.ERROR, text, at)
            for name, (at, text) in last.items()
            if now - at < SHOWN_S
        }

    def callback(self, name: str, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a callback; what it raises is noted, and None returned."""

        @functools.wraps(callback)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                return callback(*args, **kwargs)
            except Exception as e:
                self.note(name, e)
                return None

        return guarded

    def service(self, name: str, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a service's callback, plain or async; after an error the caller is told."""

        def failed(request: Any, response: Any, error: Exception) -> Any:
            self.note(name, error)
            return _refusal(request, response, f"{type(error).__name__}: {error}")

        if inspect.iscoroutinefunction(callback):

            @functools.wraps(callback)
            async def awaited(request: Any, response: Any) -> Any:
                try:
                    return _plain_answer(await callback(request, response))
                except Exception as e:
                    return failed(request, response, e)

            return awaited

        @functools.wraps(callback)
        def guarded(request: Any, response: Any) -> Any:
            try:
                return _plain_answer(callback(request, response))
            except Exception as e:
                return failed(request, response, e)

        return guarded

    def services(self, services: Iterable[Any]) -> None:
        """Wrap the callbacks of services that rclpy has made (lifecycle, parameters)."""
        for service in services:
            service.callback = self.service(f"service {service.srv_name}", service.callback)


def _plain_answer(response: Any) -> Any:
    """Make the message of an answer one line of bounded length: it may quote the request."""
    if isinstance(getattr(response, "message", None), str):
        response.message = plain(response.message)
    return response


def _refusal(request: Any, response: Any, reason: str) -> Any:
    """Fill the answer of a service that failed, as far as its type has a place for a refusal."""
    response = type(response)()
    result = SetParametersResult(successful=False, reason=plain(reason))
    if hasattr(response, "results") and hasattr(request, "parameters"):
        response.results = [result] * len(request.parameters)
    elif isinstance(getattr(response, "result", None), SetParametersResult):
        response.result = result
    if hasattr(response, "success"):
        response.success = False
    if hasattr(response, "message"):
        response.message = plain(reason)
    return response
