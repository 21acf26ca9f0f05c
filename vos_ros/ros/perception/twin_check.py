"""Notice another node of the same name: every image gets two answers, and readers mix them up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vos_ros.msg import InstanceArray
from vos_ros.ros.common.guard import Guard
from vos_ros.ros.common.subscriptions import qos

_GONE_S = 30.0
"""A node that was killed is still listed for up to 20 s; one that is listed for longer is alive."""
_MIN_FOREIGN = 2
"""Messages more than this node has published, from which on another one publishes them too."""


class TwinCheck:
    """Look for another node of this one's name.

    The graph alone does not tell: a node that was killed stays in it for a while. So while there
    is another one, what arrives on this node's own topic is counted, without decoding it.

    Args:
        node: the node.
        published: number of messages that this node has published on ``~/instances``.
        guard: notes what the callback raises.
    """

    def __init__(self, node: Any, published: Callable[[], int], guard: Guard) -> None:
        self._node, self._published, self._guard = node, published, guard
        self._subscription: Any = None
        self._since_s = 0.0
        self._received = self._before = 0

    def check(self) -> str:
        """Return a sentence where another node has this name, else "". Called by a timer."""
        own = (self._node.get_name(), self._node.get_namespace())
        count = self._node.get_node_names_and_namespaces().count(own)
        if count < 2:
            self.destroy()
            return ""
        if self._subscription is None:
            self._since_s = time.monotonic()
            self._received, self._before = 0, self._published()
            self._subscription = self._node.create_subscription(
                InstanceArray,
                "~/instances",
                self._guard.callback("twin check", self._on_message),
                qos("best_effort", 10),
                raw=True,
            )
        foreign = self._received - (self._published() - self._before)
        if foreign < _MIN_FOREIGN and time.monotonic() - self._since_s < _GONE_S:
            return ""
        return (
            f"{count} nodes are named {self._node.get_fully_qualified_name()}: every image gets"
            f" {count} answers. Stop all but one, or give each a name and namespace of its own"
            " (-r __node:=NAME, -r __ns:=/NAMESPACE)"
        )

    def _on_message(self, _: bytes) -> None:
        self._received += 1

    def destroy(self) -> None:
        """Remove the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
