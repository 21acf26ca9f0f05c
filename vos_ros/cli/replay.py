"""``vos-ros replay``: run the pipeline over every frame of a recording."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vos_ros.cli.report import Figure
    from vos_ros.config import Config
    from vos_ros.pipeline import Pipeline
    from vos_ros.sinks.interface import ResultSink
    from vos_ros.sources.interface import FrameSource

_EPILOG = """\
OUT.mcap gets /vos_ros/labels, /vos_ros/instances and /vos_ros/associations of every frame, with the
stamps of the images. No frame is dropped, however slow the method is; two runs on a CPU give
identical label images.

examples:
  vos-ros replay run.mcap out.mcap                       with the default configuration
  vos-ros replay kitchen out.mcap --overlays pictures    a folder works too
  vos-ros replay run.mcap out.mcap --method null         the projection of the map alone
  vos-ros replay run.mcap out.mcap --features mobilenet_v2 --weights mobilenet_v2.pt
  vos-ros replay run.mcap out.mcap --pose-noise-m 0.05 --pose-noise-deg 2 --seed 1
  vos-ros replay run.mcap out.mcap --config mine.yaml --set tracking.lost_s=2.0
  vos-ros replay run.mcap out.mcap --image /left/image_raw --pose /slam/pose

All keys for --set, with defaults: vos-ros replay --list-config
"""
_MAX_WARNINGS = 8
_NO_MAP = (
    "no object was followed: the recording has no object map (map_objects in a bag; objects.json,"
    " or read_map of a data set, in a folder)"
)


class ListConfig(argparse.Action):
    """Print the keys of the configuration and exit."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        from vos_ros.config import Config, params

        for p in params(Config):
            bounds = (
                f" [{p.low:g} .. {p.high:g}]" if p.low is not None and p.high is not None else ""
            )
            choices = f" ({' | '.join(p.choices)})" if p.choices else ""
            print(
                f"{p.key} = {p.default!r}{' ' + p.unit if p.unit else ''}{bounds}{choices}"
                f"\n    {p.help}"
            )
        parser.exit()


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    p = subparsers.add_parser(
        "replay",
        help="run the pipeline over every frame of a bag or a folder",
        epilog=_EPILOG,
        description="Runs the pipeline over every frame of a recording; writes a bag of results.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "src",
        metavar="IN",
        help="a bag (.mcap, .db3, or the folder of one) or a recorded folder (see vos-ros convert)",
    )
    p.add_argument(
        "out",
        metavar="OUT.mcap",
        help="bag to write; one of that name is replaced when the new one is whole",
    )
    what = p.add_argument_group("what runs")
    what.add_argument(
        "--method",
        metavar="NAME",
        help="segmenter (segmentation.method); null = the map's projection alone",
    )
    what.add_argument(
        "--truth",
        metavar="DIR",
        help="segment by this ground truth (as for vos-ros eval bag) in place of a method:"
        " what remains wrong is the rest of the pipeline's",
    )
    what.add_argument(
        "--features",
        metavar="NAME",
        help="lwl without trained networks (segmentation.lwl.model: plain) on these features"
        " (segmentation.features.name): classical, mobilenet_v2",
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
    what.add_argument(
        "--list-config",
        nargs=0,
        action=ListConfig,
        help="print every key with default, unit and meaning, and end",
    )
    noise = p.add_argument_group(
        "pose noise (Gaussian, independent per frame; the pipeline is told its covariance)"
    )
    noise.add_argument(
        "--pose-noise-m",
        type=float,
        default=0.0,
        metavar="RMS",
        help="RMS length of the shift of the camera, m",
    )
    noise.add_argument(
        "--pose-noise-deg",
        type=float,
        default=0.0,
        metavar="RMS",
        help="RMS angle of the turn of the camera, degrees",
    )
    noise.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    p.add_argument(
        "--map-boxes",
        action="store_true",
        help="take the map's objects by position and size alone, without points",
    )
    add_frames(p, "registered depth, or none", "pose of the camera, or tf, or none")
    p.add_argument(
        "--overlays",
        metavar="DIR",
        help="write an overlay of every frame and a contact sheet there",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")


def add_frames(p: argparse.ArgumentParser, depth: str, pose: str) -> None:
    """Add the options for frames and topics; ``depth`` and ``pose`` are help texts of theirs."""
    topics = p.add_argument_group("topics of a bag (found by their type where there is no choice)")
    for name, text in (
        ("image", "colour image"),
        ("depth", depth),
        ("camera-info", "of the colour image"),
        ("map-objects", "the object map, or none"),
        ("pose", pose),
    ):
        topics.add_argument(f"--{name}", default="", metavar="TOPIC", help=text)
    topics.add_argument(
        "--map-frame",
        default="",
        metavar="NAME",
        help="frame of the map (default: that of the object map, else map)",
    )
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame (default: 0)")
    p.add_argument(
        "--stop", type=int, metavar="N", help="frame before which to stop (default: the end)"
    )


def run(args: argparse.Namespace) -> int:
    """Replay. Raises ValueError or OSError with a text for the user."""
    from pathlib import Path

    from vos_ros.cli.report import finish
    from vos_ros.config import dump
    from vos_ros.pipeline import Pipeline
    from vos_ros.sinks.bag import BagSink
    from vos_ros.sinks.images import ImageSink

    if Path(args.src).resolve() == Path(args.out).resolve():
        raise ValueError(
            f"{args.out}: the input and the output are the same file; name another output"
        )
    config = configuration(args)
    source = open_source(args, config)
    oracle = None
    if args.truth:
        from vos_ros.evaluation.oracle import OracleSegmenter
        from vos_ros.evaluation.score import read_truth

        oracle = OracleSegmenter(read_truth(args.truth))
    pipeline = Pipeline(config, session_id="replay", segmenter=oracle)
    method = "ground truth" if oracle else config.segmentation.method
    notes = {
        "config": dump(config),
        "source": Path(args.src).resolve().name,
        "pose_noise": f"rms {args.pose_noise_m} m, {args.pose_noise_deg} deg, seed {args.seed}",
    }
    with BagSink(args.out, method=method, session_id=pipeline.session_id, notes=notes) as bag:
        sinks: list[ResultSink] = [bag]
        if args.overlays:
            sinks.append(ImageSink(args.overlays))
        figures = replay(pipeline, source, sinks, slice(args.start, args.stop))
        for sink in sinks[1:]:
            sink.close()
    finish(figures, args.json)
    return 0


def configuration(args: argparse.Namespace) -> Config:
    """Return the configuration of the command line: file, then --set, then the named options.

    Raises ConfigError: names what is wrong.
    """
    from vos_ros.cli.report import settings
    from vos_ros.config import Config, from_flat, load

    values = settings(args.set, "tracking.lost_s=2.0")
    named = {
        "segmentation.method": args.method,
        "segmentation.features.name": args.features,
        "segmentation.features.weights": args.weights,
    }
    values |= {k: v for k, v in named.items() if v is not None}
    if any(k.startswith("segmentation.features.") for k in values):
        values.setdefault(
            "segmentation.lwl.model", "plain"
        )  # trained networks have features of their own: these would do nothing
    return from_flat(values, load(args.config) if args.config else Config())


def open_source(args: argparse.Namespace, config: Config | None = None) -> FrameSource:
    """Open the recording, with pose noise where asked for. Prints the topics of a bag to stderr.

    A bag is read with the bounds and the slop of ``config``, as the node would.
    """
    from dataclasses import fields
    from pathlib import Path

    from vos_ros.config import Config
    from vos_ros.datasets.source import open_recording
    from vos_ros.sources.bag import BagSource
    from vos_ros.sources.bag_topics import BagTopics
    from vos_ros.sources.faults import MapOfBoxes
    from vos_ros.sources.noise import PoseNoise

    path = Path(args.src)
    source: FrameSource
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        source = open_recording(path)
    else:
        topics = BagTopics(args.image, args.depth, args.camera_info, args.map_objects, args.pose)
        as_node = config or Config()
        source = BagSource(
            path,
            topics,
            map_frame=args.map_frame,
            slop_s=as_node.node.sync_slop_s,
            limits=as_node.limits.of_messages(),
        )
        print(
            f"vos-ros {args.command}: reading "
            + ", ".join(
                f"{f.name} {getattr(source.topics, f.name)}" for f in fields(source.topics)
            ),
            file=sys.stderr,
        )
    if getattr(args, "map_boxes", False):
        source = MapOfBoxes(source)
    if args.pose_noise_m or args.pose_noise_deg:
        source = PoseNoise(source, args.pose_noise_m, args.pose_noise_deg, args.seed)
    return source


def replay(
    pipeline: Pipeline,
    source: FrameSource,
    sinks: Sequence[ResultSink],
    frames: slice = slice(None),
) -> dict[str, Figure]:
    """Run the pipeline over a source and hand every result to the sinks.

    Returns flat figures, units in their names. Frames outside ``frames`` (by index) are skipped,
    map updates are not. ``fps`` counts the pipeline alone, ``wall_s`` everything.
    """
    import numpy as np
    from tqdm import tqdm

    from vos_ros.types import MapUpdate

    times: dict[str, list[float]] = {}
    latency_ms: list[float] = []
    warnings: dict[str, int] = {}
    tracks: set[int] = set()
    updates, start = 0, time.perf_counter()
    wanted = range(len(source))[frames]
    with tqdm(total=len(wanted), unit="frame", desc="replaying", disable=None) as bar:
        for item in source:
            if isinstance(item, MapUpdate):
                refused = pipeline.update_map(item)
                updates += 1
                if refused:
                    warnings[refused] = warnings.get(refused, 0) + 1
                continue
            if item.index not in wanted:
                if wanted and item.index > wanted[-1]:
                    break
                continue
            before = time.perf_counter()
            result = pipeline.step(item)
            latency_ms.append(1e3 * (time.perf_counter() - before))
            for stage, ms in result.timings_ms.items():
                times.setdefault(stage, []).append(ms)
            for warning in result.warnings:
                warnings[warning] = warnings.get(warning, 0) + 1
            tracks.update(t.track_id for t in result.tracks)
            for sink in sinks:
                sink.write(item, result)
            bar.update()
    said = [f"{n} x {text}" for text, n in sorted(warnings.items(), key=lambda w: -w[1])]
    for line in [
        *said[:_MAX_WARNINGS],
        *([f"and {len(said) - _MAX_WARNINGS} other warnings"] if len(said) > _MAX_WARNINGS else []),
        *_missing_data(source),
        *([] if updates or tracks else [_NO_MAP]),
    ]:
        print(f"vos-ros replay: {line}", file=sys.stderr)
    if not latency_ms:
        raise ValueError(
            f"no frame to replay: the recording has {len(source)},"
            f" asked for were {frames.start or 0} to {frames.stop}"
        )
    p50, p95 = np.percentile(latency_ms, (50, 95))
    stages = {
        f"{stage}_ms_p50": float(np.median(ms)) for stage, ms in times.items() if stage != "total"
    }
    return {
        "frames": len(latency_ms),
        "frames_dropped": 0,
        "map_updates": updates,
        "tracks": len(tracks),
        "fps": 1e3 * len(latency_ms) / sum(latency_ms),
        "latency_ms_p50": float(p50),
        "latency_ms_p95": float(p95),
        **stages,
        "wall_s": time.perf_counter() - start,
    }


def _missing_data(source: FrameSource) -> list[str]:
    """Return what the recording lacked, where the source counts it."""
    from vos_ros.sources.bag import BagSource
    from vos_ros.sources.noise import PoseNoise

    inner = source.source if isinstance(source, PoseNoise) else source
    return inner.missing_data.lines() if isinstance(inner, BagSource) else []
