#!/usr/bin/env python3
"""Plays a recording to the running node for as long as it lasts (or --loops times) and looks for
what only time shows.

    tools/env tools/soak.py kitchen.mcap --rate 5 --method null --json soak.json

Checks, and ends with 1 where one fails: every answer has the header of an image that was sent;
every image was answered or superseded (or given up by the middleware, which best-effort may);
nothing queues (the last latencies are no longer than the first); the resident memory at the end is
within 5 % of that after 100 answered frames, both measured while the node rests (a frame at work
holds what it needs): playing pauses for a few seconds there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from vos_ros.cli.processes import free_domain
from vos_ros.messages.stamps import ns_from_stamp
from vos_ros.msg import AssociationArray, InstanceArray
from vos_ros.ros.common import fastdds
from vos_ros.ros.tools.player import Player, open_source
from vos_ros.types import MapUpdate

SETTLED = 100
"""Answered frames after which memory should not grow any more."""
REST_S = 12.0
"""Longer than the node's own period of giving memory back."""


class Listener:
    """Keep what the node publishes. Callbacks run on the executor's thread."""

    def __init__(self, node: Any, process: psutil.Process) -> None:
        self.process = process
        self.headers: dict[str, list[tuple[int, str]]] = {
            "labels": [],
            "instances": [],
            "associations": [],
        }
        self.latency_ms: list[float] = []
        self.settled: dict[str, float] = {}
        self.values: dict[str, str] = {}
        self.state = ""
        for name, kind in {
            "labels": Image,
            "instances": InstanceArray,
            "associations": AssociationArray,
        }.items():
            node.create_subscription(
                kind,
                f"/vos_ros/{name}",
                lambda msg, name=name: self.answer(name, msg),
                QoSProfile(depth=50),
            )
        node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnose, 10)

    def answer(self, name: str, msg: Any) -> None:
        """Notes an answer."""
        self.headers[name].append((ns_from_stamp(msg.header.stamp), msg.header.frame_id))
        if name == "instances":
            self.latency_ms.append(msg.latency_ms)

    def rss(self) -> float:
        """Resident memory of the node, MiB."""
        return self.memory()["rss"]

    def memory(self) -> dict[str, float]:
        """Resident memory of the node and what it is made of, MiB: its own data (anon), pages of
        files (file: code, which the system drops and reads again as it likes), shared memory
        (shmem: the middleware's)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines()
        values = {
            key: text.split()[0]
            for key, _, text in (line.partition(":") for line in lines)
            if "rss" in key.lower()
        }
        names = {"rss": "VmRSS", "anon": "RssAnon", "file": "RssFile", "shmem": "RssShmem"}
        return {name: int(values[key]) / 1024 for name, key in names.items()}

    def diagnose(self, msg: Any) -> None:
        """Notes the counters."""
        for status in msg.status:
            if status.name == "vos_ros: node":
                self.state = status.message
            self.values |= {v.key: v.value for v in status.values}


def wait(condition: Any, what: str, seconds: float) -> None:
    """Returns when the condition holds; TimeoutError otherwise."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)


def play(options: argparse.Namespace, player: Player, listener: Listener) -> list[tuple[int, str]]:
    """Sends everything; returns the headers of the images in order. Every loop continues the stamps
    of the one before.
    """
    source = open_source(options.recording)
    sent: list[tuple[int, str]] = []
    shift_ns = 0
    start = time.monotonic()
    for loop in range(options.loops):
        last_ns = 0
        for item in source:
            if isinstance(item, MapUpdate):
                if loop == 0:
                    player.send_map(item)
                    time.sleep(1.0)
                    start = time.monotonic()
                continue
            stamp_ns = item.stamp_ns + shift_ns
            frame = replace(item, stamp_ns=stamp_ns)
            messages = player.prepare(frame)
            time.sleep(max(0.0, start + len(sent) / options.rate - time.monotonic()))
            player.send(messages)
            sent.append((stamp_ns, frame.frame_id))
            last_ns = item.stamp_ns
            if options.frames and len(sent) >= options.frames:
                return sent
            if not listener.settled and len(listener.latency_ms) >= SETTLED:
                wait(
                    lambda: sent[-1] in listener.headers["instances"],
                    "the answer to the last frame",
                    30,
                )
                time.sleep(REST_S)
                listener.settled = listener.memory()
                start += time.monotonic() - (start + len(sent) / options.rate)
            if len(sent) % 50 == 0:
                print(
                    f"sent {len(sent)}, answered {len(listener.latency_ms)},"
                    f" RSS {listener.rss():.0f} MiB",
                    flush=True,
                )
        shift_ns += last_ns + int(1e9 / options.rate)
    return sent


