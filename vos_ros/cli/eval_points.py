"""``vos-ros eval points``: instances of single images from one point each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vos_ros.evaluation.key_points import InstanceScore

_RULES = """\
Every instance is segmented from the point of its mask that is farthest from its outline; gamma is
that of the weights. Figures are means over instances: of all, and of those of at least so much of
their image (--share). With weights of different margins, --plot draws paper 002's table 4.5.

examples:
  vos-ros eval points one_point-mnv2 --root data/train --only voc2007
  vos-ros eval points m05.safetensors m07.safetensors m20.safetensors --root VOC2012 \\
      --data-set voc --split val --plot margins.png
"""
_SHARES = (0.0, 0.005, 0.02)


def add_parser(kinds: Any) -> None:
    """Register the command."""
    p = kinds.add_parser(
        "points",
        help="instances of images from one point each (paper 002, table 4.5)",
        epilog=_RULES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Scores the embedding of one_point on images with instance masks.",
    )
    p.add_argument(
        "weights",
        nargs="+",
        metavar="WEIGHTS",
        help="of vos-ros train one_point: files, or names of weights that come with the package",
    )
    p.add_argument("--root", required=True, metavar="DIR", help="root of the images")
    p.add_argument(
        "--data-set", default="packed", help="kind of the data, as in a training (default: packed)"
    )
    p.add_argument("--split", default="", help="list or folder of the split, as it names it")
    p.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="data set or sequence to take"
    )
    p.add_argument("--part", default="", metavar="k/n", help="every n-th of them, from number k on")
    p.add_argument(
        "--long-side", type=int, default=480, metavar="PX", help="of the input (default: 480)"
    )
    p.add_argument(
        "--share",
        type=float,
        action="append",
        metavar="S",
        help="least share of an image, 0..1 (default: 0, 0.005 and 0.02)",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p.add_argument("--csv", metavar="FILE", help="write a table of the instances there")
    p.add_argument("--plot", metavar="FILE", help="draw mIoU over the margin there (.png, .pdf)")


def run_points(args: argparse.Namespace) -> int:
    """Score weights. Raises ValueError or OSError: with a message for people."""
    from vos_ros.cli.report import Figure, finish
    from vos_ros.config import ConfigError
    from vos_ros.evaluation.key_points import instance_figures, score_instances
    from vos_ros.segmentation.checkpoints import (
        ONE_POINT_FORMAT,
        load,
        read_network,
        weights_file,
    )
    from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec
    from vos_ros.training.config import build_source
    from vos_ros.training.data import open_source

    if args.long_side < 64:
        raise ConfigError(f"--long-side: got {args.long_side}, wanted 64 px or more")
    shares = sorted(args.share or _SHARES)
    given = {"kind": args.data_set, "split": args.split, "only": args.only, "part": args.part}
    sequences = open_source(build_source(given, ""), args.root)
    figures: dict[str, Figure] = {}
    table: list[tuple[str, InstanceScore]] = []
    margins: list[tuple[float, float]] = []
    for name in args.weights:
        net = read_network(
            "weights",
            name,
            "",
            ONE_POINT_FORMAT,
            lambda text: OnePointNet(OnePointSpec.from_json(text)),
        )
        scores = score_instances(net, sequences, args.long_side)
        own = {"gamma": float(net.gamma), **instance_figures(scores, shares)}
        prefix = f"{Path(name).stem}." if len(args.weights) > 1 else ""
        figures |= {prefix + key: value for key, value in own.items()}
        table += [(Path(name).stem, s) for s in scores]
        if args.plot:
            header = load(weights_file(name)).header
            if "margin" not in header:
                raise ConfigError(f"{name}: its header states no margin to draw it at")
            last = shares[min(1, len(shares) - 1)]
            margins.append(
                (float(header["margin"]), float(instance_figures(scores, [last]).popitem()[1]))
            )
    finish(figures, args.json)
    if args.csv:
        write_csv(table, args.csv)
    if args.plot:
        plot(sorted(margins), args.plot)
    return 0


def write_csv(table: Sequence[tuple[str, InstanceScore]], path: str) -> None:
    """Write a row per weights and instance."""
    import csv

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f)
        writer.writerow(("weights", "dataset", "image", "object", "share", "iou"))
        for name, s in table:
            writer.writerow(
                (name, s.dataset, s.image, s.object_id, f"{s.share:.6f}", f"{s.iou:.4f}")
            )


def plot(margins: Sequence[tuple[float, float]], path: str) -> None:
    """Draw mean IoU over the margin, with the paper's values (table 4.5) beside it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    paper = {0.5: 0.6351, 0.7: 0.6464, 0.8: 0.6385, 1.0: 0.562, 1.2: 0.5825, 1.5: 0.4834}
    paper[2.0] = 0.3977
    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    axes.plot(*zip(*margins, strict=True), "o-", label="these weights")
    axes.plot(list(paper), list(paper.values()), "s--", label="paper 002, table 4.5 (ResNet-101)")
    axes.set(xlabel="margin of the triplet loss", ylabel="mIoU", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
