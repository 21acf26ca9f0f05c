"""Figures of traffic and of times."""

from __future__ import annotations

import math

import pytest

from vos_ros.ros.common.health import RateMonitor, RollingPercentiles


def test_rate_age_and_silence():
    now = [50.0]
    traffic = RateMonitor(lambda: now[0])
    assert traffic.age_s is None and traffic.rate_hz == 0.0
    now[0] = 53.0
    assert traffic.silent_s == 3.0
    for _ in range(11):
        traffic.arrived()
        now[0] += 0.1
    assert traffic.count == 11
    assert traffic.rate_hz == pytest.approx(10.0)
    assert traffic.age_s == pytest.approx(0.1)
    now[0] += 60
    assert traffic.rate_hz == 0.0
    traffic.expect()
    now[0] += 1
    assert traffic.silent_s == pytest.approx(1.0), "silence before it was expected doesn't count"


def test_percentiles_of_the_last_values():
    figure = RollingPercentiles(window=100)
    assert math.isnan(figure.percentile(50))
    for i in range(1000):
        figure.add(float(i))
    assert figure.percentile(50) == pytest.approx(949.5)
    assert figure.percentile(100) == 999.0
