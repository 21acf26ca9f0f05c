"""``vos-ros eval tracking``: trackers of points on sequences with masks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vos_ros.datasets.interface import VideoSequence
    from vos_ros.evaluation.point_tracking import PointScore
    from vos_ros.segmentation.point_trackers.interface import PointTracker

_RULES = """\
The key point of an object is the pixel of its first mask that is farthest from its outline.
  coverage         mean over sequences of the share of frames in which the tracked point lies in the
                   mask of its object, where the object is seen (paper 002, tables 4.3 and 4.4)
  coverage_frames  the same share of all points and frames together
  pck_4, 8, 16     share of visible points within so many px of their true places; known only where
                   the sequence has depth and poses and the scene is static: the point is lifted by
                   its depth and projected into every frame
  visibility       share of points whose visibility is told rightly; known where PCK is
  ms, start_s      per frame with all points of a clip, and per clip
The learning of heatmap is in start_s; embedding includes the network's pass.

examples:
  vos-ros eval tracking --root DAVIS --root dogs_jump --data-set davis --split / --plot pck.png
  vos-ros eval tracking --root kitchen --data-set ours --frames 60 --trackers flow,learned
  vos-ros eval tracking --root DAVIS --data-set davis --trackers heatmap --set heatmap.steps=500
"""


def add_parser(kinds: Any) -> None:
    """Register the command."""
    p = kinds.add_parser(
        "tracking",
        help="trackers of points on videos (paper 002, tables 4.3 and 4.4)",
        epilog=_RULES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Follows one point per object, and says how often it is still on the object.",
    )
    add_sequences(p)
    p.add_argument(
        "--trackers",
        default="",
        metavar="A,B",
        help="embedding, first_frame, flow, heatmap, learned (default: all)",
    )
    p.add_argument(
        "--frames",
        type=int,
        default=0,
        metavar="N",
        help="cut sequences into clips of N frames, each with new points (default: 0 = don't)",
    )
    p.add_argument("--csv", metavar="FILE", help="write a row per point and frame there")
    p.add_argument(
        "--plot", metavar="FILE", help="draw PCK, and nearness to the mask, over px (.png, .pdf)"
    )


def add_sequences(p: argparse.ArgumentParser) -> None:
    """Add what names sequences and networks."""
    p.add_argument(
        "--root",
        required=True,
        action="append",
        metavar="DIR",
        help="root of the sequences; may be repeated",
    )
    p.add_argument(
        "--data-set", default="davis", help="kind of the data, as in a training (default: davis)"
    )
    p.add_argument("--split", default="", help="list or folder of the split, as it names it")
    p.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="data set or sequence to take"
    )
    p.add_argument(
        "--min-px",
        type=int,
        default=50,
        metavar="N",
        help="least size of an object on the first frame (default: 50)",
    )
    p.add_argument(
        "--model",
        default="one_point-mnv2",
        metavar="NAME",
        help="weights of one_point: a file, or a name (default: one_point-mnv2)",
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TRACKER.KEY=VALUE",
        help="an option of a tracker, e.g. heatmap.steps=500; may be repeated",
    )
    p.add_argument(
        "--paper",
        action="store_true",
        help="heatmap as in the paper: all of a ResNet-50 (--set heatmap.weights=FILE) learns for"
        " 3000 steps; hours per sequence on a CPU",
    )
    p.add_argument("--device", default="auto", help="of the networks (default: auto)")
    p.add_argument("--json", metavar="FILE", help="write the figures there too")


def open_roots(args: argparse.Namespace) -> list[VideoSequence]:
    """Open the sequences. Raises ValueError or OSError: with a message for people."""
    from vos_ros.config import ConfigError
    from vos_ros.training.config import build_source
    from vos_ros.training.data import open_source

    if args.min_px < 1:
        raise ConfigError(f"--min-px: got {args.min_px}, wanted 1 or more")
    given = {"kind": args.data_set, "split": args.split, "only": args.only}
    return [s for root in args.root for s in open_source(build_source(given, ""), root)]


def make_trackers(args: argparse.Namespace, names: Sequence[str]) -> dict[str, PointTracker]:
    """Make trackers by name, with the options of ``--set``.

    Raises ConfigError: an unknown name or option, or weights that can't be used.
    """
    import dataclasses

    from vos_ros.cli.report import settings
    from vos_ros.config import ConfigError
    from vos_ros.segmentation.methods.one_point.model import OnePointModel
    from vos_ros.segmentation.methods.one_point.options import OnePointOptions
    from vos_ros.segmentation.network_input import resolve_device
    from vos_ros.segmentation.point_trackers.heatmap import paper_options
    from vos_ros.segmentation.point_trackers.registry import OPTIONS, create
    from vos_ros.training.config import build

    given: dict[str, dict[str, object]] = {}
    for key, value in settings(args.set, "heatmap.steps=500").items():
        tracker, _, name = key.partition(".")
        if OPTIONS.get(tracker) is None:
            having = ", ".join(n for n, o in OPTIONS.items() if o is not None)
            raise ConfigError(f"--set {key}: wanted an option of {having}, e.g. heatmap.steps=500")
        given.setdefault(tracker, {})[name] = value
    device = resolve_device(args.device)
    made = {}
    for name in names:
        kind = OPTIONS.get(name)
        own = dict(given.get(name, {}))
        if name == "heatmap":
            preset = dataclasses.asdict(paper_options()) if args.paper else {"model": args.model}
            own = preset | own
        made[name] = create(
            name,
            device,
            embedding=(
                OnePointModel(dataclasses.replace(OnePointOptions(), model=args.model), device)
                if name == "embedding"
                else None
            ),
            options=None if kind is None else build(kind, own, f"{name}."),
        )
    return made


def run_tracking(args: argparse.Namespace) -> int:
    """Score trackers. Raises ValueError or OSError: with a message for people."""
    from vos_ros.cli.report import write_json
    from vos_ros.config import ConfigError
    from vos_ros.evaluation.point_tracking import (
        clips_of,
        coverage,
        score_trackers,
        tracking_figures,
    )
    from vos_ros.segmentation.point_trackers.registry import OPTIONS

    if args.frames < 0 or args.frames == 1:
        raise ConfigError(f"--frames: got {args.frames}, wanted 0 or 2 or more")
    names = [n.strip() for n in args.trackers.split(",") if n.strip()] or list(OPTIONS)
    clips = clips_of(open_roots(args), args.frames, args.min_px)
    trackers = make_trackers(args, names)
    scores, speed = score_trackers(trackers, clips)
    table = tracking_figures(scores, speed)
    by_sequence = {n: coverage([p for p in scores if p.tracker == n]) for n in names}
    points = sum(len(c.object_ids) for c in clips)
    print(f"{len(clips)} clips, {points} points, {sum(len(c.frames) - 1 for c in clips)} frames")
    print_table("tracker", table)
    print()
    shares = {s: {n: by_sequence[n][s] for n in names} for s in by_sequence[names[0]]}
    print_table("coverage", shares)
    if args.json:
        figures = {f"{n}.{k}": v for n, row in table.items() for k, v in row.items()}
        figures |= {
            f"{n}.coverage.{s}": v for n, own in by_sequence.items() for s, v in own.items()
        }
        write_json(figures, args.json)
    if args.csv:
        write_csv(scores, args.csv)
    if args.plot:
        plot(scores, names, args.plot)
    return 0


def print_table(corner: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table of figures; rows have the same columns."""
    columns = list(next(iter(rows.values()), {}))
    first = max(len(corner), *(len(n) for n in rows))
    widths = [max(8, len(c)) for c in columns]
    head = [f"{c:>{w}s}" for c, w in zip(columns, widths, strict=True)]
    print("  ".join([f"{corner:{first}s}", *head]))
    for name, row in rows.items():
        cells = [f"{row[c]:{w}.3f}" for c, w in zip(columns, widths, strict=True)]
        print("  ".join([f"{name:{first}s}", *cells]))


