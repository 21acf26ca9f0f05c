#!/usr/bin/env python3
"""Send the perception node wrong messages of every kind, in this process, and say what they did.

tools/env python tools/fuzz.py --messages 10000 --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))

import numpy as np
import psutil
import rclpy
from rclpy.parameter import Parameter
from support import fuzzing, squares
from support.robot import start_perception
from tqdm import tqdm

from vos_ros.cli.processes import free_domain
from vos_ros.config import NodeConfig
from vos_ros.messages.pose_sources import NAMES
from vos_ros.ros.perception.node import VosNode


def over_dds(count: int, seed: int, method: str) -> int:
    """Send wrong messages to a node of its own. Returns 0 where it answers the good ones."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "node.log"
        robot = start_perception(log, free_domain(), **{"segmentation.method": method})
        try:
            robot.ready()
            stamp_ns, answered, asked = squares.START, 0, 0
            for index in tqdm(range(count), unit="message", desc=f"seed {seed}", disable=None):
                stamp_ns += squares.STEP
                messages = fuzzing.right_messages(stamp_ns, index + 2, rng, NodeConfig())
                messages["/tf"] = messages.pop("tf")
                keys = sorted(messages.keys() & robot.publishers.keys())
                key = keys[int(rng.integers(len(keys)))]
                change = fuzzing.mutated if rng.random() < 0.6 else fuzzing.byte_mutated
                robot.publishers[key].publish(change(messages[key], rng))
                robot.spin(0.002)
                if index % 100 == 99:
                    asked += 1
                    for _ in range(5):
                        stamp_ns += squares.STEP
                        header = robot.send(squares.frame_at(stamp_ns))
                        robot.spin(0.3)
                        if any(m.header == header for m in robot.got["instances"]):
                            answered += 1
                            break
            robot.wait(lambda: robot.values("node"), "diagnostics")
            robot.spin(1.0)
            errors = robot.values("node").get("errors")
            memory = psutil.Process(robot.process.pid).memory_info().rss / 2**20
            print(
                f"over DDS, seed {seed}: {count} messages, good frames answered {answered} of"
                f" {asked}, errors {errors}, node {memory:.0f} MiB, alive"
                f" {robot.process.poll() is None}"
            )
            return int(answered < asked or errors != "0" or robot.process.poll() is not None)
        finally:
            robot.close()


def main() -> int:
    """Run. Returns 0 where nothing raised, hung or grew, else 1."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--messages", type=int, default=10_000, help="per seed (default: 10000)")
    p.add_argument("--seeds", type=int, nargs="+", default=[0], help="(default: 0)")
    p.add_argument("--dds", action="store_true", help="send them to a node in another process")
    p.add_argument("--method", default="null", help="segmentation.method (default: null)")
    args = p.parse_args()
    if args.dds:
        return max(over_dds(args.messages, seed, args.method) for seed in args.seeds)
    rclpy.init(args=["--ros-args", "--log-level", "FATAL"])
    bad = False
    for seed in args.seeds:
        transport = ("raw", "compressed")[seed % 2]
        values = {
            "segmentation.method": args.method,
            "node.autostart": False,
            "node.tf_wait_s": 0.0,
            "node.image_transport": transport,
            "node.depth_transport": transport,
            "node.pose_source": NAMES[seed % len(NAMES)],
        }
        overrides = [Parameter(k, value=v) for k, v in values.items()]
        node = VosNode(parameter_overrides=overrides)
        node.trigger_configure()
        node.trigger_activate()
        with tqdm(total=args.messages, unit="message", desc=f"seed {seed}", disable=None) as bar:
            report = fuzzing.run(node, args.messages, seed, lambda done: bar.update(done - bar.n))
        print(
            f"seed {seed}: {sum(report.sent.values())} messages {dict(report.sent)},"
            f" refused {dict(report.refused)}, raised {dict(report.errors)},"
            f" frames failed {report.failed_frames},"
            f" good frames answered {report.answered} of {report.asked},"
            f" slowest {report.slowest} {1e3 * report.slowest_s:.0f} ms of processor time,"
            f" longest wait {1e3 * report.longest_wait_s:.0f} ms,"
            f" memory +{report.grown_mib:.0f} MiB",
            flush=True,
        )
        bad |= bool(report.errors or report.failed_frames or report.answered < report.asked)
        bad |= report.slowest_s >= 1.0 or report.grown_mib >= 100
        node.end()
        node.destroy_node()
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
