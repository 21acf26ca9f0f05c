"""``vos-ros demo``: play a synthetic sequence to the real node over DDS, record and score it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from vos_ros.cli.report import Figure
    from vos_ros.config import Config

_EPILOG = """\
It renders a table with objects (two of them identical) seen by a moving camera, plays it from one
process over DDS to the node in another, records the node's topics in a third, and leaves in OUT:
  contact_sheet.png   frames over time; every instance in its colour, marked track>map object
  overlay/            the same, one image per processed frame
  demo.mcap           the node's labels, instances, associations, overlays and diagnostics
  summary.json        the figures
  *.log               logs of the processes

The player keeps its rate whatever the node does, as a camera would. A frame that arrives while the
node is busy replaces the one that waits, which counts as dropped.

examples:
  vos-ros demo
  vos-ros demo --clicks 3                     no object map: three clicks become followed objects
  vos-ros demo --method null                  the projection of the map alone
  vos-ros demo --rate 10 --size 640x480       more than two cores can follow: see frames_dropped
  vos-ros demo --features mobilenet_v2 --weights mobilenet_v2.pt
"""
NODE = "/vos_ros"
READY_S = 90.0
"""Longest wait for the node to be up, s: on a loaded machine its imports alone take long."""
ANSWER_S = 60.0
"""Longest wait for the node's answer to the last frame, s."""
DIAGNOSTICS_S = 1.3
"""Wait for the node's last counts, which it publishes once a second, s."""
SHEET = 12


def _size(text: str) -> tuple[int, int]:
    width, x, height = text.partition("x")
    if not (x and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted WIDTHxHEIGHT in px, e.g. 320x240")
    return int(width), int(height)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"got {text}, wanted more than 0")
    return value


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    p = subparsers.add_parser(
        "demo",
        help="render a synthetic sequence, run the node on it over DDS, show what came out",
        description="Shows the whole path: a synthetic RGB-D sequence and its object map in,"
        " masks and associations out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--out",
        type=Path,
        default=Path("out/demo"),
        metavar="DIR",
        help="where everything goes (default: out/demo)",
    )
    scene = p.add_argument_group("the sequence")
    scene.add_argument(
        "--frames",
        type=int,
        default=100,
        metavar="N",
        help="frames, stamped at 10 Hz (default: 100)",
    )
    scene.add_argument(
        "--size",
        type=_size,
        default=(320, 240),
        metavar="WxH",
        help="of the images, px (default: 320x240)",
    )
    scene.add_argument(
        "--seed", type=int, default=0, help="names room, objects and camera path (default: 0)"
    )
    scene.add_argument(
        "--rate",
        type=_positive,
        default=4.0,
        metavar="HZ",
        help="frames played per second of wall clock (default: 4)",
    )
    scene.add_argument(
        "--clicks",
        type=int,
        default=0,
        metavar="N",
        help="without an object map: click once on each of the N objects that look largest at"
        " first, as a person does in RViz (default: 0)",
    )
    scene.add_argument(
        "--keep-truth",
        action="store_true",
        help="keep the rendered sequence with its ground truth in OUT/sequence",
    )
    what = p.add_argument_group("what runs")
    what.add_argument(
        "--method",
        metavar="NAME",
        help="segmenter (segmentation.method); null = the map's projection alone",
    )
    what.add_argument(
        "--features",
        metavar="NAME",
        help="lwl without trained networks on these features: classical, mobilenet_v2",
    )
    what.add_argument(
        "--weights", metavar="FILE", help="its weights (segmentation.features.weights)"
    )
    what.add_argument(
        "--config", metavar="FILE", help="YAML file of the configuration, or of a node's parameters"
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value of the configuration; may be repeated",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")