def write_csv(scores: Sequence[PointScore], path: str) -> None:
    """Write a row per point and frame."""
    import csv
    import dataclasses

    from vos_ros.evaluation.point_tracking import PointScore

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow([field.name for field in dataclasses.fields(PointScore)])
        writer.writerows(dataclasses.astuple(p) for p in scores)


def plot(scores: Sequence[PointScore], names: Sequence[str], path: str) -> None:
    """Draw PCK over px where true places are known, and nearness to the mask over px."""
    import matplotlib
    import numpy as np

    from vos_ros.evaluation.point_tracking import RADII_PX, curves

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = {n: curves(scores, n) for n in names}
    panels = [(0, "distance to the object's mask, px", "share of points (0 px: coverage)")]
    if any(p.truly_visible for p in scores):
        panels.append((1, "distance to the true place, px", "PCK"))
    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(5.5 * len(panels), 3.8), layout="constrained", squeeze=False
    )
    places = np.arange(len(RADII_PX))
    for axis, (which, across, up) in zip(axes[0], panels, strict=True):
        for name in names:
            axis.plot(places, lines[name][which], "o-", ms=3, label=name)
        axis.set_xticks(places, [f"{r:g}" for r in RADII_PX])
        axis.set(xlabel=across, ylabel=up, ylim=(0, 1.02))
        axis.grid(alpha=0.3)
        axis.legend(loc="best", fontsize="small")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
