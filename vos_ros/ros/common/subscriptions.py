"""Subscribe to topics, count what arrives, and explain why nothing does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo

from vos_ros.messages.checks import MessageError
from vos_ros.ros.common.guard import Guard
from vos_ros.ros.common.health import RateMonitor
from vos_ros.ros.common.logging import ConditionLog, Level

OVERRIDABLE = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)
"""Policies that users may set per topic, by ROS 2's own ``qos_overrides`` parameters."""


def qos(reliability: str, depth: int, *, latched: bool = False) -> QoSProfile:
    """Make a QoS profile that keeps the last messages.

    Args:
        reliability: ``reliable`` or ``best_effort``.
        depth: how many messages are kept.
        latched: transient local, so that late subscribers get the last messages.
    """
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE
        if reliability == "reliable"
        else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


@dataclass(eq=False, slots=True, kw_only=True)
class Subscription:
    """Hold one subscription and what is known of it."""

    key: str
    """Name of the input in conditions and diagnostics."""
    handle: Any
    """rclpy's subscription."""
    type_name: str
    """Message type, ``package/msg/Type``."""
    arrivals: RateMonitor
    """Counts the messages."""
    refused: int = 0
    """Messages whose declarations contradict their contents."""
    hint: tuple[str, str] | None = None
    """Another topic that may carry the data, and the setting that selects it."""
    reliability_parameter: str = ""
    """The node's own parameter of its reliability."""

    @property
    def topic(self) -> str:
        """Full name of its topic."""
        return str(self.handle.topic_name)

    def override(self, policy: str = "") -> str:
        """Return how users change its QoS."""
        name = policy.lower() or "<policy>"
        text = f"set qos_overrides.{self.topic}.subscription.{name} of this node"
        if self.reliability_parameter and policy in ("", "RELIABILITY"):
            text += f" (or {self.reliability_parameter})"
        return text


def subscribe(
    node: Any,
    log: ConditionLog,
    guard: Guard,
    key: str,
    kind: Any,
    topic: str,
    callback: Callable[[Any], None],
    profile: QoSProfile,
    *,
    hint: tuple[str, str] | None = None,
    reliability_parameter: str = "",
) -> Subscription:
    """Subscribe to a topic, count its arrivals, and report a QoS mismatch and refused messages.

    Args:
        node: the node that subscribes.
        log: a QoS mismatch and a refused message begin a condition there.
        guard: notes what the callback raises otherwise.
        key: name of the input in conditions and diagnostics.
        kind: message class.
        topic: name of the topic.
        callback: gets each message; it may raise MessageError to refuse one.
        profile: QoS; users may override it.
        hint: another topic that may carry the data, and the setting that selects it.
        reliability_parameter: the node's own parameter of the reliability.
    """
    arrivals = RateMonitor()
    refused_last = False

    def on_message(msg: Any) -> None:
        nonlocal refused_last
        arrivals.arrived()
        try:
            callback(msg)
        except MessageError as e:
            out.refused += 1
            refused_last = True
            text = f"a message on {out.topic} is left out: {e}"
            log.begin(f"{key} content", str(e), text, Level.ERROR)
            return
        if refused_last:
            refused_last = False
            log.end(f"{key} content", "is right again")

    def on_incompatible_qos(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        log.begin(
            key,
            "qos",
            f"a publisher of {out.topic} offers a QoS that can't serve this node (policy {policy}):"
            f" nothing will come from it. Change it, or {out.override(policy)}",
            Level.ERROR,
        )

    handle = node.create_subscription(
        kind,
        topic,
        guard.callback(key, on_message),
        profile,
        event_callbacks=SubscriptionEventCallbacks(
            incompatible_qos=guard.callback(f"{key} QoS", on_incompatible_qos)
        ),
        qos_overriding_options=QoSOverridingOptions(OVERRIDABLE),
    )
    out = Subscription(
        key=key,
        handle=handle,
        type_name=f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}",
        arrivals=arrivals,
        hint=hint,
        reliability_parameter=reliability_parameter,
    )
    return out


def subscribe_latched_info(node: Any, topic: str, callback: Callable[[Any], None]) -> Any | None:
    """Subscribe to a camera_info that is published once, where there is such a publisher.

    Only a transient local subscription gets a message that was published before. Usual publishers
    can't serve one (and would each warn of it), so it is made only where a transient local
    publisher is there; None otherwise.
    """
    if any(
        p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        for p in node.get_publishers_info_by_topic(topic)
    ):
        return node.create_subscription(
            CameraInfo, topic, callback, qos("reliable", 1, latched=True)
        )
    return None


def why_silent(node: Any, one: Subscription) -> tuple[str, str]:
    """Explain why nothing arrives.

    Returns:
        The reason for users, and its kind: ``unpublished``, ``transport``, ``type``, ``qos`` or
        ``silent``.
    """
    publishers = node.get_publishers_info_by_topic(one.topic)
    matching = [p for p in publishers if p.topic_type == one.type_name]
    if not publishers:
        if one.hint is not None and node.get_publishers_info_by_topic(one.hint[0]):
            other, setting = one.hint
            return f"it has no publisher, but {other} is published: set {setting}", "transport"
        return "it has no publisher (remap it to the topic of your robot)", "unpublished"
    if not matching:
        kinds = ", ".join(sorted({p.topic_type for p in publishers}))
        hint = f": set {one.hint[1]}" if one.hint is not None and "Image" in kinds else ""
        return f"it is published as {kinds}, and this node wants {one.type_name}{hint}", "type"
    profile = one.handle.qos_profile
    mismatches = [
        reason
        for p in matching
        for verdict, reason in [qos_check_compatible(p.qos_profile, profile)]
        if verdict == QoSCompatibility.ERROR
    ]
    if len(mismatches) == len(matching):
        reason = mismatches[0].replace("ERROR:", "").strip(" ;")
        return (
            f"the publisher's QoS can't serve this node ({reason}): change it, or {one.override()}",
            "qos",
        )
    return f"its {len(matching)} publisher(s) send nothing", "silent"


def check_silence(
    node: Any, log: ConditionLog, one: Subscription, timeout_s: float, *, start: str, effect: str
) -> None:
    """Begin or end the condition of an input that is silent.

    Args:
        node: the node that subscribes.
        log: keeps the condition.
        one: the input.
        timeout_s: a longer silence is a condition, s.
        start: what the silence of an input counts from that never arrived ("activation").
        effect: sentence that says what the node does meanwhile; may be empty.
    """
    silent_s = one.arrivals.silent_s
    if silent_s <= timeout_s:
        if one.arrivals.count:
            log.end(one.key)
        return
    reason, kind = why_silent(node, one)
    since = (
        f"for {silent_s:.1f} s" if one.arrivals.count else f"yet, {silent_s:.1f} s after {start}"
    )
    level = Level.ERROR if kind in ("qos", "type", "transport") else Level.WARN
    text = f"nothing on {one.topic} {since}: {reason}. {effect}".rstrip()
    log.begin(one.key, kind, text, level)
