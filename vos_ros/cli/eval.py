"""``vos-ros eval``: score recorded results, maps, and segmenters on public benchmarks."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from vos_ros.cli.eval_association import add_parser as add_association
from vos_ros.cli.eval_association import run_association
from vos_ros.cli.eval_fusion import add_parser as add_fusion
from vos_ros.cli.eval_fusion import run_fusion
from vos_ros.cli.eval_map import add_parser as add_map
from vos_ros.cli.eval_map import run_map
from vos_ros.cli.eval_points import add_parser as add_points
from vos_ros.cli.eval_points import run_points
from vos_ros.cli.eval_tracking import add_parser as add_tracking
from vos_ros.cli.eval_tracking import run_tracking
from vos_ros.cli.eval_video import add_parsers, run_davis, run_ytvos

if TYPE_CHECKING:
    from vos_ros.evaluation.score import Score

_RULES = """\
figures (an object counts in a frame with at least 200 of its pixels; 255 in a mask counts nowhere):
  mean_iou              mean over frames and objects of the IoU of an object with all pixels that
                        are given its id; a missing id is 0
  j_mean                the same, averaged per object first
  association_accuracy  of the instances that lie on an object (IoU >= 0.5), the share that names it
  association_f1        (also precision, recall) of the instances that name an object and lie on it
  id_switches           changes of the id named by the instance on an object

examples:
  vos-ros eval bag out.mcap --truth kitchen
  vos-ros eval bag out.mcap --truth kitchen --json score.json --csv objects.csv --plot iou.png
"""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    top = subparsers.add_parser(
        "eval",
        help="score results against ground truth",
        description="Scores results against ground truth, or a segmenter on a benchmark.",
    )
    kinds = top.add_subparsers(dest="kind", metavar="KIND", required=True)
    add_parsers(kinds)
    add_association(kinds)
    add_map(kinds)
    add_points(kinds)
    add_tracking(kinds)
    add_fusion(kinds)
    p = kinds.add_parser(
        "bag",
        help="a bag of vos-ros replay, or recorded from the node",
        epilog=_RULES,
        description="Scores labels, instances and associations of a bag against masks of ids.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "bag",
        metavar="OUT.mcap",
        help="bag with topics .../labels, .../instances, .../associations",
    )
    p.add_argument(
        "--truth",
        required=True,
        metavar="DIR",
        help="folder with frames.csv (stamp, mask), the masks, and objects.json whose"
        " ids are those of the map",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p.add_argument("--csv", metavar="FILE", help="write a table of the objects there")
    p.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the IoU of every object over time there (.png, .pdf, .svg)",
    )


def run(args: argparse.Namespace) -> int:
    """Score. Raises ValueError or OSError with a text for the user."""
    return {
        "bag": run_bag,
        "davis": run_davis,
        "ytvos": run_ytvos,
        "association": run_association,
        "map": run_map,
        "points": run_points,
        "tracking": run_tracking,
        "fusion": run_fusion,
    }[args.kind](args)


def run_bag(args: argparse.Namespace) -> int:
    """Score a bag."""
    from vos_ros.cli.report import finish
    from vos_ros.evaluation.score import read_findings, read_truth, score_bag

    for text, count in read_findings(args.bag).items():
        print(f"{args.bag}: {count} x {text}", file=sys.stderr)
    score = score_bag(args.bag, read_truth(args.truth))
    if not score.scored:
        raise ValueError(
            f"no frame of {args.bag} has the stamp of a frame of {args.truth}:"
            " is it the bag of another recording?"
        )
    finish(score.figures(), args.json)
    if args.csv:
        score.write_csv(args.csv)
    if args.plot:
        plot(score, args.plot)
    return 0


def plot(score: Score, path: str) -> None:
    """Draw IoU as colour: a row per object, a column per frame; grey where it does not count."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ids = sorted({o for f in score.scored for o in f.objects})
    table = np.full((len(ids), len(score.frames)), np.nan)
    for column, frame in enumerate(score.frames):
        for row, o in enumerate(ids):
            if frame is not None and o in frame.objects:
                table[row, column] = frame.objects[o].iou
    figure, axes = pyplot.subplots(figsize=(10, 1.2 + 0.24 * len(ids)), layout="constrained")
    colors = pyplot.get_cmap("viridis").with_extremes(bad="0.85")
    image = axes.imshow(
        table, aspect="auto", interpolation="nearest", vmin=0.0, vmax=1.0, cmap=colors
    )
    axes.set_yticks(
        range(len(ids)), [f"{o} {score.truth.names.get(o, '')}".strip() for o in ids], fontsize=8
    )
    axes.set_xlabel("frame (grey: the object does not count)")
    figure.colorbar(image, ax=axes, label="IoU")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
