"""Subscriptions that know what they are waiting for: how much came, and why nothing comes."""

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

from vos_ros.ros.common.health import RateMonitor
from vos_ros.ros.common.logging import ConditionLog, Level

OVERRIDABLE = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)
"""Policies that the user may set per topic, by ROS 2's own ``qos_overrides`` parameters."""


def qos(reliability: str, depth: int, *, latched: bool = False) -> QoSProfile:
    """A QoS profile: keep the last ``depth``, reliable or best_effort, transient local where ``latched``."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE
        if reliability == "reliable"
        else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


@dataclass(eq=False, slots=True)
class Subscription:
    """One subscription and what is known of it. ``hint`` (topic, what to set) is where else the data might be; ``reliability_parameter`` is
    the node's own parameter of its reliability."""

    key: str
    handle: Any
    type_name: str
    traffic: RateMonitor
    hint: tuple[str, str] | None = None
    reliability_parameter: str = ""

    @property
    def topic(self) -> str:
        """Full name of its topic."""
        return str(self.handle.topic_name)

    def override(self, policy: str = "") -> str:
        """How to change its QoS."""
        which = policy.lower() or "<policy>"
        return f"set qos_overrides.{self.topic}.subscription.{which} of this node" + (
            f" (or {self.reliability_parameter})"
            if self.reliability_parameter and policy in ("", "RELIABILITY")
            else ""
        )


def subscribe(
    node: Any,
    log: ConditionLog,
    key: str,
    kind: Any,
    topic: str,
    callback: Callable[[Any], None],
    profile: QoSProfile,
    *,
    hint: tuple[str, str] | None = None,
    reliability_parameter: str = "",
) -> Subscription:
    """A subscription whose arrivals are counted, and whose QoS mismatch becomes a condition under ``key``."""
    traffic = RateMonitor()

    def arrived(msg: Any) -> None:
        traffic.arrived()
        callback(msg)

    def incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        log.begin(
            key,
            "qos",
            f"a publisher of {out.topic} offers a QoS that can't serve this node (policy {policy}): nothing will"
            f" come from it. Change it, or {out.override(policy)}",
            Level.ERROR,
        )

    handle = node.create_subscription(
        kind,
        topic,
        arrived,
        profile,
        event_callbacks=SubscriptionEventCallbacks(incompatible_qos=incompatible),
        qos_overriding_options=QoSOverridingOptions(OVERRIDABLE),
    )
    out = Subscription(
        key,
        handle,
        f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}",
        traffic,
        hint,
        reliability_parameter,
    )
    return out


def subscribe_latched_info(node: Any, topic: str, callback: Callable[[Any], None]) -> Any | None:
    """A camera_info that was published once is only sent to a transient local subscription. That one would be served by no usual
    publisher (and make each of them warn), so it is made only where there is somebody to serve it: None where there is not."""
    if any(
        p.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        for p in node.get_publishers_info_by_topic(topic)
    ):
        return node.create_subscription(
            CameraInfo, topic, callback, qos("reliable", 1, latched=True)
        )
    return None


def why_silent(node: Any, one: Subscription) -> tuple[str, str]:
    """Why nothing comes, for people, and its kind: nobody, transport, type, qos or silent."""
    publishers = node.get_publishers_info_by_topic(one.topic)
    ours = [p for p in publishers if p.topic_type == one.type_name]
    if not publishers:
        if one.hint is not None and node.get_publishers_info_by_topic(one.hint[0]):
            return (
                f"nobody publishes it, but {one.hint[0]} is published: set {one.hint[1]}",
                "transport",
            )
        return "nobody publishes it (remap it to the topic of your robot)", "nobody"
    if not ours:
        kinds = ", ".join(sorted({p.topic_type for p in publishers}))
        hint = f": set {one.hint[1]}" if one.hint is not None and "Image" in kinds else ""
        return f"it is published as {kinds}, and this node wants {one.type_name}{hint}", "type"
    profile = one.handle.qos_profile
    bad = [
        r
        for p in ours
        for c, r in [qos_check_compatible(p.qos_profile, profile)]
        if c == QoSCompatibility.ERROR
    ]
    if len(bad) == len(ours):
        why = bad[0].replace("ERROR:", "").strip(" ;")
        return (
            f"the publisher's QoS can't serve this node ({why}): change it, or {one.override()}",
            "qos",
        )
    return f"{len(ours)} publisher(s) are there and send nothing", "silent"