def judge(sent: list[tuple[int, str]], listener: Listener) -> tuple[dict[str, Any], list[str]]:
    """Figures, and what is wrong with them."""
    faults = []
    count = {
        k: int(listener.values[f"frames_{k}"])
        for k in ("received", "processed", "superseded", "failed", "rejected", "late")
    }
    known = set(sent)
    for name, headers in listener.headers.items():
        if strange := [h for h in headers if h not in known]:
            faults.append(
                f"{len(strange)} {name} have a header that was not sent, the first {strange[0]}"
            )
        if twice := [h for h, n in Counter(headers).items() if n > 1]:
            faults.append(f"{len(twice)} images have two {name}")
        if len(headers) != count["processed"]:
            faults.append(
                f"{len(headers)} {name} came of {count['processed']} frames that were processed"
            )
    if (
        count["received"]
        != count["processed"]
        + count["superseded"]
        + count["failed"]
        + count["rejected"]
        + count["late"]
    ):
        faults.append(f"the counters don't add up: {count}")
    if count["failed"] or count["rejected"] or count["late"]:
        faults.append(f"frames failed, were rejected or late: {count}")
    latency = np.array(listener.latency_ms)
    part = max(len(latency) // 5, 1)
    if np.median(latency[-part:]) > 3 * np.median(latency[:part]) + 100:
        faults.append(
            f"the latency grew from {np.median(latency[:part]):.0f} to"
            f" {np.median(latency[-part:]):.0f} ms: something queues"
        )
    settled, end = listener.settled, listener.memory()
    growth = 100 * (end["rss"] / settled["rss"] - 1) if settled else float("nan")
    if abs(growth) > 5:
        faults.append(
            f"RSS changed by {growth:+.1f} % after {SETTLED} frames:"
            f" from {settled['rss']:.0f} to {end['rss']:.0f} MiB"
        )
    return {
        "frames_sent": len(sent),
        **{f"frames_{k}": v for k, v in count.items()},
        "frames_lost_in_transport": len(sent) - count["received"],
        "headers_equal": not any(
            h not in known for headers in listener.headers.values() for h in headers
        ),
        "latency_ms_p50": float(np.percentile(latency, 50)),
        "latency_ms_p95": float(np.percentile(latency, 95)),
        "latency_ms_max": float(latency.max()),
        "overhead_ms_p50": float(listener.values["overhead_ms_p50"]),
        "node_ms_p50": float(listener.values["node_ms_p50"]),
        **{f"{name}_after_100_frames_mib": mib for name, mib in settled.items()},
        **{f"{name}_end_mib": mib for name, mib in end.items()},
        "rss_growth_percent": growth,
    }, faults


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", type=Path, help="bag or folder")
    parser.add_argument(
        "--rate", type=float, default=5.0, metavar="HZ", help="frames per second (default: 5)"
    )
    parser.add_argument("--loops", type=int, default=1, help="play it so often, stamps going on")
    parser.add_argument(
        "--frames", type=int, default=0, help="stop after so many frames (default: all)"
    )
    parser.add_argument("--method", default="lwl", help="segmenter (default: lwl)")
    parser.add_argument(
        "--best-effort",
        action="store_true",
        help="send images best effort (default: reliable both ways)",
    )
    parser.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="KEY:=VALUE",
        help="more parameters of the node",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    os.environ["ROS_DOMAIN_ID"] = os.environ.get("ROS_DOMAIN_ID") or str(free_domain())
    fastdds.prepare()
    reliability = "best_effort" if options.best_effort else "reliable"
    given = [
        f"segmentation.method:={options.method}",
        f"node.input_reliability:={reliability}",
        "node.diagnostics_period_s:=0.5",
        *options.param,
    ]
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vos_ros.ros.perception.node",
            "--ros-args",
            *(w for p in given for w in ("-p", p)),
        ]
    )
    rclpy.init(args=[])
    node = rclpy.create_node("soak")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    listener, player = (
        Listener(node, psutil.Process(process.pid)),
        Player(node, reliable=not options.best_effort),
    )
    spinner = threading.Thread(target=executor.spin, daemon=True)
    spinner.start()
    try:
        wait(lambda: listener.state == "active" or process.poll() is not None, "the node", 60)
        if process.poll() is not None:
            raise RuntimeError(f"the node ended with {process.poll()} before it was active")
        player.wait_for_subscribers(["map_objects", "image", "depth", "camera_info"], 20)
        sent = play(options, player, listener)
        wait(lambda: sent[-1] in listener.headers["instances"], "the answer to the last frame", 30)
        time.sleep(max(REST_S, 1.5))  # the last counters
        figures, faults = judge(sent, listener)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(10)
        executor.shutdown(timeout_sec=1.0)
        spinner.join(2)
        node.destroy_node()
        rclpy.try_shutdown()
    if code != 0:
        faults.append(f"the node ended with {code}")
    for key, value in figures.items():
        print(f"{key:>26}: {value:.3f}" if isinstance(value, float) else f"{key:>26}: {value}")
    print("\n".join(f"FAULT: {f}" for f in faults) or "no fault")
    if options.json is not None:
        options.json.write_text(json.dumps({**figures, "faults": faults}, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
