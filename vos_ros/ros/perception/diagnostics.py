"""Report the state of the perception node on /diagnostics."""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticStatus

from vos_ros.ros.common.diagnostics import input_values, status
from vos_ros.ros.common.guard import RAISED
from vos_ros.ros.common.logging import Condition, Level
from vos_ros.ros.perception.stream import Stream

_OWN = ("parameters", "worker", "name", "memory")
"""Keys of the conditions of the node itself."""
WARNING_S = 10.0
"""A frame's warning is shown for this long, s."""


def stream_input_values(stream: Stream) -> dict[str, object]:
    """Return the values of every input, and counts of what could not be used together."""
    return input_values(stream.inputs.subscriptions) | {
        "unsynchronised_images": stream.inputs.unsynchronised,
        "pose_source": stream.config.node.pose_source,
        "pose_failures": stream.pose_failures,
        "time_jumps": stream.time_jumps,
        "without_depth": stream.inputs.without_depth,
    }


def frame_values(stream: Stream) -> dict[str, object]:
    """Return counters, rate and times of frames.

    ``overhead_ms`` is the latency without the segmentation, ``node_ms`` the latency without the
    pipeline, ``learning_ms`` the time of a frame after its results were published.
    """
    counts = stream.worker.counts
    values: dict[str, object] = {
        "frames_received": counts.offered,
        "frames_processed": stream.published.count,
        "frames_superseded": counts.superseded,
        "frames_failed": counts.failed,
        "frames_rejected": stream.rejected,
        "frames_late": stream.order.late,
        "fps": stream.published.rate_hz,
        "method": stream.config.segmentation.method,
        "device": stream.config.segmentation.device,
        "session_id": stream.pipeline.session_id,
        "clicks_followed": stream.clicks.started,
        "clicks_refused": stream.clicks.refused,
        "last_click": stream.clicks.last,
    }
    for name, figure in stream.times.items():
        values |= {f"{name}_p50": figure.percentile(50), f"{name}_p95": figure.percentile(95)}
    return values


def map_values(stream: Stream) -> dict[str, object]:
    """Return the state of the map that is used."""
    object_map = stream.pipeline.map
    return {
        "map_session_id": object_map.session_id,
        "map_revision": object_map.revision,
        "map_objects": len(object_map),
        "map_frame": stream.config.node.map_frame,
        "self_check": stream.self_check.verdict.name,
        "snapshot_needed": object_map.needs_snapshot,
        "updates_applied": stream.map_applied,
        "updates_refused": stream.map_refused,
        "updates_waiting": len(stream.maps),
        "updates_replaced": stream.maps.replaced,
    }


def report(
    node_name: str,
    state: str,
    stream: Stream | None,
    conditions: dict[str, Condition],
    own_values: dict[str, object],
) -> list[DiagnosticStatus]:
    """Build all statuses of the node.

    Args:
        node_name: name of the node.
        state: state of its lifecycle.
        stream: None while the node is not configured.
        conditions: what is wrong at present.
        own_values: values of the node's own status: errors, unknown parameters.
    """
    own = {k: c for k, c in conditions.items() if k in _OWN or c.kind == RAISED}
    maps = {k: c for k, c in conditions.items() if k.startswith(("map", "self-check"))}
    inputs = {k: c for k, c in conditions.items() if k not in own and k not in maps}
    statuses = [status(f"{node_name}: node", {"state": state, **own_values}, own, state)]
    if stream is None:
        return statuses
    now = time.monotonic()
    recent = {
        f"warning {i}": Condition(text, Level.WARN, text, at)
        for i, (at, text) in enumerate(list(stream.warnings))
        if now - at < WARNING_S
    }
    return [
        *statuses,
        status(f"{node_name}: inputs", stream_input_values(stream), inputs, "all inputs arrive"),
        status(f"{node_name}: frames", frame_values(stream), recent, "frames are processed"),
        status(f"{node_name}: map", map_values(stream), maps, "the map is used"),
    ]
