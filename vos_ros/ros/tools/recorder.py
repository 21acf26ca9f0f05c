"""Record the node's outputs into an MCAP file.

The recorder is a process of its own that ends with SIGINT or SIGTERM.

    python -m vos_ros.ros.tools.recorder out.mcap

Messages are written as they were sent, without decoding. The file appears under its name when it is
complete.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import Image

from vos_ros.msg import AssociationArray, InstanceArray
from vos_ros.ros.common import process
from vos_ros.ros.common.subscriptions import qos
from vos_ros.sinks.mcap import McapFile

OUTPUTS: dict[str, tuple[Any, str]] = {
    "labels": (Image, "sensor_msgs/msg/Image"),
    "instances": (InstanceArray, "vos_ros/msg/InstanceArray"),
    "associations": (AssociationArray, "vos_ros/msg/AssociationArray"),
    "overlay": (Image, "sensor_msgs/msg/Image"),
    "diagnostics": (DiagnosticArray, "diagnostic_msgs/msg/DiagnosticArray"),
}
"""Message class and type of each topic below the node's name; diagnostics are on /diagnostics."""
_QUEUE = 200
"""Messages per topic that the middleware keeps while a message is written."""
_DRAIN_S = 1.0
"""Longest time at the end for messages that have arrived already, s."""


class Recorder:
    """Subscribe to outputs and write them into a file; ``counts`` has the messages per topic.

    Log times are this machine's wall clock.

    Args:
        node: the node that subscribes.
        file: gets the messages.
        source: name of the node whose outputs are recorded.
        outputs: keys of ``OUTPUTS``.
    """

    def __init__(
        self,
        node: Node,
        file: McapFile,
        *,
        source: str = "/vos_ros",
        outputs: Sequence[str] = tuple(OUTPUTS),
    ) -> None:
        self._node, self._file = node, file
        self.counts: Counter[str] = Counter()
        self.topics: list[str] = []
        profile = qos("reliable", _QUEUE)
        for name in outputs:
            kind, type_name = OUTPUTS[name]
            topic = "/diagnostics" if name == "diagnostics" else f"{source.rstrip('/')}/{name}"
            node.create_subscription(kind, topic, self._writer(topic, type_name), profile, raw=True)
            self.topics.append(topic)

    def _writer(self, topic: str, type_name: str) -> Any:
        def write(cdr: bytes) -> None:
            self._file.write_cdr(topic, type_name, cdr, time.time_ns())
            self.counts[topic] += 1

        return write

    def unpublished(self) -> list[str]:
        """Return the topics that have no publisher yet."""
        return [t for t in self.topics if not self._node.count_publishers(t)]


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    p = argparse.ArgumentParser(
        prog="python -m vos_ros.ros.tools.recorder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("bag", type=Path, help="the file to write, NAME.mcap; an older one is replaced")
    p.add_argument(
        "--node",
        default="/vos_ros",
        metavar="NAME",
        help="the node whose outputs are recorded (default: /vos_ros)",
    )
    p.add_argument(
        "--outputs",
        nargs="+",
        choices=tuple(OUTPUTS),
        default=list(OUTPUTS),
        metavar="NAME",
        help=f"which of them (default: {' '.join(OUTPUTS)})",
    )
    p.add_argument(
        "--ready-file", type=Path, metavar="FILE", help="is made when every topic has a publisher"
    )
    p.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the number of messages per topic to this file",
    )
    return p


def main(args: Sequence[str] | None = None) -> int:
    """Run the recorder. Returns 0: recorded until a signal, 1: failed (reason on stderr)."""
    words = list(sys.argv[1:] if args is None else args)
    options = parser().parse_args(remove_ros_args(["recorder", *words])[1:])
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stop.set())
    rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("vos_ros_recorder")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        with McapFile(options.bag) as file:
            recorder = Recorder(node, file, source=options.node, outputs=options.outputs)
            waiting = options.ready_file is not None
            while not stop.is_set():
                executor.spin_once(timeout_sec=0.1)
                if waiting and not recorder.unpublished():
                    options.ready_file.touch()
                    waiting = False
            # What has arrived already is still written.
            end, before = time.monotonic() + _DRAIN_S, -1
            while time.monotonic() < end and sum(recorder.counts.values()) > before:
                before = sum(recorder.counts.values())
                executor.spin_once(timeout_sec=0.05)
    except (ValueError, OSError) as e:
        print(f"recorder: {e}", file=sys.stderr)
        return 1
    finally:
        executor.shutdown(timeout_sec=0.0)
        node.destroy_node()
        rclpy.try_shutdown()
    if options.json is not None:
        options.json.write_text(json.dumps(dict(recorder.counts), indent=1))
    print(
        f"recorder: {options.bag}: "
        + (", ".join(f"{n} x {t}" for t, n in sorted(recorder.counts.items())) or "no message")
    )
    return 0


if __name__ == "__main__":
    process.leave(main())
