#!/usr/bin/env python3
"""Plays a recording to the running node for as long as it lasts (or --loops times) and looks for
what only time shows.

    tools/env tools/soak.py kitchen.mcap --rate 5 --method null --json soak.json
    tools/env tools/soak.py run.mcap --rate 0 --churn 25 --loops 100 --frames 10000

Checks, and ends with 1 where one fails: every answer has the header of an image that was sent;
every image was answered or superseded (or given up by the middleware, which best-effort may);
nothing queues (the last latencies are no longer than the first); the resident memory at the end is
within 5 % of that after 100 answered frames, both measured while the node rests (a frame at work
holds what it needs): playing pauses for a few seconds there. With 2,000 frames and more, memory is
compared from the 1,000th on, the line through it from there rises by at most 1 MiB per 1,000
frames, and threads, descriptors and files of shared memory don't grow.
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
from vos_ros.msg import AssociationArray, InstanceArray, Prompt
from vos_ros.ros.common import fastdds
from vos_ros.ros.tools.player import Player, open_source
from vos_ros.srv import AddObjects, RemoveObjects
from vos_ros.types import MapObject, MapUpdate

SETTLED = 100
"""Answered frames after which memory should not grow any more."""
REST_S = 12.0
"""Longer than the node's own period of giving memory back."""
SAMPLE_EVERY = 50
"""Frames between two samples of what the node holds."""
WARM = 1000
"""Frames after which what the node holds should be flat."""
MAX_SLOPE_MIB = 1.0
"""Most growth of the memory per 1,000 frames."""
ANSWER_S = 30.0
"""Longest wait for one answer."""


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
        self.settles = SETTLED
        self.samples: list[dict[str, float]] = []
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

    def answered(self, header: tuple[int, str]) -> bool:
        """Whether all outputs of a frame have come."""
        return all(header in headers[-3:] for headers in self.headers.values())

    def held(self) -> dict[str, float]:
        """What the node holds: memory (MiB), threads, descriptors, files of shared memory."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text(encoding="ascii")
        return {
            **self.memory(),
            "threads": self.process.num_threads(),
            "descriptors": self.process.num_fds(),
            "shm_files": len(
                {line.split()[-1] for line in maps.splitlines() if "/dev/shm/" in line}
            ),
        }

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


class Churn:
    """Let objects and prompts come and go: one change of the map or one call at a time.

    The services are called without waiting; their answers are counted.
    """

    def __init__(self, node: Any, player: Player, listener: Listener) -> None:
        self.player, self.listener = player, listener
        self.add = node.create_client(AddObjects, "/vos_ros/add_objects")
        self.remove = node.create_client(RemoveObjects, "/vos_ros/remove_objects")
        self.objects: tuple[MapObject, ...] = ()
        self.first: MapUpdate | None = None
        self.revision = self.turn = 0
        self.away: tuple[MapObject, ...] = ()
        self.rng = np.random.default_rng(0)
        self.counts: Counter[str] = Counter()
        self.added: list[int] = []

    def start(self, update: MapUpdate) -> None:
        """Remember the map of the recording."""
        self.first, self.objects, self.revision = update, update.objects, update.revision

    def step(self, stamp_ns: int, size: tuple[int, int]) -> None:
        """Make the next change: some objects go, a prompt comes, they return, it goes, a snapshot.

        Args:
            stamp_ns: time of the change.
            size: width and height of the image, px.
        """
        turn, self.turn = self.turn % 6, self.turn + 1
        if turn == 0 and self.objects:
            picked = self.rng.permutation(len(self.objects))[: max(1, len(self.objects) // 3)]
            self.away = tuple(self.objects[i] for i in picked)
            gone = tuple(o.id for o in self.away)
            self._update(stamp_ns, full=False, objects=(), deleted_ids=gone)
        elif turn in (1, 3):
            x, y = (int(self.rng.integers(0, n * 3 // 4)) for n in size)
            kind = Prompt.BOX if turn == 1 else Prompt.POINTS
            prompt = Prompt(
                kind=kind,
                box_xyxy=[float(v) for v in (x, y, x + size[0] // 5, y + size[1] // 5)],
                points_xy=[float(x + 1), float(y + 1)],
                points_positive=[True],
            )
            self._call("prompts", self.add, AddObjects.Request(prompts=[prompt]))
        elif turn == 2:
            self._update(stamp_ns, full=False, objects=self.away)
        elif turn == 4:
            self._update(stamp_ns, full=True, objects=self.objects)
        elif self.added:
            taken, self.added = self.added, []
            self._call("removals", self.remove, RemoveObjects.Request(track_ids=taken))

    def _update(self, stamp_ns: int, **fields: Any) -> None:
        assert self.first is not None, "the recording has no map"
        self.revision += 1
        self.counts["map_updates"] += 1
        update = replace(
            self.first, stamp_ns=stamp_ns, revision=self.revision, deleted_ids=(), merged=()
        )
        self.player.send_map(replace(update, **fields))

    def _call(self, what: str, client: Any, request: Any) -> None:
        self.counts[what] += 1

        def answered(future: Any) -> None:
            answer = future.result()
            self.counts[f"{what}_{'done' if answer.success else 'refused'}"] += 1
            self.added += list(getattr(answer, "track_ids", []))

        client.call_async(request).add_done_callback(answered)


def play(
    options: argparse.Namespace, player: Player, listener: Listener, churn: Churn
) -> list[tuple[int, str]]:
    """Sends everything; returns the headers of the images in order. Every loop continues the stamps
    of the one before.
    """
    source = open_source(options.recording)
    sent: list[tuple[int, str]] = []
    shift_ns = 0
    start = time.monotonic()
    for loop in range(options.loops):
        first_ns = last_ns = 0
        for item in source:
            if isinstance(item, MapUpdate):
                if loop == 0:
                    player.send_map(item)
                    churn.start(item)
                    time.sleep(1.0)
                    start = time.monotonic()
                continue
            first_ns = first_ns or item.stamp_ns
            stamp_ns = item.stamp_ns + shift_ns
            frame = replace(item, stamp_ns=stamp_ns)
            messages = player.prepare(frame)
            if options.rate:
                time.sleep(max(0.0, start + len(sent) / options.rate - time.monotonic()))
            player.send(messages)
            sent.append((stamp_ns, frame.frame_id))
            if options.churn and len(sent) % options.churn == 0:
                churn.step(stamp_ns, frame.rgb.shape[1::-1])
            if not options.rate:
                wait(
                    lambda: listener.answered(sent[-1]),
                    f"the answer to frame {len(sent)}",
                    ANSWER_S,
                )
            if len(sent) % SAMPLE_EVERY == 0:
                listener.samples.append({"frame": len(sent), **listener.held()})
            last_ns = item.stamp_ns
            if options.frames and len(sent) >= options.frames:
                return sent
            if not listener.settled and len(listener.latency_ms) >= listener.settles:
                wait(lambda: listener.answered(sent[-1]), "the answer to the last frame", ANSWER_S)
                time.sleep(REST_S)
                listener.settled = listener.memory()
                if options.rate:
                    start += time.monotonic() - (start + len(sent) / options.rate)
            if len(sent) % 500 == 0:
                print(
                    f"sent {len(sent)}, answered {len(listener.latency_ms)},"
                    f" RSS {listener.rss():.0f} MiB",
                    flush=True,
                )
        shift_ns += last_ns - first_ns + 100_000_000
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
    late = [s for s in listener.samples if s["frame"] > WARM]
    slope = float("nan")
    if len(late) * SAMPLE_EVERY >= WARM:
        frame, rss = (np.array([s[k] for s in late]) for k in ("frame", "rss"))
        slope = float(np.polyfit(frame, rss, 1)[0] * 1000)
        if slope > MAX_SLOPE_MIB:
            faults.append(f"the memory grows by {slope:.2f} MiB per 1,000 frames")
        for name in ("threads", "descriptors", "shm_files"):
            held = [s[name] for s in late]
            half = len(held) // 2
            if max(held[half:]) > max(held[:half]):
                faults.append(f"{name} grow from {max(held[:half])} to {max(held[half:])}")
    settled, end = listener.settled, listener.memory()
    growth = 100 * (end["rss"] / settled["rss"] - 1) if settled else float("nan")
    if abs(growth) > 5:
        faults.append(
            f"RSS changed by {growth:+.1f} % after {listener.settles} frames:"
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
        **{f"{name}_after_{listener.settles}_frames_mib": mib for name, mib in settled.items()},
        **{f"{name}_end_mib": mib for name, mib in end.items()},
        "rss_growth_percent": growth,
        "rss_slope_mib_per_1000_frames": slope,
        **{f"{k}_last": v for k, v in (late[-1] if late else {}).items()},
    }, faults


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", type=Path, help="bag or folder")
    parser.add_argument(
        "--rate",
        type=float,
        default=5.0,
        metavar="HZ",
        help="frames per second (default: 5); 0: the next frame when the last was answered",
    )
    parser.add_argument(
        "--churn",
        type=int,
        default=0,
        metavar="N",
        help="every N frames, objects of the map or prompts come or go (default: never)",
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
        churn = Churn(node, player, listener)
        if options.frames >= 2 * WARM:
            listener.settles = WARM
        sent = play(options, player, listener, churn)
        wait(lambda: listener.answered(sent[-1]), "the answer to the last frame", ANSWER_S)
        time.sleep(max(REST_S, 1.5))  # the last counters
        figures, faults = judge(sent, listener)
        figures |= churn.counts
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
        kept = {**figures, "faults": faults, "samples": listener.samples}
        options.json.write_text(json.dumps(kept, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
