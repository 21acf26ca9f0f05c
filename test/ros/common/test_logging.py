"""Conditions are reported once per change, events not too often."""

from __future__ import annotations

import pytest

from vos_ros.ros.common.logging import ConditionLog, EventLog, Level


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reports():
    return []


def test_a_condition_is_reported_when_it_begins_when_it_changes_and_when_it_ends(clock, reports):
    log = ConditionLog(lambda level, text: reports.append((level, text)), clock)
    log.begin("depth", "silent", "nothing for 2 s")
    clock.now += 3
    log.begin("depth", "silent", "nothing for 5 s")
    assert reports == [(Level.WARN, "depth: nothing for 2 s")]
    assert log.active()["depth"].text == "nothing for 5 s"
    assert log.active()["depth"].since == 100.0
    log.begin("depth", "unpublished", "the publisher has gone", Level.ERROR)
    assert reports[1] == (Level.ERROR, "depth: the publisher has gone")
    clock.now += 4
    log.end("depth")
    assert reports[2] == (Level.OK, "depth is back (after 4.0 s: the publisher has gone)")
    log.end("depth")
    assert len(reports) == 3 and log.active() == {}


def test_an_event_is_reported_once_then_with_how_often_it_was_held_back(clock, reports):
    log = EventLog(lambda level, text: reports.append(text), quiet_s=10.0, clock=clock)
    for i in range(5):
        log.report(f"frame {i} is late by 0.{i} s")
        clock.now += 1
    assert reports == ["frame 0 is late by 0.0 s"]
    log.report("something else")
    assert reports[-1] == "something else"
    clock.now += 10
    log.report("frame 9 is late by 0.9 s")
    assert reports[-1] == "frame 9 is late by 0.9 s (4 more like this since the last report)"


def test_kinds_that_differ_in_numbers_only_are_the_same(clock, reports):
    log = ConditionLog(lambda level, text: reports.append(text), clock)
    for i in range(50):
        log.begin("image content", f"a message of {i} bytes", f"a message of {i} bytes")
    assert reports == ["image content: a message of 0 bytes"]
    assert log.active()["image content"].text == "a message of 49 bytes"


def test_a_condition_that_comes_and_goes_with_every_message_does_not_fill_the_log(clock, reports):
    log = ConditionLog(lambda level, text: reports.append(text), clock)
    for _ in range(1000):
        log.begin("image content", "bad", "it is bad")
        log.end("image content")
        clock.now += 0.005
    assert 2 <= len(reports) <= 12
    log.begin("image content", "bad", "it is bad")
    before = len(reports)
    clock.now += 20
    log.begin("image content", "bad", "it is still bad")
    assert reports[before:] == ["image content: it is still bad"], "it stayed, so it is reported"
    log.end("image content")
    assert len(reports) == before + 2


def test_events_of_ever_new_kinds_are_not_all_remembered(clock, reports):
    log = EventLog(lambda level, text: reports.append(text), clock=clock)
    log.report("first")
    for i in range(2000):
        log.report("x" * i)
    log.report("first")
    assert reports.count("first") == 2, "it was forgotten, so it is reported again"
