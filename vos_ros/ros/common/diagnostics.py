"""What the node says of itself on /diagnostics."""

from __future__ import annotations

import math
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

from vos_ros.ros.common.logging import Condition, ConditionLog, Level
from vos_ros.ros.perception.stream import Stream

WARNING_S = 10.0
"""A frame's warning is shown for this long."""


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.3f}"
    return str(value)


def status(
    name: str, values: dict[str, object], problems: dict[str, Condition], fine: str
) -> DiagnosticStatus:
    """One status: the worst level of its problems, their texts as its message, and values."""
    level = max((c.level for c in problems.values()), default=Level.OK)
    now = time.monotonic()
    values = {
        **values,
        **{
            f"problem.{key}": f"{c.text} (for {now - c.since:.1f} s)" for key, c in problems.items()
        },
    }
    return DiagnosticStatus(
        level=bytes([level]),
        name=name,
        message="; ".join(f"{key}: {c.text}" for key, c in problems.items()) or fine,
        values=[KeyValue(key=k, value=_text(v)) for k, v in values.items()],
    )


def input_values(stream: Stream) -> dict[str, object]:
    """Per input: topic, count, rate, age; and what found no partner."""
    out: dict[str, object] = {}
    for key, one in stream.inputs.inputs.items():
        age = one.traffic.age_s
        out |= {
            f"{key}.topic": one.topic,
            f"{key}.count": one.traffic.count,
            f"{key}.rate_hz": one.traffic.rate_hz,
            f"{key}.last_seen_s": "never" if age is None else age,
        }
    return out | {
        "unsynchronised_images": stream.inputs.unsynchronised,
        "pose_source": stream.config.node.pose_source,
        "pose_failures": stream.pose_failures,
        "time_jumps": stream.time_jumps,
        "without_depth": stream.inputs.without_depth,
    }


def frame_values(stream: Stream) -> dict[str, object]:
    """Counters, rates and times of frames. ``overhead_ms``: latency less segmentation. ``node_ms``: latency less the pipeline.
    ``learning_ms``: what a frame takes after its results have left."""
    counts = stream.worker.counts
    out: dict[str, object] = {
        "frames_received": counts.offered,
        "frames_processed": stream.published.count,
        "frames_superseded": counts.superseded,
        "frames_failed": counts.failed,
        "frames_rejected": stream.rejected,
        "frames_late": stream.late,
        "fps": stream.published.rate_hz,
        "method": stream.config.segmentation.method,
        "device": stream.config.segmentation.device,
        "session_id": stream.pipeline.session_id,
    }
    for name, figure in stream.times.items():
        out |= {f"{name}_p50": figure.percentile(50), f"{name}_p95": figure.percentile(95)}
    return out


def map_values(stream: Stream) -> dict[str, object]:
    """The map that is used."""
    held = stream.pipeline.object_map
    return {
        "map_session_id": held.session_id,
        "map_revision": held.revision,
        "map_objects": len(held),
        "map_frame": stream.config.node.map_frame,
        "snapshot_needed": held.needs_snapshot,
        "updates_applied": stream.map_applied,
        "updates_refused": stream.map_refused,
    }


def report(
    node_name: str,
    state: str,
    stream: Stream | None,
    log: ConditionLog,
    remarks: list[str],
    head: Header,
) -> DiagnosticArray:
    """All of it. ``remarks`` are wrong parameters; ``state`` is that of the lifecycle."""
    conditions = log.now()
    own = {k: c for k, c in conditions.items() if k == "parameters"}
    maps = {k: c for k, c in conditions.items() if k.startswith("map")}
    inputs = {k: c for k, c in conditions.items() if k not in own and k not in maps}
    statuses = [
        status(
            f"{node_name}: node",
            {"state": state, **{f"unknown_parameter.{i}": r for i, r in enumerate(remarks)}},
            own,
            state,
        )
    ]
    if stream is not None:
        now = time.monotonic()
        recent = {
            f"warning {i}": Condition(text, Level.WARN, text, at)
            for i, (at, text) in enumerate(list(stream.warnings))
            if now - at < WARNING_S
        }
        statuses += [
            status(f"{node_name}: inputs", input_values(stream), inputs, "all inputs come"),
            status(f"{node_name}: frames", frame_values(stream), recent, "frames are processed"),
            status(f"{node_name}: map", map_values(stream), maps, "the map is used"),
        ]
    return DiagnosticArray(header=head, status=statuses)
