"""Whatever a callback raises is noted, and the caller of a service is told."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from std_srvs.srv import Trigger

from vos_ros.ros.common.guard import SHOWN_S, Guard
from vos_ros.ros.common.logging import EventLog, Level


class Made:
    """A guard with a clock, and what it has logged."""

    def __init__(self) -> None:
        self.now, self.log = 100.0, []
        self.guard = Guard(
            EventLog(lambda level, text: self.log.append((level, text))), lambda: self.now
        )


@pytest.fixture
def made() -> Made:
    return Made()


def fails(*args: Any) -> Any:
    raise KeyError("no\nsuch key")


async def fails_later(*args: Any) -> Any:
    return fails()


def test_an_error_is_a_log_line_a_counter_and_a_condition(made: Made) -> None:
    callback = made.guard.callback("depth", fails)
    assert callback("a message") is None and callback("another") is None
    assert made.guard.counts == {"depth": 2} and len(made.log) == 1
    level, text = made.log[0]
    assert level == Level.ERROR and "depth failed: KeyError" in text and "test_guard.py" in text
    (condition,) = made.guard.recent().values()
    assert condition.level == Level.ERROR and condition.text == text and condition.since == 100.0


def test_an_error_is_shown_for_a_while_and_counted_for_ever(made: Made) -> None:
    made.guard.note("depth", ValueError("x"))
    made.now += SHOWN_S - 1
    assert set(made.guard.recent()) == {"depth"}
    made.now += 2
    assert made.guard.recent() == {} and made.guard.counts["depth"] == 1


def test_a_callback_that_works_gives_its_value(made: Made) -> None:
    assert made.guard.callback("it", lambda a, b: a + b)(1, b=2) == 3
    assert made.guard.counts == {}


def test_many_callbacks_that_fail_are_not_all_shown(made: Made) -> None:
    for i in range(500):
        made.guard.note(f"callback {i}", ValueError("x"))
    assert 10 <= len(made.guard.recent()) <= 50 and "callback 499" in made.guard.recent()


@pytest.mark.parametrize("callback", [fails, fails_later])
def test_the_caller_of_a_service_that_failed_is_told(made: Made, callback: Any) -> None:
    answer = made.guard.service("~/reset", callback)(Trigger.Request(), Trigger.Response())
    answer = asyncio.run(answer) if callback is fails_later else answer
    assert not answer.success and "KeyError" in answer.message and "\n" not in answer.message
    assert made.guard.counts == {"~/reset": 1}


def test_the_answer_of_a_service_is_one_line(made: Made) -> None:
    def quotes(request: Any, response: Any) -> Any:
        response.success, response.message = True, "you said\n" + "x" * 10**6
        return response

    answer = made.guard.service("~/add", quotes)(Trigger.Request(), Trigger.Response())
    assert answer.success and answer.message.startswith("you said\\nxxx")
    assert len(answer.message) < 2000


def test_services_of_rclpy_answer_in_their_own_types(made: Made) -> None:
    services = [
        SimpleNamespace(srv_name=name, callback=fails)
        for name in ("change_state", "set_parameters", "set_parameters_atomically")
    ]
    made.guard.services(services)
    two = [Parameter(name="a"), Parameter(name="b")]
    state, each, together = (
        s.callback(kind.Request(**fields), kind.Response())
        for s, kind, fields in zip(
            services,
            (ChangeState, SetParameters, SetParametersAtomically),
            ({}, {"parameters": two}, {"parameters": two}),
            strict=True,
        )
    )
    assert not state.success
    assert [r.successful for r in each.results] == [False, False]
    assert not together.result.successful and "KeyError" in together.result.reason
    assert sum(made.guard.counts.values()) == 3
