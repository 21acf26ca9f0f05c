"""Build the statuses of /diagnostics from values and conditions."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from vos_ros.ros.common.logging import Condition, Level
from vos_ros.ros.common.subscriptions import Subscription
from vos_ros.ros.common.text import plain


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3f}"
    return plain(str(value))


def status(
    name: str, values: Mapping[str, object], problems: Mapping[str, Condition], fine: str
) -> DiagnosticStatus:
    """Build one status, with the worst level of its problems.

    Args:
        name: name of the status, ``node: part``.
        values: its values; NaN is written as an empty text.
        problems: conditions by key; their texts make its message.
        fine: its message while there is no problem.
    """
    level = max((c.level for c in problems.values()), default=Level.OK)
    now = time.monotonic()
    durations = {
        f"problem.{key}": f"{c.text} (for {now - c.since:.1f} s)" for key, c in problems.items()
    }
    return DiagnosticStatus(
        level=bytes([level]),
        name=name,
        message="; ".join(f"{key}: {plain(c.text)}" for key, c in problems.items()) or fine,
        values=[KeyValue(key=k, value=_text(v)) for k, v in {**values, **durations}.items()],
    )


def input_values(subscriptions: Mapping[str, Subscription]) -> dict[str, object]:
    """Return of every input its topic, count, rate (Hz), age of the last message (s), and how many
    messages were refused.
    """
    values: dict[str, object] = {}
    for key, one in subscriptions.items():
        age_s = one.arrivals.age_s
        values |= {
            f"{key}.topic": one.topic,
            f"{key}.count": one.arrivals.count,
            f"{key}.rate_hz": one.arrivals.rate_hz,
            f"{key}.last_seen_s": "never" if age_s is None else age_s,
            f"{key}.refused": one.refused,
        }
    return values