def run(args: argparse.Namespace) -> int:
    """Run the demo. Raises ValueError or OSError with a text for the user."""
    import importlib.util
    import shutil
    import signal
    import sys

    from vos_ros.cli.processes import ProcessError
    from vos_ros.cli.replay import configuration
    from vos_ros.cli.report import finish
    from vos_ros.segmentation import registry

    if importlib.util.find_spec("rclpy") is None:
        raise ValueError(
            "rclpy was not found, and the demo runs over ROS 2: use tools/env vos-ros demo"
            " (or make demo) from a checkout, which brings ROS 2, or source a ROS 2 distribution"
        )
    if args.clicks < 0:
        raise ValueError(f"--clicks: got {args.clicks}, wanted 0 or more")
    config = configuration(args)
    if config.segmentation.method not in registry.names():
        known = ", ".join(registry.names())
        raise ValueError(f"unknown method {config.segmentation.method!r}: known are {known}")
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    sequence, bag = out / "sequence", out / "demo.mcap"
    for stale in (sequence, out / "overlay"):
        shutil.rmtree(stale, ignore_errors=True)
    for stale in (bag, out / "summary.json", out / "contact_sheet.png"):
        stale.unlink(missing_ok=True)
    previous = signal.signal(
        signal.SIGTERM, _interrupt
    )  # the way out of every wait, so that SIGTERM leaves no process either
    try:
        _render(args, sequence)
        clicks = largest_objects(sequence, args.clicks) if args.clicks else {}
        sent = play(
            config, sequence, bag, out, frames=args.frames, rate_hz=args.rate, clicks=clicks
        )
        recorded = _read(bag, sequence)
        figures = _figures(recorded, sent, bag, sequence, list(clicks))
        _pictures(recorded, figures, out, config.segmentation.method)
    except ProcessError as e:
        print(f"vos-ros demo: {e}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)
        if not args.keep_truth:
            shutil.rmtree(sequence, ignore_errors=True)
    print(
        f"\n{args.frames} frames stamped at 10 Hz, played at {args.rate:g} Hz"
        f" ({args.rate / 10:g} x real time)"
    )
    finish(figures, str(out / "summary.json"))
    if args.json:
        shutil.copyfile(out / "summary.json", args.json)
    print(f"look at {out / 'contact_sheet.png'}")
    return 0


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _render(args: argparse.Namespace, sequence: Path) -> None:
    """Write the synthetic sequence to a folder."""
    from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec, write_folder

    try:
        source = SyntheticSource(
            SyntheticSpec(
                seed=args.seed, frames=args.frames, width=args.size[0], height=args.size[1]
            )
        )
    except ImportError as e:
        raise ValueError(str(e)) from e
    write_folder(source, sequence, progress=True)


def largest_objects(sequence: Path, count: int) -> dict[int, tuple[float, float, float]]:
    """Return a point to click on, (x, y, z) in m in the map frame, of each of some objects.

    They are the ``count`` objects that look largest in the first frame, and the points those that
    lie farthest from their outlines.
    """
    import numpy as np

    from vos_ros.datasets.masks import read_mask
    from vos_ros.datasets.source import open_recording
    from vos_ros.evaluation.score import read_truth
    from vos_ros.geometry.camera import unproject
    from vos_ros.geometry.masks import inner_point
    from vos_ros.types import Frame

    truth = read_truth(sequence)
    ids = read_mask(truth.masks[0])
    frame = next(f for f in open_recording(sequence) if isinstance(f, Frame))
    if frame.depth is None or frame.T_map_camera is None:
        raise ValueError(f"{sequence}: the first frame lacks depth or pose, needed for clicks")
    shown = sorted(truth.names, key=lambda i: -np.count_nonzero(ids == i))[:count]
    clicks = {}
    for i in shown:
        if (ids == i).any():
            x, y = inner_point(ids == i)
            depth = np.array([frame.depth[round(y), round(x)]])
            at = unproject(np.array([[x, y]], np.float64), depth, frame.intrinsics)[0]
            T = frame.T_map_camera
            clicks[i] = tuple((T[:3, :3] @ at + T[:3, 3]).tolist())
    return clicks


def play(
    config: Config,
    sequence: Path,
    bag: Path,
    out: Path,
    *,
    frames: int,
    rate_hz: float,
    clicks: Mapping[int, Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Play a sequence to a fresh node and record the node's topics.

      Args:
          config: parameters of the node.
          sequence: folder of the sequence.
          bag: file to record into.
          out: folder for logs.
          frames: number of frames of the sequence.
          rate_hz: frames per second of wall clock.
          clicks: (x, y, z) by object, m in the map frame, to click on in place of sending the map.

    Returns what the player reports it has sent. Raises ProcessError: one of the three processes
    ended early or did not do its part in time. No process is left running.
    """
    import json
    import os
    import sys

    import yaml

    from vos_ros.cli.processes import Processes, free_domain
    from vos_ros.config import nested

    ready, sent = out / "recorder.ready", out / "player.json"
    for stale in (ready, sent):
        stale.unlink(missing_ok=True)
    parameters = out / "node.yaml"
    parameters.write_text(
        yaml.safe_dump({NODE: {"ros__parameters": nested(config)}}, sort_keys=False)
    )
    # A domain of its own: other nodes in this network must neither receive from it nor disturb it.
    env = {
        **os.environ,
        "ROS_DOMAIN_ID": str(free_domain()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
    }
    python = [sys.executable, "-m"]
    with Processes() as processes:
        print("starting the node", flush=True)
        node = processes.start(
            "node",
            [
                *python,
                "vos_ros.ros.perception.node",
                "--ros-args",
                "--params-file",
                str(parameters),
            ],
            log=out / "node.log",
            env=env,
        )
        recorder = processes.start(
            "recorder",
            [*python, "vos_ros.ros.tools.recorder", str(bag), "--ready-file", str(ready)],
            log=out / "recorder.log",
            env=env,
        )
        processes.wait(ready.exists, "the node published its topics", READY_S)
        player = processes.start(
            "player",
            [
                *python,
                "vos_ros.ros.tools.player",
                str(sequence),
                "--rate",
                str(rate_hz),
                "--node",
                NODE,
                "--wait",
                str(ANSWER_S),
                "--json",
                str(sent),
                *(["--no-map"] if clicks else []),
                *(w for xyz in (clicks or {}).values() for w in ("--click", *map(repr, xyz))),
            ],
            log=None,
            env=env,
        )
        processes.wait(
            lambda: player.code == 0, "all frames were played", frames / rate_hz + 3 * ANSWER_S
        )
        settle = time.monotonic() + DIAGNOSTICS_S
        processes.wait(
            lambda: time.monotonic() > settle,
            "the node published its last counts",
            2 * DIAGNOSTICS_S + 1,
        )
        processes.stop(recorder)
        processes.stop(node)
    played: dict[str, Any] = json.loads(sent.read_text())
    for done in (ready, sent, parameters):
        done.unlink()
    return played


@dataclass(frozen=True, eq=False, slots=True)
class _Recorded:
    """Contents of the recorded bag, by index of the frame."""

    latency_ms: Mapping[int, float]
    """Latency of each processed frame."""
    wall_ns: Mapping[int, int]
    """Wall clock at which its result was recorded."""
    overlays: Mapping[int, UInt8[np.ndarray, "H W 3"]]
    """Its overlay, RGB."""
    counts: Mapping[str, str]
    """The node's own counts."""


def _read(bag: Path, sequence: Path) -> _Recorded:
    import csv

    from rosbags.highlevel import AnyReader

    from vos_ros.messages.images import rgb_from_message
    from vos_ros.messages.stamps import ns_from_stamp

    with open(sequence / "frames.csv", newline="") as f:
        index_of = {
            round(float(row["stamp"]) * 1e9): int(row["index"]) for row in csv.DictReader(f)
        }
    latency_ms, wall_ns, overlays, counts = {}, {}, {}, {}
    with AnyReader([bag]) as reader:
        for connection, log_ns, raw in reader.messages():
            message: Any = reader.deserialize(raw, connection.msgtype)
            index = index_of.get(ns_from_stamp(message.header.stamp), -1)
            if connection.topic == f"{NODE}/instances":
                latency_ms[index], wall_ns[index] = float(message.latency_ms), log_ns
            elif connection.topic == f"{NODE}/overlay":
                overlays[index] = rgb_from_message(message).copy()
            elif connection.topic == "/diagnostics":
                counts.update(_counts(message))
    return _Recorded(latency_ms, wall_ns, overlays, counts)


def _counts(diagnostics: Any) -> dict[str, str]:
    return {
        v.key: v.value
        for status in diagnostics.status
        if status.name.endswith("frames")
        for v in status.values
    }


def read_counts(bag: Path) -> dict[str, str]:
    """Return the node's latest counts and times on /diagnostics; empty where the bag has none."""
    from rosbags.highlevel import AnyReader

    counts: dict[str, str] = {}
    with AnyReader([bag]) as reader:
        for connection, _, raw in reader.messages(
            connections=[c for c in reader.connections if c.topic == "/diagnostics"]
        ):
            counts.update(_counts(reader.deserialize(raw, connection.msgtype)))
    return counts


def _figures(
    recorded: _Recorded,
    sent: Mapping[str, Any],
    bag: Path,
    sequence: Path,
    clicked: Sequence[int],
) -> dict[str, Figure]:
    """Return flat figures, units in their names. Raises ProcessError: the node gave no result."""
    import numpy as np

    from vos_ros.cli.processes import ProcessError
    from vos_ros.evaluation.score import read_truth, score_bag
    from vos_ros.evaluation.score_clicks import score_clicks

    processed = len(recorded.latency_ms)
    if not processed:
        raise ProcessError("the node gave no result: see node.log")
    p50, p95 = (float(v) for v in np.percentile(list(recorded.latency_ms.values()), (50, 95)))
    walls = sorted(recorded.wall_ns.values())
    truth = read_truth(sequence)
    score = score_clicks(bag, truth, clicked) if clicked else score_bag(bag, truth).figures()
    return {
        "frames_sent": int(sent["frames_sent"]),
        "frames_processed": processed,
        "frames_dropped": int(sent["frames_sent"]) - processed,
        "frames_superseded": int(recorded.counts.get("frames_superseded", 0)),
        "rate_hz": float(sent["rate_hz"]),
        "frames_late": int(sent["late_frames"]),
        "fps": (processed - 1) / max((walls[-1] - walls[0]) / 1e9, 1e-9),
        "latency_ms_p50": p50,
        "latency_ms_p95": p95,
        "round_trip_ms_p50": float("nan")
        if sent["round_trip_ms_p50"] is None
        else float(sent["round_trip_ms_p50"]),
        "round_trip_ms_p95": float("nan")
        if sent["round_trip_ms_p95"] is None
        else float(sent["round_trip_ms_p95"]),
        **{k: v for k, v in score.items() if k != "frames"},
    }


def _pictures(recorded: _Recorded, figures: Mapping[str, Figure], out: Path, method: str) -> None:
    """Write the overlays, and a contact sheet of frames spread over the run with the figures above
    it.
    """
    import cv2
    import numpy as np

    from vos_ros.sinks.images import contact_sheet, write_png

    (out / "overlay").mkdir(exist_ok=True)
    shown = sorted(i for i in recorded.overlays if i >= 0)
    for index in shown:
        write_png(out / "overlay" / f"{index:06d}.png", recorded.overlays[index])
    # Evenly over the sequence, not over the processed frames: a gap in the answers shows as a jump.
    chosen = sorted(
        {min(shown, key=lambda i: abs(i - at)) for at in np.linspace(shown[0], shown[-1], SHEET)}
    )
    captions = [f"frame {i}" for i in chosen]
    sheet = contact_sheet([recorded.overlays[i] for i in chosen], captions=captions)
    lines = [
        f"vos_ros demo, method {method}: instances over time, marked track>map object",
        f"{figures['frames_processed']} of {figures['frames_sent']} frames processed,"
        f" {figures['frames_dropped']} dropped, {figures['fps']:.1f} FPS,"
        f" latency p50 {figures['latency_ms_p50']:.0f} ms, p95 {figures['latency_ms_p95']:.0f} ms",
        f"{figures['objects_followed']} of {figures['objects_clicked']} clicked objects followed,"
        f" mean IoU {figures['mean_iou']:.3f}, id switches {figures['id_switches']}"
        if "objects_clicked" in figures
        else f"mean IoU {figures['mean_iou']:.3f},"
        f" association accuracy {figures['association_accuracy']:.3f},"
        f" id switches {figures['id_switches']}",
    ]
    head = np.full((26 * len(lines) + 14, sheet.shape[1], 3), 24, np.uint8)
    for n, line in enumerate(lines):
        cv2.putText(
            head,
            line,
            (10, 26 * (n + 1)),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.55,
            (235, 235, 235),
            1,
            cv2.LINE_AA,
        )
    write_png(out / "contact_sheet.png", np.concatenate([head, sheet]))
