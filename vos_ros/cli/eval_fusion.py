"""``vos-ros eval fusion``: videos segmented from one key point per object."""

from __future__ import annotations

import argparse
from typing import Any

from vos_ros.cli.eval_tracking import add_sequences, make_trackers, open_roots, print_table

_RULES = """\
Rows of paper 002's table 4.6, each with one key point per object and eq. (3.6):
  perfect      the point farthest from the outline of the true mask of every frame
  first_frame  the embedding of that point of the first frame
  tracked      the embedding where --tracker finds the first frame's point
  streaming    the method one_point as it is shipped, from a click on the point
Figures are mean IoU over the objects and frames of a sequence, without its first frame; "mean" is
that over the sequences. The paper has .610, .426 and .432 on DAVIS 2017.

examples:
  vos-ros eval fusion --root DAVIS --root dogs_jump --data-set davis --split / --json fusion.json
  vos-ros eval fusion --root DAVIS --data-set davis --tracker learned --no-streaming
"""


def add_parser(kinds: Any) -> None:
    """Register the command."""
    p = kinds.add_parser(
        "fusion",
        help="videos segmented from one key point per object (paper 002, table 4.6)",
        epilog=_RULES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Segments every frame from one key point per object.",
    )
    add_sequences(p)
    p.add_argument(
        "--tracker",
        default="embedding",
        metavar="NAME",
        help="of the row tracked, as in eval tracking (default: embedding, the paper)",
    )
    p.add_argument("--no-streaming", action="store_true", help="leave out the row streaming")


def run_fusion(args: argparse.Namespace) -> int:
    """Score the rows. Raises ValueError or OSError: with a message for people."""
    from vos_ros.cli.report import write_json
    from vos_ros.config import Config, from_flat
    from vos_ros.evaluation.key_point_fusion import fusion_figures, score_fusion
    from vos_ros.evaluation.point_tracking import clips_of
    from vos_ros.segmentation.methods.one_point.model import OnePointModel
    from vos_ros.segmentation.methods.one_point.options import OnePointOptions
    from vos_ros.segmentation.network_input import prepare_torch
    from vos_ros.segmentation.registry import create

    config = from_flat(
        {
            "segmentation.method": "one_point",
            "segmentation.one_point.model": args.model,
            "segmentation.device": args.device,
        },
        Config(),
    ).segmentation
    tracker = make_trackers(args, [args.tracker])[args.tracker]
    model = OnePointModel(config.methods.of(OnePointOptions), prepare_torch(config))
    clips = clips_of(open_roots(args), 0, args.min_px)
    streaming = None if args.no_streaming else lambda: create(config)
    table = fusion_figures(score_fusion(model, tracker, clips, streaming))
    names = list(next(iter(table.values())))
    print_table("mean IoU", {n: {row: own[n] for row, own in table.items()} for n in names})
    if args.json:
        write_json({f"{r}.{n}": v for r, own in table.items() for n, v in own.items()}, args.json)
    return 0
